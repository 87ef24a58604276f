"""Which tiles lie in a window: wholly, in part, or not at all."""

import numpy as np

from features.kernels.jit import inlined, part
from features.kernels.layout import NEVER_MS, HistoryField, Layout, Scratch, State, Table
from features.kernels.moments import add_sums
from features.kernels.tiles import (
    CERTAIN,
    DOUBTFUL_COUNT,
    RING_COUNT,
    TILE_COUNT,
    UNCERTAIN,
    BlockField,
    GuessField,
    PartField,
    SeriesField,
    TileField,
    tile_at,
    tile_shift,
)

_MOST = np.iinfo(np.int64).max


@part
def clear_part(sums: Table) -> None:
    """Make a row of `Scratch.parts` the sums of no event."""
    sums[:] = 0
    sums[PartField.LEAST] = _MOST
    sums[PartField.MOST] = NEVER_MS
    sums[PartField.LEAST_MOST] = NEVER_MS
    sums[PartField.MOST_LEAST] = _MOST


@part
def is_complete(layout: Layout, state: State, history: int, number: int, edge_ms: int) -> bool:
    """Say whether a series tells of all events later than `edge_ms` that were dropped.

    They were folded, and no tile of such a time had to make way for a newer one.
    """
    tiles, series, pool = (
        state.histories[history, HistoryField.TILES],
        layout.series,
        state.pool,
    )
    if tiles < 0 or pool[tiles + BlockField.UNFOLDED_TS] > edge_ms:
        return False
    if pool[tiles + BlockField.FOREIGN_UNFOLDED_TS] > edge_ms:
        return False
    if pool[tiles + series[number, SeriesField.PLACE]] > edge_ms:
        return False
    for tile in range(TILE_COUNT):
        at, shift = tile_at(series, number, tiles, tile), tile_shift(series, number, tile)
        ring = RING_COUNT if tile < RING_COUNT else DOUBTFUL_COUNT
        if pool[at + TileField.COUNT]:
            lost = (pool[at + TileField.FIRST_TS] >> shift) - ring
            if lost >= (edge_ms + 1) >> shift:
                return False
    return True


@inlined
def inside_counts(pool: Table, at: int, tile: int, edge_ms: int, end_ms: int) -> tuple[int, int]:
    """Return how many of a tile's events are later than `edge_ms` and not than `end_ms`.

    At least so many, and at most; the first and the last of a doubtful tile may be repeats too.
    """
    count = pool[at + TileField.COUNT]
    first_ts, last_ts = pool[at + TileField.FIRST_TS], pool[at + TileField.LAST_TS]
    if count == 0 or last_ts <= edge_ms or first_ts > end_ms:
        return 0, 0
    first_in, last_in = first_ts > edge_ms, last_ts <= end_ms
    if first_in and last_in:
        return (count if tile < RING_COUNT else 0), count
    # One of them is out, or both are; if they are the same event, all of this doesn't arise.
    fewest, most = int(first_in) + int(last_in), count - int(not first_in) - int(not last_in)
    return (fewest if tile < RING_COUNT else 0), most


@inlined
def share_inside(pool: Table, at: int, edge_ms: int, end_ms: int) -> float:
    """Return which share of a tile's events is in a window if they are spread evenly."""
    first_ts, last_ts = pool[at + TileField.FIRST_TS], pool[at + TileField.LAST_TS]
    if first_ts > edge_ms and last_ts <= end_ms:
        return 1.0
    inside = min(last_ts, end_ms) - max(first_ts, edge_ms)
    return float(inside / np.float64(max(last_ts - first_ts, 1)))


@part
def _add_tile(pool: Table, at: int, sums: Table) -> None:
    sums[PartField.COUNT] += pool[at + TileField.COUNT]
    sums[PartField.SUM] += pool[at + TileField.SUM]
    sums[PartField.SQUARES], sums[PartField.LOW_SQUARES] = add_sums(
        sums[PartField.SQUARES], sums[PartField.LOW_SQUARES],
        pool[at + TileField.SQUARES], pool[at + TileField.LOW_SQUARES],
    )  # fmt: skip
    sums[PartField.LEAST] = min(sums[PartField.LEAST], pool[at + TileField.LEAST])
    sums[PartField.MOST] = max(sums[PartField.MOST], pool[at + TileField.MOST])


@part
def _guess_tile(scratch: Scratch, pool: Table, at: int, share: float) -> None:
    guess = scratch.guess
    squares = float(np.uint64(pool[at + TileField.SQUARES])) * 2.0**64
    squares += float(np.uint64(pool[at + TileField.LOW_SQUARES]))
    guess[GuessField.COUNT] += share * pool[at + TileField.COUNT]
    guess[GuessField.SUM] += share * pool[at + TileField.SUM]
    guess[GuessField.SQUARES] += share * squares
    if share >= 0.5:
        guess[GuessField.LEAST] = min(guess[GuessField.LEAST], pool[at + TileField.LEAST])
        guess[GuessField.MOST] = max(guess[GuessField.MOST], pool[at + TileField.MOST])


@part
def add_overlaps(
    layout: Layout, state: State, scratch: Scratch, tiles: int, number: int, edge_ms: int,
    end_ms: int,
) -> None:  # fmt: skip
    """Add the tiles of a series to what is certain or uncertain of a window."""
    pool = state.pool
    for tile in range(TILE_COUNT):
        at = tile_at(layout.series, number, tiles, tile)
        fewest, most = inside_counts(pool, at, tile, edge_ms, end_ms)
        if most == 0:
            continue
        if fewest == pool[at + TileField.COUNT]:
            _add_tile(pool, at, scratch.parts[CERTAIN])
            continue
        sums = scratch.parts[UNCERTAIN]
        _add_tile(pool, at, sums)
        sums[PartField.INSIDE_MIN] += fewest
        sums[PartField.INSIDE_MAX] += most
        if fewest > 0:
            least, largest = PartField.LEAST_MOST, PartField.MOST_LEAST
            sums[least] = max(sums[least], pool[at + TileField.LEAST])
            sums[largest] = min(sums[largest], pool[at + TileField.MOST])
        _guess_tile(scratch, pool, at, share_inside(pool, at, edge_ms, end_ms))
