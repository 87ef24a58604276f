"""A whole batch against the histories: insert, compute, label. The rows keep their order."""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, SLOT_KINDS, Cell, Cells, Kind
from features.kernels.arena import find_event, insert_at, rank
from features.kernels.beyond import look_beyond
from features.kernels.book import read_book
from features.kernels.index import find, find_partial, owner_code, touch
from features.kernels.jit import inlined, kernel, part
from features.kernels.keeping import keep_values, recall_kept
from features.kernels.labels import find_labelled, find_resident, other_key, take_label
from features.kernels.lacking import note_lacking
from features.kernels.layout import (
    Control,
    CurrentField,
    EntityField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    Scratch,
    State,
    Table,
)
from features.kernels.prefetch import ROWS, ask_for_rows
from features.kernels.repeats import find_stored, stored_time
from features.kernels.stored import Form, misfit
from features.kernels.trimming import prepare
from features.kernels.upkeep import invalidate
from features.kernels.windows import catch_up, compute, locate, reaches_beyond

_SLOT_KINDS = sum(1 << kind for kind in SLOT_KINDS)
_TRANSACTION = int(Kind.TRANSACTION)
GROWING_WORDS = 16  # at most, for each event, of a structure and of what it grew out of
ALONE_COUNT_MAX = 3  # rows: in smaller batches there is nothing to overlap


@kernel
def update(
    book: Table,
    resumed: bool,
    kinds: NDArray[np.uint8],
    cells: Cells,
    partitions: NDArray[np.uint16],
    slot_values: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> int:
    """Take the rows, from Control.ROW on if `resumed`; returns a Need, NOTHING when all are done.

    MISFIT, with nothing done, where a row holds what its history couldn't store.
    """
    layout, scratch, state = (
        read_book(book, Layout),
        read_book(book, Scratch),
        read_book(book, State),
    )
    control = state.control
    if not resumed:
        if misfit(read_book(book, Form), kinds, cells)[0] >= 0:
            return Need.MISFIT.value
        _clear(slot_values, errors)
        control[Control.ROW] = 0
        control[Control.ENTITY] = 0
    while control[Control.ROW] < len(kinds):
        row = control[Control.ROW]
        if row % ROWS == 0 and len(kinds) > ALONE_COUNT_MAX:
            ask_for_rows(layout, state, scratch.found, kinds, cells, partitions, row)
        if needs_pool(layout, state):
            return Need.POOL.value
        kind, partition = int(np.int64(kinds[row])), int(np.int64(partitions[row]))
        if cells[Cell.TS_MS, row] != MISSING:
            ts_ms = cells[Cell.TS_MS, row]
            stored_ms = MISSING
            # Once the row has entered a history, that must not be taken for a repeat.
            if layout.repeat_horizon_ms and kind == _TRANSACTION and not control[Control.ENTITY]:
                stored_ms = stored_time(layout, state, cells, row, partition)
            if stored_ms != MISSING:
                ts_ms = stored_ms
                control[Control.REPEATED_EVENTS] += 1
                find_stored(layout, state, scratch, kind, cells, row, partition, ts_ms)
            else:
                need = _enter(layout, state, scratch, kind, cells, row, partition)
                if need != Need.NOTHING:
                    return need
            if _SLOT_KINDS >> kind & 1:
                _answer(layout, state, scratch, kind, cells, row, ts_ms, slot_values, errors)
        if kind == Kind.LABEL and layout.customer >= 0:
            take_label(layout, state, cells, row, partition)
        control[Control.ROW] += 1
    return Need.NOTHING.value


@part
def _clear(slot_values: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
    """Say that nothing is known of any slot, and that this is exact."""
    for slot in range(slot_values.shape[0]):
        for row in range(slot_values.shape[1]):
            slot_values[slot, row] = np.nan
            errors[slot, row] = 0.0


@inlined
def needs_pool(layout: Layout, state: State) -> bool:
    """Say whether a row might find too little memory for windows that are kept running.

    It counts with the worst, and before anything is done for the row.
    """
    longest_count = state.control[Control.LONGEST_COUNT] + 1
    if longest_count < layout.run_from_count:
        return False
    words = layout.state_words + layout.state_growing * GROWING_WORDS * max(longest_count, 8)
    state.control[Control.WORDS_NEEDED] = words
    return bool(state.control[Control.POOL_USED] + words > len(state.pool))


@inlined
def _answer(
    layout: Layout,
    state: State,
    scratch: Scratch,
    kind: int,
    cells: Cells,
    row: int,
    ts_ms: int,
    slot_values: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> None:
    """Compute a row's slots, stage by stage, and the kept values between them."""
    entities, spans = layout.entities, layout.spans
    stage_count = layout.stages.shape[0]
    settled = recall_kept(layout, state, scratch, cells, row) if stage_count else 0
    for entity in range(entities.shape[0]):
        if (
            entities[entity, EntityField.FAMILY_FROM] < entities[entity, EntityField.FAMILY_TO]
            and cells[entities[entity, EntityField.KEY_CELL], row] != MISSING
        ):
            current = scratch.current[entity]
            history = current[CurrentField.HISTORY]
            position = current[CurrentField.POSITION]
            current[CurrentField.RUNS] = locate(
                layout, state, scratch, entity, history, position, ts_ms
            )
            if current[CurrentField.RUNS]:
                catch_up(layout, state, scratch, entity, history, ts_ms)
    for stage in range(spans.shape[1] - 1):
        for entity in range(entities.shape[0]):
            if (
                spans[entity, stage] < spans[entity, stage + 1]
                and cells[entities[entity, EntityField.KEY_CELL], row] != MISSING
            ):
                compute(layout, state, scratch, entity, ts_ms, stage, cells, row, slot_values)
                history = scratch.current[entity, CurrentField.HISTORY]
                if reaches_beyond(entities, layout.bounds, state.histories, entity, history, ts_ms):
                    look_beyond(
                        layout, state, scratch, entity, kind, ts_ms, stage, cells, row,
                        slot_values, errors,
                    )  # fmt: skip
        if stage < stage_count:
            keep_values(layout, state, scratch, stage, settled, cells, row, slot_values)
    for entity in range(entities.shape[0]):
        history = scratch.current[entity, CurrentField.HISTORY]
        if history >= 0 and state.histories[history, HistoryField.LACKING]:
            note_lacking(layout.reads, state.histories, entity, history, ts_ms, row, errors)


@inlined
def _enter(
    layout: Layout,
    state: State,
    scratch: Scratch,
    kind: int,
    cells: Cells,
    row: int,
    partition: int,
) -> int:
    """Insert a row into the histories of its kind, from Control.ENTITY on; returns a Need.

    Fills `scratch.current` for all histories of the row's entities.
    """
    entities, control = layout.entities, state.control
    for entity in range(control[Control.ENTITY], entities.shape[0]):
        key = cells[entities[entity, EntityField.KEY_CELL], row]
        current = scratch.current[entity]
        current[CurrentField.HISTORY] = -1
        current[CurrentField.POSITION] = -1
        current[CurrentField.INSERTED] = 0
        if key == MISSING:
            continue
        if entities[entity, EntityField.KIND] != kind:
            current[CurrentField.HISTORY] = find_resident(layout, state, entity, key, partition)
            continue
        ts_ms, event = cells[Cell.TS_MS, row], cells[Cell.EVENT_ID, row]
        history, position, inserted = -1, -1, False
        while history < 0:
            history, position, inserted = _take_event(
                entities, layout.kept, layout.event_cap, state.lookup, state.histories,
                state.partials, state.dirty, control, state.arena, state.pool, entity, key, cells,
                row, partition,
            )  # fmt: skip
            if history < 0:
                control[Control.ENTITY] = entity
                need = prepare(layout, state, entity, key, partition, ts_ms, event)
                if need != Need.NOTHING:
                    return need
        current[CurrentField.HISTORY] = history
        current[CurrentField.POSITION] = position
        current[CurrentField.INSERTED] = inserted
        if entity == layout.customer and not inserted:
            control[Control.REPEATED_EVENTS] += 1
    control[Control.ENTITY] = 0
    return Need.NOTHING.value


@inlined
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
    pool: Table,
    entity: int,
    key: int,
    cells: Cells,
    row: int,
    partition: int,
) -> tuple[int, int, bool]:
    """Insert a row where it belongs in one entity's history, unless it is there already.

    Returns the history, the position and whether it was inserted; a history of -1, with nothing
    done, where `prepare` must go first.
    """
    history = find(lookup, histories, key, owner_code(entities, entity, partition))
    if history < 0:
        return -1, -1, False
    start = histories[history, HistoryField.START]
    capacity = histories[history, HistoryField.CAPACITY]
    count = histories[history, HistoryField.COUNT]
    position, there = find_event(
        arena, start, capacity, count, cells[Cell.TS_MS, row], cells[Cell.EVENT_ID, row]
    )
    if there:
        return history, position, False
    partial = find_partial(histories, partials, history, partition)
    if partial < 0 or count >= min(capacity, event_cap):
        return -1, -1, False
    changed_from = position
    if entities[entity, EntityField.SHARED]:
        tags = start + capacity * entities[entity, EntityField.KEPT_COUNT]
        own_count = partials[partial, PartialField.COUNT]
        changed_from = rank(arena, tags, position, count, partition, own_count)
    touch(partials, dirty, control, partial, changed_from)
    partials[partial, PartialField.COUNT] += 1
    insert_at(entities, kept, histories, arena, entity, history, position, cells, row, partition)
    if position < count:
        invalidate(histories, pool, history)
    control[Control.LONGEST_COUNT] = max(control[Control.LONGEST_COUNT], count + 1)
    return history, position, True


@part
def _concerns(layout: Layout, kind: int, entity: int) -> bool:
    """Say whether a row of a kind enters an entity's history or has slots over it."""
    own = layout.entities[entity]
    if own[EntityField.KIND] == kind:
        return True
    asked = own[EntityField.FAMILY_FROM] < own[EntityField.FAMILY_TO]
    return bool(asked and _SLOT_KINDS >> kind & 1)


@part
def _note_absent(
    layout: Layout, state: State, entity: int, key: int, partition: int, absent: Table, count: int
) -> int:
    """Append an entity to `absent` unless it is resident; returns the new count."""
    if key == MISSING or find_resident(layout, state, entity, key, partition) >= 0:
        return count
    absent[count, 0] = entity
    absent[count, 1] = key
    absent[count, 2] = partition
    return count + 1


@kernel
def absentees(
    book: Table,
    kinds: NDArray[np.uint8],
    cells: Cells,
    partitions: NDArray[np.uint16],
    absent: Table,
) -> int:
    """List (entity, key, partition) that the rows need and that are not resident; with repeats.

    `absent` has room for (rows * entities, 3). Returns how many rows of it were filled.
    """
    layout, state = read_book(book, Layout), read_book(book, State)
    count = int(np.int64(0))  # a bare 0 would compile the callee once more, for a literal
    for row in range(len(kinds)):
        kind, partition = int(np.int64(kinds[row])), int(np.int64(partitions[row]))
        for entity in range(layout.entities.shape[0]):
            if _concerns(layout, kind, entity):
                key = cells[layout.entities[entity, EntityField.KEY_CELL], row]
                count = _note_absent(layout, state, entity, key, partition, absent, count)
        if kind == Kind.LABEL and layout.customer >= 0:
            history, position = find_labelled(layout, state, cells, row, partition)
            if history < 0:
                key = cells[Cell.CUSTOMER_ID, row]
                count = _note_absent(layout, state, layout.customer, key, partition, absent, count)
            elif position >= 0:
                for entity in range(layout.entities.shape[0]):
                    key = other_key(layout, state, history, position, entity)
                    count = _note_absent(layout, state, entity, key, partition, absent, count)
    return count
