"""Numba kernels of calibration: the maps themselves, and the sums that they are fitted by."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def calibrate_sigmoid(
    scores: NDArray[np.float64],
    slope: float,
    intercept: float,
    score_min: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n,) with sigmoid(slope × log-odds of the score + intercept).

    A score is taken as at least `score_min` away from 0 and 1, so that its log-odds are finite.
    """
    for i in range(scores.shape[0]):
        score = min(max(scores[i], score_min), 1.0 - score_min)
        log_odds = math.log(score / (1.0 - score))
        out[i] = 1.0 / (1.0 + math.exp(-(slope * log_odds + intercept)))


@njit(cache=True)
def calibrate_steps(
    scores: NDArray[np.float64],
    knots: NDArray[np.float64],
    values: NDArray[np.float64],
    own_share: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n,) with the line through (`knots`, `values`) (k,), level beyond its ends.

    `knots` rise strictly, `values` never fall. `own_share` of the score itself is mixed in, so that
    the result rises where the line is level.
    """
    last = knots.shape[0] - 1
    for i in range(scores.shape[0]):
        score = scores[i]
        if score <= knots[0]:
            value = values[0]
        elif score >= knots[last]:
            value = values[last]
        else:
            low, high = 0, last
            while high - low > 1:
                middle = (low + high) // 2
                if knots[middle] <= score:
                    low = middle
                else:
                    high = middle
            passed = (score - knots[low]) / (knots[high] - knots[low])
            value = values[low] + passed * (values[high] - values[low])
        out[i] = (1.0 - own_share) * value + own_share * score


@njit(cache=True)
def fill_log_odds(scores: NDArray[np.float64], score_min: float, out: NDArray[np.float64]) -> None:
    """Fill `out` (n,) with the log-odds of scores, taken as at least `score_min` from 0 and 1."""
    for i in range(scores.shape[0]):
        score = min(max(scores[i], score_min), 1.0 - score_min)
        out[i] = math.log(score / (1.0 - score))


@njit(cache=True)
def sigmoid_sums(
    log_odds: NDArray[np.float64],
    frauds: NDArray[np.bool_],
    weights: NDArray[np.float64],
    slope: float,
    intercept: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (6,) with the weighted log loss of sigmoid(slope × x + intercept), its gradient
    (slope, intercept) and its second derivatives (slope², slope × intercept, intercept²).
    """
    out[:] = 0.0
    for i in range(log_odds.shape[0]):
        x, weight = log_odds[i], weights[i]
        total = slope * x + intercept
        tail = math.exp(-abs(total))
        probability = 1.0 / (1.0 + tail) if total >= 0.0 else tail / (1.0 + tail)
        out[0] += weight * (math.log(1.0 + tail) + max(total, 0.0) - total * frauds[i])
        gap = weight * (probability - frauds[i])
        out[1] += gap * x
        out[2] += gap
        curve = weight * probability * (1.0 - probability)
        out[3] += curve * x * x
        out[4] += curve * x
        out[5] += curve


@njit(cache=True)
def pool_adjacent_violators(
    values: NDArray[np.float64], weights: NDArray[np.float64], starts: NDArray[np.int64]
) -> int:
    """Make `values` (n,) rise by pooling neighbours that fall; return how many blocks are left.

    Block b begins at place `starts[b]`; its value and weight are written to `values[b]` and
    `weights[b]` (Ayer, Brunk, Ewing, Reid and Silverman 1955; one pass, linear time).
    """
    count = 0
    for i in range(values.shape[0]):
        value, weight, start = values[i], weights[i], i
        while count > 0 and values[count - 1] >= value:
            count -= 1
            joined = weights[count] + weight
            value = (values[count] * weights[count] + value * weight) / joined
            weight, start = joined, starts[count]
        values[count], weights[count], starts[count] = value, weight, start
        count += 1
    return count
