"""What a window's value can be where only some of its events are known to be in it.

`parts[CERTAIN]` are the sums of the events that are in the window for sure, `parts[UNCERTAIN]`
those of others: INSIDE_MIN to INSIDE_MAX of them are in it, nobody knows which. Every function
returns a lowest and a highest value; none that any choice of them gives lies outside.
"""

import math

import numpy as np

from features.kernels.jit import inlined, part
from features.kernels.layout import Table
from features.kernels.moments import add_sums, standard_deviation
from features.kernels.tiles import CERTAIN, UNCERTAIN, PartField

WHOLE_MAX = 2.0**52  # whole numbers up to here, and their sums, are exact in float64
ROUNDING = 2.0**-48  # more than what a few roundings make of a value


@inlined
def _most_of_some(inside: float, count: float, total: float, least: float, most: float) -> float:
    """Return a bound of the sum of `inside` out of `count` values with a known total."""
    return min(inside * most, total - (count - inside) * least)


@inlined
def _turning(count: float, total: float, least: float, most: float) -> float:
    """Return at how many values the two bounds of `_most_of_some` meet."""
    return (total - count * least) / (most - least) if most > least else 0.0


@inlined
def _rounding(parts: Table) -> float:
    """Return how far off a sum formed in float64 may be: not at all where all is small."""
    part = parts[UNCERTAIN]
    largest = max(abs(float(part[PartField.LEAST])), abs(float(part[PartField.MOST])))
    size = abs(float(parts[CERTAIN, PartField.SUM])) + largest * float(part[PartField.COUNT])
    return 0.0 if size < WHOLE_MAX else size * ROUNDING


@part
def _highest_sum(parts: Table, sign: float) -> float:
    """Return the highest sum of the window's values, each times `sign` (1 or -1)."""
    part = parts[UNCERTAIN]
    count, total = float(part[PartField.COUNT]), sign * float(part[PartField.SUM])
    least, most = float(part[PartField.LEAST]), float(part[PartField.MOST])
    if sign < 0.0:
        least, most = -most, -least
    lowest, highest = float(part[PartField.INSIDE_MIN]), float(part[PartField.INSIDE_MAX])
    found = max(
        _most_of_some(lowest, count, total, least, most),
        _most_of_some(highest, count, total, least, most),
    )
    turning = np.floor(_turning(count, total, least, most))
    for inside in (turning, turning + 1.0):
        if lowest <= inside <= highest:
            found = max(found, _most_of_some(inside, count, total, least, most))
    return found + sign * float(parts[CERTAIN, PartField.SUM])


@part
def sum_interval(parts: Table) -> tuple[float, float]:
    """Return the lowest and highest sum."""
    slack = _rounding(parts)
    return -_highest_sum(parts, -1.0) - slack, _highest_sum(parts, 1.0) + slack


@part
def _highest_mean(parts: Table, sign: float) -> float:
    """Return the highest mean of the window's values, each times `sign` (1 or -1).

    Between the points where the bound of the sum turns, the mean rises or falls throughout.
    """
    part = parts[UNCERTAIN]
    count, total = float(part[PartField.COUNT]), sign * float(part[PartField.SUM])
    least, most = float(part[PartField.LEAST]), float(part[PartField.MOST])
    if sign < 0.0:
        least, most = -most, -least
    lowest, highest = float(part[PartField.INSIDE_MIN]), float(part[PartField.INSIDE_MAX])
    turning = np.floor(_turning(count, total, least, most))
    certain = float(parts[CERTAIN, PartField.COUNT])
    certain_total = sign * float(parts[CERTAIN, PartField.SUM])
    found = -np.inf
    for inside in (lowest, lowest + 1.0, turning, turning + 1.0, highest):
        if lowest <= inside <= highest and certain + inside > 0.0:
            some = _most_of_some(inside, count, total, least, most)
            found = max(found, (certain_total + some) / (certain + inside))
    return found


@part
def mean_interval(parts: Table) -> tuple[float, float]:
    """Return the lowest and highest mean of a window that isn't empty."""
    low, high = -_highest_mean(parts, -1.0), _highest_mean(parts, 1.0)
    fewest = parts[CERTAIN, PartField.COUNT] + parts[UNCERTAIN, PartField.INSIDE_MIN]
    slack = max(abs(low), abs(high)) * ROUNDING + _rounding(parts) / np.float64(max(fewest, 1))
    return low - slack, high + slack


@part
def std_interval(parts: Table) -> tuple[float, float]:
    """Return the lowest and highest standard deviation of a window that isn't empty.

    The sum of squared deviations never falls when a value is added, so that of the certain values
    is the lowest, and that of all of them the highest.
    """
    certain, uncertain = parts[CERTAIN], parts[UNCERTAIN]
    count, scale = certain[PartField.COUNT], int(np.int64(1))
    high_word, low_word = certain[PartField.SQUARES], certain[PartField.LOW_SQUARES]
    low = 0.0
    if count > 0:
        own = standard_deviation(count, certain[PartField.SUM], high_word, low_word, scale)
        low = own * math.sqrt(count / np.float64(count + uncertain[PartField.INSIDE_MAX]))
    high_word, low_word = add_sums(
        high_word, low_word, uncertain[PartField.SQUARES], uncertain[PartField.LOW_SQUARES]
    )
    every = count + uncertain[PartField.COUNT]
    total = certain[PartField.SUM] + uncertain[PartField.SUM]
    fewest = max(count + uncertain[PartField.INSIDE_MIN], 1)
    high = standard_deviation(every, total, high_word, low_word, scale) * math.sqrt(
        every / np.float64(fewest)
    )
    # No values deviate by more than half of what lies between the extremes (Popoviciu 1935).
    least = min(certain[PartField.LEAST], uncertain[PartField.LEAST])
    most = max(certain[PartField.MOST], uncertain[PartField.MOST])
    high = min(high, (float(most) - float(least)) / 2.0)
    slack = high * ROUNDING
    return max(low - slack, 0.0), high + slack


@part
def most_interval(parts: Table) -> tuple[float, float]:
    """Return the lowest and highest maximum of a window that isn't empty."""
    certain, uncertain = parts[CERTAIN, PartField.MOST], parts[UNCERTAIN]
    low = max(certain, uncertain[PartField.LEAST_MOST])
    return float(low), float(max(certain, uncertain[PartField.MOST]))


@part
def least_interval(parts: Table) -> tuple[float, float]:
    """Return the lowest and highest minimum of a window that isn't empty."""
    certain, uncertain = parts[CERTAIN, PartField.LEAST], parts[UNCERTAIN]
    high = min(certain, uncertain[PartField.MOST_LEAST])
    return float(min(certain, uncertain[PartField.LEAST])), float(high)
