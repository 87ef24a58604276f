"""Counts failures of a part of the worker, to tell a fault that passes from one that stays."""


class Failures:
    """Failures in a row: those between which nothing was stored.

    That something was decided does not count: what can't be emitted, or not be stored, was decided
    before it failed, and will be again.
    """

    def __init__(self) -> None:
        self._count = 0
        self._stored_count = -1

    def note(self, stored_count: int) -> int:
        """Note a failure; return how many there were since `stored_count` last changed."""
        self._count = self._count + 1 if stored_count == self._stored_count else 1
        self._stored_count = stored_count
        return self._count
