"""The command lines of the pages that are made from results: printed, or written with a picture."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Make = Callable[..., str]  # the results of each file -> a text


def print_page(
    module: str,
    usage: str,
    page: Make,
    arguments: Sequence[str],
    faults: tuple[type[Exception], ...] = (),
    file_count: int = 1,
) -> int:
    """Print the page of the files named; return the exit code, 2 where `page` raises a fault."""
    if len(arguments) != file_count:
        print(f"usage: python -m {module} {usage}", file=sys.stderr)
        return 2
    try:
        text = page(*map(_read, arguments))
    except (OSError, json.JSONDecodeError, *faults) as error:
        print(f"{module}: {error}", file=sys.stderr)
        return 2
    sys.stdout.write(text)
    return 0


def write_page(
    module: str, usage: str, name: str, page: Make, picture: Make, arguments: Sequence[str]
) -> int:
    """Write `name`.md and `name`.svg into the folder named; return the exit code."""
    if len(arguments) != 2:
        print(f"usage: python -m {module} {usage}", file=sys.stderr)
        return 2
    try:
        results, folder = _read(arguments[0]), Path(arguments[1])
        (folder / f"{name}.md").write_text(page(results), encoding="utf-8")
        (folder / f"{name}.svg").write_text(picture(results), encoding="utf-8")
    except (OSError, json.JSONDecodeError) as error:
        print(f"{module}: {error}", file=sys.stderr)
        return 2
    return 0


def _read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))
