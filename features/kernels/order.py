"""Order statistics of gathered values, found without sorting them."""

import numpy as np

from features.kernels.jit import part
from features.kernels.layout import Table

MILLIONTHS = 1_000_000
# Below it whole millionths are exact in a float, and only the division rounds. Above it only the
# sum does, for all that shows: no millionths come near to the middle between two floats.
_EXACT_MAX = 1 << 33


@part
def _select(values: Table, count: int, rank: int) -> None:
    """Move the value of a rank to its place, nothing larger before it, nothing smaller behind.

    Hoare's selection (Algorithm 65, 1961). Its pivots come from a fixed multiplicative sequence:
    always the same for the same values, and far from what sorted or periodic values would spoil.
    """
    low, high = 0, count - 1
    state = np.uint64(count)
    while low < high:
        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        span = np.uint64(high - low + 1)
        pivot = values[low + np.int64((state >> np.uint64(33)) % span)]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < rank:
            low = i
        if rank < i:
            high = j


@part
def quantile(values: Table, count: int, share: int) -> float:
    """Return the quantile of `values[:count]` at `share` millionths; NaN of nothing.

    Linear between order statistics (Hyndman and Fan 1996, type 7). Reorders the values.
    """
    if count == 0:
        return np.nan
    rank, part = (count - 1) * share // MILLIONTHS, (count - 1) * share % MILLIONTHS
    _select(values, count, rank)
    whole, rest = values[rank], 0
    if part > 0:
        above = values[rank + 1]
        for i in range(rank + 2, count):
            above = min(above, values[i])
        # In whole millionths of the gap, split in two so that nothing leaves 64 bits.
        gap = above - whole
        rest = gap % MILLIONTHS * part
        whole += gap // MILLIONTHS * part + rest // MILLIONTHS
        rest %= MILLIONTHS
    if abs(whole) < _EXACT_MAX:
        return float((whole * MILLIONTHS + rest) / MILLIONTHS)
    return float(whole + rest / MILLIONTHS)
