"""Records that wait for the version of a model, where a run has to be repeatable to the last bit.

A live worker decides with the newest version it has. With `wait_for_models` a partition stops
where its event time passes a point of the publication grid, until `models` says what the version
of that point is. All partitions of all workers stop there, as the embedded engine does.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from actions.policy_schema import ModelDeclaration
from features.batches import Batch
from features.columns import Cell, Kind
from features.raw import RawRecord
from streams.worker.learning import Point

HELD_MAX_COUNT = 5_000  # records of a partition that wait here; the others wait in Kafka


class Grid:
    """Which points of event time have got their versions."""

    def __init__(self, models: Sequence[ModelDeclaration]) -> None:
        self._every_ms = {model.name: model.publish_every_ms for model in models}
        self._points_ms: dict[str, int] = {}

    def change(self, models: Sequence[ModelDeclaration]) -> None:
        """Take other models: those that stay are where they were, new ones with the others."""
        newest_ms = max(self._points_ms.values(), default=None)
        known = (
            self._points_ms
            if newest_ms is None
            else dict.fromkeys((model.name for model in models), newest_ms) | self._points_ms
        )
        self._every_ms = {model.name: model.publish_every_ms for model in models}
        self._points_ms = {name: known[name] for name in self._every_ms if name in known}

    def pass_point(self, point: Point) -> None:
        """Take note of what `models` says."""
        if point.model in self._every_ms:
            known_ms = self._points_ms.get(point.model, point.point_ms)
            self._points_ms[point.model] = max(known_ms, point.point_ms)

    def open_until_ms(self) -> int:
        """Return the event time before which records may be decided.

        At first that is the first point of the grid after 0, which nobody has to pass.
        """
        return min(
            (self._points_ms.get(name, 0) + every for name, every in self._every_ms.items()),
            default=2**62,
        )


class Holding:
    """Records that came and are not decided yet, by partition, in their order."""

    def __init__(self) -> None:
        self._held: dict[int, deque[RawRecord]] = {}

    def add(self, raws: Iterable[RawRecord]) -> None:
        """Hold records behind those that wait."""
        for raw in raws:
            self._held.setdefault(raw.partition, deque()).append(raw)

    def partitions(self) -> list[int]:
        """Return the partitions of which records wait."""
        return [partition for partition, raws in self._held.items() if raws]

    def full(self) -> set[int]:
        """Return the partitions of which no more should come now."""
        return {p for p, raws in self._held.items() if len(raws) >= HELD_MAX_COUNT}

    def first(self, partition: int, count: int) -> list[RawRecord]:
        """Return up to `count` records that are next, without letting go of them."""
        return list(islice(self._held[partition], count))

    def let_go(self, partition: int, count: int) -> None:
        """Drop the records that were decided."""
        held = self._held[partition]
        for _ in range(count):
            held.popleft()


def running_clocks_ms(batch: Batch, clock_ms: int) -> NDArray[np.int64]:
    """Return event time after each row (n,), from that before the first; refused rows have none."""
    times_ms = np.where(batch.kinds == Kind.REFUSED, clock_ms, batch.cells[Cell.TS_MS])
    clocks_ms: NDArray[np.int64] = np.maximum.accumulate(np.maximum(times_ms, clock_ms))
    return clocks_ms
