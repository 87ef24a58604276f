"""Errors that name what was wrong, where, what was expected and what was there instead."""

import difflib
from collections.abc import Iterable, Sequence


class MillraceError(Exception):
    """Base class of every error that Millrace raises on purpose."""


class RecordError(MillraceError):
    """A record that can't be taken: `path` is a JSON path, `$` for the whole record."""

    def __init__(self, path: str, expected: str, got: str, nearest: str | None = None) -> None:
        self.path = path
        self.expected = expected
        self.got = got
        self.nearest = nearest
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        super().__init__(f"{path}: expected {expected}, got {got}{hint}")


class SourceError(MillraceError):
    """A fault in a text that a person wrote: a policy, an expression or a mapping file.

    `line` and `column` count from 1.
    """

    def __init__(
        self,
        file: str,
        line: int,
        column: int,
        expected: str,
        got: str,
        nearest: str | None = None,
    ) -> None:
        self.file = file
        self.line = line
        self.column = column
        self.expected = expected
        self.got = got
        self.nearest = nearest
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        super().__init__(f"{file}:{line}:{column}: expected {expected}, got {got}{hint}")


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, or None where none is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown(path: str, name: str, known: Sequence[str]) -> RecordError:
    """Return the error of a name that is none of the known ones, with the nearest of them."""
    listed = ", ".join(known) or "nothing"
    return RecordError(path, f"one of: {listed}", f"`{name}`", nearest_name(name, known))
