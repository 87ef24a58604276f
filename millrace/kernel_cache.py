"""Where compiled kernels are kept: a folder of their own for each version of their sources.

Numba notices when the module of a kernel changed, but not when a kernel that it calls in another
module did: after an update it could run yesterday's code. A cache folder named by a fingerprint
of all kernel sources can't.
"""

import hashlib
import os
import shutil
from pathlib import Path

SOURCES = (
    "features/kernels",
    "features/columns.py",
    "features/plan.py",
    "online_models/kernels.py",
    "online_models/trees/kernels.py",
)
KEPT_COUNT = 8  # folders of older versions stay for a while: another checkout may use them


def fingerprint(root: Path) -> str:
    """Return a hash of all kernel sources below `root`, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for source in SOURCES:
        place = root / source
        for file in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def use_kernel_cache() -> None:
    """Point Numba to the cache folder of these sources; call it before Numba is imported.

    `NUMBA_CACHE_DIR` wins where it is set, `XDG_CACHE_HOME` gives the place otherwise.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace"
    folder = home / f"kernels-{fingerprint(Path(__file__).parent.parent)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.touch()
        _drop_old(home)
    except OSError:
        return  # nowhere to write: Numba then looks for a place itself
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


def _drop_old(home: Path) -> None:
    folders = sorted(home.glob("kernels-*"), key=lambda folder: folder.stat().st_mtime)
    for folder in folders[:-KEPT_COUNT]:
        shutil.rmtree(folder, ignore_errors=True)
