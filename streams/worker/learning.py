"""Models that learn from all partitions: what travels by `training`, and the one trainer.

Workers put matured examples on `training`, which has one partition, and a clock whenever one of
their partitions passes a point of the publication grid. Whoever owns `training` learns, in the
canonical order of streams/training.py, what had matured by a point once all partitions passed it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from actions.policy_schema import ModelDeclaration
from features.errors import RecordError
from features.records import ENCODER, Promotion, TrainingExample
from online_models.contest import Published
from online_models.versions import ModelVersion
from streams.emissions import Emission, Output
from streams.partition import Write
from streams.training import Training

SEQUENCE_KEY = b"training-sequence"
PROGRESS_KEY = b"progress"
CLOCK_MARK = "clock"
PROMOTION_MARK = "-promotion"  # no model has such a name
logger = logging.getLogger(__name__)


class Clock(msgspec.Struct, frozen=True, tag_field="kind", tag="clock"):
    """Event time has passed `point_ms` in a partition: what matured by then was sent before."""

    partition: int
    point_ms: int


class Point(msgspec.Struct, frozen=True, tag_field="kind", tag="point"):
    """A model's version at a point of its grid, also where it stayed as it was."""

    model: str
    point_ms: int
    version: int


class Reach(msgspec.Struct, frozen=True, tag_field="kind", tag="reach"):
    """Partitions without records should let event time pass to `point_ms`: others wait for it."""

    point_ms: int


class Outbox:
    """Numbers the examples of each partition and model, and tells when a grid point is passed.

    The numbers are part of the partition's state, so that a repeat after a crash has the same.
    """

    def __init__(self, models: Sequence[ModelDeclaration]) -> None:
        self._every_ms = [model.publish_every_ms for model in models]
        self._next: dict[int, dict[str, int]] = {}
        self._points_ms: dict[int, int] = {}
        self._changed: set[int] = set()

    def change(self, models: Sequence[ModelDeclaration]) -> None:
        """Number the examples of these models from now on; those that stay go on."""
        self._every_ms = [model.publish_every_ms for model in models]

    def restore(self, partition: int, blob: bytes | None, clock_ms: int) -> None:
        """Take up a partition's stored numbers; its clock was told before."""
        self._next[partition] = {} if blob is None else msgspec.json.decode(blob)
        self._points_ms[partition] = self.point_ms(clock_ms)

    def point_ms(self, clock_ms: int) -> int:
        """Return the newest grid point of any model that is not after `clock_ms`."""
        return max((clock_ms // every * every for every in self._every_ms), default=0)

    def next_point_ms(self, clock_ms: int) -> int:
        """Return the first grid point of any model after `clock_ms`."""
        return min(((clock_ms // every + 1) * every for every in self._every_ms), default=2**62)

    def examples(self, output: Output) -> list[Emission]:
        """Return matured examples, and orders to promote, as records of `training`."""
        emissions = []
        for example, partition in zip(output.training, output.training_partitions, strict=True):
            key = self._number(example.model, partition)
            emissions.append(Emission("training", key, ENCODER.encode(example)))
        for partition, order in output.promotions:
            key = self._number(PROMOTION_MARK, partition)
            emissions.append(Emission("training", key, ENCODER.encode(order)))
        return emissions

    def _number(self, mark: str, partition: int) -> str:
        """Return the key of the next record of this mark from a partition."""
        numbers = self._next[partition]
        number = numbers.get(mark, 0)
        numbers[mark] = number + 1
        self._changed.add(partition)
        return f"{mark}:{partition}:{number}"

    def clocks(self, clocks_ms: Iterable[tuple[int, int]]) -> list[Emission]:
        """Return a record for each (partition, clock) that has passed a point since the last."""
        emissions = []
        for partition, clock_ms in clocks_ms:
            point_ms = self.point_ms(clock_ms)
            if point_ms > self._points_ms[partition]:
                self._points_ms[partition] = point_ms
                value = ENCODER.encode(Clock(partition, point_ms))
                emissions.append(Emission("training", f"{CLOCK_MARK}:{partition}", value))
        return emissions

    def writes(self) -> dict[str, list[Write]]:
        """Return, by partition, the numbers that changed since the last call."""
        found = {
            str(partition): [Write(SEQUENCE_KEY, 0, msgspec.json.encode(self._next[partition]))]
            for partition in self._changed
        }
        self._changed.clear()
        return found


class _Progress(msgspec.Struct):
    points_ms: dict[int, int]  # partition -> newest grid point it told of
    next_numbers: dict[str, int]  # model:partition -> number of the next example


class Learner:
    """The trainers of all models, fed from `training`; repeats are dropped by their numbers.

    A partition that tells nothing for `patience_s` while others have gone on counts as idle: it
    is asked to let time pass, and after as long again the models go on without it.
    """

    def __init__(
        self,
        models: Sequence[ModelDeclaration],
        partition_count: int,
        patience_s: float,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._training = Training(models)
        self._patience_s = patience_s
        self._now_s = monotonic_s
        self._progress = _Progress(dict.fromkeys(range(partition_count), 0), {})
        self._heard_s = dict.fromkeys(range(partition_count), monotonic_s())
        self._asked_ms = 0
        self._told_ms: dict[str, int] = {}  # model -> newest point that went out
        self._is_changed = False

    def restore(self, load: Callable[[list[bytes]], list[bytes | None]]) -> list[ModelVersion]:
        """Take up what is stored; return the newest versions, which may not have gone out."""
        (blob,) = load([PROGRESS_KEY])
        if blob is not None:
            stored = msgspec.msgpack.decode(blob, type=_Progress)
            self._progress.points_ms |= stored.points_ms
            self._progress.next_numbers = stored.next_numbers
        return self._training.restore(load)

    def take(self, key: str, value: bytes) -> None:
        """Take a record of `training`, unless it is a repeat."""
        mark, partition_text, *number = key.split(":")
        partition = int(partition_text)
        if mark != CLOCK_MARK:
            self._heard_s[partition] = self._now_s()
        if mark == CLOCK_MARK:
            clock = msgspec.json.decode(value, type=Clock)
            if clock.point_ms != self._asked_ms:  # else an answer, and the partition is idle still
                self._heard_s[partition] = self._now_s()
            points_ms = self._progress.points_ms
            points_ms[partition] = max(points_ms.get(partition, 0), clock.point_ms)
        else:
            name = f"{mark}:{partition}"
            if int(number[0]) < self._progress.next_numbers.get(name, 0):
                return
            self._progress.next_numbers[name] = int(number[0]) + 1
            if mark == PROMOTION_MARK:
                self._promote(msgspec.json.decode(value, type=Promotion))
            elif mark in self._training.desks:
                self._training.collect([msgspec.json.decode(value, type=TrainingExample)])
            else:  # a worker is ahead of us or behind us in taking another policy
                logger.warning("an example of `%s`, which is no model of the policy", mark)
        self._is_changed = True

    def _promote(self, order: Promotion) -> None:
        try:
            self._training.promote(order)
        except RecordError as error:  # it was good by the policy that its worker had
            logger.warning("an order to promote is not obeyed: %s", error)

    def learn(self) -> tuple[list[Published], list[Point]]:
        """Learn what all partitions have got past; return what is new, and all points passed."""
        clock_ms = self._clock_ms()
        published: list[Published] = []
        if clock_ms > 0 and self._training.next_due_ms(clock_ms) <= clock_ms:
            published = self._training.publish(clock_ms)
        points = [p for p in self.points() if self._told_ms.get(p.model) != p.point_ms]
        self._told_ms |= {point.model: point.point_ms for point in points}
        self._is_changed |= bool(points)
        return published, points

    def points(self) -> list[Point]:
        """Return where each model stands: the newest point of its grid that was got past."""
        return [
            Point(name, point_ms, desk.version)
            for name, desk in self._training.desks.items()
            if (point_ms := desk.last_point_ms) is not None
        ]

    def _clock_ms(self) -> int:
        """Return the grid point that all partitions have passed, but for idle ones."""
        now_s, points_ms = self._now_s(), self._progress.points_ms
        newest_ms = max(points_ms.values(), default=0)
        return min(
            (
                point_ms
                for partition, point_ms in points_ms.items()
                if point_ms == newest_ms or now_s - self._heard_s[partition] < 2 * self._patience_s
            ),
            default=0,
        )

    def reach(self) -> Reach | None:
        """Return what idle partitions have to be asked for, once."""
        now_s, points_ms = self._now_s(), self._progress.points_ms
        newest_ms = max(points_ms.values(), default=0)
        is_behind = any(
            point_ms < newest_ms and now_s - self._heard_s[partition] >= self._patience_s
            for partition, point_ms in points_ms.items()
        )
        if not is_behind or self._asked_ms >= newest_ms:
            return None
        self._asked_ms = newest_ms
        return Reach(newest_ms)

    def writes(self) -> list[Write]:
        """Return what changed since the last call."""
        writes = self._training.changes()
        if self._is_changed:
            writes.append(Write(PROGRESS_KEY, 0, msgspec.msgpack.encode(self._progress)))
            self._is_changed = False
        return writes
