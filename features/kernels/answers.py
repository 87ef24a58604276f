"""The value of a slot over events of which some are uncertain, and how far it may be off."""

import math

import numpy as np
from numpy.typing import NDArray

from features.kernels.intervals import (
    least_interval,
    mean_interval,
    most_interval,
    std_interval,
    sum_interval,
)
from features.kernels.jit import part
from features.kernels.layout import FamilyField, Layout, MemberField, Scratch, Table
from features.kernels.moments import standard_deviation
from features.kernels.tiles import CERTAIN, UNCERTAIN, GuessField, PartField
from features.plan import Aggregate

_WORD = 2.0**64


@part
def _exact(aggregate: int, sums: Table, scale: int) -> float:
    """Return an aggregate of events that are all certain, as it is without tiles.

    MEAN and STD are divided by `scale` too.
    """
    count, total = sums[PartField.COUNT], sums[PartField.SUM]
    if aggregate == Aggregate.COUNT:
        return float(count)
    if aggregate == Aggregate.SUM:
        return float(total)
    if count == 0:
        return np.nan
    if aggregate == Aggregate.MEAN:
        return float(total / np.float64(count * scale))
    if aggregate == Aggregate.STD:
        high, low = sums[PartField.SQUARES], sums[PartField.LOW_SQUARES]
        return float(standard_deviation(count, total, high, low, scale))
    return float(sums[PartField.LEAST if aggregate == Aggregate.MIN else PartField.MOST])


@part
def _interval(aggregate: int, parts: Table) -> tuple[float, float]:
    """Return the lowest and the highest value; unknown where the window may be empty."""
    certain, uncertain = parts[CERTAIN], parts[UNCERTAIN]
    count = certain[PartField.COUNT]
    if aggregate == Aggregate.COUNT:
        fewest, most = uncertain[PartField.INSIDE_MIN], uncertain[PartField.INSIDE_MAX]
        return float(count + fewest), float(count + most)
    if aggregate == Aggregate.SUM:
        return sum_interval(parts)
    if count + uncertain[PartField.INSIDE_MIN] == 0:
        return -np.inf, np.inf
    if aggregate == Aggregate.MEAN:
        return mean_interval(parts)
    if aggregate == Aggregate.STD:
        return std_interval(parts)
    return least_interval(parts) if aggregate == Aggregate.MIN else most_interval(parts)


@part
def _guess(aggregate: int, parts: Table, guess: NDArray[np.float64]) -> float:
    """Return the likeliest value, if events are spread evenly over each tile."""
    certain, uncertain = parts[CERTAIN], parts[UNCERTAIN]
    fewest, most = uncertain[PartField.INSIDE_MIN], uncertain[PartField.INSIDE_MAX]
    inside = min(max(guess[GuessField.COUNT], float(fewest)), float(most))
    count = certain[PartField.COUNT] + inside
    total = certain[PartField.SUM] + guess[GuessField.SUM]
    if aggregate == Aggregate.COUNT:
        return float(np.rint(count))
    if aggregate == Aggregate.SUM:
        return float(np.rint(total))
    if aggregate == Aggregate.MIN:
        return float(min(float(certain[PartField.LEAST]), guess[GuessField.LEAST]))
    if aggregate == Aggregate.MAX:
        return float(max(float(certain[PartField.MOST]), guess[GuessField.MOST]))
    mean = total / max(count, 1.0)
    if aggregate == Aggregate.MEAN:
        return float(mean)
    squares = float(np.uint64(certain[PartField.SQUARES])) * _WORD
    squares += float(np.uint64(certain[PartField.LOW_SQUARES])) + guess[GuessField.SQUARES]
    return math.sqrt(max(squares / max(count, 1.0) - mean * mean, 0.0))


@part
def answer_sums(
    layout: Layout, scratch: Scratch, family: int, member: int, row: int,
    slot_values: NDArray[np.float64], errors: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill a slot of sums or extremes from `scratch.parts`, and its error."""
    output = layout.members[member, MemberField.OUTPUT]
    aggregate = layout.members[member, MemberField.AGGREGATE]
    scale = layout.families[family, FamilyField.SCALE]
    if scratch.parts[UNCERTAIN, PartField.INSIDE_MAX] == 0:
        slot_values[output, row] = _exact(aggregate, scratch.parts[CERTAIN], scale)
        errors[output, row] = 0.0
        return
    low, high = _interval(aggregate, scratch.parts)
    if high < np.inf:
        value = min(max(_guess(aggregate, scratch.parts, scratch.guess), low), high)
        if aggregate == Aggregate.MEAN or aggregate == Aggregate.STD:
            value, low, high = value / scale, low / scale, high / scale
        slot_values[output, row] = value
        errors[output, row] = max(value - low, high - value)
    else:
        errors[output, row] = np.inf
