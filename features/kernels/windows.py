"""What the slots of one entity say at one event: aggregates over windows of its history.

Slots that differ only in aggregate and window form a family, whose events are looked at together:
see `Method`. A value depends only on the events in its window and their canonical order, never on
the way they came in.
"""

import numpy as np
from numpy.typing import NDArray

from features.columns import Cells
from features.kernels.arena import later_than
from features.kernels.gathering import accumulate
from features.kernels.jit import kernel
from features.kernels.layout import (
    EntityField,
    FamilyField,
    HistoryField,
    Layout,
    MemberField,
    Method,
    Scratch,
    State,
    Table,
)
from features.kernels.searching import search
from features.kernels.streaks import fill_streaks
from features.kernels.terms import tally
from features.plan import Aggregate


@kernel
def _nothing(
    members: Table, families: Table, family: int, row: int, slot_values: NDArray[np.float64]
) -> None:
    """Fill a family of which no event can qualify: a field that the entity never had is free."""
    last = families[family, FamilyField.MEMBER_TO]
    for member in range(families[family, FamilyField.MEMBER_FROM], last):
        aggregate = members[member, MemberField.AGGREGATE]
        if (
            aggregate == Aggregate.COUNT
            or aggregate == Aggregate.SUM
            or aggregate == Aggregate.SEEN
            or aggregate == Aggregate.DISTINCT
            or aggregate == Aggregate.STREAK
        ):
            slot_values[members[member, MemberField.OUTPUT], row] = 0.0


@kernel
def _count(
    members: Table,
    families: Table,
    family: int,
    positions: Table,
    high: int,
    skip: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill counts of all events: the ends of the windows suffice."""
    last = families[family, FamilyField.MEMBER_TO]
    for member in range(families[family, FamilyField.MEMBER_FROM], last):
        low = positions[members[member, MemberField.LOW_BOUND]]
        count = high - low - (1 if low <= skip < high else 0)
        slot_values[members[member, MemberField.OUTPUT], row] = count


@kernel
def _sum_up(
    arena: Table,
    start: int,
    capacity: int,
    families: Table,
    family: int,
    members: Table,
    terms: Table,
    positions: Table,
    high: int,
    skip: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill counts, sums and means: narrow windows first, each wider one adds what is older."""
    column = families[family, FamilyField.VALUE_COLUMN]
    first, last = families[family, FamilyField.TERM_FROM], families[family, FamilyField.TERM_TO]
    member_from = families[family, FamilyField.MEMBER_FROM]
    count, total = int(np.int64(0)), int(np.int64(0))  # bare zeros would compile once more
    for member in range(families[family, FamilyField.MEMBER_TO] - 1, member_from - 1, -1):
        low = positions[members[member, MemberField.LOW_BOUND]]
        more, sum_more = tally(arena, start, capacity, terms, first, last, column, low, high)
        count, total = count + more, total + sum_more
        if low <= skip < high:
            less, sum_less = tally(
                arena, start, capacity, terms, first, last, column, skip, skip + 1
            )
            count, total = count - less, total - sum_less
        high = low
        output, aggregate = (
            members[member, MemberField.OUTPUT],
            members[member, MemberField.AGGREGATE],
        )
        if aggregate == Aggregate.COUNT:
            slot_values[output, row] = count
        elif aggregate == Aggregate.SUM:
            slot_values[output, row] = total
        elif count > 0:
            slot_values[output, row] = total / count


@kernel
def note_truncated(
    entities: Table,
    bounds: Table,
    families: Table,
    members: Table,
    histories: Table,
    entity: int,
    history: int,
    ts_ms: int,
    row: int,
    errors: NDArray[np.float64],
) -> None:
    """Mark the slots whose windows reach back beyond an event that the history had to drop."""
    floor_ms = histories[history, HistoryField.FLOOR_TS]
    first, last = entities[entity, EntityField.FAMILY_FROM], entities[entity, EntityField.FAMILY_TO]
    if first == last or floor_ms <= ts_ms - bounds[entities[entity, EntityField.BOUND_TO] - 1]:
        return
    member_to = families[last - 1, FamilyField.MEMBER_TO]
    for member in range(families[first, FamilyField.MEMBER_FROM], member_to):
        if floor_ms > ts_ms - bounds[members[member, MemberField.LOW_BOUND]]:
            errors[members[member, MemberField.OUTPUT], row] = np.inf


@kernel
def _find_bounds(
    layout: Layout, arena: Table, positions: Table, start: int, count: int, entity: int, ts_ms: int
) -> None:
    """Note for each distance of an entity how many events are at least that far back."""
    first = layout.entities[entity, EntityField.BOUND_FROM]
    for bound in range(first, layout.entities[entity, EntityField.BOUND_TO]):
        count = later_than(arena, start, count, ts_ms - layout.bounds[bound])
        positions[bound] = count


@kernel
def compute(
    layout: Layout,
    state: State,
    scratch: Scratch,
    entity: int,
    history: int,
    position: int,
    ts_ms: int,
    stage: int,
    cells: Cells,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill `slot_values[:, row]` for an entity's slots of one stage, as of `ts_ms`.

    `position` is where the row's own event stands, -1 where the history doesn't hold it; `history`
    is -1 where there is none. A value that is undefined may be left alone: `slot_values` comes in
    full of NaN.
    """
    families, members = layout.families, layout.members
    arena, positions = state.arena, scratch.positions
    start, capacity, count, known = 0, 0, 0, 0
    if history >= 0:
        start = state.histories[history, HistoryField.START]
        capacity = state.histories[history, HistoryField.CAPACITY]
        count = state.histories[history, HistoryField.COUNT]
        known = state.histories[history, HistoryField.KNOWN]
    _find_bounds(layout, arena, positions, start, count, entity, ts_ms)
    for family in range(layout.spans[entity, stage], layout.spans[entity, stage + 1]):
        high = positions[families[family, FamilyField.HIGH_BOUND]]
        skip = -1 if families[family, FamilyField.INCLUDING_CURRENT] else position
        method = families[family, FamilyField.METHOD]
        if families[family, FamilyField.NEEDS] & ~known:
            _nothing(members, families, family, row, slot_values)
        elif method == Method.ENDS:
            _count(members, families, family, positions, high, skip, row, slot_values)
        elif method == Method.SEARCH:
            cell = families[family, FamilyField.VALUE_CELL]
            current = cells[cell, row] if cell >= 0 else 0
            search(
                arena, start, capacity, families, family, members, layout.terms, positions, high,
                skip, ts_ms, current, row, slot_values,
            )  # fmt: skip
        elif method == Method.TALLY:
            _sum_up(
                arena, start, capacity, families, family, members, layout.terms, positions, high,
                skip, row, slot_values,
            )  # fmt: skip
        elif method == Method.RUN:
            fill_streaks(
                layout, arena, positions, start, capacity, family, high, skip, ts_ms, row,
                slot_values,
            )  # fmt: skip
        else:
            accumulate(
                layout, arena, state.control, scratch, start, capacity, family, high, skip, cells,
                row, slot_values,
            )  # fmt: skip
