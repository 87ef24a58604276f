"""How many different values the parts of a window hold together, from sketches and events."""

import math

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels.gathering import count_different
from features.kernels.jit import kernel
from features.kernels.layout import (
    Control,
    HistoryField,
    Layout,
    MemberField,
    Scratch,
    State,
)
from features.kernels.overlaps import inside_counts, share_inside
from features.kernels.sketches import HASHES_COUNT, NO_HASH, hash_of, share_below
from features.kernels.terms import value_if
from features.kernels.tiles import TILE_COUNT, TILE_WORDS, TileField, tile_at

DEVIATIONS = 4.0  # of the estimate that its error allows for: 1 in 16,000 if it is normal


@kernel
def _threshold(
    layout: Layout, state: State, tiles: int, number: int, edge_ms: int, end_ms: int
) -> int:
    """Return the hash below which all sketches of a window's tiles are complete."""
    threshold = NO_HASH
    for tile in range(TILE_COUNT):
        at = tile_at(layout.series, number, tiles, tile)
        _, most = inside_counts(state.pool, at, tile, edge_ms, end_ms)
        if most > 0:
            threshold = min(threshold, state.pool[at + TILE_WORDS + HASHES_COUNT - 1])
    return threshold


@kernel
def _add_held(
    layout: Layout, state: State, scratch: Scratch, history: int, family: int, first: int,
    last: int, skip: int, threshold: int, total: int,
) -> int:  # fmt: skip
    """Append the hashes of a history's events [first, last) that are below the threshold."""
    own = state.histories[history]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    for i in range(first, last):
        value = value_if(state.arena, start + i, capacity, layout.families, family, layout.terms)
        if value != MISSING and i != skip:
            hashed = hash_of(value)
            scratch.values[total] = hashed
            total += 1 if hashed < threshold else 0
    return total


@kernel
def _add_tiles(
    layout: Layout, state: State, scratch: Scratch, tiles: int, number: int, edge_ms: int,
    end_ms: int, certain: bool, threshold: int, total: int,
) -> tuple[int, int, float]:  # fmt: skip
    """Append the hashes of the certain, or of the uncertain, tiles that are below the threshold.

    Returns the new total, how many events of theirs may be in the window, and how many are likely.
    """
    pool, count, likely = state.pool, int(np.int64(0)), 0.0
    for tile in range(TILE_COUNT):
        at = tile_at(layout.series, number, tiles, tile)
        fewest, most = inside_counts(pool, at, tile, edge_ms, end_ms)
        if most == 0 or (fewest == pool[at + TileField.COUNT]) != certain:
            continue
        count += most
        likely += most * share_inside(pool, at, edge_ms, end_ms)
        hashes = at + TILE_WORDS
        i = 0
        while i < HASHES_COUNT and pool[hashes + i] < threshold:
            scratch.values[total] = pool[hashes + i]
            total += 1
            i += 1
    return total, count, likely


@kernel
def answer_distinct(
    layout: Layout, state: State, scratch: Scratch, history: int, family: int, member: int,
    low: int, doubtful_to: int, high: int, skip: int, edge_ms: int, end_ms: int, row: int,
    slot_values: NDArray[np.float64], errors: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill a slot of DISTINCT and its error: exact numbers of hashes, or an estimate from some."""
    number = layout.members[member, MemberField.SERIES]
    output = layout.members[member, MemberField.OUTPUT]
    tiles = state.histories[history, HistoryField.TILES]
    threshold = _threshold(layout, state, tiles, number, edge_ms, end_ms)
    held_to = _add_held(
        layout, state, scratch, history, family, doubtful_to, high, skip, threshold, 0
    )
    to, folded, _ = _add_tiles(
        layout, state, scratch, tiles, number, edge_ms, end_ms, True, threshold, held_to
    )
    state.control[Control.GENERATION] += 1
    generation = state.control[Control.GENERATION]
    certain = count_different(scratch.values, 0, to, scratch.distinct, generation)
    to = _add_held(
        layout, state, scratch, history, family, low, min(doubtful_to, high), skip, threshold, to
    )
    doubtful = max(min(doubtful_to, high) - low, 0)
    to, uncertain, likely = _add_tiles(
        layout, state, scratch, tiles, number, edge_ms, end_ms, False, threshold, to
    )
    state.control[Control.GENERATION] += 1
    generation = state.control[Control.GENERATION]
    every = count_different(scratch.values, 0, to, scratch.distinct, generation)
    uncertain += doubtful
    share = (likely + doubtful) / uncertain if uncertain > 0 else 0.0
    value, lowest, highest = certain + share * (every - certain), float(certain), float(every)
    if threshold != NO_HASH:
        # Of this history's own events, if none is doubtful, the number is known.
        held = slot_values[output, row] if doubtful_to == 0 else 0.0
        below = share_below(threshold)
        off = math.sqrt(every * (1.0 - below)) / below * DEVIATIONS
        most = (held if doubtful_to == 0 else float(high - doubtful_to)) + folded + uncertain
        lowest = max(certain / below - off, float(certain), held)
        highest = min(every / below + off, most)
        value /= below
    value = float(np.rint(min(max(value, lowest), highest)))
    slot_values[output, row] = value
    errors[output, row] = max(value - lowest, highest - value)
