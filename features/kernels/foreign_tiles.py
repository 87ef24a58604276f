"""Tiles of the parts that other processes own: made anew from what their owners stored.

Beside the tiles of its section, such a part's block holds those events of the part that are not
copied into the history's block, because they stand at or before its floor. They are the owner's to
fold for good: here they leave with the next reading, or with the entity.
"""

import numpy as np

from features.columns import MISSING
from features.kernels.folding import LAST_EVENT, fold_event, part_block
from features.kernels.jit import part
from features.kernels.layout import (
    NEVER_MS,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
    Table,
)
from features.kernels.packing import Bytes, get_cell, get_word
from features.kernels.pool import give
from features.kernels.sections import SectionField, is_folded, take_all_series
from features.kernels.stored import EVENT_OFFSET, HEAD_BYTES, TS_SHIFT, VALUE_COUNT_SHIFT, Head
from features.kernels.tiles import BlockField, clear_block, clear_series, merge_block

_MULTIPLIER = 0x9E3779B97F4A7C15


@part
def _digest(data: Bytes, start: int, end: int) -> int:
    """Return a digest of the bytes [start, end), never 0."""
    found = np.uint64(end - start)
    for at in range(start, end, 8):
        found = (found ^ np.uint64(get_word(data, at))) * np.uint64(_MULTIPLIER)
        found ^= found >> np.uint64(29)
    return int(np.int64(found | np.uint64(1)))


@part
def _merge_again(layout: Layout, state: State, entity: int, history: int) -> None:
    """Make the tiles of a shared history those of all its parts."""
    pool, tiles = state.pool, int(state.histories[history, HistoryField.TILES])
    clear_series(layout, state, entity, tiles)
    unfolded_ts = NEVER_MS
    partial = state.histories[history, HistoryField.PARTIAL]
    while partial >= 0:
        block = int(state.partials[partial, PartialField.TILES])
        if block >= 0:
            merge_block(layout, state, entity, tiles, block)
            if state.partials[partial, PartialField.FOREIGN]:
                unfolded_ts = max(unfolded_ts, pool[block + BlockField.UNFOLDED_TS])
        partial = state.partials[partial, PartialField.NEXT]
    pool[tiles + BlockField.FOREIGN_UNFOLDED_TS] = unfolded_ts


@part
def _fold_rows(
    layout: Layout, state: State, entity: int, history: int, partial: int, data: Bytes,
    first: int, end: int, row_bytes: int, source: Table, decoded: Table, floor_ts: int,
    floor_event: int,
) -> None:  # fmt: skip
    """Fold stored rows; those not beyond their owner's floor came after it, and are doubtful."""
    # Bare numbers would compile the callee once more, for literals.
    place, capacity_of_one = int(np.int64(0)), int(np.int64(1))
    for at in range(first, end, row_bytes):
        for column in range(layout.entities[entity, EntityField.KEPT_COUNT]):
            decoded[column] = MISSING
            if source[column, 0] >= 0:
                decoded[column] = get_cell(data, at + source[column, 0], source[column, 1])
        ts_ms, event = get_cell(data, at, TS_SHIFT), get_word(data, at + EVENT_OFFSET)
        doubtful = ts_ms < floor_ts or (ts_ms == floor_ts and event <= floor_event)
        fold_event(
            layout, state, entity, history, partial, decoded, place, capacity_of_one, doubtful
        )


@part
def _fill_block(
    layout: Layout, state: State, entity: int, history: int, partial: int, data: Bytes, at: int,
    first: int, end: int, row_bytes: int, source: Table, decoded: Table,
) -> None:  # fmt: skip
    """Fill the block of a part that is stored at byte `at`."""
    block = part_block(layout, state, entity, history, partial)
    clear_block(layout, state, entity, block)
    floor_ts, floor_event = get_word(data, at + 8 * Head.FLOOR_TS), LAST_EVENT
    unfolded_ts = floor_ts
    if is_folded(data, at):
        value_count = (get_word(data, at + 8 * Head.CELLS) >> VALUE_COUNT_SHIFT) & 0xFF
        section_at = at + HEAD_BYTES + 8 * value_count
        floor_event = get_word(data, section_at + 8 * SectionField.FLOOR_EVENT)
        unfolded_ts = get_word(data, section_at + 8 * SectionField.UNFOLDED_TS)
        take_all_series(layout, state, entity, history, partial, data, section_at, floor_ts)
    _fold_rows(
        layout, state, entity, history, partial, data, first, end, row_bytes, source, decoded,
        floor_ts, floor_event,
    )  # fmt: skip
    state.pool[block + BlockField.UNFOLDED_TS] = unfolded_ts


@part
def take_tiles(
    layout: Layout, state: State, entity: int, history: int, partial: int, data: Bytes, at: int,
    first: int, end: int, row_bytes: int, source: Table, decoded: Table,
) -> None:  # fmt: skip
    """Have a foreign part's tiles be those of its value at byte `at`, and the history's follow.

    `at` is -1 where nothing is stored. The rows in the bytes [first, end) are not in the history's
    block. `decoded` has room for the cells of one event. The pool has room for all tiles.
    """
    if state.histories[history, HistoryField.TILES] < 0:
        return
    block = int(state.partials[partial, PartialField.TILES])
    is_empty = at < 0
    if not is_empty and first == end and not is_folded(data, at):
        is_empty = get_word(data, at + 8 * Head.FLOOR_TS) == NEVER_MS
    if is_empty:
        if block < 0:
            return
        words = layout.entities[entity, EntityField.TILE_WORDS]
        give(state.pool, state.pool_free, block, words)
        state.partials[partial, PartialField.TILES] = -1
    else:
        digest = _digest(data, at, end)
        if block >= 0 and state.pool[block + BlockField.SOURCE] == digest:
            return
        _fill_block(
            layout, state, entity, history, partial, data, at, first, end, row_bytes, source,
            decoded,
        )  # fmt: skip
        block = int(state.partials[partial, PartialField.TILES])
        state.pool[block + BlockField.SOURCE] = digest
    _merge_again(layout, state, entity, history)
