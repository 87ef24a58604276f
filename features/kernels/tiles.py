"""Tiles: what is left of events that a full history had to drop, by spans of time.

Slots that ask for the same values over windows of about the same length share a *series*: a ring
of tiles, each as wide as a power of two of milliseconds, wide enough that `RING_COUNT` of them
reach back beyond the longest window. A tile holds how many events fell into it, when the first and
the last of them was, and count, sum, sum of squares and extremes of their values; for `distinct`
also a sketch. Its place in the ring follows from its time alone, and adding is commutative: the
order in which events are folded shows nowhere.

An event that comes so late that it stands before one that was dropped may be one that was folded
already, sent again: it is folded into a second, coarser ring of *doubtful* tiles.
"""

from enum import IntEnum

import numpy as np

from features.kernels.jit import inlined, part
from features.kernels.layout import NEVER_MS, EntityField, Layout, State, Table
from features.kernels.moments import add_square, add_sums
from features.kernels.sketches import HASHES_COUNT, clear_hashes, enter_hash, hash_of

RING_COUNT = 32  # tiles; all but one of them are as long as the longest window
DOUBTFUL_COUNT = 8
DOUBTFUL_SHIFT = 3  # doubtful tiles are 8 times as wide
TILE_COUNT = RING_COUNT + DOUBTFUL_COUNT
HASHES_MAX_COUNT = TILE_COUNT * HASHES_COUNT


class SeriesField(IntEnum):
    """Columns of `Layout.series`."""

    VALUE_COLUMN = 0  # -1 where events themselves are counted
    TERM_FROM = 1
    TERM_TO = 2
    SHIFT = 3  # a tile is 1 << SHIFT ms wide
    SKETCH_WORDS = 4  # of each tile, 0 where nobody counts different values
    COLUMNS = 5  # bitmap of the columns that are read
    PLACE = 6  # where its words begin in a block of tiles
    FINGERPRINT = 7  # of its definition: by it a stored series is understood


class BlockField(IntEnum):
    """The first words of a block of tiles; the words of its series follow."""

    UNFOLDED_TS = 0  # time of the newest event that was dropped without being folded
    FLOOR_EVENT = 1  # id of the newest event of the block that was ever dropped here
    FLOOR_TS = 2  # and its time
    FOREIGN_UNFOLDED_TS = 3  # as UNFOLDED_TS, of the parts that other processes own
    SOURCE = 4  # of such a part's block: digest of what it was made of, 0 where it has changed


class TileField(IntEnum):
    """Words of a tile; a sketch may follow. All but COUNT mean nothing where that is 0."""

    FIRST_TS = 0
    LAST_TS = 1
    COUNT = 2
    SUM = 3
    SQUARES = 4  # high and low word, see features.kernels.moments
    LOW_SQUARES = 5
    LEAST = 6
    MOST = 7


class PartField(IntEnum):
    """Columns of `Scratch.parts`: sums of events."""

    COUNT = 0
    SUM = 1
    SQUARES = 2
    LOW_SQUARES = 3
    LEAST = 4
    MOST = 5
    INSIDE_MIN = 6  # so many of the uncertain events are in the window at least
    INSIDE_MAX = 7
    LEAST_MOST = 8  # the highest minimum of any tile of which some event is in the window
    MOST_LEAST = 9  # and the lowest maximum


class GuessField(IntEnum):
    """Cells of `Scratch.guess`: what of the uncertain events is probably in the window."""

    COUNT = 0
    SUM = 1
    SQUARES = 2
    LEAST = 3
    MOST = 4


HELD = 0  # rows of `Scratch.parts`: what the history holds of all truncated windows of a family,
CERTAIN = 1  # what is in a window for sure,
UNCERTAIN = 2  # and what may be in it
PART_COUNT = 3
BLOCK_WORDS = len(BlockField)
TILE_WORDS = len(TileField)


@inlined
def tile_words(series: Table, number: int) -> int:
    """Return how many words a tile of a series takes."""
    return int(TILE_WORDS + series[number, SeriesField.SKETCH_WORDS])


@inlined
def tile_at(series: Table, number: int, block: int, tile: int) -> int:
    """Return the word of the pool where a tile of a series begins."""
    place = block + series[number, SeriesField.PLACE] + 1
    return int(place + tile * tile_words(series, number))


@inlined
def tile_shift(series: Table, number: int, tile: int) -> int:
    """Return the power of two of a tile's width."""
    return int(series[number, SeriesField.SHIFT] + (DOUBTFUL_SHIFT if tile >= RING_COUNT else 0))


@part
def clear_block(layout: Layout, state: State, entity: int, block: int) -> None:
    """Make a block of tiles one that holds nothing and lacks nothing."""
    pool = state.pool
    pool[block + BlockField.UNFOLDED_TS] = NEVER_MS
    pool[block + BlockField.FLOOR_EVENT] = 0
    pool[block + BlockField.FLOOR_TS] = NEVER_MS
    pool[block + BlockField.FOREIGN_UNFOLDED_TS] = NEVER_MS
    pool[block + BlockField.SOURCE] = 0
    clear_series(layout, state, entity, block)


@part
def clear_series(layout: Layout, state: State, entity: int, block: int) -> None:
    """Empty all tiles of a block; what its first words say stays."""
    pool, series = state.pool, layout.series
    for at in range(block + BLOCK_WORDS, block + layout.entities[entity, EntityField.TILE_WORDS]):
        pool[at] = 0
    for number in range(
        layout.entities[entity, EntityField.SERIES_FROM],
        layout.entities[entity, EntityField.SERIES_TO],
    ):
        pool[block + series[number, SeriesField.PLACE]] = NEVER_MS


@part
def _turn(pool: Table, at: int, sketch_words: int, shift: int, number: int) -> bool:
    """Have a place of the ring hold tile `number`; False where it holds a newer one."""
    count = pool[at + TileField.COUNT]
    held = pool[at + TileField.FIRST_TS] >> shift
    if count and held >= number:
        return bool(held == number)
    pool[at + TileField.FIRST_TS] = np.iinfo(np.int64).max
    pool[at + TileField.LAST_TS] = NEVER_MS
    pool[at + TileField.COUNT] = 0
    pool[at + TileField.SUM] = 0
    pool[at + TileField.SQUARES] = 0
    pool[at + TileField.LOW_SQUARES] = 0
    pool[at + TileField.LEAST] = np.iinfo(np.int64).max
    pool[at + TileField.MOST] = NEVER_MS
    if sketch_words:
        clear_hashes(pool, at + TILE_WORDS)
    return True


@part
def enter_tile(
    pool: Table, series: Table, number: int, block: int, ts_ms: int, value: int, doubtful: bool
) -> None:
    """Add an event's value to the tile of its time, unless that has made way for a newer one."""
    tile, sketch_words = 0, series[number, SeriesField.SKETCH_WORDS]
    shift = series[number, SeriesField.SHIFT]
    if doubtful:
        shift += DOUBTFUL_SHIFT
        tile = RING_COUNT + ((ts_ms >> shift) & (DOUBTFUL_COUNT - 1))
    else:
        tile = (ts_ms >> shift) & (RING_COUNT - 1)
    at = tile_at(series, number, block, tile)
    if not _turn(pool, at, sketch_words, shift, ts_ms >> shift):
        return
    squares = at + TileField.SQUARES
    pool[at + TileField.FIRST_TS] = min(pool[at + TileField.FIRST_TS], ts_ms)
    pool[at + TileField.LAST_TS] = max(pool[at + TileField.LAST_TS], ts_ms)
    pool[at + TileField.COUNT] += 1
    pool[at + TileField.SUM] += value
    pool[squares], pool[squares + 1] = add_square(pool[squares], pool[squares + 1], value)
    pool[at + TileField.LEAST] = min(pool[at + TileField.LEAST], value)
    pool[at + TileField.MOST] = max(pool[at + TileField.MOST], value)
    if sketch_words:
        enter_hash(pool, at + TILE_WORDS, hash_of(value))


@part
def _merge_tile(pool: Table, at: int, other: int, sketch_words: int, shift: int) -> None:
    """Add a tile to the one at the same place of another block."""
    if pool[other + TileField.COUNT] == 0:
        return
    if not _turn(pool, at, sketch_words, shift, pool[other + TileField.FIRST_TS] >> shift):
        return
    first, last = at + TileField.FIRST_TS, at + TileField.LAST_TS
    pool[first] = min(pool[first], pool[other + TileField.FIRST_TS])
    pool[last] = max(pool[last], pool[other + TileField.LAST_TS])
    pool[at + TileField.COUNT] += pool[other + TileField.COUNT]
    pool[at + TileField.SUM] += pool[other + TileField.SUM]
    squares, others = at + TileField.SQUARES, other + TileField.SQUARES
    pool[squares], pool[squares + 1] = add_sums(
        pool[squares], pool[squares + 1], pool[others], pool[others + 1]
    )
    least, most = at + TileField.LEAST, at + TileField.MOST
    pool[least] = min(pool[least], pool[other + TileField.LEAST])
    pool[most] = max(pool[most], pool[other + TileField.MOST])
    for i in range(sketch_words):
        enter_hash(pool, at + TILE_WORDS, pool[other + TILE_WORDS + i])


@part
def merge_block(layout: Layout, state: State, entity: int, block: int, other: int) -> None:
    """Add all tiles of a block to another one."""
    pool, series = state.pool, layout.series
    for number in range(
        layout.entities[entity, EntityField.SERIES_FROM],
        layout.entities[entity, EntityField.SERIES_TO],
    ):
        place = series[number, SeriesField.PLACE]
        pool[block + place] = max(pool[block + place], pool[other + place])
        for tile in range(TILE_COUNT):
            _merge_tile(
                pool,
                tile_at(series, number, block, tile),
                tile_at(series, number, other, tile),
                series[number, SeriesField.SKETCH_WORDS],
                tile_shift(series, number, tile),
            )
