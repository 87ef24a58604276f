"""Drift: when what comes in, what is said of it, or how wrong that is, is no longer as it was.

**Blocks.** Payments of the night differ from those of the day, and a detector that got them in the
order of time would raise an alarm every evening. So values are gathered for a day (or what the
policy says) and handed over in the order of their events' hashes: within a block chance decides the
order, between blocks time does. The order follows from events alone, whatever the cut of batches.

**Scale.** Detectors expect values between 0 and 1. An error is one. Of scores (log-odds) and
inputs, the first `SCALE_COUNT` values give a mean and a deviation; values within five deviations
fill the range.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import RecordError
from online_models.compiled import checked_array
from online_models.detectors import DETECTORS
from online_models.framing import FloatArray, PackedArray, pack_arrays, unpack_arrays
from online_models.judging import DetectorName

SCALE_COUNT = 500
RECENT_COUNT = 200  # values of the mean "after" an alarm
_REACH = 5.0  # deviations


class Alarm(NamedTuple):
    """A stream whose values changed; `before` and `after` are means, in the stream's own unit.

    `after` is that of the last RECENT_COUNT values, `before` of all earlier ones since the last
    alarm: None where there were none.
    """

    stream: str
    before: float | None
    after: float


class StreamState(Struct, frozen=True):
    """What a stream of this name needs to go on."""

    name: str
    arrays: dict[str, PackedArray]


class Stream:
    """One watched quantity. `is_unit` says that its values are between 0 and 1 already."""

    def __init__(self, name: str, detector: DetectorName, *, is_unit: bool = False) -> None:
        self.name = name
        self._entry = DETECTORS[detector]
        self._is_unit = is_unit
        self._scale: tuple[float, float] | None = (0.5, 0.5 / _REACH) if is_unit else None
        self._begin()

    def _begin(self) -> None:
        self._detector = self._entry.build()
        self._strided: list[float] = []  # values of which the detector has not got the mean yet
        self._recent: list[float] = []
        self._earlier_total, self._earlier_count = 0.0, 0

    def update(self, values: FloatArray) -> list[Alarm]:
        """Take values (n,), in order; return the alarms."""
        alarms: list[Alarm] = []
        for value in values.tolist():
            self._recent.append(value)
            if self._scale is None:
                if len(self._recent) == SCALE_COUNT:
                    self._scale = _scale_of(self._recent)
                    self._forget()
                continue
            self._forget()
            if self._tell(value):
                alarms.append(self._alarm())
                self._begin()
        return alarms

    def _tell(self, value: float) -> bool:
        """Hand a value to the detector, or the mean of some; return whether it raised an alarm."""
        assert self._scale is not None
        mean, deviation = self._scale
        away = (value - mean) / deviation
        self._strided.append(min(max(away, -_REACH), _REACH) / (2 * _REACH) + 0.5)
        if len(self._strided) < self._entry.stride_count:
            return False
        self._detector.update(math.fsum(self._strided) / len(self._strided))
        self._strided = []
        return bool(self._detector.drift_detected)

    def _forget(self) -> None:
        """Let values that are no longer recent go into the sum of the earlier ones."""
        while len(self._recent) > RECENT_COUNT:
            self._earlier_total += self._recent.pop(0)
            self._earlier_count += 1

    def _alarm(self) -> Alarm:
        before = self._earlier_total / self._earlier_count if self._earlier_count else None
        return Alarm(self.name, before, math.fsum(self._recent) / len(self._recent))

    def state(self) -> StreamState:
        """Return what `restore` needs."""
        arrays = {
            "scale": np.array(self._scale or ()),
            "recent": np.array(self._recent),
            "strided": np.array(self._strided),
            "earlier": np.array([self._earlier_total, self._earlier_count], dtype=np.float64),
            **{f"detector.{k}": v for k, v in self._entry.save(self._detector).items()},
        }
        return StreamState(self.name, pack_arrays(arrays))

    def restore(self, state: StreamState) -> None:
        """Go on where the stream of this state stood; raises RecordError for another's arrays."""
        arrays = unpack_arrays(state.arrays)
        scale = checked_array(arrays, "scale", (_length(arrays, "scale", 2),)).tolist()
        self._scale = (scale[0], scale[1]) if len(scale) == 2 else None
        if self._scale is None and self._is_unit:
            raise RecordError("$.arrays.scale", "two numbers", "none")
        self._recent = _list(arrays, "recent", SCALE_COUNT)
        self._strided = _list(arrays, "strided", self._entry.stride_count)
        total, count = checked_array(arrays, "earlier", (2,)).tolist()
        self._earlier_total, self._earlier_count = total, int(count)
        own = {k.removeprefix("detector."): v for k, v in arrays.items() if "." in k}
        self._entry.restore(self._detector, own)


class DriftWatch:
    """Streams by name, fed with blocks of events."""

    def __init__(
        self, detector: DetectorName, names: Sequence[str], unit_names: Sequence[str] = ()
    ) -> None:
        self._streams = [Stream(name, detector, is_unit=name in unit_names) for name in names]
        self._events: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._values: FloatArray = np.empty((0, len(names)))

    def gather(self, events: NDArray[np.int64], values: FloatArray) -> None:
        """Add to the block: hashes of events (n,), and what each stream has of them, (n, streams).

        NaN says that a stream has nothing of an event.
        """
        self._events = np.append(self._events, events)
        self._values = np.vstack([self._values, values])

    def close_block(self) -> list[Alarm]:
        """Hand the block to the detectors, in the order of hashes; return the alarms."""
        order = np.argsort(self._events, kind="stable")
        columns = self._values[order].T
        self._events, self._values = self._events[:0], self._values[:0]
        return [
            alarm
            for stream, column in zip(self._streams, columns, strict=True)
            for alarm in stream.update(column[~np.isnan(column)])
        ]

    def begin_again(self, name: str) -> None:
        """Forget all that a stream has seen, where what it watches was replaced."""
        for stream in self._streams:
            if stream.name == name:
                stream._begin()

    def block(self) -> dict[str, NDArray[Any]]:
        """Return the block so far as arrays."""
        return {"events": self._events, "values": self._values}

    def states(self) -> list[StreamState]:
        """Return the states of all streams."""
        return [stream.state() for stream in self._streams]

    def restore(self, block: Mapping[str, NDArray[Any]], states: Sequence[StreamState]) -> None:
        """Go on as before; a stream that was not watched then begins anew, with its block empty.

        Raises RecordError for arrays that fit no block or no stream.
        """
        known = {state.name: state for state in states}
        for stream in self._streams:
            if stream.name in known:
                stream.restore(known[stream.name])
        if [stream.name for stream in self._streams] == [state.name for state in states]:
            events = np.asarray(block.get("events", ()), dtype=np.int64)
            values = np.asarray(block.get("values", ()), dtype=np.float64)
            if values.shape != (len(events), len(self._streams)):
                expected = f"shape ({len(events)}, {len(self._streams)})"
                raise RecordError("$.block.values", expected, f"{values.shape}")
            self._events, self._values = events, values


def _scale_of(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and deviation; a constant has deviation 1."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return mean, math.sqrt(variance) or 1.0


def _length(arrays: Mapping[str, NDArray[Any]], name: str, length_max: int) -> int:
    return min(int(np.size(arrays.get(name, ()))), length_max)


def _list(arrays: Mapping[str, NDArray[Any]], name: str, length_max: int) -> list[float]:
    values: list[float] = checked_array(arrays, name, (_length(arrays, name, length_max),)).tolist()
    return values
