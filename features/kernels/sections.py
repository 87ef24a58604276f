"""The stored form of tiles: a section of a part's value, between its header and its events.

All of it is words. First `SectionField`; then, for each series, `StoredSeriesField` and those of
its tiles that hold something, in the order of their places, each with its sketch where the series
has one. Tiles change only when events are dropped, and then the whole value is written anew.
"""

from enum import IntEnum

import numpy as np

from features.kernels.folding import LAST_EVENT, begin_tiles, merge_part, part_block, raise_floor
from features.kernels.jit import part
from features.kernels.layout import (
    NEVER_MS,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
)
from features.kernels.packing import Bytes, get_word, put_word
from features.kernels.sketches import HASHES_COUNT
from features.kernels.stored import FOLDED, Head, bit_count
from features.kernels.tiles import (
    TILE_COUNT,
    TILE_WORDS,
    BlockField,
    SeriesField,
    TileField,
    tile_at,
    tile_words,
)

_SKETCHED = 1 << 62  # bit of StoredSeriesField.TILES
_TILE_BITS = (1 << TILE_COUNT) - 1


class SectionField(IntEnum):
    """The first words of a section; the first two are overwritten in place."""

    FLOOR_EVENT = 0  # of the whole history, as the header's time
    UNFOLDED_TS = 1
    SERIES_COUNT = 2


class StoredSeriesField(IntEnum):
    """The first words of a stored series."""

    FINGERPRINT = 0
    COMPLETE_FROM_TS = 1
    TILES = 2  # bitmap of the places that hold a tile, and whether these have sketches


SECTION_WORDS = len(SectionField)
SECTION_HEAD_BYTES = int(8 * SectionField.SERIES_COUNT)  # what is overwritten in place
SERIES_WORDS = len(StoredSeriesField)


@part
def _own_block(layout: Layout, state: State, entity: int, history: int, partial: int) -> int:
    """Return the tiles of one part, -1 where it has none."""
    if layout.entities[entity, EntityField.SHARED]:
        return int(state.partials[partial, PartialField.TILES])
    return int(state.histories[history, HistoryField.TILES])


@part
def _held(layout: Layout, state: State, number: int, block: int) -> int:
    """Return the bitmap of a series' tiles that hold something."""
    bits = int(np.int64(0))
    for tile in range(TILE_COUNT):
        at = tile_at(layout.series, number, block, tile)
        bits |= int(state.pool[at + TileField.COUNT] > 0) << tile
    return bits


@part
def section_bytes(layout: Layout, state: State, entity: int, history: int, partial: int) -> int:
    """Return how long a part's section is, 0 where its history has no tiles."""
    if state.histories[history, HistoryField.TILES] < 0:
        return 0
    block, words = _own_block(layout, state, entity, history, partial), SECTION_WORDS
    if block >= 0:
        for number in range(
            layout.entities[entity, EntityField.SERIES_FROM],
            layout.entities[entity, EntityField.SERIES_TO],
        ):
            held = bit_count(_held(layout, state, number, block))
            words += SERIES_WORDS + held * tile_words(layout.series, number)
    return 8 * words


@part
def pack_section_head(state: State, history: int, packed: Bytes, at: int) -> int:
    """Write what a section may have overwritten in place; returns the byte after it."""
    tiles = state.histories[history, HistoryField.TILES]
    floor_event = state.pool[tiles + BlockField.FLOOR_EVENT]
    put_word(packed, at + 8 * SectionField.FLOOR_EVENT, floor_event)
    unfolded_ts = state.pool[tiles + BlockField.UNFOLDED_TS]
    put_word(packed, at + 8 * SectionField.UNFOLDED_TS, unfolded_ts)
    return at + SECTION_HEAD_BYTES


@part
def pack_section(
    layout: Layout, state: State, entity: int, history: int, partial: int, packed: Bytes, at: int
) -> int:
    """Write the rest of a section behind its head; returns the byte after it."""
    block, series, pool = (
        _own_block(layout, state, entity, history, partial),
        layout.series,
        state.pool,
    )
    first = layout.entities[entity, EntityField.SERIES_FROM]
    last = layout.entities[entity, EntityField.SERIES_TO] if block >= 0 else first
    put_word(packed, at, last - first)
    at += 8
    for number in range(first, last):
        held = _held(layout, state, number, block)
        sketched = _SKETCHED if series[number, SeriesField.SKETCH_WORDS] else 0
        put_word(packed, at, series[number, SeriesField.FINGERPRINT])
        put_word(packed, at + 8, pool[block + series[number, SeriesField.PLACE]])
        put_word(packed, at + 16, held | sketched)
        at += 8 * SERIES_WORDS
        for tile in range(TILE_COUNT):
            if held >> tile & 1:
                word = tile_at(series, number, block, tile)
                for i in range(tile_words(series, number)):
                    put_word(packed, at, pool[word + i])
                    at += 8
    return at


@part
def _stored_words(bits: int) -> int:
    """Return how many words of tiles a stored series has."""
    each = TILE_WORDS + (HASHES_COUNT if bits & _SKETCHED else 0)
    return bit_count(bits & _TILE_BITS) * each


@part
def is_folded(data: Bytes, start: int) -> bool:
    """Say whether a stored part has a section."""
    return bool(get_word(data, start + 8 * Head.CELLS) & FOLDED)


@part
def stored_section_bytes(data: Bytes, start: int, at: int, end: int) -> int:
    """Return how long the section at `at` of the part in `data[start:end]` is.

    0 where there is none, -1 where it would not end before `end`.
    """
    if not is_folded(data, start):
        return 0
    first = at
    at += 8 * SECTION_WORDS
    if at > end:
        return -1
    for _ in range(get_word(data, at - 8)):
        if at + 8 * SERIES_WORDS > end:
            return -1
        bits = get_word(data, at + 8 * StoredSeriesField.TILES)
        at += 8 * (SERIES_WORDS + _stored_words(bits))
        if at > end:
            return -1
    return int(at - first)


@part
def _take_series(
    layout: Layout, state: State, entity: int, block: int, data: Bytes, at: int
) -> int:
    """Take one stored series into a block of empty tiles; returns its row, -1 if not asked for."""
    series, pool = layout.series, state.pool
    fingerprint = get_word(data, at + 8 * StoredSeriesField.FINGERPRINT)
    bits = get_word(data, at + 8 * StoredSeriesField.TILES)
    for number in range(
        layout.entities[entity, EntityField.SERIES_FROM],
        layout.entities[entity, EntityField.SERIES_TO],
    ):
        if series[number, SeriesField.FINGERPRINT] != fingerprint:
            continue
        place = block + series[number, SeriesField.PLACE]
        pool[place] = get_word(data, at + 8 * StoredSeriesField.COMPLETE_FROM_TS)
        at += 8 * SERIES_WORDS
        for tile in range(TILE_COUNT):
            if bits >> tile & 1:
                word = tile_at(series, number, block, tile)
                for i in range(tile_words(series, number)):
                    pool[word + i] = get_word(data, at)
                    at += 8
        return int(number)
    return -1


@part
def take_all_series(
    layout: Layout, state: State, entity: int, history: int, partial: int, data: Bytes, at: int,
    stored_floor_ts: int,
) -> None:  # fmt: skip
    """Take the series of the section that begins at `at`; what the plan asks beyond is incomplete.

    The part is to be written anew where it holds other series than the plan asks for.
    """
    first, last = (
        layout.entities[entity, EntityField.SERIES_FROM],
        layout.entities[entity, EntityField.SERIES_TO],
    )
    stored = get_word(data, at + 8 * SectionField.SERIES_COUNT)
    if not stored:
        return  # nothing of this part was ever folded
    block, known = part_block(layout, state, entity, history, partial), 0
    for number in range(first, last):
        place = block + layout.series[number, SeriesField.PLACE]
        state.pool[place] = stored_floor_ts
    at += 8 * SECTION_WORDS
    for i in range(stored):
        number = _take_series(layout, state, entity, block, data, at)
        known += 1 if number == first + i else 0
        bits = get_word(data, at + 8 * StoredSeriesField.TILES)
        at += 8 * (SERIES_WORDS + _stored_words(bits))
    if known != stored or stored != last - first:
        state.partials[partial, PartialField.WHOLE] = 1


@part
def take_section(
    layout: Layout, state: State, entity: int, history: int, partial: int, data: Bytes,
    start: int, at: int,
) -> None:  # fmt: skip
    """Take up what a stored part says of dropped events: its floor, and its section at `at`.

    The part knows already how long its section is. The pool has room for all tiles.
    """
    stored_floor_ts = get_word(data, start + 8 * Head.FLOOR_TS)
    folded, floor_event = is_folded(data, start), LAST_EVENT
    if folded and not layout.entities[entity, EntityField.TILE_WORDS]:
        state.partials[partial, PartialField.WHOLE] = 1
    elif folded:
        begin_tiles(layout, state, entity, history)
        floor_event = get_word(data, at + 8 * SectionField.FLOOR_EVENT)
    tiles = state.histories[history, HistoryField.TILES]
    if tiles >= 0:
        unfolded_ts = stored_floor_ts
        if folded:
            unfolded_ts = get_word(data, at + 8 * SectionField.UNFOLDED_TS)
        else:
            state.partials[partial, PartialField.WHOLE] = 1
        word = tiles + BlockField.UNFOLDED_TS
        state.pool[word] = max(state.pool[word], unfolded_ts)
        if folded:
            take_all_series(layout, state, entity, history, partial, data, at, stored_floor_ts)
            merge_part(layout, state, entity, history, partial)
    if stored_floor_ts != NEVER_MS:
        raise_floor(state, history, stored_floor_ts, floor_event)
