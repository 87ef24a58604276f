"""Which kinds of history a partition keeps, and since when: stored with it.

A kind is an entity with the field that it is known by: under another key it is another history.
"""

from collections.abc import Mapping

from features.columns import Cell
from features.plan import Plan

TRACKED_KEY = b"tracked"
ALWAYS_MS = 0  # since the partition's first record


def kinds_of(plan: Plan) -> dict[str, str]:
    """Return the name of each of a plan's histories, and the kind that it is."""
    return {e.name: f"{e.name}:{Cell(e.key).name.lower()}" for e in plan.entities}


class TrackedKinds:
    """Since when each kind is kept; `kinds` by the names of the plan's histories."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._since_ms = dict.fromkeys(kinds.values(), ALWAYS_MS)
        self._written: bytes | None = None

    @property
    def late(self) -> dict[str, int]:
        """The histories that are not kept since the first record, and since when they are."""
        since_ms = {name: self._since_ms[kind] for name, kind in self._kinds.items()}
        return {name: ts_ms for name, ts_ms in since_ms.items() if ts_ms != ALWAYS_MS}

    def restore(self, stored: bytes | None, clock_ms: int) -> None:
        """Take up what was stored; what wasn't kept until now is kept since `clock_ms`.

        Nothing is stored where nobody ever kept anything, or where that wasn't noted yet.
        """
        self._written = stored
        if stored is None:
            return
        lines = (line.rsplit(b" ", 1) for line in stored.splitlines())
        known = {kind.decode(): int(since_ms) for kind, since_ms in lines}
        self._since_ms = {kind: known.get(kind, clock_ms) for kind in self._kinds.values()}

    def change(self) -> bytes | None:
        """Return what has to be stored, None where that is stored already."""
        lines = (f"{kind} {since_ms}" for kind, since_ms in sorted(self._since_ms.items()))
        text = "\n".join(lines).encode()
        if text == self._written:
            return None
        self._written = text
        return text
