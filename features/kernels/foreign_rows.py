"""The rows of a part that another process owns, in the block of a history here."""

import numpy as np

from features.columns import MISSING
from features.kernels.arena import allocate, capacity_for, find_event, recount, release
from features.kernels.folding import fold_oldest
from features.kernels.jit import part
from features.kernels.layout import (
    Control,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    State,
    Table,
)
from features.kernels.loading import note_capacity
from features.kernels.packing import Bytes, get_cell, get_word
from features.kernels.stored import EVENT_OFFSET, TS_SHIFT
from features.kernels.trimming import remove_oldest
from features.kernels.upkeep import invalidate

APPENDED_COUNT_MAX = 64  # more new events than that are merged in one pass


@part
def _stored_value(data: Bytes, at: int, source: Table, column: int) -> int:
    """Return a column of the stored row at `at`."""
    if source[column, 0] < 0:
        return MISSING
    return get_cell(data, at + source[column, 0], source[column, 1])


@part
def _compare(state: State, own: Table, i: int, data: Bytes, at: int) -> int:
    """Return whether event `i` of the block stands before (-1) or after (1) the stored row."""
    start = own[HistoryField.START]
    ts_ms, stored_ts = state.arena[start + i], get_cell(data, at, TS_SHIFT)
    if ts_ms != stored_ts:
        return -1 if ts_ms < stored_ts else 1
    event = state.arena[start + own[HistoryField.CAPACITY] + i]
    stored_event = get_word(data, at + EVENT_OFFSET)
    if event != stored_event:
        return -1 if event < stored_event else 1
    return 0


@part
def _alike_count(
    state: State,
    own: Table,
    kept: int,
    partition: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
    source: Table,
) -> int:
    """Return how many of the stored rows the block holds; -1 where it holds any other."""
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = start + kept * capacity
    alike = 0
    for i in range(own[HistoryField.COUNT]):
        if state.arena[tags + i] != partition:
            continue
        if alike == row_count:
            return -1
        at = first + alike * row_bytes
        for column in range(kept):
            stored = _stored_value(data, at, source, column)
            if state.arena[start + column * capacity + i] != stored:
                return -1
        alike += 1
    return alike


@part
def _append(
    layout: Layout, state: State, history: int, partial: int, data: Bytes, at: int, source: Table
) -> None:
    """Insert one stored row into a block that has room, unless its event is there already."""
    own = state.histories[history]
    start, capacity, count = (
        own[HistoryField.START],
        own[HistoryField.CAPACITY],
        own[HistoryField.COUNT],
    )
    ts_ms, event = get_cell(data, at, TS_SHIFT), get_word(data, at + EVENT_OFFSET)
    position, there = find_event(state.arena, start, capacity, count, ts_ms, event)
    if there:
        return
    fields = layout.entities[own[HistoryField.OWNER] >> 32]
    for column in range(fields[EntityField.WIDTH]):
        base = start + column * capacity
        for i in range(count, position, -1):
            state.arena[base + i] = state.arena[base + i - 1]
        value = int(state.partials[partial, PartialField.PARTITION])
        if column < fields[EntityField.KEPT_COUNT]:
            value = _stored_value(data, at, source, column)
            own[HistoryField.KNOWN] |= np.int64(value != MISSING) << column
        state.arena[base + position] = value
    own[HistoryField.COUNT] = count + 1
    state.partials[partial, PartialField.COUNT] += 1
    if position < count:
        invalidate(state.histories, state.pool, history)


@part
def _union_count(
    state: State,
    own: Table,
    entity: int,
    layout: Layout,
    partition: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
) -> int:
    """Return how many events the other parts and the stored rows have together, each once."""
    tags = own[HistoryField.START]
    tags += layout.entities[entity, EntityField.KEPT_COUNT] * own[HistoryField.CAPACITY]
    total, j = 0, 0
    for i in range(own[HistoryField.COUNT]):
        if state.arena[tags + i] == partition:
            continue
        while j < row_count and _compare(state, own, i, data, first + j * row_bytes) > 0:
            total, j = total + 1, j + 1
        if j < row_count and _compare(state, own, i, data, first + j * row_bytes) == 0:
            j += 1
        total += 1
    return total + row_count - j


@part
def _fill(
    layout: Layout,
    state: State,
    history: int,
    partition: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
    source: Table,
    start: int,
    capacity: int,
    total: int,
) -> None:
    """Fill a new block with the `total` events of the other parts and the stored rows."""
    own = state.histories[history]
    fields = layout.entities[own[HistoryField.OWNER] >> 32]
    kept, width = fields[EntityField.KEPT_COUNT], fields[EntityField.WIDTH]
    old_start, old_capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = old_start + kept * old_capacity
    i, j, to = own[HistoryField.COUNT] - 1, row_count - 1, total
    while i >= 0 or j >= 0:
        if i >= 0 and state.arena[tags + i] == partition:
            i -= 1
            continue
        at = first + j * row_bytes
        order = 1 if j < 0 else -1 if i < 0 else _compare(state, own, i, data, at)
        if order == 0:  # the other part's stays
            j -= 1
            continue
        to -= 1
        for column in range(width):
            value = partition
            if order > 0:
                value = state.arena[old_start + column * old_capacity + i]
            elif column < kept:
                value = _stored_value(data, at, source, column)
                own[HistoryField.KNOWN] |= np.int64(value != MISSING) << column
            state.arena[start + column * capacity + to] = value
        if order > 0:
            i -= 1
        else:
            j -= 1


@part
def after_floor(
    own: Table, data: Bytes, first: int, row_bytes: int, row_count: int
) -> tuple[int, int]:
    """Return where the stored rows beyond a history's floor begin, and how many they are."""
    while row_count > 0 and get_cell(data, first, TS_SHIFT) <= own[HistoryField.FLOOR_TS]:
        first, row_count = first + row_bytes, row_count - 1
    return first, row_count


@part
def _crowd_out(
    layout: Layout,
    state: State,
    history: int,
    partition: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
    surplus: int,
) -> None:
    """Drop the oldest `surplus` of the other parts' events and the stored rows.

    The others' are folded, and with them the copies that are about to be replaced. The rows are
    left alone, at or before the floor.
    """
    own = state.histories[history]
    entity = int(own[HistoryField.OWNER] >> 32)
    tags = own[HistoryField.START]
    tags += layout.entities[entity, EntityField.KEPT_COUNT] * own[HistoryField.CAPACITY]
    i, j, floor_ts = 0, 0, own[HistoryField.FLOOR_TS]
    while surplus > 0:
        if i < own[HistoryField.COUNT] and state.arena[tags + i] == partition:
            i += 1
            continue
        at, order = first + j * row_bytes, -1
        if j < row_count:
            order = 1 if i == own[HistoryField.COUNT] else _compare(state, own, i, data, at)
        if order > 0:
            floor_ts = get_cell(data, at, TS_SHIFT)
        else:
            floor_ts = state.arena[own[HistoryField.START] + i]
            i += 1
        j += 1 if order >= 0 else 0
        surplus -= 1
    dropped = int(i)
    if dropped > 0:
        if layout.entities[entity, EntityField.TILE_WORDS]:
            fold_oldest(layout, state, entity, history, dropped)
        remove_oldest(layout, state, entity, history, dropped)
    own[HistoryField.FLOOR_TS] = max(own[HistoryField.FLOOR_TS], floor_ts)


@part
def _rebuild(
    layout: Layout,
    state: State,
    history: int,
    partition: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
    source: Table,
) -> int:
    """Replace a foreign part by stored rows; returns a Need.

    Where they don't fit with the other parts' events, at least a quarter of the cap leaves, as it
    does when an event comes into a full history.
    """
    own, event_cap = state.histories[history], layout.event_cap
    entity = int(own[HistoryField.OWNER] >> 32)
    union = _union_count(state, own, entity, layout, partition, data, first, row_bytes, row_count)
    if union > event_cap:
        surplus = max(union - event_cap, event_cap // 4)
        _crowd_out(
            layout, state, history, partition, data, first, row_bytes, row_count, surplus
        )  # fmt: skip
        first, row_count = after_floor(own, data, first, row_bytes, row_count)
        union = _union_count(
            state, own, entity, layout, partition, data, first, row_bytes, row_count
        )  # fmt: skip
    old_start, old_capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    capacity = max(old_capacity, capacity_for(union))
    start = allocate(layout, state, entity, capacity)
    if start < 0:
        return Need.ARENA.value
    _fill(
        layout, state, history, partition, data, first, row_bytes, row_count, source, start,
        capacity, union,
    )  # fmt: skip
    if old_capacity > 0:
        release(layout, state, entity, old_start, old_capacity)
    if capacity != old_capacity:
        note_capacity(state, history)
    own[HistoryField.START] = start
    own[HistoryField.CAPACITY] = capacity
    own[HistoryField.COUNT] = union
    recount(layout, state, entity, history)
    invalidate(state.histories, state.pool, history)
    return Need.NOTHING.value


@part
def take_rows(
    layout: Layout,
    state: State,
    history: int,
    partial: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
    source: Table,
) -> int:
    """Have the block hold these rows of a foreign part, and no others of it; returns a Need."""
    own, partition = state.histories[history], state.partials[partial, PartialField.PARTITION]
    kept = layout.entities[own[HistoryField.OWNER] >> 32, EntityField.KEPT_COUNT]
    alike = _alike_count(
        state, own, kept, partition, data, first, row_bytes, row_count, source
    )  # fmt: skip
    room = min(own[HistoryField.CAPACITY], layout.event_cap) - own[HistoryField.COUNT]
    if alike < 0 or row_count - alike > min(room, APPENDED_COUNT_MAX):
        need = _rebuild(
            layout, state, history, partition, data, first, row_bytes, row_count, source
        )  # fmt: skip
        if need != Need.NOTHING:
            return need
    else:
        for row in range(alike, row_count):
            _append(layout, state, history, partial, data, first + row * row_bytes, source)
    longest_count = state.control[Control.LONGEST_COUNT]
    state.control[Control.LONGEST_COUNT] = max(longest_count, own[HistoryField.COUNT])
    return Need.NOTHING.value
