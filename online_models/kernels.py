"""Numba kernels of scoring, sampling and the index of pending events: free functions on arrays.

Sums run over the inputs from left to right, as River's do, and the exponential stands outside the
inner loop, where it is not vectorised: so the score of a row has the same bits whatever the size
and the memory layout of its batch.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53


@njit(cache=True)
def score_linear(
    rows: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    weights: NDArray[np.float64],
    intercept: float,
    input_max: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n,) with the probabilities of `rows` (n, k) under a scaled logistic model.

    A deviation of 0.0 makes the scaled value 0.0, as River's StandardScaler does; beyond log-odds
    of ±30 the probability is exactly 0 or 1, as River's sigmoid has it.
    """
    for i in range(rows.shape[0]):
        total = 0.0
        for j in range(rows.shape[1]):
            value = rows[i, j]
            if not abs(value) <= input_max:
                value = 0.0
            if deviations[j] != 0.0:
                total += weights[j] * ((value - means[j]) / deviations[j])
        total += intercept
        if total < -30.0:
            out[i] = 0.0
        elif total > 30.0:
            out[i] = 1.0
        else:
            out[i] = 1.0 / (1.0 + math.exp(-total))


@njit(cache=True)
def contributions_linear(
    rows: NDArray[np.float64],
    means: NDArray[np.float64],
    deviations: NDArray[np.float64],
    weights: NDArray[np.float64],
    input_max: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n, k) with each input's share of the log-odds of `rows` (n, k)."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            value = rows[i, j]
            if not abs(value) <= input_max:
                value = 0.0
            if deviations[j] != 0.0:
                out[i, j] = weights[j] * ((value - means[j]) / deviations[j])
            else:
                out[i, j] = 0.0


@njit(cache=True)
def bayes_density(value: float, mean: float, deviation: float, floor: float) -> float:
    """Return the log of a Gaussian's density, held up by `floor`; 0.0 deviation: the floor's."""
    density = 0.0
    if deviation > 0.0:
        z = (value - mean) / deviation
        density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) / deviation
    return math.log(floor + density)


@njit(cache=True)
def score_bayes(
    rows: NDArray[np.float64],
    gaussians: NDArray[np.float64],
    priors: NDArray[np.float64],
    floor: float,
    input_max: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n,) with the probabilities of fraud of `rows` (n, k) under naive Bayes.

    `gaussians` (2, 2, k) holds means and deviations of both classes, `priors` (2,) the logs of
    their shares; both classes have been met.
    """
    for i in range(rows.shape[0]):
        false, true = 0.0, 0.0
        for j in range(rows.shape[1]):
            value = rows[i, j]
            if not abs(value) <= input_max:
                value = 0.0
            false += bayes_density(value, gaussians[0, 0, j], gaussians[0, 1, j], floor)
            true += bayes_density(value, gaussians[1, 0, j], gaussians[1, 1, j], floor)
        false += priors[0]
        true += priors[1]
        top = max(false, true)
        both = top + math.log(math.exp(false - top) + math.exp(true - top))
        out[i] = math.exp(true - both)


@njit(cache=True)
def contributions_bayes(
    rows: NDArray[np.float64],
    gaussians: NDArray[np.float64],
    floor: float,
    input_max: float,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` (n, k) with each input's log-likelihood ratio for `rows` (n, k)."""
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            value = rows[i, j]
            if not abs(value) <= input_max:
                value = 0.0
            out[i, j] = bayes_density(
                value, gaussians[1, 0, j], gaussians[1, 1, j], floor
            ) - bayes_density(value, gaussians[0, 0, j], gaussians[0, 1, j], floor)


@njit(cache=True, inline="always")
def _mix(x: np.uint64) -> np.uint64:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): every input bit moves every output."""
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * _MIX_A
    x = (x ^ (x >> np.uint64(27))) * _MIX_B
    return x ^ (x >> np.uint64(31))


@njit(cache=True)
def sample_mask(
    events: NDArray[np.int64], seed: int, probability: float, out: NDArray[np.bool_]
) -> None:
    """Fill `out` (n,) with whether each event is in the sample: a function of event and seed."""
    salt = _mix(np.uint64(seed))
    for i in range(events.shape[0]):
        hashed = _mix(np.uint64(events[i]) ^ salt)
        out[i] = np.float64(hashed >> np.uint64(11)) * _UNIT < probability


@njit(cache=True, inline="always")
def _slot(keys: NDArray[np.int64], rows: NDArray[np.int32], event: int) -> int:
    """Return the slot that holds `event`, or the free slot where it would go."""
    mask = keys.shape[0] - 1
    slot: int = np.int64(_mix(np.uint64(event)) >> np.uint64(1)) & mask
    while rows[slot] >= 0 and keys[slot] != event:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True)
def index_put(
    keys: NDArray[np.int64],
    rows: NDArray[np.int32],
    events: NDArray[np.int64],
    new_rows: NDArray[np.int64],
    previous: NDArray[np.int64],
) -> int:
    """Point each event at its new row, one after the other; return how many slots filled up.

    `previous` (n,) receives the row that the event had before, or -1. The table is open-addressed
    with linear probing, its length a power of two; a row of -1 marks a free slot. Nothing is ever
    removed: whoever owns the table rebuilds it before it is two thirds full.
    """
    filled = 0
    for i in range(events.shape[0]):
        slot = _slot(keys, rows, events[i])
        previous[i] = rows[slot]
        if rows[slot] < 0:
            keys[slot] = events[i]
            filled += 1
        rows[slot] = new_rows[i]
    return filled


@njit(cache=True)
def index_get(keys: NDArray[np.int64], rows: NDArray[np.int32], event: int) -> int:
    """Return the row of `event`, or -1."""
    return int(rows[_slot(keys, rows, event)])
