"""Stored blobs back into blocks: checks, mapping of cells, merging of partials."""

from enum import IntEnum

import numpy as np
from numba import njit

from features.columns import MISSING
from features.kernels.arena import allocate, capacity_for, recount, release
from features.kernels.blobs import FORMAT_VERSION, HEADER_WORDS, MAGIC, MAGIC_BITS
from features.kernels.index import add, add_partial, find, find_partial, owner_code, tables_full
from features.kernels.layout import (
    CAPACITY_MIN,
    Control,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    State,
    Table,
)

_LEAD_BITS = (1 << 0) | (1 << 1) | (1 << 20)  # TS_MS, EVENT_ID, LABEL lead every stored row


class ItemField(IntEnum):
    """Columns of the table of items to load."""

    ENTITY = 0
    PARTITION = 1
    KEY = 2
    FROM = 3  # words [FROM, TO) of the joined blobs; empty for "nothing stored"
    TO = 4


class Fault(IntEnum):
    """What can be wrong with a blob."""

    NONE = 0
    NO_HISTORY = 1
    VERSION = 2
    CELLS = 3
    CAPACITY = 4
    LENGTH = 5
    ORDER = 6


@njit(cache=True)
def _bit_count(bits: int) -> int:
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@njit(cache=True)
def _stored_column(bitmap: int, cell: int) -> int:
    """Return the word of a stored row that holds `cell`, or -1 where it was not kept."""
    bit = 1 << cell
    if not bitmap & bit:
        return -1
    if bit & _LEAD_BITS:
        return _bit_count(_LEAD_BITS & (bit - 1))
    return 3 + _bit_count(bitmap & ~_LEAD_BITS & (bit - 1))


@njit(cache=True)
def fault(words: Table, start: int, end: int) -> int:
    """Return what is wrong with the blob in `words[start:end]` (a Fault)."""
    if end - start < HEADER_WORDS or words[start] & ((1 << MAGIC_BITS) - 1) != MAGIC:
        return Fault.NO_HISTORY.value
    if words[start] >> MAGIC_BITS != FORMAT_VERSION:
        return Fault.VERSION.value
    bitmap = words[start + 1]
    if bitmap < 0 or bitmap & _LEAD_BITS != _LEAD_BITS:
        return Fault.CELLS.value
    width = _bit_count(bitmap)
    count, capacity = (end - start - HEADER_WORDS) // width, words[start + 2]
    if end - start != HEADER_WORDS + count * width:
        return Fault.LENGTH.value
    if capacity < CAPACITY_MIN or capacity & (capacity - 1) or count > capacity:
        return Fault.CAPACITY.value
    for i in range(1, count):
        at = start + HEADER_WORDS + i * width
        before = at - width
        if words[before] > words[at]:
            return Fault.ORDER.value
        if words[before] == words[at] and words[before + 1] >= words[at + 1]:
            return Fault.ORDER.value
    return Fault.NONE.value


@njit(cache=True)
def first_fault(words: Table, items: Table) -> tuple[int, int]:
    """Return the number of the first unsound item and its Fault, or (-1, NONE)."""
    for item in range(items.shape[0]):
        start, end = items[item, ItemField.FROM], items[item, ItemField.TO]
        if end > start:
            found = fault(words, start, end)
            if found != Fault.NONE:
                return item, found
    return -1, Fault.NONE.value


@njit(cache=True)
def _takes_stored(
    state: State, own: Table, tags: int, i: int, words: Table, at: int, partition: int
) -> bool:
    """Say whether the stored row at `at` stands after event `i` of the block."""
    start = own[HistoryField.START]
    ts_ms = state.arena[start + i]
    if ts_ms != words[at]:
        return bool(words[at] > ts_ms)
    event = state.arena[start + own[HistoryField.CAPACITY] + i]
    if event != words[at + 1]:
        return bool(words[at + 1] > event)
    # The same event in two partitions: any fixed order will do, but it must be fixed.
    return bool(partition > state.arena[tags + i])


@njit(cache=True)
def _merge(
    layout: Layout,
    state: State,
    entity: int,
    own: Table,
    words: Table,
    first: int,
    stored: int,
    partition: int,
    start: int,
    capacity: int,
    total: int,
) -> None:
    """Fill the new block with the newest `total` of the old events and the stored ones.

    Raises the floor to the newest event that found no place.
    """
    fields = layout.entities[entity]
    kept_from, kept = fields[EntityField.KEPT_FROM], fields[EntityField.KEPT_COUNT]
    bitmap = words[first - HEADER_WORDS + 1]
    stored_width = _bit_count(bitmap)
    source = np.empty(kept, np.int64)
    for column in range(kept):
        source[column] = _stored_column(bitmap, layout.kept[kept_from + column])
    old_start, old_capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = old_start + kept * old_capacity
    i, j = own[HistoryField.COUNT] - 1, stored - 1
    for to in range(total - 1, -1, -1):
        at = first + j * stored_width
        if j >= 0 and (i < 0 or _takes_stored(state, own, tags, i, words, at, partition)):
            for column in range(kept):
                value = words[at + source[column]] if source[column] >= 0 else MISSING
                state.arena[start + column * capacity + to] = value
                own[HistoryField.KNOWN] |= np.int64(value != MISSING) << column
            if fields[EntityField.SHARED]:
                state.arena[start + kept * capacity + to] = partition
            j -= 1
        else:
            for column in range(fields[EntityField.WIDTH]):
                value = state.arena[old_start + column * old_capacity + i]
                state.arena[start + column * capacity + to] = value
            i -= 1
    if i >= 0:
        own[HistoryField.FLOOR_TS] = max(own[HistoryField.FLOOR_TS], state.arena[old_start + i])
    if j >= 0:
        floor_ts = words[first + j * stored_width]
        own[HistoryField.FLOOR_TS] = max(own[HistoryField.FLOOR_TS], floor_ts)


@njit(cache=True)
def _adopt(
    layout: Layout, state: State, entity: int, history: int, words: Table, item: Table
) -> bool:
    """Merge one blob into a history; False where the arena must grow first."""
    own = state.histories[history]
    at = item[ItemField.FROM]
    width = _bit_count(words[at + 1])
    stored, stored_capacity = (item[ItemField.TO] - at - HEADER_WORDS) // width, words[at + 2]
    total = min(own[HistoryField.COUNT] + stored, layout.event_cap)
    capacity = min(max(stored_capacity, own[HistoryField.CAPACITY]), capacity_for(layout.event_cap))
    capacity = max(capacity, capacity_for(total))
    start = allocate(layout, state, entity, capacity)
    if start < 0:
        return False
    partial = add_partial(state, history, item[ItemField.PARTITION])
    state.partials[partial, PartialField.COUNT] = stored
    state.partials[partial, PartialField.WHOLE] = (
        words[at + 1] != layout.entities[entity, EntityField.CELLS]
    )
    before = own[HistoryField.COUNT] + stored
    own[HistoryField.FLOOR_TS] = max(own[HistoryField.FLOOR_TS], words[at + 3])
    _merge(
        layout, state, entity, own, words, at + HEADER_WORDS, stored,
        item[ItemField.PARTITION], start, capacity, total,
    )  # fmt: skip
    if own[HistoryField.CAPACITY] > 0:
        release(state, entity, own[HistoryField.START], own[HistoryField.CAPACITY])
    own[HistoryField.START] = start
    own[HistoryField.CAPACITY] = capacity
    own[HistoryField.COUNT] = total
    if total < before:
        recount(layout, state, entity, history)
    return True


@njit(cache=True)
def load(layout: Layout, state: State, words: Table, items: Table) -> int:
    """Take sound items from Control.ROW on; returns a Need, NOTHING when all are in."""
    control = state.control
    while control[Control.ROW] < items.shape[0]:
        item = items[control[Control.ROW]]
        if tables_full(state):
            return Need.TABLES.value
        entity, key = item[ItemField.ENTITY], item[ItemField.KEY]
        owner = owner_code(layout.entities, entity, item[ItemField.PARTITION])
        history = find(state.lookup, state.histories, key, owner)
        if history < 0:
            history = add(state, key, owner)
        if item[ItemField.TO] > item[ItemField.FROM]:
            partition = item[ItemField.PARTITION]
            if find_partial(state.histories, state.partials, history, partition) >= 0:
                return Need.REFUSED.value
            if not _adopt(layout, state, entity, history, words, item):
                return Need.ARENA.value
        control[Control.ROW] += 1
    return Need.NOTHING.value
