"""What a peer hands back, and a stopwatch that runs only while the peer works."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from bench.peers.question import COLUMN, COLUMNS, Events, Values


@dataclass
class Answers:
    """A peer's values, one column an event in the order of arrival, and the time they took."""

    values: Values
    took_s: float = 0.0

    @classmethod
    def to(cls, events: Events) -> "Answers":
        """Return answers in which nothing is answered yet."""
        return cls(np.full((len(COLUMNS), len(events)), np.nan))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of the block."""
        begun_s = time.perf_counter()
        yield
        self.took_s += time.perf_counter() - begun_s

    def put(self, column: str, values: object, events: object) -> None:
        """Give one column's values of these events."""
        self.values[COLUMN[column], events] = values
