"""Drift: when what comes in, what is said of it, or how wrong that is, is no longer as it was.

**Blocks.** Payments of the night differ from those of the day, and a detector that got them in the
order of time would raise an alarm every evening. So values are gathered for a day (or what the
policy says) and handed over in the order of their events' hashes: within a block chance decides the
order, between blocks time does. The order follows from events alone, whatever the cut of batches.

**Scale.** Detectors expect values between 0 and 1. An error is one. Of scores (log-odds) and
inputs, the first `SCALE_COUNT` values give a mean and a deviation; values within five deviations
fill the range.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import RecordError
from online_models.detectors import DETECTORS
from online_models.framing import (
    FloatArray,
    PackedArray,
    checked_array,
    pack_arrays,
    unpack_arrays,
)
from online_models.judging import DetectorName

SCALE_COUNT = 500
RECENT_COUNT = 1_000  # values among which the moment of a change is looked for
AFTER_COUNT_MIN = 30
_REACH = 5.0  # deviations


class Alarm(NamedTuple):
    """A stream whose values changed; `before` and `after` are means, in the stream's own unit.

    They are split where the two differ most, within the last RECENT_COUNT values.
    """

    stream: str
    before: float
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
        self._strided: FloatArray = np.empty(0)  # of these the detector has not got the mean yet
        self._recent: FloatArray = np.empty(0)
        self._earlier_total, self._earlier_count = 0.0, 0

    def update(self, values: FloatArray) -> list[Alarm]:
        """Take values (n,), in order; return the alarms."""
        if self._scale is None:
            taken = SCALE_COUNT - len(self._recent)
            self._remember(values[:taken])
            if len(self._recent) < SCALE_COUNT:
                return []
            self._scale = _scale_of(self._recent)
            values = values[taken:]
        alarms: list[Alarm] = []
        while (end := self._tell(values)) is not None:
            self._remember(values[:end])
            alarms.append(self._alarm())
            self._begin()
            values = values[end:]
        self._remember(values)
        return alarms

    def _tell(self, values: FloatArray) -> int | None:
        """Hand values to the detector; return how many it has had when it raises an alarm."""
        assert self._scale is not None
        mean, deviation = self._scale
        away = np.clip((values - mean) / deviation, -_REACH, _REACH) / (2 * _REACH) + 0.5
        held_count, stride = len(self._strided), self._entry.stride_count
        away = np.append(self._strided, away)
        whole = len(away) // stride
        means = away[: whole * stride].reshape(whole, stride).mean(axis=1)
        detector = self._detector
        for number, value in enumerate(means.tolist(), start=1):
            detector.update(value)
            if detector.drift_detected:
                return number * stride - held_count
        self._strided = away[whole * stride :]
        return None

    def _remember(self, values: FloatArray, recent_count: int = RECENT_COUNT) -> None:
        """Keep the last values; those before them go into the sum of the earlier ones."""
        joined = np.append(self._recent, values)
        gone = joined[:-recent_count]
        self._earlier_total += float(gone.sum())
        self._earlier_count += len(gone)
        self._recent = joined[-recent_count:]

    def _alarm(self) -> Alarm:
        """Say what changed: the split with the largest likelihood ratio (Hinkley 1970)."""
        sums = self._earlier_total + np.append(0.0, np.cumsum(self._recent))
        counts = self._earlier_count + np.arange(len(sums))
        first = 0 if self._earlier_count else 1
        places = np.arange(first, max(first + 1, len(self._recent) - AFTER_COUNT_MIN + 1))
        before = sums[places] / counts[places]
        after = (sums[-1] - sums[places]) / (counts[-1] - counts[places])
        spread = counts[places] * (counts[-1] - counts[places]) * (before - after) ** 2
        best = int(np.argmax(spread))
        return Alarm(self.name, float(before[best]), float(after[best]))

    def state(self) -> StreamState:
        """Return what `restore` needs."""
        arrays = {
            "scale": np.array(self._scale or ()),
            "recent": self._recent,
            "strided": self._strided,
            "earlier": np.array([self._earlier_total, self._earlier_count], dtype=np.float64),
            **{f"detector.{k}": v for k, v in self._entry.save(self._detector).items()},
        }
        return StreamState(self.name, pack_arrays(arrays))

    def restore(self, state: StreamState) -> None:
        """Go on where the stream of this state stood; raises RecordError for another's arrays."""
        arrays = unpack_arrays(state.arrays)
        scale = _column(arrays, "scale", 2).tolist()
        self._scale = (scale[0], scale[1]) if len(scale) == 2 else None
        if self._scale is None and self._is_unit:
            raise RecordError("$.arrays.scale", "two numbers", "none")
        self._recent = _column(arrays, "recent", RECENT_COUNT)
        self._strided = _column(arrays, "strided", self._entry.stride_count)
        total, count = checked_array(arrays, "earlier", (2,)).tolist()
        self._earlier_total, self._earlier_count = total, int(count)
        own = {k.removeprefix("detector."): v for k, v in arrays.items() if "." in k}
        self._detector = self._entry.restore(own)


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


def _scale_of(values: FloatArray) -> tuple[float, float]:
    """Return mean and deviation; a constant has deviation 1."""
    return float(values.mean()), float(values.std()) or 1.0


def _column(arrays: Mapping[str, NDArray[Any]], name: str, length_max: int) -> FloatArray:
    length = min(int(np.size(arrays.get(name, ()))), length_max)
    return checked_array(arrays, name, (length,))
