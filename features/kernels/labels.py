"""Labels that come later: set on the event that they name, wherever slots depend on them."""

from features.columns import MISSING, Cell, Cells
from features.kernels.arena import find_event, rank
from features.kernels.index import find, find_partial, owner_code, touch
from features.kernels.jit import kernel, part
from features.kernels.layout import (
    NOT_REACHED,
    SAME_CUSTOMER,
    Control,
    EntityField,
    HistoryField,
    Layout,
    PartialField,
    State,
)
from features.kernels.upkeep import invalidate_labels

_LABEL_COLUMN = 2  # of every block: see features.plan.Entity.kept


@kernel
def find_resident(layout: Layout, state: State, entity: int, key: int, partition: int) -> int:
    """Return the row of an entity's history, or -1 where it isn't in memory."""
    owner = owner_code(layout.entities, entity, partition)
    return int(find(state.lookup, state.histories, key, owner))


@part
def find_labelled(
    layout: Layout, state: State, cells: Cells, row: int, partition: int
) -> tuple[int, int]:
    """Return the customer's history and the position in it of the labelled event, or -1."""
    key, event = cells[Cell.CUSTOMER_ID, row], cells[Cell.EVENT_ID, row]
    if key == MISSING or event == MISSING:
        return -1, -1
    history = find_resident(layout, state, layout.customer, key, partition)
    if history < 0:
        return -1, -1
    own = state.histories[history]
    events = own[HistoryField.START] + own[HistoryField.CAPACITY]
    position = own[HistoryField.COUNT] - 1
    while position >= 0 and state.arena[events + position] != event:
        position -= 1
    return history, position


@part
def other_key(layout: Layout, state: State, history: int, position: int, entity: int) -> int:
    """Return the key of another entity of a customer's event, MISSING where it needs no label."""
    column = layout.entities[entity, EntityField.LABEL_KEY]
    if column == NOT_REACHED:
        return MISSING
    own = state.histories[history]
    if column == SAME_CUSTOMER:
        return int(own[HistoryField.KEY])
    at = own[HistoryField.START] + column * own[HistoryField.CAPACITY] + position
    return int(state.arena[at])


@part
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
    invalidate_labels(
        layout.entities, layout.families, state.histories, state.pool, entity, history
    )
    changed_from = position
    fields = layout.entities[entity]
    if fields[EntityField.SHARED]:
        tags = own[HistoryField.START] + fields[EntityField.KEPT_COUNT] * capacity
        partition = state.arena[tags + position]
    partial = find_partial(state.histories, state.partials, history, partition)
    if state.partials[partial, PartialField.FOREIGN]:
        return
    if fields[EntityField.SHARED]:
        own_count = state.partials[partial, PartialField.COUNT]
        count = own[HistoryField.COUNT]
        changed_from = rank(state.arena, tags, position, count, partition, own_count)
    touch(state.partials, state.dirty, state.control, partial, changed_from)


@part
def take_label(layout: Layout, state: State, cells: Cells, row: int, partition: int) -> None:
    """Set a label in the customer's history and wherever else slots depend on it."""
    label = cells[Cell.LABEL, row]
    history, position = find_labelled(layout, state, cells, row, partition)
    if position < 0 or label == MISSING:
        state.control[Control.UNMATCHED_LABELS] += 1
        return
    event = cells[Cell.EVENT_ID, row]
    ts_ms = state.arena[state.histories[history, HistoryField.START] + position]
    _set_label(layout, state, layout.customer, history, position, label, partition)
    for entity in range(layout.entities.shape[0]):
        key = other_key(layout, state, history, position, entity)
        if key == MISSING:
            continue
        other = find_resident(layout, state, entity, key, partition)
        if other < 0:
            continue
        own = state.histories[other]
        at, there = find_event(
            state.arena, own[HistoryField.START], own[HistoryField.CAPACITY],
            own[HistoryField.COUNT], ts_ms, event,
        )  # fmt: skip
        if there:
            _set_label(layout, state, entity, other, at, label, partition)
