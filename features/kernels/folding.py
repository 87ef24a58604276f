"""Events that a history drops are folded into its tiles: see features.kernels.tiles.

A history of a shared entity has the tiles of each partition's events, which are stored with that
partition's part, and beside them those of all partitions together, which windows look at. A local
entity's history has one block for both. Parts that other processes own have tiles too: see
features.kernels.foreign_tiles.
"""

import numpy as np

from features.columns import MISSING
from features.kernels.arena import locate
from features.kernels.index import find_partial
from features.kernels.jit import part
from features.kernels.layout import (
    NEVER_MS,
    Control,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
    Table,
)
from features.kernels.pool import POOL_WORDS_MIN, give, take
from features.kernels.terms import qualifies
from features.kernels.tiles import (
    BlockField,
    SeriesField,
    clear_block,
    enter_tile,
    merge_block,
)

LAST_EVENT = np.iinfo(np.int64).max  # no event of its time stands behind it


@part
def has_room(layout: Layout, state: State, entity: int, history: int) -> bool:
    """Say whether the pool has room for all tiles that a history may still need.

    Where it has not, Control.WORDS_NEEDED says how many words must be free.
    """
    block_words = POOL_WORDS_MIN
    while block_words < layout.entities[entity, EntityField.TILE_WORDS]:
        block_words *= 2
    words = 0 if state.histories[history, HistoryField.TILES] >= 0 else block_words
    if layout.entities[entity, EntityField.SHARED]:
        words += block_words  # of a part that is being loaded
        partial = state.histories[history, HistoryField.PARTIAL]
        while partial >= 0:
            own = state.partials[partial]
            words += 0 if own[PartialField.TILES] >= 0 else block_words
            partial = state.partials[partial, PartialField.NEXT]
    state.control[Control.WORDS_NEEDED] = words
    return bool(state.control[Control.POOL_USED] + words <= len(state.pool))


@part
def _new_block(layout: Layout, state: State, entity: int) -> int:
    words = layout.entities[entity, EntityField.TILE_WORDS]
    block = take(state.pool, state.pool_free, state.control, words)
    clear_block(layout, state, entity, block)
    return int(block)


@part
def begin_tiles(layout: Layout, state: State, entity: int, history: int) -> None:
    """Give a history tiles: what it dropped before is not in them.

    From now on all of its parts are stored with a section of tiles, those without one anew.
    """
    own = state.histories[history]
    if own[HistoryField.TILES] >= 0:
        return
    block = _new_block(layout, state, entity)
    own[HistoryField.TILES] = block
    state.pool[block + BlockField.UNFOLDED_TS] = own[HistoryField.FLOOR_TS]
    state.pool[block + BlockField.FLOOR_EVENT] = LAST_EVENT
    state.pool[block + BlockField.FLOOR_TS] = own[HistoryField.FLOOR_TS]
    partial = own[HistoryField.PARTIAL]
    while partial >= 0:
        if not state.partials[partial, PartialField.SECTION_BYTES]:
            state.partials[partial, PartialField.WHOLE] = 1
        partial = state.partials[partial, PartialField.NEXT]


@part
def end_tiles(layout: Layout, state: State, entity: int, history: int) -> None:
    """Give back all memory of a history's tiles."""
    words = layout.entities[entity, EntityField.TILE_WORDS]
    partial = state.histories[history, HistoryField.PARTIAL]
    while partial >= 0:
        if state.partials[partial, PartialField.TILES] >= 0:
            give(state.pool, state.pool_free, state.partials[partial, PartialField.TILES], words)
            state.partials[partial, PartialField.TILES] = -1
        partial = state.partials[partial, PartialField.NEXT]
    if state.histories[history, HistoryField.TILES] >= 0:
        give(state.pool, state.pool_free, state.histories[history, HistoryField.TILES], words)
        state.histories[history, HistoryField.TILES] = -1


@part
def part_block(layout: Layout, state: State, entity: int, history: int, partial: int) -> int:
    """Return the tiles of one part of a history that has tiles; they begin empty."""
    if not layout.entities[entity, EntityField.SHARED]:
        return int(state.histories[history, HistoryField.TILES])
    if state.partials[partial, PartialField.TILES] < 0:
        state.partials[partial, PartialField.TILES] = _new_block(layout, state, entity)
    return int(state.partials[partial, PartialField.TILES])


@part
def raise_floor(state: State, history: int, ts_ms: int, event: int) -> None:
    """Note that an event was dropped here, and with it all that stand before it."""
    own, pool = state.histories[history], state.pool
    tiles = own[HistoryField.TILES]
    if tiles >= 0:
        at, floor_at = tiles + BlockField.FLOOR_EVENT, tiles + BlockField.FLOOR_TS
        if ts_ms > pool[floor_at]:
            pool[at] = event
        elif ts_ms == pool[floor_at]:
            pool[at] = max(pool[at], event)
        pool[floor_at] = max(pool[floor_at], ts_ms)
    own[HistoryField.FLOOR_TS] = max(own[HistoryField.FLOOR_TS], ts_ms)


@part
def own_floor(state: State, history: int) -> int:
    """Return the time of the newest event ever dropped here, which is what gets stored.

    HistoryField.FLOOR_TS is later where other processes dropped newer ones of their own. Without
    tiles nobody can tell the two apart.
    """
    tiles = state.histories[history, HistoryField.TILES]
    if tiles >= 0:
        return int(state.pool[tiles + BlockField.FLOOR_TS])
    return int(state.histories[history, HistoryField.FLOOR_TS])


@part
def doubtful_count(state: State, history: int) -> int:
    """Return how many events stand before, or in the place of, one that was dropped here.

    They came after it was dropped, so nobody knows whether they are repeats. What other processes
    dropped is of other partitions, and so no event that may come here.
    """
    own, floor_ts = state.histories[history], own_floor(state, history)
    if floor_ts == NEVER_MS:
        return 0
    start, capacity, count = (
        own[HistoryField.START],
        own[HistoryField.CAPACITY],
        own[HistoryField.COUNT],
    )
    floor_event = LAST_EVENT
    if own[HistoryField.TILES] >= 0:
        floor_event = state.pool[own[HistoryField.TILES] + BlockField.FLOOR_EVENT]
    position = locate(state.arena, start, capacity, count, floor_ts, floor_event)
    there = (
        position < count
        and state.arena[start + position] == floor_ts
        and state.arena[start + capacity + position] == floor_event
    )
    return int(position + there)


@part
def fold_event(
    layout: Layout, state: State, entity: int, history: int, partial: int, rows: Table,
    at: int, capacity: int, doubtful: bool,
) -> None:  # fmt: skip
    """Add one event to the tiles of its part and of the history.

    The event's cells are `rows[at + column * capacity]`. A series that reads a cell which such
    old events lack is incomplete up to this one.
    """
    own, pool, series = state.histories[history], state.pool, layout.series
    tiles = own[HistoryField.TILES]
    part = part_block(layout, state, entity, history, partial)
    ts_ms = rows[at]
    lacking = own[HistoryField.LACKING] if ts_ms <= own[HistoryField.LACKING_TS] else 0
    for number in range(
        layout.entities[entity, EntityField.SERIES_FROM],
        layout.entities[entity, EntityField.SERIES_TO],
    ):
        if series[number, SeriesField.COLUMNS] & lacking:
            place = series[number, SeriesField.PLACE]
            pool[part + place] = max(pool[part + place], ts_ms)
            pool[tiles + place] = max(pool[tiles + place], ts_ms)
            continue
        column = series[number, SeriesField.VALUE_COLUMN]
        value = rows[at + column * capacity] if column >= 0 else 0
        first, last = series[number, SeriesField.TERM_FROM], series[number, SeriesField.TERM_TO]
        if value == MISSING or not qualifies(rows, at, capacity, layout.terms, first, last):
            continue
        enter_tile(pool, series, number, part, ts_ms, value, doubtful)
        if part != tiles:
            enter_tile(pool, series, number, tiles, ts_ms, value, doubtful)


@part
def fold_oldest(layout: Layout, state: State, entity: int, history: int, last: int) -> None:
    """Fold the oldest `last` events of a history; the pool has room for all tiles."""
    begin_tiles(layout, state, entity, history)
    own = state.histories[history]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    tags = start + layout.entities[entity, EntityField.KEPT_COUNT] * capacity
    doubtful_to = doubtful_count(state, history)
    partial = int(own[HistoryField.PARTIAL])
    for i in range(last):
        if layout.entities[entity, EntityField.SHARED]:
            partition = state.arena[tags + i]
            partial = find_partial(state.histories, state.partials, history, partition)
            if state.partials[partial, PartialField.FOREIGN]:
                block = part_block(layout, state, entity, history, partial)
                state.pool[block + BlockField.SOURCE] = 0
        fold_event(
            layout, state, entity, history, partial, state.arena, start + i, capacity,
            i < doubtful_to,
        )  # fmt: skip


@part
def merge_part(layout: Layout, state: State, entity: int, history: int, partial: int) -> None:
    """Add the tiles of one part of a shared history, which were just loaded, to those of all."""
    part = state.partials[partial, PartialField.TILES]
    if part >= 0:
        merge_block(layout, state, entity, int(state.histories[history, HistoryField.TILES]), part)
