"""How much memory histories take, how it grows, and how much must leave for it to stay bounded.

Under a bound arrays stop growing before they reach it: what leaves makes room for what comes. The
bound is soft within a batch, which is always taken whole; `shortage` looks ahead for the next.
"""

from typing import NamedTuple

import numpy as np

from features.kernels import arena, index
from features.kernels.layout import (
    CAPACITY_MIN,
    SIZE_CLASS_COUNT,
    Control,
    CurrentField,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    Scratch,
    State,
)
from features.kernels.pool import POOL_CLASS_COUNT
from features.kernels.prefetch import ROWS
from features.kernels.tiles import HASHES_MAX_COUNT, PART_COUNT, GuessField, PartField
from features.plan import Plan

TABLE_ROWS_MIN = 1024
ARENA_WORDS_MIN = 1 << 20
POOL_WORDS_MIN = 1 << 16
SHRINK_WORDS_MIN = 1 << 16  # less isn't worth sliding everything together
FREE_SHARE = 8  # one in so many words of the arena stays free, so that sliding it together pays
LOADED_FACTOR = 3  # 64 bits a cell instead of 45, and blocks that may be half empty
LOOKUP_TENTHS_MAX = 6  # of the index are in use at most


class MemoryUse(NamedTuple):
    """What of an engine's histories is in memory."""

    resident_count: int  # entities
    dirty_count: int  # stored values that changed since changes were last handed out
    evicted_count: int  # entities that ever left
    loaded_count: int  # stored values that ever came in
    used_bytes: int  # of tables, and of the blocks in use
    allocated_bytes: int


def empty_state(entity_count: int) -> State:
    """Return the state of an engine without histories."""
    return State(
        lookup=np.zeros((2 * TABLE_ROWS_MIN, 2), dtype=np.int64),
        histories=np.zeros((TABLE_ROWS_MIN, len(HistoryField)), dtype=np.int64),
        partials=np.zeros((TABLE_ROWS_MIN, len(PartialField)), dtype=np.int64),
        dirty=np.zeros(TABLE_ROWS_MIN, dtype=np.int64),
        handed=np.zeros(TABLE_ROWS_MIN, dtype=np.int64),
        arena=np.empty(ARENA_WORDS_MIN, dtype=np.int64),
        free=np.full((entity_count, SIZE_CLASS_COUNT), -1, dtype=np.int64),
        pool=np.empty(POOL_WORDS_MIN, dtype=np.int64),
        pool_free=np.full(POOL_CLASS_COUNT, -1, dtype=np.int64),
        control=np.zeros(len(Control), dtype=np.int64),
    )


def empty_scratch(plan: Plan, layout: Layout) -> Scratch:
    """Return working memory for the events of a plan."""
    entity_count = len(plan.entities)
    event_count_max = int(arena.capacity_for(plan.event_cap))
    value_count_max = int(arena.capacity_for(event_count_max + HASHES_MAX_COUNT))
    return Scratch(
        found=np.zeros(ROWS * entity_count, dtype=np.int64),
        positions=np.zeros(len(layout.bounds), dtype=np.int64),
        earlier=np.zeros(len(layout.bounds), dtype=np.int64),
        starts=np.zeros(len(layout.members), dtype=np.int64),
        values=np.zeros(value_count_max, dtype=np.int64),
        times=np.zeros(event_count_max, dtype=np.int64),
        ranked=np.zeros(event_count_max, dtype=np.int64),
        distinct=np.zeros((2 * value_count_max, 2), dtype=np.int64),
        tallies=np.zeros(2 * value_count_max, dtype=np.int64),
        current=np.zeros((entity_count, len(CurrentField)), dtype=np.int64),
        registers=np.zeros((max((p.register_count for p in plan.stages), default=0), 1)),
        results=np.zeros((max((len(p.outputs) for p in plan.stages), default=0), 1)),
        externals=np.zeros((0, 1)),
        parts=np.zeros((PART_COUNT, len(PartField)), dtype=np.int64),
        guess=np.zeros(len(GuessField)),
    )


def allocated_bytes(state: State) -> int:
    """Return the bytes of all arrays."""
    return _table_bytes(state) + state.arena.nbytes


def used_bytes(state: State) -> int:
    """Return the bytes of all tables, and of those words of the arena that belong to histories."""
    return _table_bytes(state) + 8 * _live_words(state)


def memory_use(state: State, loaded_count: int) -> MemoryUse:
    """Return what is in memory; how much was loaded is the caller's to know."""
    control = state.control
    return MemoryUse(
        resident_count=_live_histories(state),
        dirty_count=int(control[Control.DIRTY_COUNT]),
        evicted_count=int(control[Control.EVICTED_COUNT]),
        loaded_count=loaded_count,
        used_bytes=used_bytes(state),
        allocated_bytes=allocated_bytes(state),
    )


def grow(layout: Layout, state: State, need: int, bytes_max: int | None) -> State:
    """Return the state with room for what a kernel ran out of."""
    if need == Need.ARENA:
        _make_room(layout, state, bytes_max)
        return state
    # In place where the allocator can: a copy would for a moment need twice the memory.
    if need == Need.POOL:
        needed = int(state.control[Control.POOL_USED] + state.control[Control.WORDS_NEEDED])
        state.pool.resize(needed + max(needed // 8, POOL_WORDS_MIN), refcheck=False)
        return state
    if not _free_partials(state):
        rows = _grown(len(state.partials))
        state.partials.resize((rows, len(PartialField)), refcheck=False)
        state.dirty.resize(rows, refcheck=False)
        state.handed.resize(rows, refcheck=False)
    if not _free_histories(state):
        rows = _grown(len(state.histories))
        state.histories.resize((rows, len(HistoryField)), refcheck=False)
    if _live_histories(state) * 10 >= len(state.lookup) * LOOKUP_TENTHS_MAX:
        state = state._replace(lookup=np.zeros((2 * len(state.lookup), 2), dtype=np.int64))
        index.rebuild(state)
    return state


def shortage(
    layout: Layout, state: State, bytes_max: int, row_count: int, stored_bytes: int
) -> tuple[int, int]:
    """Return how many histories and words must leave before a batch of so many rows.

    It counts with the worst: that every row names new entities only, and that those with
    `stored_bytes` to be loaded take `LOADED_FACTOR` times as much in memory.
    """
    rows_needed = row_count * len(layout.entities)
    widths = layout.entities[:, EntityField.WIDTH]
    words_needed = row_count * int(widths.sum()) * CAPACITY_MIN + stored_bytes * LOADED_FACTOR // 8
    tables_bytes = _table_bytes(state)
    growth_bytes = _growth_bytes(state, rows_needed)
    short_words = _short_words(state, bytes_max - tables_bytes - growth_bytes, words_needed)
    if short_words <= 0:
        return 0, 0
    if not growth_bytes:
        return 0, short_words
    # With the tables as they are there may be room enough for the blocks, but not for the rows.
    short_rows = rows_needed - min(_free_histories(state), _free_partials(state), _free_keys(state))
    return short_rows, max(_short_words(state, bytes_max - tables_bytes, words_needed), 0)


def shrink(layout: Layout, state: State, bytes_max: int) -> bool:
    """Give back what of the arena is over the bound, as far as histories allow.

    Says whether it did, and arrays may have moved.
    """
    words_max = max(_arena_words_max(state, bytes_max), _live_words(state) + SHRINK_WORDS_MIN)
    if len(state.arena) >= words_max + words_max // 16 + SHRINK_WORDS_MIN:
        _compact(layout, state)
        state.arena.resize(words_max, refcheck=False)
        return True
    return False


def _table_bytes(state: State) -> int:
    """Return the bytes of all tables, and of the pool in use."""
    tables = (state.lookup, state.histories, state.partials, state.dirty, state.handed)
    return sum(table.nbytes for table in tables) + 8 * int(state.control[Control.POOL_USED])


def _live_words(state: State) -> int:
    return int(state.control[Control.ARENA_USED] - state.control[Control.FREE_WORDS])


def _live_histories(state: State) -> int:
    return int(state.control[Control.HISTORY_COUNT] - state.control[Control.FREE_HISTORY_COUNT])


def _free_histories(state: State) -> int:
    control = state.control
    rest = len(state.histories) - control[Control.HISTORY_COUNT]
    return int(rest + control[Control.FREE_HISTORY_COUNT])


def _free_partials(state: State) -> int:
    control = state.control
    rest = len(state.partials) - control[Control.PARTIAL_COUNT]
    return int(rest + control[Control.FREE_PARTIAL_COUNT])


def _free_keys(state: State) -> int:
    return len(state.lookup) * LOOKUP_TENTHS_MAX // 10 - _live_histories(state)


def _grown(row_count: int) -> int:
    return row_count + max(row_count // 4, TABLE_ROWS_MIN)


def _growth_bytes(state: State, rows_needed: int) -> int:
    """Return the bytes by which the tables grow where each needs so many free rows."""
    growth_bytes = 0
    if _free_histories(state) < rows_needed:
        growth_bytes += max(rows_needed, _grown(len(state.histories)) - len(state.histories)) * (
            8 * len(HistoryField)
        )
    if _free_partials(state) < rows_needed:
        growth_bytes += max(rows_needed, _grown(len(state.partials)) - len(state.partials)) * (
            8 * (len(PartialField) + 2)
        )
    if _free_keys(state) < rows_needed:
        growth_bytes += 2 * state.lookup.nbytes  # the new one, while the old one is still there
    return growth_bytes


def _short_words(state: State, arena_bytes_max: int, words_needed: int) -> int:
    words_max = arena_bytes_max // 8
    return _live_words(state) + words_needed - (words_max - words_max // FREE_SHARE)


def _arena_words_max(state: State, bytes_max: int) -> int:
    return max(bytes_max - _table_bytes(state), 0) // 8


def _compact(layout: Layout, state: State) -> None:
    count = int(state.control[Control.HISTORY_COUNT])
    starts = state.histories[:count, HistoryField.START]
    arena.compact(layout, state, np.argsort(starts, kind="stable"))


def _make_room(layout: Layout, state: State, bytes_max: int | None) -> None:
    """Have room in the arena: by sliding blocks together where an eighth is free, or more."""
    control = state.control
    used = int(control[Control.ARENA_USED])
    if control[Control.FREE_WORDS] * FREE_SHARE >= used:
        _compact(layout, state)
        used = int(control[Control.ARENA_USED])
    needed = used + int(control[Control.WORDS_NEEDED])
    if needed > len(state.arena):
        words = needed + max(used // 8, ARENA_WORDS_MIN)
        if bytes_max is not None:
            words = min(words, max(needed, _arena_words_max(state, bytes_max)))
        state.arena.resize(words, refcheck=False)
