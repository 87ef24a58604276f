"""Python children of the tests: they see this checkout and share one folder of bytecode."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(bytecode: Path) -> dict[str, str]:
    """Return a child's environment; compiled modules are kept in `bytecode` for the next child."""
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    places = [str(ROOT), str(ROOT / "tests"), inherited.get("PYTHONPATH", "")]
    return {
        **inherited,
        "PYTHONPYCACHEPREFIX": str(bytecode),
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        "COLUMNS": "200",  # no line of a message is wrapped
    }


def start(arguments: Sequence[str], bytecode: Path) -> "subprocess.Popen[str]":
    """Start `python ARGUMENTS` with pipes for its output."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(bytecode),
    )
