"""The parts of shared histories that other processes own: read only, and replaced as they change.

A part's events stand in the history's block like all others, tagged with their partition; its
partial is marked FOREIGN, so that nothing of it is ever stored from here. What it holds is what its
owner stored last, but for events that the history has under another partition already, and for
those at or before the floor: the history counts as cut off there, so no window would be exact for
having them. Tiles tell of the own partitions' dropped events only: a window that reaches beyond
the floor of a history that may have foreign parts has an infinite error.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells
from features.kernels.arena import allocate, capacity_for, find_event, recount, release
from features.kernels.folding import LAST_EVENT, raise_floor
from features.kernels.index import add_partial, find, find_partial, owner_code, tables_full
from features.kernels.jit import kernel, part
from features.kernels.lacking import clear_lacking
from features.kernels.layout import (
    ASKED,
    READ,
    Control,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    State,
    Table,
)
from features.kernels.loading import (
    ItemField,
    map_columns,
    note_capacity,
    rows_of,
)
from features.kernels.packing import Bytes, get_cell, get_word
from features.kernels.stored import EVENT_OFFSET, TS_SHIFT, Form, Head
from features.kernels.upkeep import invalidate

APPENDED_COUNT_MAX = 64  # more new events than that are merged in one pass


class Seen(IntEnum):
    """What `note_unread` says of an entity at a row."""

    NO_HISTORY = 0
    READ = 1
    UNREAD = 2  # the other processes' parts have not come yet


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
    tags: int,
    partition: int,
    data: Bytes,
    first: int,
    row_bytes: int,
    row_count: int,
) -> int:
    """Return how many events the other parts and the stored rows have together, each once."""
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
    is_cut: bool,
) -> None:
    """Fill a new block with the newest `total` events of the other parts and the stored rows.

    Where that `is_cut`, the floor rises to the newest event that found no place.
    """
    own = state.histories[history]
    fields = layout.entities[own[HistoryField.OWNER] >> 32]
    kept, width = fields[EntityField.KEPT_COUNT], fields[EntityField.WIDTH]
    old_start, old_capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = old_start + kept * old_capacity
    i, j, to = own[HistoryField.COUNT] - 1, row_count - 1, total
    floor_ts = own[HistoryField.FLOOR_TS]
    while i >= 0 or j >= 0:
        if i >= 0 and state.arena[tags + i] == partition:
            i -= 1
            continue
        at = first + j * row_bytes
        order = 1 if j < 0 else -1 if i < 0 else _compare(state, own, i, data, at)
        if order == 0:  # the other part's stays
            j -= 1
            continue
        if to == 0:
            newest_ts = state.arena[old_start + i] if order > 0 else get_cell(data, at, TS_SHIFT)
            floor_ts = max(floor_ts, newest_ts) if is_cut else floor_ts
            break
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
    if floor_ts > own[HistoryField.FLOOR_TS]:
        raise_floor(state, history, floor_ts, LAST_EVENT)


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
) -> bool:
    """Replace a foreign part by stored rows; False where the arena must grow first."""
    own = state.histories[history]
    entity = int(own[HistoryField.OWNER] >> 32)
    kept = layout.entities[entity, EntityField.KEPT_COUNT]
    old_start, old_capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = old_start + kept * old_capacity
    union = _union_count(state, own, tags, partition, data, first, row_bytes, row_count)
    total = min(union, layout.event_cap)
    capacity = max(old_capacity, capacity_for(total))
    start = allocate(layout, state, entity, capacity)
    if start < 0:
        return False
    _fill(
        layout, state, history, partition, data, first, row_bytes, row_count, source, start,
        capacity, total, total < union,
    )  # fmt: skip
    if old_capacity > 0:
        release(layout, state, entity, old_start, old_capacity)
    if capacity != old_capacity:
        note_capacity(state, history)
    own[HistoryField.START] = start
    own[HistoryField.CAPACITY] = capacity
    own[HistoryField.COUNT] = total
    clear_lacking(own)
    recount(layout, state, entity, history)
    control = state.control
    control[Control.LONGEST_COUNT] = max(control[Control.LONGEST_COUNT], total)
    invalidate(state.histories, state.pool, history)
    return True


@part
def _foreign_partial(state: State, history: int, partition: int) -> int:
    """Return the partial of a foreign partition, added at the chain's end if need be.

    Own parts are looked for at every event and foreign ones are not, so own ones stand first.
    """
    partial = find_partial(state.histories, state.partials, history, partition)
    if partial >= 0:
        return partial
    head = state.histories[history, HistoryField.PARTIAL]
    partial = add_partial(state, history, partition)
    state.partials[partial, PartialField.FOREIGN] = 1
    if head >= 0:
        last = head
        while state.partials[last, PartialField.NEXT] >= 0:
            last = state.partials[last, PartialField.NEXT]
        state.partials[last, PartialField.NEXT] = partial
        state.partials[partial, PartialField.NEXT] = -1
        state.histories[history, HistoryField.PARTIAL] = head
    return partial


@part
def _take_one(
    layout: Layout,
    form: Form,
    state: State,
    history: int,
    data: Bytes,
    item: Table,
    source: Table,
) -> bool:
    """Have a foreign part hold what its blob says; False where the arena must grow first."""
    own, at, partition = state.histories[history], item[ItemField.FROM], item[ItemField.PARTITION]
    first, row_bytes, row_count = int(at), int(np.int64(1)), int(np.int64(0))
    if item[ItemField.TO] > at:
        first, row_bytes = rows_of(form, data, at, item[ItemField.TO])
        row_count = (item[ItemField.TO] - first) // row_bytes
        floor_ts = get_word(data, at + 8 * Head.FLOOR_TS)
        if floor_ts > own[HistoryField.FLOOR_TS]:
            raise_floor(state, history, floor_ts, LAST_EVENT)
        map_columns(layout, form, own, data, item, source, row_count)
        clear_lacking(own)
    while row_count > 0 and get_cell(data, first, TS_SHIFT) <= own[HistoryField.FLOOR_TS]:
        first, row_count = first + row_bytes, row_count - 1
    partial = find_partial(state.histories, state.partials, history, partition)
    if partial < 0 and row_count == 0:
        return True
    partial = _foreign_partial(state, history, partition)
    kept = layout.entities[item[ItemField.ENTITY], EntityField.KEPT_COUNT]
    alike = _alike_count(
        state, own, kept, partition, data, first, row_bytes, row_count, source
    )  # fmt: skip
    room = min(own[HistoryField.CAPACITY], layout.event_cap) - own[HistoryField.COUNT]
    if alike < 0 or row_count - alike > min(room, APPENDED_COUNT_MAX):
        return _rebuild(
            layout, state, history, partition, data, first, row_bytes, row_count, source
        )  # fmt: skip
    for row in range(alike, row_count):
        _append(layout, state, history, partial, data, first + row * row_bytes, source)
    control = state.control
    control[Control.LONGEST_COUNT] = max(control[Control.LONGEST_COUNT], own[HistoryField.COUNT])
    return True


@kernel
def take(
    layout: Layout,
    form: Form,
    state: State,
    data: Bytes,
    items: Table,
    source: Table,
    is_first: bool,
) -> int:
    """Take sound items from Control.ROW on; returns a Need, NOTHING when all are in.

    Those of histories that aren't resident are passed over. `is_first` says that `items` are all
    foreign parts of their entities, which therefore count as read. `source` (COLUMN_BITS, 2) is
    working memory.
    """
    control = state.control
    while control[Control.ROW] < items.shape[0]:
        item = items[control[Control.ROW]]
        if tables_full(state):
            return Need.TABLES.value
        owner = owner_code(layout.entities, item[ItemField.ENTITY], item[ItemField.PARTITION])
        history = find(state.lookup, state.histories, item[ItemField.KEY], owner)
        if history >= 0:
            if not _take_one(layout, form, state, history, data, item, source):
                return Need.ARENA.value
            if is_first:
                state.histories[history, HistoryField.KNOWN] |= READ
        control[Control.ROW] += 1
    return Need.NOTHING.value


@kernel
def note_unread(
    layout: Layout, state: State, cells: Cells, seen: NDArray[np.uint8], wanted: Table
) -> int:
    """Fill `seen` (entities, rows) and list (entity, key) whose foreign parts are to be asked for.

    Only shared entities with slots count. `wanted` has room for (entities * rows, 2). Returns how
    many rows of it were filled; each entity is listed once until it leaves memory.
    """
    count = 0
    for entity in range(layout.entities.shape[0]):
        fields = layout.entities[entity]
        asked_for = fields[EntityField.FAMILY_FROM] < fields[EntityField.FAMILY_TO]
        if not fields[EntityField.SHARED] or not asked_for:
            continue
        owner = owner_code(layout.entities, entity, 0)
        for row in range(cells.shape[1]):
            key = cells[fields[EntityField.KEY_CELL], row]
            history = -1
            if key != MISSING:
                history = find(state.lookup, state.histories, key, owner)
            if history < 0:
                continue
            known = state.histories[history, HistoryField.KNOWN]
            seen[entity, row] = Seen.READ.value if known & READ else Seen.UNREAD.value
            if not known & ASKED:
                state.histories[history, HistoryField.KNOWN] = known | ASKED
                wanted[count, 0] = entity
                wanted[count, 1] = key
                count += 1
    return count


@kernel
def note_resident(layout: Layout, state: State, owners: Table, resident: NDArray[np.uint8]) -> None:
    """Say of each shared (entity, key) whether its foreign parts were asked for."""
    for i in range(owners.shape[0]):
        owner = owner_code(layout.entities, owners[i, 0], 0)
        history = find(state.lookup, state.histories, owners[i, 1], owner)
        if history >= 0 and state.histories[history, HistoryField.KNOWN] & ASKED:
            resident[i] = 1
