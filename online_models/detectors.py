"""River's drift detectors by name, and their state as arrays.

Detectors get values between 0 and 1 (see `drift`). After an alarm a new one begins, as River's own
do with the next value.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.drift import ADWIN, KSWIN, PageHinkley

from features.errors import RecordError
from online_models.compiled import checked_array
from online_models.judging import DetectorName

Arrays = dict[str, NDArray[Any]]

ADWIN_DELTA = 1e-4
PAGE_HINKLEY_DELTA = 0.01
PAGE_HINKLEY_THRESHOLD = 30.0
KSWIN_ALPHA = 1e-5
KSWIN_WINDOW_COUNT = 200
KSWIN_RECENT_COUNT = 50
KSWIN_SEED = 1

# How the state of River's ADWIN is laid out: between head and tail come rows of buckets.
_ADWIN_HEAD_BYTES, _ADWIN_TAIL_BYTES = 92, 28  # the head ends with the count of rows
_ADWIN_BUCKETS = 6  # of a row: River's `max_buckets` and one
_ADWIN_ROW_BYTES = 8 * (4 + 2 * _ADWIN_BUCKETS)


@dataclass(frozen=True, slots=True)
class DetectorEntry:
    """One detector: how it is built, and how its state becomes arrays and comes back.

    It is given the mean of each `stride_count` values: one for a detector that is cheap.
    """

    build: Callable[[], Any]
    save: Callable[[Any], Arrays]
    restore: Callable[[Any, Mapping[str, NDArray[Any]]], None]
    stride_count: int = 1


def _new_adwin() -> Any:
    return ADWIN(delta=ADWIN_DELTA)  # type: ignore[no-untyped-call]


def _save_adwin(detector: Any) -> Arrays:
    """Return River's own flat numbers (no pickle): 8 bytes each, integers and floats mixed."""
    return {"window": np.frombuffer(detector._helper.__getstate__(), dtype="<i8")}


def _restore_adwin(detector: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put the numbers back, once their lengths are what River is going to read."""
    state = np.asarray(arrays.get("window", ()), dtype="<i8").tobytes()
    fixed_bytes = _ADWIN_HEAD_BYTES + _ADWIN_TAIL_BYTES
    row_count, rest = divmod(len(state) - fixed_bytes, _ADWIN_ROW_BYTES)
    fits = row_count >= 1 and not rest
    if fits:
        rows = state[_ADWIN_HEAD_BYTES - 8 : -_ADWIN_TAIL_BYTES]
        told_count, *fields = np.frombuffer(rows, dtype="<i8").tolist()
        by_row = np.array(fields, dtype=np.int64).reshape(row_count, -1)
        lengths = by_row[:, [2, 3 + _ADWIN_BUCKETS]]
        filled = by_row[:, 1]
        fits = bool(
            told_count == row_count
            and (lengths == _ADWIN_BUCKETS).all()
            and filled.min() >= 0
            and filled.max() <= _ADWIN_BUCKETS
        )
    if not fits:
        raise RecordError("$.arrays.window", "the state of an ADWIN", f"{len(state)} bytes")
    detector._helper.__setstate__(state)


def _save_page_hinkley(detector: Any) -> Arrays:
    mean = detector._x_mean
    if not mean.n:
        return {"sums": np.empty(0)}
    sums = (
        mean.n,
        mean._mean,
        detector._sum_increase,
        detector._sum_decrease,
        detector._min_increase,
        detector._max_decrease,
    )
    return {"sums": np.array(sums, dtype=np.float64)}


def _restore_page_hinkley(detector: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    if not np.size(arrays.get("sums", ())):
        return
    n, mean, *sums = checked_array(arrays, "sums", (6,)).tolist()
    detector._x_mean.n, detector._x_mean._mean = int(n), mean
    detector._sum_increase, detector._sum_decrease = sums[:2]
    detector._min_increase, detector._max_decrease = sums[2:]


def _save_kswin(detector: Any) -> Arrays:
    _, draws, _ = detector._rng.getstate()
    return {
        "window": np.array(detector.window, dtype=np.float64),
        "draws": np.array(draws, dtype=np.int64),
    }


def _restore_kswin(detector: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    count = min(np.size(arrays.get("window", ())), KSWIN_WINDOW_COUNT)
    detector.window.extend(checked_array(arrays, "window", (count,)).tolist())
    detector.n = count
    draws = checked_array(arrays, "draws", (625,), minimum=0.0).astype(np.int64).tolist()
    try:
        detector._rng.setstate((3, tuple(draws), None))
    except (ValueError, OverflowError, TypeError) as error:
        raise RecordError("$.arrays.draws", "a state of the generator", f"{error}") from error


DETECTORS: dict[DetectorName, DetectorEntry] = {
    "adwin": DetectorEntry(_new_adwin, _save_adwin, _restore_adwin),
    "page_hinkley": DetectorEntry(
        # River's default of `alpha` lets the sums fade: then they wander by themselves, and a
        # stream that does not change raises an alarm every 200,000 values or so.
        lambda: PageHinkley(delta=PAGE_HINKLEY_DELTA, threshold=PAGE_HINKLEY_THRESHOLD, alpha=1.0),
        _save_page_hinkley,
        _restore_page_hinkley,
    ),
    # Each value costs River a Kolmogorov-Smirnov test, about a millisecond.
    "kswin": DetectorEntry(
        lambda: KSWIN(KSWIN_ALPHA, KSWIN_WINDOW_COUNT, KSWIN_RECENT_COUNT, KSWIN_SEED),
        _save_kswin,
        _restore_kswin,
        stride_count=20,
    ),
}
