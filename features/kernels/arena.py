"""The events themselves: blocks of one arena, sorted by (time, event), growing and shrinking.

A block is column-major: column c of an entity's block is `arena[start + c * capacity :][:count]`.
Columns 0 and 1 are always TS_MS and EVENT_ID, column 2 is LABEL; a shared entity's last column is
the partition that the event came from.
"""

import numpy as np

from features.columns import MISSING, Cells
from features.kernels.index import touch
from features.kernels.jit import kernel, part
from features.kernels.layout import (
    CAPACITY_MIN,
    TOUCHED,
    Control,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
    Table,
)


@kernel
def capacity_for(count: int) -> int:
    """Return the smallest block capacity that holds `count` events."""
    capacity = CAPACITY_MIN
    while capacity < count:
        capacity *= 2
    return capacity


@part
def _size_class(capacity: int) -> int:
    size_class = 0
    while (CAPACITY_MIN << size_class) < capacity:
        size_class += 1
    return size_class


@part
def allocate(layout: Layout, state: State, entity: int, capacity: int) -> int:
    """Return the start of a block, or -1 with Control.WORDS_NEEDED set."""
    size_class = _size_class(capacity)
    start = int(state.free[entity, size_class])
    words = capacity * int(layout.entities[entity, EntityField.WIDTH])
    if start >= 0:
        state.free[entity, size_class] = state.arena[start]
        state.control[Control.FREE_WORDS] -= words
        return start
    start = int(state.control[Control.ARENA_USED])
    if start + words > state.arena.shape[0]:
        state.control[Control.WORDS_NEEDED] = words
        return -1
    state.control[Control.ARENA_USED] = start + words
    return start


@part
def release(layout: Layout, state: State, entity: int, start: int, capacity: int) -> None:
    """Give a block back to the free list of its size."""
    size_class = _size_class(capacity)
    state.arena[start] = state.free[entity, size_class]
    state.free[entity, size_class] = start
    words = capacity * layout.entities[entity, EntityField.WIDTH]
    state.control[Control.FREE_WORDS] += words


@kernel
def compact(layout: Layout, state: State, order: Table) -> None:
    """Slide all blocks together; `order` has the rows of `histories` by ascending start.

    Histories of one kind grow together, so the small blocks that they leave find no new owner.
    """
    end = 0
    for i in range(order.shape[0]):
        row = state.histories[order[i]]
        width = layout.entities[row[HistoryField.OWNER] >> 32, EntityField.WIDTH]
        words = row[HistoryField.CAPACITY] * width
        start = row[HistoryField.START]
        if words == 0:
            continue
        # Downwards and in ascending order: nothing that is still to be moved is overwritten.
        for word in range(words):
            state.arena[end + word] = state.arena[start + word]
        row[HistoryField.START] = end
        end += words
    state.free[:, :] = -1
    state.control[Control.ARENA_USED] = end
    state.control[Control.FREE_WORDS] = 0


@part
def later_than(arena: Table, start: int, count: int, ts_ms: int) -> int:
    """Return the first of `count` positions with a time above `ts_ms`, or `count`."""
    if count == 0 or arena[start + count - 1] <= ts_ms:
        return count
    low, length = 0, count
    while length > 1:
        half = length // 2
        low += half if arena[start + low + half - 1] <= ts_ms else 0
        length -= half
    return low


@part
def locate(arena: Table, start: int, capacity: int, count: int, ts_ms: int, event: int) -> int:
    """Return the first of `count` positions whose (time, event) isn't below the given pair."""
    position = later_than(arena, start, count, ts_ms)
    events = start + capacity
    while (
        position > 0
        and arena[start + position - 1] == ts_ms
        and arena[events + position - 1] >= event
    ):
        position -= 1
    return position


@part
def find_event(
    arena: Table, start: int, capacity: int, count: int, ts_ms: int, event: int
) -> tuple[int, bool]:
    """Return where the event stands, or where it belongs, and whether it is there."""
    position = locate(arena, start, capacity, count, ts_ms, event)
    there = (
        position < count
        and arena[start + position] == ts_ms
        and arena[start + capacity + position] == event
    )
    return position, there


@part
def rank(arena: Table, tags: int, position: int, count: int, partition: int, own_count: int) -> int:
    """Return how many of a partition's `own_count` events stand before `position`.

    `tags` is where a shared block's column of partitions starts.
    """
    # From the newest end: nearly all events arrive in order, so nearly nothing is walked.
    for i in range(position, count):
        if arena[tags + i] == partition:
            own_count -= 1
    return own_count


@part
def recount(layout: Layout, state: State, entity: int, history: int) -> None:
    """Count the partials again after events were dropped; the changed ones lose their patches."""
    row = state.histories[history]
    count, capacity = row[HistoryField.COUNT], row[HistoryField.CAPACITY]
    shared = layout.entities[entity, EntityField.SHARED]
    tags = row[HistoryField.START] + capacity * layout.entities[entity, EntityField.KEPT_COUNT]
    partial = row[HistoryField.PARTIAL]
    while partial >= 0:
        own = state.partials[partial]
        left = count
        if shared:
            left = 0
            for i in range(count):
                if state.arena[tags + i] == own[PartialField.PARTITION]:
                    left += 1
        if left != own[PartialField.COUNT]:
            own[PartialField.COUNT] = left
            own[PartialField.WHOLE] = 1
        partial = own[PartialField.NEXT]


@part
def touch_all(state: State, history: int) -> None:
    """Have every own partial's header stored: it tells the capacity and the floor of them all."""
    partial = state.histories[history, HistoryField.PARTIAL]
    while partial >= 0:
        if not state.partials[partial, PartialField.FOREIGN]:
            count = state.partials[partial, PartialField.COUNT]
            touch(state.partials, state.dirty, state.control, partial, count)
            state.partials[partial, PartialField.HEADER] = 1
        partial = state.partials[partial, PartialField.NEXT]


@part
def move(layout: Layout, state: State, entity: int, history: int, capacity: int) -> bool:
    """Move a history to a block of `capacity`; False where the arena must grow first."""
    start = allocate(layout, state, entity, capacity)
    if start < 0:
        return False
    row = state.histories[history]
    old_start, old_capacity = row[HistoryField.START], row[HistoryField.CAPACITY]
    for column in range(layout.entities[entity, EntityField.WIDTH]):
        base, old_base = start + column * capacity, old_start + column * old_capacity
        for i in range(row[HistoryField.COUNT]):
            state.arena[base + i] = state.arena[old_base + i]
    row[HistoryField.START] = start
    row[HistoryField.CAPACITY] = capacity
    if old_capacity > 0:
        release(layout, state, entity, old_start, old_capacity)
    touch_all(state, history)
    return True


@part
def insert_at(
    entities: Table,
    kept: Table,
    histories: Table,
    arena: Table,
    entity: int,
    history: int,
    position: int,
    cells: Cells,
    row: int,
    partition: int,
) -> None:
    """Insert row `row` of `cells` at `position` of a block that has room."""
    kept_from = entities[entity, EntityField.KEPT_FROM]
    kept_count = entities[entity, EntityField.KEPT_COUNT]
    base = histories[history, HistoryField.START]
    capacity = histories[history, HistoryField.CAPACITY]
    count = histories[history, HistoryField.COUNT]
    for column in range(entities[entity, EntityField.WIDTH]):
        for i in range(count, position, -1):
            arena[base + i] = arena[base + i - 1]
        if column < kept_count:
            value = cells[kept[kept_from + column], row]
            arena[base + position] = value
            histories[history, HistoryField.KNOWN] |= np.int64(value != MISSING) << column
        else:
            arena[base + position] = partition
        base += capacity
    histories[history, HistoryField.KNOWN] |= TOUCHED
    histories[history, HistoryField.COUNT] = count + 1
