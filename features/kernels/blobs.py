"""Histories as bytes to store: only what changed since the last time.

A partial's blob, in little-endian 64-bit words: magic and format version; bitmap of the kept
cells; block capacity; floor time; then the events, row by row, one word a kept cell. How many
there are follows from the length, so that an append is one write. The first two words never
change; the rest can be overwritten in place.
"""

from enum import IntEnum

import numpy as np

from features.kernels.jit import kernel
from features.kernels.layout import (
    Control,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
    Table,
)

MAGIC = int.from_bytes(b"MRHIST\x00", "little")
MAGIC_BITS = 56
FORMAT_VERSION = 1  # the top byte of the first word
HEADER_WORDS = 4
MUTABLE_WORD = 2  # header words from here on are overwritten in place


class ChangeField(IntEnum):
    """Columns of the table of changes that `pack` fills."""

    ENTITY = 0
    PARTITION = 1
    KEY = 2
    OFFSET = 3  # byte of the stored blob, 0 where it is replaced
    FROM = 4  # bytes [FROM, TO) of the packed words
    TO = 5


@kernel
def measure(layout: Layout, state: State) -> int:
    """Return how many words `pack` needs for the partials touched since it last ran."""
    words = 0
    for i in range(state.control[Control.DIRTY_COUNT]):
        row = state.partials[state.dirty[i]]
        entity = state.histories[row[PartialField.HISTORY], HistoryField.OWNER] >> 32
        first = 0 if row[PartialField.WHOLE] else row[PartialField.CHANGED_FROM]
        kept = layout.entities[entity, EntityField.KEPT_COUNT]
        words += HEADER_WORDS + (row[PartialField.COUNT] - first) * kept
    return words


@kernel
def _pack_rows(
    layout: Layout, state: State, entity: int, row: Table, first: int, words: Table, at: int
) -> int:
    """Write the events of a partial from its `first` on; returns the word after them."""
    own = state.histories[row[PartialField.HISTORY]]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    fields = layout.entities[entity]
    kept, shared = fields[EntityField.KEPT_COUNT], fields[EntityField.SHARED]
    tags = start + kept * capacity
    seen = row[PartialField.COUNT]
    i = own[HistoryField.COUNT]
    end = int(at + (seen - first) * kept)
    while seen > first:
        i -= 1
        if shared and state.arena[tags + i] != row[PartialField.PARTITION]:
            continue
        seen -= 1
        to = at + (seen - first) * kept
        for column in range(kept):
            words[to + column] = state.arena[start + column * capacity + i]
    return end


@kernel
def _note_change(changes: Table, count: int, owner: Table, offset: int, first: int, to: int) -> int:
    """Append a change, given in words; returns the new count."""
    for column in range(3):
        changes[count, column] = owner[column]
    changes[count, ChangeField.OFFSET] = offset * 8
    changes[count, ChangeField.FROM] = first * 8
    changes[count, ChangeField.TO] = to * 8
    return count + 1


@kernel
def _pack_one(
    layout: Layout, state: State, partial: int, words: Table, at: int, changes: Table, count: int
) -> tuple[int, int]:
    """Write one partial; returns the word after it and the new count of changes."""
    row = state.partials[partial]
    own = state.histories[row[PartialField.HISTORY]]
    entity = own[HistoryField.OWNER] >> 32
    fields = layout.entities[entity]
    whole = row[PartialField.WHOLE] or row[PartialField.CHANGED_FROM] == 0
    first = 0 if whole else row[PartialField.CHANGED_FROM]
    words[at] = MAGIC | (FORMAT_VERSION << MAGIC_BITS)
    words[at + 1] = fields[EntityField.CELLS]
    words[at + 2] = own[HistoryField.CAPACITY]
    words[at + 3] = own[HistoryField.FLOOR_TS]
    rows_at = at + HEADER_WORDS
    end = _pack_rows(layout, state, entity, row, first, words, rows_at)
    # The owner's columns of the next free row double as the arguments.
    owner = changes[count]
    owner[ChangeField.ENTITY] = entity
    owner[ChangeField.PARTITION] = row[PartialField.PARTITION]
    owner[ChangeField.KEY] = own[HistoryField.KEY]
    if whole:
        count = _note_change(changes, count, owner, 0, at, end)
    elif row[PartialField.HEADER]:
        count = _note_change(changes, count, owner, MUTABLE_WORD, at + MUTABLE_WORD, rows_at)
    if not whole and end > rows_at:
        offset = HEADER_WORDS + first * fields[EntityField.KEPT_COUNT]
        count = _note_change(changes, count, owner, offset, rows_at, end)
    row[PartialField.DIRTY] = 0
    row[PartialField.WHOLE] = 0
    row[PartialField.HEADER] = 0
    return end, count


@kernel
def pack(layout: Layout, state: State, words: Table, changes: Table) -> int:
    """Write what must be stored to `words` and forget that it had to be.

    `changes` (columns: ChangeField) has room for two rows a touched partial. Returns how many
    rows were filled.
    """
    # Bare zeros would compile the callees once more, for literals.
    at, count = int(np.int64(0)), int(np.int64(0))
    for i in range(state.control[Control.DIRTY_COUNT]):
        at, count = _pack_one(layout, state, state.dirty[i], words, at, changes, count)
    state.control[Control.DIRTY_COUNT] = 0
    return count
