"""The parts of shared histories that other processes own: read only, and replaced as they change.

A part's events stand in the history's block like all others, tagged with their partition; its
partial is marked FOREIGN, so that nothing of it is ever stored from here. What it holds is what its
owner stored last, but for events that the history has under another partition already. Those at or
before the floor are in its tiles (features.kernels.foreign_tiles) and not in the block: the history
counts as cut off there, so no window would be exact for having them.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells
from features.kernels.folding import begin_tiles, has_room, own_floor
from features.kernels.foreign_rows import after_floor, take_rows
from features.kernels.foreign_tiles import take_tiles
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
    Vector,
)
from features.kernels.loading import (
    ItemField,
    map_columns,
    rows_of,
)
from features.kernels.packing import Bytes, get_word
from features.kernels.sections import is_folded
from features.kernels.stored import CELL_BYTES, WIDE_BYTES, Form, Head

_ROW_BYTES_MIN = CELL_BYTES[Cell.TS_MS] + WIDE_BYTES + CELL_BYTES[Cell.LABEL]


class Seen(IntEnum):
    """What `note_unread` says of an entity at a row."""

    NO_HISTORY = 0
    READ = 1
    UNREAD = 2  # the other processes' parts have not come yet


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
def _may_fold(layout: Layout, state: State, history: int, data: Bytes, item: Table) -> bool:
    """Say whether taking an item may fold events, or take up what its owner folded."""
    own, entity = state.histories[history], item[ItemField.ENTITY]
    if not layout.entities[entity, EntityField.TILE_WORDS]:
        return False
    # No row is shorter than its time, its event and its label.
    longest_count = (item[ItemField.TO] - item[ItemField.FROM]) // _ROW_BYTES_MIN
    if own[HistoryField.TILES] >= 0 or own[HistoryField.COUNT] + longest_count > layout.event_cap:
        return True
    return bool(longest_count > 0 and is_folded(data, item[ItemField.FROM]))


@part
def _take_one(
    layout: Layout,
    form: Form,
    state: State,
    history: int,
    data: Bytes,
    item: Table,
    source: Table,
    decoded: Table,
) -> int:
    """Have a foreign part hold what its blob says; returns a Need."""
    own, at, partition = (
        state.histories[history],
        int(item[ItemField.FROM]),
        item[ItemField.PARTITION],
    )
    entity = int(item[ItemField.ENTITY])
    may_fold = _may_fold(layout, state, history, data, item)
    if may_fold and not has_room(layout, state, entity, history):
        return Need.POOL.value
    first, row_bytes, row_count = at, int(np.int64(1)), int(np.int64(0))
    if item[ItemField.TO] > at:
        if may_fold and is_folded(data, at):
            begin_tiles(layout, state, entity, history)
        first, row_bytes = rows_of(form, data, at, item[ItemField.TO])
        row_count = (item[ItemField.TO] - first) // row_bytes
        floor_ts = get_word(data, at + 8 * Head.FLOOR_TS)
        own[HistoryField.FLOOR_TS] = max(own[HistoryField.FLOOR_TS], floor_ts)
        map_columns(layout, form, own, data, item, source, row_count)
    elif find_partial(state.histories, state.partials, history, partition) < 0:
        return Need.NOTHING.value
    else:
        at = int(np.int64(-1))
    partial = _foreign_partial(state, history, partition)
    new_first, new_count = after_floor(own, data, first, row_bytes, row_count)
    need = take_rows(
        layout, state, history, partial, data, new_first, row_bytes, new_count, source
    )  # fmt: skip
    if need != Need.NOTHING:
        return need
    new_first, _ = after_floor(own, data, first, row_bytes, row_count)
    take_tiles(
        layout, state, entity, history, partial, data, at, first, new_first, row_bytes, source,
        decoded,
    )  # fmt: skip
    clear_lacking(own, own_floor(state, history))
    return Need.NOTHING.value


@kernel
def take(
    layout: Layout,
    form: Form,
    state: State,
    data: Bytes,
    items: Table,
    source: Table,
    decoded: Vector,
    is_first: bool,
) -> int:
    """Take sound items from Control.ROW on; returns a Need, NOTHING when all are in.

    Those of histories that aren't resident are passed over. `is_first` says that `items` are all
    foreign parts of their entities, which therefore count as read. `source` (COLUMN_BITS, 2) and
    `decoded` (COLUMN_BITS,) are working memory.
    """
    control = state.control
    while control[Control.ROW] < items.shape[0]:
        item = items[control[Control.ROW]]
        if tables_full(state):
            return Need.TABLES.value
        owner = owner_code(layout.entities, item[ItemField.ENTITY], item[ItemField.PARTITION])
        history = find(state.lookup, state.histories, item[ItemField.KEY], owner)
        if history >= 0:
            need = _take_one(layout, form, state, history, data, item, source, decoded)
            if need != Need.NOTHING:
                return need
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
