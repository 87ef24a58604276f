"""Where each value occurred last: a hash table of (value, sequence number) for a moving window.

A value is in a window if its last occurrence is. So one table answers `seen` for every window, and
a count of the different values of a window changes only when a value comes that was not in it, or
when an event leaves it that was the last of its value.
"""

import numpy as np

from features.kernels.jit import inlined
from features.kernels.layout import Table
from features.kernels.pool import give, take

TABLE_WORDS = 3  # start, capacity, size; capacity 0 where there is no block yet
_START, _CAPACITY, _SIZE = range(TABLE_WORDS)
_ENTRIES_MIN = 8


@inlined
def _home(value: int, capacity: int) -> int:
    x = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    return int(np.int64((x >> np.uint64(32)) & np.uint64(capacity - 1)))


@inlined
def find(pool: Table, table: int, value: int) -> int:
    """Return the word of the value's entry, or of the free one where it belongs; -1 if no block."""
    start, capacity = pool[table + _START], pool[table + _CAPACITY]
    if capacity == 0:
        return -1
    at = _home(value, capacity)
    while pool[start + 2 * at + 1] != 0 and pool[start + 2 * at] != value:
        at = (at + 1) & (capacity - 1)
    return int(start + 2 * at)


@inlined
def last_of(pool: Table, table: int, value: int) -> int:
    """Return the sequence number of the value's last occurrence, -1 where there is none."""
    entry = find(pool, table, value)
    return int(pool[entry + 1]) - 1 if entry >= 0 else -1


@inlined
def _grow(pool: Table, pool_free: Table, control: Table, table: int) -> None:
    old_start, old_capacity = pool[table + _START], pool[table + _CAPACITY]
    capacity = max(_ENTRIES_MIN, 2 * old_capacity)
    start = take(pool, pool_free, control, 2 * capacity)
    pool[start : start + 2 * capacity] = 0
    pool[table + _START] = start
    pool[table + _CAPACITY] = capacity
    for old in range(old_start, old_start + 2 * old_capacity, 2):
        if pool[old + 1] != 0:
            entry = find(pool, table, pool[old])
            pool[entry] = pool[old]
            pool[entry + 1] = pool[old + 1]
    if old_capacity > 0:
        give(pool, pool_free, old_start, 2 * old_capacity)


@inlined
def enter(
    pool: Table, pool_free: Table, control: Table, table: int, sequence: int, value: int
) -> int:
    """Note an occurrence; returns the sequence number of the one before, -1 where none is known."""
    if 2 * (pool[table + _SIZE] + 1) > pool[table + _CAPACITY]:
        _grow(pool, pool_free, control, table)
    entry = find(pool, table, value)
    before = int(pool[entry + 1]) - 1
    if before < 0:
        pool[entry] = value
        pool[table + _SIZE] += 1
    pool[entry + 1] = sequence + 1
    return before


@inlined
def remove(pool: Table, table: int, value: int) -> None:
    """Forget a value that is in the table; those behind it move up, so no gap is left."""
    start, capacity = pool[table + _START], pool[table + _CAPACITY]
    hole = (find(pool, table, value) - start) // 2
    at = hole
    while True:
        at = (at + 1) & (capacity - 1)
        if pool[start + 2 * at + 1] == 0:
            break
        home = _home(pool[start + 2 * at], capacity)
        # It may move into the hole unless its home lies cyclically between the hole and itself.
        if ((at - home) & (capacity - 1)) >= ((at - hole) & (capacity - 1)):
            pool[start + 2 * hole] = pool[start + 2 * at]
            pool[start + 2 * hole + 1] = pool[start + 2 * at + 1]
            hole = at
    pool[start + 2 * hole + 1] = 0
    pool[table + _SIZE] -= 1


@inlined
def clear(pool: Table, table: int) -> None:
    """Forget all values."""
    start = pool[table + _START]
    if pool[table + _SIZE] > 0:
        pool[start : start + 2 * pool[table + _CAPACITY]] = 0
    pool[table + _SIZE] = 0


@inlined
def release(pool: Table, pool_free: Table, table: int) -> None:
    """Give the table's block back."""
    if pool[table + _CAPACITY] > 0:
        give(pool, pool_free, pool[table + _START], 2 * pool[table + _CAPACITY])
        pool[table + _CAPACITY] = 0
    pool[table + _SIZE] = 0
