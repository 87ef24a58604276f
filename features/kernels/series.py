"""Aggregates that weigh values by their times: EWMA and TREND."""

import math

import numpy as np

from features.columns import MISSING
from features.kernels.jit import part
from features.kernels.layout import FamilyField, Table
from features.kernels.terms import qualifies

_DAY_MS = 86_400_000.0
_SPLITTER = 134_217_729.0  # 2**27 + 1


@part
def gather_timed(
    arena: Table,
    start: int,
    capacity: int,
    families: Table,
    family: int,
    terms: Table,
    low: int,
    high: int,
    skip: int,
    values: Table,
    times: Table,
    total: int,
) -> int:
    """Append values and times of the qualifying events among [low, high); returns the new total."""
    base = start + families[family, FamilyField.VALUE_COLUMN] * capacity
    first, last = families[family, FamilyField.TERM_FROM], families[family, FamilyField.TERM_TO]
    for i in range(low, high):
        value = arena[base + i]
        values[total] = value
        times[total] = arena[start + i]
        holds = qualifies(arena, start + i, capacity, terms, first, last)
        total += 1 if holds and value != MISSING and i != skip else 0
    return total


@part
def ewma(values: Table, times: Table, first: int, total: int, half_life_ms: int) -> float:
    """Return the mean, each value weighted by 0.5 ** (age / half-life); NaN of nothing.

    From which moment ages are counted cancels out. Here it is each next event, oldest first: so
    the weights of a window that lies far back don't all become zero.
    """
    weighted, weights = 0.0, 0.0
    for i in range(first, total):
        if i > first and times[i] > times[i - 1]:
            decay = math.pow(0.5, (times[i] - times[i - 1]) / half_life_ms)
            weighted *= decay
            weights *= decay
        weighted += values[i]
        weights += 1.0
    return weighted / weights if total > first else np.nan


@part
def _times_exactly(a: float, b: float) -> tuple[float, float]:
    """Return the rounded product and its error (Dekker 1971)."""
    product = a * b
    a_high, b_high = _SPLITTER * a, _SPLITTER * b
    a_high, b_high = a_high - (a_high - a), b_high - (b_high - b)
    a_low, b_low = a - a_high, b - b_high
    return product, a_low * b_low - (
        ((product - a_high * b_high) - a_low * b_high) - a_high * b_low
    )


@part
def trend(values: Table, times: Table, first: int, total: int) -> float:
    """Return the least-squares slope of value over time, a day; NaN of fewer than two times.

    Times less their mean, and values less the first, are whole numbers; their products are added
    up as if with twice the digits of a float64 (Ogita, Rump and Oishi 2005, algorithm Dot2). So
    a slope that is nearly zero keeps its digits.
    """
    if total - first < 2 or times[first] == times[total - 1]:
        return np.nan
    count, elapsed_ms = total - first, 0
    for i in range(first, total):
        elapsed_ms += times[i] - times[first]
    product, error, squares = 0.0, 0.0, 0.0
    for i in range(first, total):
        # `count` times the distance from the mean time.
        x = float(count * (times[i] - times[first]) - elapsed_ms)
        term, term_error = _times_exactly(x, float(values[i] - values[first]))
        before, product = product, product + term
        shift = product - before
        error += ((before - (product - shift)) + (term - shift)) + term_error
        squares += x * x
    return (product + error) / squares * count * _DAY_MS
