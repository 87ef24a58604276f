"""Largest values of moving windows: a queue of the events that no later one outdoes.

Each entry is (sequence number, value), values falling from front to back, so the largest of any
window is its first entry inside it. An event enters and leaves once: O(1) amortised; a window is
found by its beginning. The smallest is the largest of the negated values. Source: Lemire,
"Streaming maximum-minimum filter" (2006).
"""

from features.kernels.jit import inlined
from features.kernels.layout import Table
from features.kernels.pool import give, take

QUEUE_WORDS = 4  # start, capacity, front, back; capacity 0 where there is no block yet
_START, _CAPACITY, _FRONT, _BACK = range(QUEUE_WORDS)
_ENTRIES_MIN = 8
_WALK_MAX = 8  # longer queues are searched by halves


@inlined
def _entry(pool: Table, queue: int, number: int) -> int:
    mask = pool[queue + _CAPACITY] - 1
    return int(pool[queue + _START] + 2 * (number & mask))


@inlined
def clear(pool: Table, queue: int) -> None:
    """Forget all entries."""
    pool[queue + _FRONT] = 0
    pool[queue + _BACK] = 0


@inlined
def _grow(pool: Table, pool_free: Table, control: Table, queue: int) -> None:
    old_start, old_capacity = pool[queue + _START], pool[queue + _CAPACITY]
    capacity = max(_ENTRIES_MIN, 2 * old_capacity)
    start = take(pool, pool_free, control, 2 * capacity)
    front, back = pool[queue + _FRONT], pool[queue + _BACK]
    for number in range(front, back):
        old, new = old_start + 2 * (number & (old_capacity - 1)), start + 2 * (number - front)
        pool[new] = pool[old]
        pool[new + 1] = pool[old + 1]
    if old_capacity > 0:
        give(pool, pool_free, old_start, 2 * old_capacity)
    pool[queue + _START] = start
    pool[queue + _CAPACITY] = capacity
    pool[queue + _FRONT] = 0
    pool[queue + _BACK] = back - front


@inlined
def enter(
    pool: Table, pool_free: Table, control: Table, queue: int, sequence: int, value: int
) -> None:
    """Add the newest event; earlier ones that are not larger can never be the largest again."""
    front, back = pool[queue + _FRONT], pool[queue + _BACK]
    while back > front and pool[_entry(pool, queue, back - 1) + 1] <= value:
        back -= 1
    pool[queue + _BACK] = back
    if back - front == pool[queue + _CAPACITY]:
        _grow(pool, pool_free, control, queue)
        back = pool[queue + _BACK]
    at = _entry(pool, queue, back)
    pool[at] = sequence
    pool[at + 1] = value
    pool[queue + _BACK] = back + 1


@inlined
def leave(pool: Table, queue: int, oldest: int) -> None:
    """Forget entries before the sequence number `oldest`."""
    front, back = pool[queue + _FRONT], pool[queue + _BACK]
    while front < back and pool[_entry(pool, queue, front)] < oldest:
        front += 1
    pool[queue + _FRONT] = front


@inlined
def first_from(pool: Table, queue: int, number: int, oldest: int) -> int:
    """Return the first entry, from `number` on, that is not before `oldest`; -1 where none is."""
    back = pool[queue + _BACK]
    number = max(number, pool[queue + _FRONT])
    length = back - number
    while length > _WALK_MAX:
        half = length // 2
        older = pool[_entry(pool, queue, number + half - 1)] < oldest
        number += half if older else 0
        length = length - half if older else half
    while number < back and pool[_entry(pool, queue, number)] < oldest:
        number += 1
    return int(number) if number < back else -1


@inlined
def value_of(pool: Table, queue: int, number: int) -> int:
    """Return the value of an entry."""
    return int(pool[_entry(pool, queue, number) + 1])


@inlined
def front_value(pool: Table, queue: int) -> int:
    """Return the largest value of the widest window, which isn't empty."""
    return value_of(pool, queue, pool[queue + _FRONT])


@inlined
def release(pool: Table, pool_free: Table, queue: int) -> None:
    """Give the queue's block back."""
    if pool[queue + _CAPACITY] > 0:
        give(pool, pool_free, pool[queue + _START], 2 * pool[queue + _CAPACITY])
        pool[queue + _CAPACITY] = 0
    clear(pool, queue)
