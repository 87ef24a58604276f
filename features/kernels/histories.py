"""A whole batch against the histories: insert, compute, label. The rows keep their order."""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells, Kind
from features.kernels.arena import find_event, insert_at, prepare, rank
from features.kernels.index import find, find_partial, owner_code, touch
from features.kernels.jit import kernel
from features.kernels.lacking import note_lacking
from features.kernels.layout import (
    NOT_REACHED,
    SAME_CUSTOMER,
    Control,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    Scratch,
    State,
    Table,
)
from features.kernels.windows import compute, note_truncated

_LABEL_COLUMN = 2  # of every block: see features.plan.Entity.kept


@kernel
def update(
    layout: Layout,
    state: State,
    scratch: Scratch,
    kinds: NDArray[np.uint8],
    cells: Cells,
    partitions: NDArray[np.uint16],
    slot_values: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> int:
    """Take the rows from Control.ROW on; returns a Need, NOTHING when all rows are done."""
    entities, control = layout.entities, state.control
    while control[Control.ROW] < len(kinds):
        row = control[Control.ROW]
        partition = int(np.int64(partitions[row]))
        if kinds[row] == Kind.TRANSACTION and cells[Cell.TS_MS, row] != MISSING:
            for entity in range(control[Control.ENTITY], entities.shape[0]):
                key = cells[entities[entity, EntityField.KEY_CELL], row]
                if key == MISSING:
                    continue
                history, position = _take_event(
                    entities, layout.kept, layout.event_cap, state.lookup, state.histories,
                    state.partials, state.dirty, control, state.arena, entity, key, cells, row,
                    partition,
                )  # fmt: skip
                if history < 0:
                    control[Control.ENTITY] = entity
                    ts_ms, event = cells[Cell.TS_MS, row], cells[Cell.EVENT_ID, row]
                    need = prepare(layout, state, entity, key, partition, ts_ms, event)
                    if need != Need.NOTHING:
                        return need
                    history, position = _take_event(
                        entities, layout.kept, layout.event_cap, state.lookup, state.histories,
                        state.partials, state.dirty, control, state.arena, entity, key, cells, row,
                        partition,
                    )  # fmt: skip
                compute(
                    entities, layout.bounds, layout.families, layout.members, layout.terms,
                    state.histories, state.arena, control, scratch.positions, scratch.starts,
                    scratch.values, scratch.distinct, entity, history, position, cells, row,
                    slot_values,
                )  # fmt: skip
                note_truncated(
                    entities, layout.bounds, layout.families, layout.members, state.histories,
                    entity, history, cells[Cell.TS_MS, row], row, errors,
                )  # fmt: skip
                if state.histories[history, HistoryField.LACKING]:
                    note_lacking(
                        layout.reads, state.histories, entity, history, cells[Cell.TS_MS, row],
                        row, errors,
                    )  # fmt: skip
            control[Control.ENTITY] = 0
        elif kinds[row] == Kind.LABEL and layout.customer >= 0:
            _take_label(layout, state, cells, row, partition)
        control[Control.ROW] += 1
    return Need.NOTHING.value


@kernel
def _take_event(
    entities: Table,
    kept: Table,
    event_cap: int,
    lookup: Table,
    histories: Table,
    partials: Table,
    dirty: Table,
    control: Table,
    arena: Table,
    entity: int,
    key: int,
    cells: Cells,
    row: int,
    partition: int,
) -> tuple[int, int]:
    """Insert a transaction where it belongs in one entity's history, unless it is there already.

    Returns the history and the position, or (-1, -1), with nothing done, where `prepare` must go
    first.
    """
    history = find(lookup, histories, key, owner_code(entities, entity, partition))
    if history < 0:
        return -1, -1
    start = histories[history, HistoryField.START]
    capacity = histories[history, HistoryField.CAPACITY]
    count = histories[history, HistoryField.COUNT]
    position, there = find_event(
        arena, start, capacity, count, cells[Cell.TS_MS, row], cells[Cell.EVENT_ID, row]
    )
    if there:
        return history, position
    partial = find_partial(histories, partials, history, partition)
    if partial < 0 or count >= min(capacity, event_cap):
        return -1, -1
    changed_from = position
    if entities[entity, EntityField.SHARED]:
        tags = start + capacity * entities[entity, EntityField.KEPT_COUNT]
        own_count = partials[partial, PartialField.COUNT]
        changed_from = rank(arena, tags, position, count, partition, own_count)
    touch(partials, dirty, control, partial, changed_from)
    partials[partial, PartialField.COUNT] += 1
    insert_at(entities, kept, histories, arena, entity, history, position, cells, row, partition)
    return history, position


@kernel
def _find(layout: Layout, state: State, entity: int, key: int, partition: int) -> int:
    owner = owner_code(layout.entities, entity, partition)
    return int(find(state.lookup, state.histories, key, owner))


@kernel
def _find_labelled(
    layout: Layout, state: State, cells: Cells, row: int, partition: int
) -> tuple[int, int]:
    """Return the customer's history and the position in it of the labelled event, or -1."""
    key, event = cells[Cell.CUSTOMER_ID, row], cells[Cell.EVENT_ID, row]
    if key == MISSING or event == MISSING:
        return -1, -1
    history = _find(layout, state, layout.customer, key, partition)
    if history < 0:
        return -1, -1
    own = state.histories[history]
    events = own[HistoryField.START] + own[HistoryField.CAPACITY]
    position = own[HistoryField.COUNT] - 1
    while position >= 0 and state.arena[events + position] != event:
        position -= 1
    return history, position


@kernel
def _other_key(layout: Layout, state: State, history: int, position: int, entity: int) -> int:
    """Return the key of another entity of a customer's event, MISSING where it needs no label."""
    column = layout.entities[entity, EntityField.LABEL_KEY]
    if column == NOT_REACHED:
        return MISSING
    own = state.histories[history]
    if column == SAME_CUSTOMER:
        return int(own[HistoryField.KEY])
    at = own[HistoryField.START] + column * own[HistoryField.CAPACITY] + position
    return int(state.arena[at])


@kernel
def _set_label(
    layout: Layout,
    state: State,
    entity: int,
    history: int,
    position: int,
    label: int,
    partition: int,
) -> None:
    own = state.histories[history]
    capacity = own[HistoryField.CAPACITY]
    at = own[HistoryField.START] + _LABEL_COLUMN * capacity + position
    if state.arena[at] == label:
        return
    state.arena[at] = label
    changed_from = position
    fields = layout.entities[entity]
    if fields[EntityField.SHARED]:
        tags = own[HistoryField.START] + fields[EntityField.KEPT_COUNT] * capacity
        partition = state.arena[tags + position]
    partial = find_partial(state.histories, state.partials, history, partition)
    if fields[EntityField.SHARED]:
        own_count = state.partials[partial, PartialField.COUNT]
        count = own[HistoryField.COUNT]
        changed_from = rank(state.arena, tags, position, count, partition, own_count)
    touch(state.partials, state.dirty, state.control, partial, changed_from)


@kernel
def _take_label(layout: Layout, state: State, cells: Cells, row: int, partition: int) -> None:
    """Set a label in the customer's history and wherever else slots depend on it."""
    label = cells[Cell.LABEL, row]
    history, position = _find_labelled(layout, state, cells, row, partition)
    if position < 0 or label == MISSING:
        state.control[Control.UNMATCHED_LABELS] += 1
        return
    event = cells[Cell.EVENT_ID, row]
    ts_ms = state.arena[state.histories[history, HistoryField.START] + position]
    _set_label(layout, state, layout.customer, history, position, label, partition)
    for entity in range(layout.entities.shape[0]):
        key = _other_key(layout, state, history, position, entity)
        if key == MISSING:
            continue
        other = _find(layout, state, entity, key, partition)
        if other < 0:
            continue
        own = state.histories[other]
        at, there = find_event(
            state.arena, own[HistoryField.START], own[HistoryField.CAPACITY],
            own[HistoryField.COUNT], ts_ms, event,
        )  # fmt: skip
        if there:
            _set_label(layout, state, entity, other, at, label, partition)


@kernel
def _note_absent(
    layout: Layout, state: State, entity: int, key: int, partition: int, absent: Table, count: int
) -> int:
    """Append an entity to `absent` unless it is resident; returns the new count."""
    if key == MISSING or _find(layout, state, entity, key, partition) >= 0:
        return count
    absent[count, 0] = entity
    absent[count, 1] = key
    absent[count, 2] = partition
    return count + 1


@kernel
def absentees(
    layout: Layout,
    state: State,
    kinds: NDArray[np.uint8],
    cells: Cells,
    partitions: NDArray[np.uint16],
    absent: Table,
) -> int:
    """List (entity, key, partition) that the rows need and that are not resident; with repeats.

    `absent` has room for (rows * entities, 3). Returns how many rows of it were filled.
    """
    count = int(np.int64(0))  # a bare 0 would compile the callee once more, for a literal
    for row in range(len(kinds)):
        partition = int(np.int64(partitions[row]))
        if kinds[row] == Kind.TRANSACTION:
            for entity in range(layout.entities.shape[0]):
                key = cells[layout.entities[entity, EntityField.KEY_CELL], row]
                count = _note_absent(layout, state, entity, key, partition, absent, count)
        elif kinds[row] == Kind.LABEL and layout.customer >= 0:
            history, position = _find_labelled(layout, state, cells, row, partition)
            if history < 0:
                key = cells[Cell.CUSTOMER_ID, row]
                count = _note_absent(layout, state, layout.customer, key, partition, absent, count)
            elif position >= 0:
                for entity in range(layout.entities.shape[0]):
                    key = _other_key(layout, state, history, position, entity)
                    count = _note_absent(layout, state, entity, key, partition, absent, count)
    return count
