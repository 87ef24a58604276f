"""A transaction that was sent again, perhaps with another time: the same event all the same."""

import numpy as np

from features.columns import MISSING, Cell, Cells
from features.kernels.arena import find_event, later_than
from features.kernels.index import find, owner_code
from features.kernels.jit import part
from features.kernels.layout import (
    CurrentField,
    EntityField,
    HistoryField,
    Layout,
    Scratch,
    State,
    Table,
)


@part
def _newest_of(
    arena: Table, start: int, capacity: int, count: int, ts_ms: int, horizon_ms: int, event: int
) -> int:
    """Return the newest position of an event within the horizon of a time, or -1."""
    high = later_than(arena, start, count, ts_ms + horizon_ms)
    low = later_than(arena, start, high, ts_ms - horizon_ms - 1)
    found = -1
    # All of them, without leaving early: nearly always none is found, and so the loop vectorises.
    for at in range(np.uint64(start + capacity + low), np.uint64(start + capacity + high)):
        found = max(found, int(np.int64(at)) if arena[at] == event else -1)
    return found - start - capacity if found >= 0 else -1


@part
def stored_time(layout: Layout, state: State, cells: Cells, row: int, partition: int) -> int:
    """Return the time under which the customer's history holds a row's event, or MISSING."""
    key, event = cells[Cell.CUSTOMER_ID, row], cells[Cell.EVENT_ID, row]
    if layout.customer < 0 or key == MISSING:
        return MISSING
    owner = owner_code(layout.entities, layout.customer, partition)
    history = find(state.lookup, state.histories, key, owner)
    if history < 0:
        return MISSING
    own = state.histories[history]
    start = own[HistoryField.START]
    position = _newest_of(
        state.arena, start, own[HistoryField.CAPACITY], own[HistoryField.COUNT],
        cells[Cell.TS_MS, row], layout.repeat_horizon_ms, event,
    )  # fmt: skip
    return MISSING if position < 0 else int(state.arena[start + position])


@part
def find_stored(
    layout: Layout,
    state: State,
    scratch: Scratch,
    kind: int,
    cells: Cells,
    row: int,
    partition: int,
    ts_ms: int,
) -> None:
    """Fill `scratch.current` for a repeated event, which stands at `ts_ms` wherever it stands."""
    entities = layout.entities
    for entity in range(entities.shape[0]):
        current = scratch.current[entity]
        current[CurrentField.HISTORY] = -1
        current[CurrentField.POSITION] = -1
        current[CurrentField.INSERTED] = 0
        key = cells[entities[entity, EntityField.KEY_CELL], row]
        if key == MISSING:
            continue
        history = find(state.lookup, state.histories, key, owner_code(entities, entity, partition))
        current[CurrentField.HISTORY] = history
        if history >= 0 and entities[entity, EntityField.KIND] == kind:
            own = state.histories[history]
            position, there = find_event(
                state.arena, own[HistoryField.START], own[HistoryField.CAPACITY],
                own[HistoryField.COUNT], ts_ms, cells[Cell.EVENT_ID, row],
            )  # fmt: skip
            if there:
                current[CurrentField.POSITION] = position
