"""Sketches: the smallest hashes of a set of values, to tell how many different ones there are.

A sketch of at most `HASHES_COUNT` values is the set itself. Beyond that it holds all hashes below
its largest one, a threshold; as hashes are uniform, their number tells how many there would be
below any other. Sketches are merged by merging their hashes below the lowest of the thresholds.
Sources: Bar-Yossef et al., "Counting distinct elements in a data stream" (2002); Dasgupta et al.,
"A framework for estimating stream expression cardinalities" (2016).
"""

import numpy as np

from features.columns import MISSING
from features.kernels.jit import inlined, part
from features.kernels.layout import Table

HASHES_COUNT = 32
NO_HASH = np.iinfo(np.int64).max  # what MISSING would give: no value does


@inlined
def hash_of(value: int) -> int:
    """Return a value's hash, another one for each value (MurmurHash3's finaliser)."""
    x = np.uint64(value) ^ np.uint64(MISSING)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    x ^= x >> np.uint64(33)
    return int(np.int64(~x ^ np.uint64(MISSING)))


@inlined
def value_of_hash(hashed: int) -> int:
    """Return the value that has this hash: every step of `hash_of` can be undone."""
    x = ~(np.uint64(hashed) ^ np.uint64(MISSING))
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0x9CB4B2F8129337DB)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0x4F74430C22A54005)
    x ^= x >> np.uint64(33)
    return int(np.int64(x ^ np.uint64(MISSING)))


@inlined
def share_below(threshold: int) -> float:
    """Return the share of all hashes that are below a threshold."""
    return float(threshold) * 2.0**-64 + 0.5


@inlined
def clear_hashes(pool: Table, at: int) -> None:
    """Make a sketch one of nothing."""
    for i in range(at, at + HASHES_COUNT):
        pool[i] = NO_HASH


@part
def enter_hash(pool: Table, at: int, value: int) -> None:
    """Add a hash to the sketch of which the first word is `at`; its hashes ascend."""
    last = at + HASHES_COUNT - 1
    if value >= pool[last]:
        return
    place = last
    while place > at and pool[place - 1] > value:
        place -= 1
    if place > at and pool[place - 1] == value:
        return
    for i in range(last, place, -1):
        pool[i] = pool[i - 1]
    pool[place] = value
