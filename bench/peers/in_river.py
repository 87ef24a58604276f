"""River: `utils.TimeRolling` around statistics that can be reverted, one set a customer.

`Sum` and `Var` can be; `Var` also knows the count and the mean. `Max` and a distinct count can't
be reverted, so River has no such thing over a window of time.
"""

import datetime as dt
import math
from typing import Any

import numpy as np
from river import stats, utils

from bench.peers.question import AGGREGATES, COLUMN, WINDOWS_MS, Events
from bench.peers.timed import Answers

_AGGREGATES = tuple(name for name in AGGREGATES if name != "max")
ANSWERED = tuple(f"{name}_{window}" for window in WINDOWS_MS for name in _AGGREGATES)
TIMED_COUNT = 512  # events at once
_EPOCH = dt.datetime(1970, 1, 1)


def answer(events: Events) -> Answers:
    """Answer event by event."""
    answers = Answers.to(events)
    rows = [COLUMN[name] for name in ANSWERED]
    moments = [_EPOCH + dt.timedelta(milliseconds=ts_ms) for ts_ms in events.ts_ms.tolist()]
    windows: dict[int, list[tuple[Any, Any]]] = {}
    arrivals = list(
        zip(moments, events.customer.tolist(), events.amount_minor.tolist(), strict=True)
    )
    for first in range(0, len(arrivals), TIMED_COUNT):
        part = arrivals[first : first + TIMED_COUNT]
        with answers.timed():
            values = [_take(windows, *arrival) for arrival in part]
        answers.values[rows, first : first + len(part)] = np.array(values).T
    return answers


def _take(
    windows: dict[int, list[tuple[Any, Any]]], moment: dt.datetime, customer: int, amount_minor: int
) -> list[float]:
    """Return one event's values in the order of ANSWERED."""
    own = windows.get(customer)
    if own is None:
        own = windows[customer] = _new_windows()
    values: list[float] = []
    for total, variance in own:
        total.update(amount_minor, t=moment)
        variance.update(amount_minor, t=moment)
        mean = variance.obj.mean
        deviation = math.sqrt(max(variance.get(), 0.0))
        values += (mean.n, total.get(), mean.get(), deviation)
    return values


def _new_windows() -> list[tuple[Any, Any]]:
    periods = [dt.timedelta(milliseconds=window_ms) for window_ms in WINDOWS_MS.values()]
    return [
        (
            utils.TimeRolling(stats.Sum, period=period),
            utils.TimeRolling(stats.Var, period=period, ddof=0),
        )
        for period in periods
    ]
