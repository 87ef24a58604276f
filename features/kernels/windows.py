"""What the slots of one entity say at one event: aggregates over windows of its history.

Slots that differ only in aggregate and window form a family, whose events are looked at together:
see `Method`. A value depends only on the events in its window and their canonical order, never on
the way they came in.
"""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells
from features.kernels.arena import later_than
from features.kernels.gathering import accumulate
from features.kernels.jit import inlined, part
from features.kernels.layout import (
    INVALID_MS,
    CurrentField,
    EntityField,
    FamilyField,
    HistoryField,
    Layout,
    MemberField,
    Method,
    RunField,
    Scratch,
    State,
    Table,
)
from features.kernels.running import (
    advance_bounds,
    read_latest,
    read_sums,
    read_values,
    run_first,
    run_latest,
    run_sums,
    run_values,
)
from features.kernels.searching import search
from features.kernels.streaks import fill_streaks
from features.kernels.sweep import sweep_sums
from features.kernels.terms import value_if
from features.kernels.upkeep import begin, invalidate_families
from features.plan import Aggregate


@inlined
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


@inlined
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


@part
def _first(
    layout: Layout,
    arena: Table,
    positions: Table,
    start: int,
    capacity: int,
    family: int,
    high: int,
    skip: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill FIRST: from the beginning of each window forwards."""
    families, members = layout.families, layout.members
    last = families[family, FamilyField.MEMBER_TO]
    for member in range(families[family, FamilyField.MEMBER_FROM], last):
        for i in range(positions[members[member, MemberField.LOW_BOUND]], high):
            value = value_if(arena, start + i, capacity, families, family, layout.terms)
            if value != MISSING and i != skip:
                slot_values[members[member, MemberField.OUTPUT], row] = value
                break


@inlined
def reaches_beyond(entities: Table, bounds: Table, histories: Table, entity: int, history: int,
                   ts_ms: int) -> bool:  # fmt: skip
    """Say whether an entity's widest window reaches an event that the history had to drop."""
    widest = entities[entity, EntityField.BOUND_TO] - 1
    return bool(history >= 0 and histories[history, HistoryField.FLOOR_TS] > ts_ms - bounds[widest])


@inlined
def locate(
    layout: Layout,
    state: State,
    scratch: Scratch,
    entity: int,
    history: int,
    position: int,
    ts_ms: int,
) -> bool:
    """Note for each distance of an entity how many events are at least that far back.

    Says whether the entity's windows are kept running. They move forward only: what stands before
    other events, or comes before what was seen already, is looked at directly.
    """
    first = layout.entities[entity, EntityField.BOUND_FROM]
    last = layout.entities[entity, EntityField.BOUND_TO]
    start, count = 0, 0
    if history >= 0:
        start = state.histories[history, HistoryField.START]
        count = state.histories[history, HistoryField.COUNT]
        if (
            count >= layout.run_from_count
            and layout.entities[entity, EntityField.STATE_GROWING]
            and (position < 0 or position == count - 1)
            and goes_on(layout, state, entity, history, ts_ms)
        ):
            return True
    for bound in range(first, last):
        count = later_than(state.arena, start, count, ts_ms - layout.bounds[bound])
        scratch.positions[bound] = count
    return False


@inlined
def goes_on(layout: Layout, state: State, entity: int, history: int, ts_ms: int) -> bool:
    """Say whether a history's running state can be brought up to a time, and have one there."""
    running = state.histories[history, HistoryField.RUNNING]
    if running < 0:
        begin(
            layout.entities, state.histories, state.pool, state.pool_free, state.control, entity,
            history,
        )  # fmt: skip
        return True
    time_ms = state.pool[running + RunField.TIME_MS]
    return bool(time_ms <= ts_ms or time_ms == INVALID_MS)


@inlined
def catch_up(
    layout: Layout, state: State, scratch: Scratch, entity: int, history: int, ts_ms: int
) -> None:
    """Bring the bounds of a history that is kept running up to a time."""
    if not advance_bounds(
        layout.entities, layout.bounds, state.histories, state.arena, state.pool, entity, history,
        ts_ms, scratch.positions, scratch.earlier,
    ):  # fmt: skip
        running = state.histories[history, HistoryField.RUNNING]
        invalidate_families(layout.entities, layout.families, state.pool, entity, running)


@inlined
def _run_family(
    layout: Layout,
    state: State,
    scratch: Scratch,
    history: int,
    family: int,
    high: int,
    ts_ms: int,
    current: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Bring a family's running state up to date and fill its slots from it."""
    families, windows, members, terms = (
        layout.families,
        layout.windows,
        layout.members,
        layout.terms,
    )
    arena, pool, pool_free, control = state.arena, state.pool, state.pool_free, state.control
    positions, earlier = scratch.positions, scratch.earlier
    start = state.histories[history, HistoryField.START]
    capacity = state.histories[history, HistoryField.CAPACITY]
    base = state.histories[history, HistoryField.BASE]
    words = state.histories[history, HistoryField.RUNNING] + families[family, FamilyField.STATE]
    method = families[family, FamilyField.METHOD]
    if method == Method.SUMS:
        run_sums(
            arena, start, capacity, base, families, family, windows, terms, pool, pool_free,
            control, words, positions, earlier, high,
        )  # fmt: skip
        read_sums(base, families, family, windows, pool, words, positions, high, row, slot_values)
    elif method == Method.LATEST:
        run_latest(
            arena, start, capacity, base, families, family, windows, terms, pool, words, positions,
            high,
        )  # fmt: skip
        read_latest(
            arena, start, capacity, base, families, family, windows, members, pool, words,
            positions, high, ts_ms, row, slot_values,
        )  # fmt: skip
    elif method == Method.FIRST:
        run_first(
            arena, start, capacity, base, families, family, windows, members, terms, pool, words,
            positions, high, row, slot_values,
        )  # fmt: skip
    else:
        run_values(
            arena, start, capacity, base, families, family, windows, terms, pool, pool_free,
            control, words, positions, earlier, high,
        )  # fmt: skip
        read_values(
            base, families, family, windows, members, pool, words, positions, high, current, row,
            slot_values,
        )  # fmt: skip


@part
def _walk_family(
    layout: Layout,
    state: State,
    scratch: Scratch,
    start: int,
    capacity: int,
    family: int,
    high: int,
    skip: int,
    ts_ms: int,
    current: int,
    cells: Cells,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill the slots of a family from the events in its windows."""
    families, arena, positions = layout.families, state.arena, scratch.positions
    method = families[family, FamilyField.METHOD]
    if method == Method.SUMS:
        sweep_sums(
            arena, start, capacity, families, family, layout.windows, layout.terms, positions,
            high, skip, row, slot_values,
        )  # fmt: skip
    elif method == Method.SEEN or method == Method.LATEST:
        search(
            arena, start, capacity, families, family, layout.members, layout.terms, positions,
            high, skip, ts_ms, current, row, slot_values,
        )  # fmt: skip
    elif method == Method.FIRST:
        _first(layout, arena, positions, start, capacity, family, high, skip, row, slot_values)
    elif method == Method.RUN:
        fill_streaks(
            layout, arena, positions, start, capacity, family, high, skip, ts_ms, row, slot_values
        )
    else:
        accumulate(
            layout, arena, state.control, scratch, start, capacity, family, high, skip, cells,
            row, slot_values,
        )  # fmt: skip


@inlined
def compute(
    layout: Layout,
    state: State,
    scratch: Scratch,
    entity: int,
    ts_ms: int,
    stage: int,
    cells: Cells,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill `slot_values[:, row]` for an entity's slots of one stage, as of `ts_ms`.

    `scratch.current` says where the row's own event stands, and `scratch.positions` where the
    bounds lie. A value that is undefined may be left alone: `slot_values` comes in full of NaN.
    """
    families, members = layout.families, layout.members
    history = scratch.current[entity, CurrentField.HISTORY]
    position = scratch.current[entity, CurrentField.POSITION]
    start, capacity, known = 0, 0, 0
    if history >= 0:
        start = state.histories[history, HistoryField.START]
        capacity = state.histories[history, HistoryField.CAPACITY]
        known = state.histories[history, HistoryField.KNOWN]
    for family in range(layout.spans[entity, stage], layout.spans[entity, stage + 1]):
        high = scratch.positions[families[family, FamilyField.HIGH_BOUND]]
        skip = -1 if families[family, FamilyField.INCLUDING_CURRENT] else position
        cell = families[family, FamilyField.VALUE_CELL]
        current = cells[cell, row] if cell >= 0 else 0
        if families[family, FamilyField.NEEDS] & ~known:
            _nothing(members, families, family, row, slot_values)
        elif families[family, FamilyField.METHOD] == Method.ENDS:
            _count(members, families, family, scratch.positions, high, skip, row, slot_values)
        elif (
            scratch.current[entity, CurrentField.RUNS] and families[family, FamilyField.STATE] >= 0
        ):
            if skip >= 0:
                high = min(high, skip)
            _run_family(
                layout, state, scratch, history, family, high, ts_ms, current, row, slot_values
            )
        else:
            _walk_family(
                layout, state, scratch, start, capacity, family, high, skip, ts_ms, current, cells,
                row, slot_values,
            )  # fmt: skip
