"""How many different values the parts of a window hold together, from sketches and events."""

import math

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels import occurrences
from features.kernels.jit import part
from features.kernels.layout import (
    Control,
    CurrentField,
    FamilyField,
    FamilyState,
    HistoryField,
    Layout,
    MemberField,
    Scratch,
    State,
    Table,
)
from features.kernels.overlaps import inside_counts, share_inside
from features.kernels.sketches import HASHES_COUNT, NO_HASH, hash_of, share_below, value_of_hash
from features.kernels.terms import value_if
from features.kernels.tiles import CERTAIN, TILE_COUNT, TILE_WORDS, UNCERTAIN, TileField, tile_at

DEVIATIONS = 4.0  # of the estimate that its error allows for: 1 in 16,000 if it is normal


@part
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


@part
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


@part
def _add_tiles(
    layout: Layout, state: State, scratch: Scratch, tiles: int, number: int, edge_ms: int,
    end_ms: int, part: int, threshold: int, total: int,
) -> tuple[int, int, float]:  # fmt: skip
    """Append the hashes of CERTAIN, or of UNCERTAIN, tiles that are below the threshold.

    Returns the new total, how many events of theirs may be in the window, and how many are likely.
    """
    pool, count, likely = state.pool, int(np.int64(0)), 0.0
    for tile in range(TILE_COUNT):
        at = tile_at(layout.series, number, tiles, tile)
        fewest, most = inside_counts(pool, at, tile, edge_ms, end_ms)
        own_part = CERTAIN if fewest == pool[at + TileField.COUNT] else UNCERTAIN
        if most == 0 or own_part != part:
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


@part
def _count_new(hashes: Table, first: int, last: int, table: Table, generation: int) -> int:
    """Return how many of some hashes are not in the table yet, and enter them."""
    mask, count = np.uint64(table.shape[0] - 1), 0
    for i in range(first, last):
        at = np.uint64(hashes[i]) & mask
        while table[at, 1] == generation and table[at, 0] != hashes[i]:
            at = (at + np.uint64(1)) & mask
        if table[at, 1] != generation:
            table[at, 0] = hashes[i]
            table[at, 1] = generation
            count += 1
    return count


@part
def _without_running(
    layout: Layout, state: State, scratch: Scratch, history: int, family: int, first: int,
    last: int, to: int, low: int,
) -> int:  # fmt: skip
    """Move hashes [first, last) to `to` on, but for values of a history's events from `low` on.

    The family is kept running. Returns the end of what was moved.
    """
    own = state.histories[history]
    table = own[HistoryField.RUNNING] + layout.families[family, FamilyField.STATE]
    table += FamilyState.TABLE
    oldest = own[HistoryField.BASE] + low
    for i in range(first, last):
        value = value_of_hash(scratch.values[i])
        scratch.values[to] = scratch.values[i]
        held = occurrences.last_of(state.pool, table, value) >= oldest
        to += 0 if held else 1
    return to


@part
def _estimate(
    threshold: int, certain_count: int, all_count: int, share: float, lowest: float, highest: float
) -> tuple[float, float, float]:
    """Return value, lowest and highest of how many values there are, from those below a threshold.

    What lies outside [`lowest`, `highest`] is impossible.
    """
    below = share_below(threshold)
    off = math.sqrt(all_count * (1.0 - below)) / below * DEVIATIONS
    value = (certain_count + share * (all_count - certain_count)) / below
    return (
        value,
        max(certain_count / below - off, lowest),
        min(all_count / below + off, highest),
    )


@part
def _count(
    layout: Layout, state: State, scratch: Scratch, entity: int, family: int, low: int,
    doubtful_to: int, high: int, skip: int, threshold: int, certain_to: int, to: int,
    held_count: int,
) -> tuple[int, int]:  # fmt: skip
    """Return how many different hashes are certain, and how many there are in all.

    `scratch.values` has those of the certain tiles up to `certain_to`, of the others up to `to`.
    Where the history is kept running, and all hashes are there, it holds `held_count` itself.
    """
    hashes, table = scratch.values, scratch.distinct
    history = scratch.current[entity, CurrentField.HISTORY]
    state.control[Control.GENERATION] += 1
    generation = state.control[Control.GENERATION]
    nothing = int(np.int64(0))  # a bare 0 would compile the callees once more, for a literal
    runs = scratch.current[entity, CurrentField.RUNS] and doubtful_to <= low
    if runs and threshold == NO_HASH:
        new_to = _without_running(
            layout, state, scratch, history, family, nothing, certain_to, nothing, low
        )
        to = _without_running(layout, state, scratch, history, family, certain_to, to, new_to, low)
        certain = held_count + _count_new(hashes, nothing, new_to, table, generation)
        return certain, certain + _count_new(hashes, new_to, to, table, generation)
    held_to = _add_held(
        layout, state, scratch, history, family, doubtful_to, high, skip, threshold, to
    )
    certain = _count_new(hashes, nothing, certain_to, table, generation)
    certain += _count_new(hashes, to, held_to, table, generation)
    every = certain + _count_new(hashes, certain_to, to, table, generation)
    to = _add_held(
        layout, state, scratch, history, family, low, doubtful_to, skip, threshold, held_to
    )
    return certain, every + _count_new(hashes, held_to, to, table, generation)


@part
def answer_distinct(
    layout: Layout, state: State, scratch: Scratch, entity: int, family: int, member: int,
    low: int, doubtful_to: int, high: int, skip: int, edge_ms: int, end_ms: int, row: int,
    slot_values: NDArray[np.float64], errors: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill a slot of DISTINCT and its error: exact numbers of hashes, or an estimate from some."""
    history = scratch.current[entity, CurrentField.HISTORY]
    number = layout.members[member, MemberField.SERIES]
    output = layout.members[member, MemberField.OUTPUT]
    tiles, doubtful_to = state.histories[history, HistoryField.TILES], min(doubtful_to, high)
    threshold = _threshold(layout, state, tiles, number, edge_ms, end_ms)
    # Bare numbers would compile the callee once more, for literals.
    part, other, nothing = int(np.int64(CERTAIN)), int(np.int64(UNCERTAIN)), int(np.int64(0))
    certain_to, folded, _ = _add_tiles(
        layout, state, scratch, tiles, number, edge_ms, end_ms, part, threshold, nothing
    )
    to, uncertain, likely = _add_tiles(
        layout, state, scratch, tiles, number, edge_ms, end_ms, other, threshold, certain_to
    )
    # How many different values the history holds itself is known, unless some are doubtful.
    held = int(slot_values[output, row]) if doubtful_to <= low else 0
    certain, every = _count(
        layout, state, scratch, entity, family, low, doubtful_to, high, skip, threshold,
        certain_to, to, held,
    )  # fmt: skip
    doubtful = max(doubtful_to - low, 0)
    share = (likely + doubtful) / max(uncertain + doubtful, 1)
    value, lowest, highest = certain + share * (every - certain), float(certain), float(every)
    if threshold != NO_HASH:
        most = (held if doubtful_to <= low else high - low) + folded + uncertain + doubtful
        value, lowest, highest = _estimate(
            threshold, certain, every, share, float(max(certain, held)), float(most)
        )
    value = float(np.rint(min(max(value, lowest), highest)))
    slot_values[output, row] = value
    errors[output, row] = max(value - lowest, highest - value)
