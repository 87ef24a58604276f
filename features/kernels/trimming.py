"""Room for one more event: blocks that grow, and events that must leave a full one.

When a block is trimmed depends on nothing but the events and the block's capacity, and the capacity
is stored: so a restart changes nothing. What is out of the reach of all windows is dropped; what a
full history drops before that is folded into its tiles.
"""

import numpy as np

from features.kernels.arena import find_event, later_than, move, recount, touch_all
from features.kernels.folding import fold_oldest, has_room, own_floor, raise_floor
from features.kernels.index import add, add_partial, find, find_partial, owner_code, tables_full
from features.kernels.jit import part
from features.kernels.lacking import clear_lacking
from features.kernels.layout import (
    CAPACITY_MIN,
    EntityField,
    HistoryField,
    Layout,
    Need,
    State,
)
from features.kernels.upkeep import drop_oldest


@part
def _drop(
    layout: Layout, state: State, entity: int, history: int, dropped: int, folding: bool
) -> int:
    """Drop the oldest `dropped` events; returns a Need, with nothing done unless NOTHING.

    They are folded where `folding` says so, and wherever older ones have been folded already.
    """
    row = state.histories[history]
    folding |= row[HistoryField.TILES] >= 0
    if folding and layout.entities[entity, EntityField.TILE_WORDS]:
        if not has_room(layout, state, entity, history):
            return Need.POOL.value
        fold_oldest(layout, state, entity, history, dropped)
    remove_oldest(layout, state, entity, history, dropped)
    touch_all(state, history)
    return Need.NOTHING.value


@part
def remove_oldest(layout: Layout, state: State, entity: int, history: int, dropped: int) -> None:
    """Take the oldest `dropped` events out of a block; where they are wanted, they were folded."""
    row = state.histories[history]
    start, capacity = row[HistoryField.START], row[HistoryField.CAPACITY]
    left = row[HistoryField.COUNT] - dropped
    last = start + dropped - 1
    raise_floor(state, history, state.arena[last], state.arena[last + capacity])
    clear_lacking(row, own_floor(state, history))
    for column in range(layout.entities[entity, EntityField.WIDTH]):
        base = start + column * capacity
        for i in range(left):
            state.arena[base + i] = state.arena[base + dropped + i]
    row[HistoryField.COUNT] = left
    drop_oldest(layout.entities, state.histories, state.pool, entity, history, dropped)
    recount(layout, state, entity, history)


@part
def make_room(layout: Layout, state: State, entity: int, history: int, ts_ms: int) -> int:
    """Make room for one more event; returns a Need."""
    row = state.histories[history]
    count, capacity = row[HistoryField.COUNT], row[HistoryField.CAPACITY]
    limit = min(capacity, layout.event_cap)
    if count < limit:
        return Need.NOTHING.value
    expired = int(np.int64(0))  # a bare 0 would compile the callees once more, for a literal
    if capacity > 0:
        start = row[HistoryField.START]
        newest_ts = max(state.arena[start + count - 1], ts_ms)
        expired = later_than(state.arena, start, count, newest_ts - layout.reach_ms)
    dropped, folding = expired, False
    if expired == 0 or expired * 4 < limit:
        if capacity < layout.event_cap:
            # The few expired events stay: dropping them would rewrite the whole stored value.
            fits = move(layout, state, entity, history, max(CAPACITY_MIN, 2 * capacity))
            return Need.NOTHING.value if fits else Need.ARENA.value
        dropped, folding = max(1, limit // 4), True
    return _drop(layout, state, entity, history, dropped, folding)


@part
def prepare(
    layout: Layout,
    state: State,
    entity: int,
    key: int,
    partition: int,
    ts_ms: int,
    event: int,
) -> int:
    """Have a history, room in it and a partial ready for one event; returns a Need."""
    if tables_full(state):
        return Need.TABLES.value
    owner = owner_code(layout.entities, entity, partition)
    history = find(state.lookup, state.histories, key, owner)
    if history < 0:
        history = add(state, key, owner)
    own = state.histories[history]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    _, there = find_event(state.arena, start, capacity, own[HistoryField.COUNT], ts_ms, event)
    if not there:
        need = make_room(layout, state, entity, history, ts_ms)
        if need != Need.NOTHING:
            return need
    if find_partial(state.histories, state.partials, history, partition) < 0:
        add_partial(state, history, partition)
    return Need.NOTHING.value
