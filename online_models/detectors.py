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
from online_models.framing import checked_array
from online_models.judging import DetectorName
from online_models.trees.detectors import detector_numbers, detector_of

Arrays = dict[str, NDArray[Any]]

ADWIN_DELTA = 1e-4
PAGE_HINKLEY_DELTA = 0.01
PAGE_HINKLEY_THRESHOLD = 30.0
KSWIN_ALPHA = 1e-5
KSWIN_WINDOW_COUNT = 200
KSWIN_RECENT_COUNT = 50
KSWIN_SEED = 1


@dataclass(frozen=True, slots=True)
class DetectorEntry:
    """One detector: how it is built, and how its state becomes arrays and comes back.

    It is given the mean of each `stride_count` values: one for a detector that is cheap.
    """

    build: Callable[[], Any]
    save: Callable[[Any], Arrays]
    restore: Callable[[Mapping[str, NDArray[Any]]], Any]
    stride_count: int = 1


def _new_adwin() -> Any:
    return ADWIN(delta=ADWIN_DELTA)


def _save_adwin(detector: Any) -> Arrays:
    return {"window": np.array(detector_numbers(detector))}


def _restore_adwin(arrays: Mapping[str, NDArray[Any]]) -> Any:
    numbers = np.asarray(arrays.get("window", ()), dtype=np.float64)
    return detector_of(_new_adwin(), numbers.ravel().tolist())


def _new_page_hinkley() -> Any:
    # River's default of `alpha` lets the sums fade: then they wander by themselves, and a stream
    # that does not change raises an alarm every 200,000 values or so.
    return PageHinkley(delta=PAGE_HINKLEY_DELTA, threshold=PAGE_HINKLEY_THRESHOLD, alpha=1.0)


def _new_kswin() -> Any:
    return KSWIN(KSWIN_ALPHA, KSWIN_WINDOW_COUNT, KSWIN_RECENT_COUNT, KSWIN_SEED)


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


def _restore_page_hinkley(arrays: Mapping[str, NDArray[Any]]) -> Any:
    detector = _new_page_hinkley()
    if not np.size(arrays.get("sums", ())):
        return detector
    n, mean, *sums = checked_array(arrays, "sums", (6,)).tolist()
    detector._x_mean.n, detector._x_mean._mean = int(n), mean
    detector._sum_increase, detector._sum_decrease = sums[:2]
    detector._min_increase, detector._max_decrease = sums[2:]
    return detector


def _save_kswin(detector: Any) -> Arrays:
    _, draws, _ = detector._rng.getstate()
    return {
        "window": np.array(detector.window, dtype=np.float64),
        "draws": np.array(draws, dtype=np.int64),
    }


def _restore_kswin(arrays: Mapping[str, NDArray[Any]]) -> Any:
    detector = _new_kswin()
    count = min(np.size(arrays.get("window", ())), KSWIN_WINDOW_COUNT)
    detector.window.extend(checked_array(arrays, "window", (count,)).tolist())
    detector.n = count
    draws = checked_array(arrays, "draws", (625,), minimum=0.0).astype(np.int64).tolist()
    try:
        detector._rng.setstate((3, tuple(draws), None))
    except (ValueError, OverflowError, TypeError) as error:
        raise RecordError("$.arrays.draws", "a state of the generator", f"{error}") from error
    return detector


DETECTORS: dict[DetectorName, DetectorEntry] = {
    "adwin": DetectorEntry(_new_adwin, _save_adwin, _restore_adwin),
    "page_hinkley": DetectorEntry(_new_page_hinkley, _save_page_hinkley, _restore_page_hinkley),
    # Each value costs River a Kolmogorov-Smirnov test, about a millisecond.
    "kswin": DetectorEntry(_new_kswin, _save_kswin, _restore_kswin, stride_count=20),
}
