"""Histories as bytes to store: only what changed since the last time.

The form of the bytes is that of `features.kernels.stored`.
"""

from enum import IntEnum

import numpy as np

from features.kernels.folding import own_floor
from features.kernels.jit import kernel, part
from features.kernels.layout import (
    Control,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
    Table,
)
from features.kernels.packing import SLACK_BYTES, Bytes, put_cell, put_word
from features.kernels.sections import (
    SECTION_HEAD_BYTES,
    SECTION_WORDS,
    pack_section,
    pack_section_head,
    section_bytes,
)
from features.kernels.stored import (
    COLUMN_BITS,
    FOLDED,
    FORMAT_VERSION,
    HEAD_BYTES,
    MAGIC,
    MAGIC_BITS,
    MUTABLE_FROM,
    MUTABLE_TO,
    ColumnField,
    Form,
    FormField,
    Head,
)


class ChangeField(IntEnum):
    """Columns of the table of changes that `pack` fills."""

    ENTITY = 0
    PARTITION = 1
    KEY = 2
    OFFSET = 3  # byte of the stored blob, 0 where it is replaced
    FROM = 4  # bytes [FROM, TO) of the packed ones
    TO = 5


@part
def _first_changed(row: Table) -> int:
    """Return the first event of a partial that must be written."""
    return 0 if row[PartialField.WHOLE] else int(row[PartialField.CHANGED_FROM])


@kernel
def measure(layout: Layout, form: Form, state: State) -> int:
    """Return how many bytes `pack` needs for the partials touched since it last ran."""
    needed = SLACK_BYTES
    for i in range(state.control[Control.DIRTY_COUNT]):
        partial = state.dirty[i]
        row = state.partials[partial]
        history = row[PartialField.HISTORY]
        entity = state.histories[history, HistoryField.OWNER] >> 32
        fields = form.entities[entity]
        needed += HEAD_BYTES + 8 * fields[FormField.VALUE_COUNT]
        if state.histories[history, HistoryField.TILES] >= 0:
            needed += 8 * SECTION_WORDS
            if _first_changed(row) == 0:
                needed += section_bytes(layout, state, entity, history, partial)
        changed = row[PartialField.COUNT] - _first_changed(row)
        needed += changed * fields[FormField.ROW_BYTES]
    return needed


@part
def _pack_rows(
    layout: Layout,
    form: Form,
    state: State,
    entity: int,
    row: Table,
    first: int,
    packed: Bytes,
    at: int,
) -> int:
    """Write the events of a partial from its `first` on; returns the byte after them."""
    own = state.histories[row[PartialField.HISTORY]]
    start, capacity, count = (
        own[HistoryField.START],
        own[HistoryField.CAPACITY],
        own[HistoryField.COUNT],
    )
    fields = layout.entities[entity]
    kept_from, kept = fields[EntityField.KEPT_FROM], fields[EntityField.KEPT_COUNT]
    shared, partition = fields[EntityField.SHARED], row[PartialField.PARTITION]
    tags = start + kept * capacity
    # From the newest end: what changed is nearly always there.
    i, left = count, row[PartialField.COUNT] - first
    while left > 0:
        i -= 1
        left -= 1 if not shared or state.arena[tags + i] == partition else 0
    row_bytes = form.entities[entity, FormField.ROW_BYTES]
    while i < count:
        if not shared or state.arena[tags + i] == partition:
            for column in range(kept):
                form_of = form.columns[kept_from + column]
                value = state.arena[start + column * capacity + i]
                to = at + form_of[ColumnField.OFFSET]
                put_cell(packed, to, form_of[ColumnField.SHIFT], value)
            at += row_bytes
        i += 1
    return int(at)


@part
def _pack_head(
    layout: Layout, form: Form, state: State, entity: int, history: int, packed: Bytes, at: int
) -> int:
    """Write the header, and the head of a section where there is one; returns the byte after."""
    own = state.histories[history]
    folded = own[HistoryField.TILES] >= 0
    size_class = np.int64(0)
    while (1 << size_class) < own[HistoryField.CAPACITY]:
        size_class += 1
    put_word(packed, at + 8 * Head.MAGIC, MAGIC | (FORMAT_VERSION << MAGIC_BITS))
    cells = form.entities[entity, FormField.CELLS] | (FOLDED if folded else 0)
    put_word(packed, at + 8 * Head.CELLS, cells)
    put_word(packed, at + 8 * Head.FLOOR_TS, own_floor(state, history))
    put_word(packed, at + 8 * Head.LACKING_TS, own[HistoryField.LACKING_TS])
    lacking = own[HistoryField.LACKING] | (size_class << COLUMN_BITS)
    put_word(packed, at + 8 * Head.LACKING, lacking)
    at += HEAD_BYTES
    fields = layout.entities[entity]
    kept_to = fields[EntityField.KEPT_FROM] + fields[EntityField.KEPT_COUNT]
    for column in range(kept_to - form.entities[entity, FormField.VALUE_COUNT], kept_to):
        put_word(packed, at, form.columns[column, ColumnField.FINGERPRINT])
        at += 8
    return int(pack_section_head(state, history, packed, at)) if folded else at


@part
def _note_change(changes: Table, count: int, owner: Table, offset: int, first: int, to: int) -> int:
    """Append a change of packed bytes [first, to); returns the new count."""
    for column in range(3):
        changes[count, column] = owner[column]
    changes[count, ChangeField.OFFSET] = offset
    changes[count, ChangeField.FROM] = first
    changes[count, ChangeField.TO] = to
    return count + 1


@part
def _pack_one(
    layout: Layout,
    form: Form,
    state: State,
    partial: int,
    packed: Bytes,
    at: int,
    changes: Table,
    count: int,
) -> tuple[int, int]:
    """Write one partial; returns the byte after it and the new count of changes."""
    row, history = state.partials[partial], int(state.partials[partial, PartialField.HISTORY])
    own = state.histories[history]
    entity, folded = int(own[HistoryField.OWNER] >> 32), own[HistoryField.TILES] >= 0
    first = _first_changed(row)
    whole, head_to, rows_at = first == 0, at, at
    if whole or row[PartialField.HEADER]:
        head_to = _pack_head(layout, form, state, entity, history, packed, at)
        rows_at = head_to
    if whole:
        row[PartialField.SECTION_BYTES] = 0
        if folded:
            rows_at = pack_section(layout, state, entity, history, partial, packed, head_to)
            row[PartialField.SECTION_BYTES] = rows_at - head_to + SECTION_HEAD_BYTES
    end = _pack_rows(layout, form, state, entity, row, first, packed, rows_at)
    # The owner's columns of the next free row double as the arguments.
    owner = changes[count]
    owner[ChangeField.ENTITY] = entity
    owner[ChangeField.PARTITION] = row[PartialField.PARTITION]
    owner[ChangeField.KEY] = own[HistoryField.KEY]
    if whole:
        count = _note_change(changes, count, owner, 0, at, end)
    elif row[PartialField.HEADER]:
        # Between the header and the head of a section are the fingerprints, as they were.
        changed_to = head_to if folded else at + MUTABLE_TO
        count = _note_change(changes, count, owner, MUTABLE_FROM, at + MUTABLE_FROM, changed_to)
    if not whole and end > rows_at:
        fields = form.entities[entity]
        offset = HEAD_BYTES + 8 * fields[FormField.VALUE_COUNT] + row[PartialField.SECTION_BYTES]
        offset += first * fields[FormField.ROW_BYTES]
        count = _note_change(changes, count, owner, offset, rows_at, end)
    row[PartialField.DIRTY] = 0
    row[PartialField.WHOLE] = 0
    row[PartialField.HEADER] = 0
    return end, count


@kernel
def pack(layout: Layout, form: Form, state: State, packed: Bytes, changes: Table) -> int:
    """Write what must be stored to `packed` and forget that it had to be.

    `changes` (columns: ChangeField) has room for two rows a touched partial. Returns how many
    rows were filled. Each partial remembers the number of these changes (Control.CHANGES).
    """
    # Bare zeros would compile the callees once more, for literals.
    at, count = int(np.int64(0)), int(np.int64(0))
    state.control[Control.CHANGES] += 1
    for i in range(state.control[Control.DIRTY_COUNT]):
        partial = state.dirty[i]
        state.handed[partial] = state.control[Control.CHANGES]
        at, count = _pack_one(layout, form, state, partial, packed, at, changes, count)
    state.control[Control.DIRTY_COUNT] = 0
    return count
