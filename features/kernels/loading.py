"""Stored blobs back into blocks: checks, mapping of cells, merging of partials."""

from enum import IntEnum

import numpy as np
from numba import njit

from features.columns import MISSING, Cell
from features.kernels.arena import allocate, capacity_for, recount, release
from features.kernels.folding import has_room, own_floor
from features.kernels.index import add, add_partial, find, find_partial, owner_code, tables_full
from features.kernels.jit import kernel, part
from features.kernels.lacking import clear_lacking, note_lacking_column
from features.kernels.layout import (
    CAPACITY_MIN,
    SIZE_CLASS_COUNT,
    Control,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    State,
    Table,
)
from features.kernels.overflow import fold_rest
from features.kernels.packing import Bytes, get_cell, get_word
from features.kernels.sections import is_folded, stored_section_bytes, take_section
from features.kernels.stored import (
    COLUMN_BITS,
    COLUMN_MASK,
    EVENT_OFFSET,
    FOLDED,
    FORMAT_VERSION,
    HEAD_BYTES,
    LABELLED,
    MAGIC,
    MAGIC_BITS,
    TS_SHIFT,
    VALUE_COUNT_SHIFT,
    WIDE_BYTES,
    ColumnField,
    Form,
    FormField,
    Head,
    bit_count,
)
from features.kernels.upkeep import invalidate

_LEAD = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))  # of every stored row
_LEAD_BITS = (1 << _LEAD[0]) | (1 << _LEAD[1]) | (1 << _LEAD[2])
_LABEL_COLUMN = 2


class ItemField(IntEnum):
    """Columns of the table of items to load."""

    ENTITY = 0
    PARTITION = 1
    KEY = 2
    FROM = 3  # bytes [FROM, TO) of the joined blobs; empty for "nothing stored"
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
    TILES = 7


@part
def _bitmap(data: Bytes, at: int) -> int:
    """Return the bitmap of the standard cells that a blob keeps."""
    return get_word(data, at + 8 * Head.CELLS) & (LABELLED - 1)


@part
def _value_count(data: Bytes, at: int) -> int:
    return (get_word(data, at + 8 * Head.CELLS) >> VALUE_COUNT_SHIFT) & 0xFF


@part
def _row_bytes(form: Form, bitmap: int, value_count: int) -> int:
    row_bytes = WIDE_BYTES * value_count
    for cell in range(form.cell_bytes.shape[0]):
        row_bytes += form.cell_bytes[cell] if (bitmap >> cell) & 1 else 0
    return row_bytes


@part
def _capacity(data: Bytes, at: int) -> int:
    """Return the capacity that a blob tells, 0 where that can't be one."""
    size_class = (get_word(data, at + 8 * Head.LACKING) >> COLUMN_BITS) & 0xFF
    return 1 << size_class if size_class < SIZE_CLASS_COUNT else 0


@part
def fault(form: Form, data: Bytes, start: int, end: int) -> int:
    """Return what is wrong with the blob in `data[start:end]` (a Fault)."""
    if end - start < HEAD_BYTES or get_word(data, start) & ((1 << MAGIC_BITS) - 1) != MAGIC:
        return Fault.NO_HISTORY.value
    if data[start + 7] != FORMAT_VERSION:
        return Fault.VERSION.value
    bitmap, value_count = _bitmap(data, start), _value_count(data, start)
    if bitmap >> form.cell_bytes.shape[0] or bitmap & _LEAD_BITS != _LEAD_BITS:
        return Fault.CELLS.value
    lacking = get_word(data, start + 8 * Head.LACKING) & COLUMN_MASK
    if lacking >> (bit_count(bitmap) + value_count):
        return Fault.CELLS.value
    row_bytes, rows_at = _row_bytes(form, bitmap, value_count), start + HEAD_BYTES + 8 * value_count
    section_bytes = stored_section_bytes(data, start, rows_at, end)
    if section_bytes < 0:
        return Fault.TILES.value
    rows_at += section_bytes
    if end < rows_at or (end - rows_at) % row_bytes:
        return Fault.LENGTH.value
    count, capacity = (end - rows_at) // row_bytes, _capacity(data, start)
    if capacity < CAPACITY_MIN or count > capacity:
        return Fault.CAPACITY.value
    for at in range(rows_at + row_bytes, end, row_bytes):
        before_ts, ts_ms = get_cell(data, at - row_bytes, TS_SHIFT), get_cell(data, at, TS_SHIFT)
        before = get_word(data, at - row_bytes + EVENT_OFFSET)
        if before_ts > ts_ms or (
            before_ts == ts_ms and before >= get_word(data, at + EVENT_OFFSET)
        ):
            return Fault.ORDER.value
    return Fault.NONE.value


@kernel
def first_fault(form: Form, data: Bytes, items: Table) -> tuple[int, int]:
    """Return the number of the first unsound item and its Fault, or (-1, NONE)."""
    for item in range(items.shape[0]):
        start, end = items[item, ItemField.FROM], items[item, ItemField.TO]
        if end > start:
            found = fault(form, data, start, end)
            if found != Fault.NONE:
                return item, found
    return -1, Fault.NONE.value


@part
def _is_same_form(layout: Layout, form: Form, entity: int, data: Bytes, at: int) -> bool:
    """Say whether a blob keeps exactly what the plan keeps of this entity."""
    if get_word(data, at + 8 * Head.CELLS) & ~FOLDED != form.entities[entity, FormField.CELLS]:
        return False
    fields = layout.entities[entity]
    kept_to = fields[EntityField.KEPT_FROM] + fields[EntityField.KEPT_COUNT]
    value_count = form.entities[entity, FormField.VALUE_COUNT]
    for i in range(value_count):
        fingerprint = form.columns[kept_to - value_count + i, ColumnField.FINGERPRINT]
        if get_word(data, at + 8 * (Head.VALUES + i)) != fingerprint:
            return False
    return True


@part
def _find_cell(form: Form, data: Bytes, at: int, cell: int) -> tuple[int, int, int]:
    """Return column, byte and shift of a standard cell in a stored row; column -1 without it."""
    bitmap = _bitmap(data, at)
    if not (bitmap >> cell) & 1:
        return -1, 0, 0
    column, offset = int(np.int64(0)), int(np.int64(0))
    for lead in _LEAD:
        if lead == cell:
            return column, offset, 64 - 8 * form.cell_bytes[cell]
        column += 1
        offset += form.cell_bytes[lead]
    for other in range(cell):
        if (bitmap >> other) & 1 and not (_LEAD_BITS >> other) & 1:
            column += 1
            offset += form.cell_bytes[other]
    return column, offset, 64 - 8 * form.cell_bytes[cell]


@part
def _find_value(form: Form, data: Bytes, at: int, fingerprint: int) -> tuple[int, int, int]:
    """Return column, byte and shift of a kept value in a stored row; column -1 without it."""
    bitmap, value_count = _bitmap(data, at), _value_count(data, at)
    for i in range(value_count):
        if get_word(data, at + 8 * (Head.VALUES + i)) == fingerprint:
            first_offset = _row_bytes(form, bitmap, 0)
            return bit_count(bitmap) + i, first_offset + WIDE_BYTES * i, 64 - 8 * WIDE_BYTES
    return -1, 0, 0


@part
def map_columns(
    layout: Layout, form: Form, own: Table, data: Bytes, item: Table, source: Table, stored: int
) -> None:
    """Fill `source` (kept cells, 2) with byte and shift in a stored row; byte -1: not kept.

    Notes in `own` which columns the `stored` events lack.
    """
    at, fields = item[ItemField.FROM], layout.entities[item[ItemField.ENTITY]]
    word = get_word(data, at + 8 * Head.LACKING)
    lacked_ts = get_word(data, at + 8 * Head.LACKING_TS)
    row_bytes = _row_bytes(form, _bitmap(data, at), _value_count(data, at))
    newest_ts = lacked_ts
    if stored > 0:
        newest_ts = get_cell(data, item[ItemField.TO] - row_bytes, TS_SHIFT)
    for column in range(fields[EntityField.KEPT_COUNT]):
        kept = fields[EntityField.KEPT_FROM] + column
        cell = layout.kept[kept]
        if cell < form.cell_bytes.shape[0]:
            stored_column, offset, shift = _find_cell(form, data, at, cell)
        else:
            fingerprint = form.columns[kept, ColumnField.FINGERPRINT]
            stored_column, offset, shift = _find_value(form, data, at, fingerprint)
        source[column, 0] = offset if stored_column >= 0 else -1
        source[column, 1] = shift
        if stored_column < 0 and stored > 0:
            note_lacking_column(own, column, newest_ts)
        elif stored_column >= 0 and (word >> stored_column) & 1:
            note_lacking_column(own, column, lacked_ts)
    unlabelled = not get_word(data, at + 8 * Head.CELLS) & LABELLED
    if unlabelled and form.entities[item[ItemField.ENTITY], FormField.CELLS] & LABELLED:
        note_lacking_column(own, _LABEL_COLUMN, newest_ts)


@part
def rows_of(form: Form, data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return where a sound blob's rows begin, and how many bytes each takes."""
    value_count = _value_count(data, at)
    section_at = at + HEAD_BYTES + 8 * value_count
    first = section_at + stored_section_bytes(data, at, section_at, end)
    return first, _row_bytes(form, _bitmap(data, at), value_count)


@part
def _takes_stored(
    state: State, own: Table, tags: int, i: int, data: Bytes, at: int, partition: int
) -> bool:
    """Say whether the stored row at `at` stands after event `i` of the block."""
    start = own[HistoryField.START]
    ts_ms, stored_ts = state.arena[start + i], get_cell(data, at, TS_SHIFT)
    if ts_ms != stored_ts:
        return bool(stored_ts > ts_ms)
    event = state.arena[start + own[HistoryField.CAPACITY] + i]
    stored_event = get_word(data, at + EVENT_OFFSET)
    if event != stored_event:
        return bool(stored_event > event)
    # The same event in two partitions: any fixed order will do, but it must be fixed.
    return bool(partition > state.arena[tags + i])


@part
def _merge(
    layout: Layout,
    state: State,
    own: Table,
    data: Bytes,
    item: Table,
    source: Table,
    first: int,
    stored: int,
    start: int,
    capacity: int,
    total: int,
) -> tuple[int, int]:
    """Fill the new block with the newest `total` of the old events and the stored ones.

    Returns how many of the oldest of both found no place.
    """
    fields, partition = layout.entities[item[ItemField.ENTITY]], item[ItemField.PARTITION]
    kept, row_bytes = fields[EntityField.KEPT_COUNT], int(np.int64(0))
    if stored > 0:
        row_bytes = int((item[ItemField.TO] - first) // stored)
    old_start, old_capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = old_start + kept * old_capacity
    i, j = own[HistoryField.COUNT] - 1, stored - 1
    known = own[HistoryField.KNOWN]
    for to in range(total - 1, -1, -1):
        at = first + j * row_bytes
        if j >= 0 and (i < 0 or _takes_stored(state, own, tags, i, data, at, partition)):
            for column in range(kept):
                value = int(np.int64(MISSING))
                if source[column, 0] >= 0:
                    value = get_cell(data, at + source[column, 0], source[column, 1])
                state.arena[start + column * capacity + to] = value
                known |= np.int64(value != MISSING) << column
            if fields[EntityField.SHARED]:
                state.arena[start + kept * capacity + to] = partition
            j -= 1
        else:
            for column in range(fields[EntityField.WIDTH]):
                value = state.arena[old_start + column * old_capacity + i]
                state.arena[start + column * capacity + to] = value
            i -= 1
    own[HistoryField.KNOWN] = known
    return i + 1, j + 1


@part
def note_capacity(state: State, history: int) -> None:
    """Have every own part tell the history's capacity with its next change: it has grown.

    Each part must be loadable by itself, and it may come to hold more events than what its header
    tells now.
    """
    partial = state.histories[history, HistoryField.PARTIAL]
    while partial >= 0:
        state.partials[partial, PartialField.HEADER] = 1
        partial = state.partials[partial, PartialField.NEXT]


@part
def _adopt(
    layout: Layout,
    form: Form,
    state: State,
    history: int,
    data: Bytes,
    item: Table,
    source: Table,
    decoded: Table,
) -> int:
    """Merge one blob into a history; returns a Need, with nothing done unless NOTHING."""
    own, entity = state.histories[history], int(item[ItemField.ENTITY])
    at = item[ItemField.FROM]
    first, row_bytes = rows_of(form, data, at, item[ItemField.TO])
    stored, stored_capacity = int((item[ItemField.TO] - first) // row_bytes), _capacity(data, at)
    before = int(own[HistoryField.COUNT] + stored)
    total = min(before, layout.event_cap)
    if (total < before or is_folded(data, at)) and not has_room(layout, state, entity, history):
        return Need.POOL.value
    capacity = min(max(stored_capacity, own[HistoryField.CAPACITY]), capacity_for(layout.event_cap))
    capacity = max(capacity, capacity_for(total))
    start = allocate(layout, state, entity, capacity)
    if start < 0:
        return Need.ARENA.value
    partial = add_partial(state, history, item[ItemField.PARTITION])
    part = state.partials[partial]
    part[PartialField.COUNT] = stored
    part[PartialField.WHOLE] = not _is_same_form(layout, form, entity, data, at)
    section_at = at + HEAD_BYTES + 8 * _value_count(data, at)
    part[PartialField.SECTION_BYTES] = first - section_at
    take_section(layout, state, entity, history, partial, data, at, section_at)
    map_columns(layout, form, own, data, item, source, stored)
    old_left, stored_left = _merge(
        layout, state, own, data, item, source, first, stored, start, capacity, total
    )
    if total < before:
        fold_rest(
            layout, state, entity, history, partial, data, source, first, row_bytes, old_left,
            stored_left, decoded,
        )  # fmt: skip
    clear_lacking(own, own_floor(state, history))
    if own[HistoryField.CAPACITY] > 0:
        release(layout, state, entity, own[HistoryField.START], own[HistoryField.CAPACITY])
    old_capacity = own[HistoryField.CAPACITY]
    if capacity != stored_capacity or (old_capacity > 0 and capacity != old_capacity):
        note_capacity(state, history)
    own[HistoryField.START] = start
    own[HistoryField.CAPACITY] = capacity
    own[HistoryField.COUNT] = total
    state.control[Control.LONGEST_COUNT] = max(state.control[Control.LONGEST_COUNT], total)
    invalidate(state.histories, state.pool, history)
    if total < before:
        recount(layout, state, entity, history)
    return Need.NOTHING.value


@njit(cache=True)
def load(layout: Layout, form: Form, state: State, data: Bytes, items: Table) -> int:
    """Take sound items from Control.ROW on; returns a Need, NOTHING when all are in."""
    control = state.control
    source = np.empty((COLUMN_BITS, 2), np.int64)
    decoded = np.empty(COLUMN_BITS, np.int64)
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
            need = _adopt(layout, form, state, history, data, item, source, decoded)
            if need != Need.NOTHING:
                return need
        control[Control.ROW] += 1
    return Need.NOTHING.value
