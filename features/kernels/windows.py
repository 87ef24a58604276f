"""What the slots of one entity say at one event: aggregates over windows of its history.

Slots that differ only in aggregate and window form a family. A family's widest window is walked
once, oldest event first; the values of its qualifying events are gathered side by side, so that
every narrower window is a suffix of them and each aggregate a tight loop. A value depends only on
the events in its window and their canonical order, never on the way they came in.

Everything here runs for every event, hence the bare arrays: see features.kernels.index.
"""

import math

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells
from features.kernels.arena import later_than
from features.kernels.jit import kernel
from features.kernels.layout import (
    Control,
    EntityField,
    FamilyField,
    HistoryField,
    MemberField,
    Method,
    Table,
)
from features.kernels.terms import qualifies, tally
from features.plan import Aggregate


@kernel
def _gather(
    arena: Table,
    start: int,
    capacity: int,
    families: Table,
    family: int,
    terms: Table,
    low: int,
    high: int,
    skip: int,
    values: Table,
    total: int,
) -> int:
    """Append the values of the qualifying events among [low, high); returns the new total."""
    column = families[family, FamilyField.VALUE_COLUMN]
    base = start + column * capacity
    first, last = families[family, FamilyField.TERM_FROM], families[family, FamilyField.TERM_TO]
    if first == last:
        # Written first and kept by moving on: no branch to guess wrongly. Unsigned positions spare
        # numba's test for negative ones: together 25 instead of 118 ns for 60 events.
        to, current = np.uint64(total), np.uint64(base + skip)
        for at in range(np.uint64(base + low), np.uint64(base + high)):
            value = arena[at]
            values[to] = value
            to += np.uint64(value != MISSING and at != current)
        return int(np.int64(to))
    for i in range(low, high):
        value = arena[base + i] if column >= 0 else 0
        values[total] = value
        holds = qualifies(arena, start + i, capacity, terms, first, last)
        total += 1 if holds and value != MISSING and i != skip else 0
    return total


@kernel
def _newest(
    arena: Table,
    start: int,
    capacity: int,
    families: Table,
    family: int,
    terms: Table,
    low: int,
    high: int,
    skip: int,
    wanted: int,
) -> int:
    """Return the newest qualifying position of [low, high), or -1.

    Unless `wanted` is MISSING, only an event with that very value qualifies.
    """
    column = families[family, FamilyField.VALUE_COLUMN]
    first, last = families[family, FamilyField.TERM_FROM], families[family, FamilyField.TERM_TO]
    for i in range(high - 1, low - 1, -1):
        value = arena[start + column * capacity + i] if column >= 0 else 0
        if i == skip or value == MISSING or (wanted != MISSING and value != wanted):
            continue
        if qualifies(arena, start + i, capacity, terms, first, last):
            return i
    return -1


@kernel
def _std(values: Table, first: int, total: int) -> float:
    """Return the population standard deviation: two passes around the mean, oldest first."""
    whole = 0
    for i in range(first, total):
        whole += values[i]
    count = total - first
    mean = whole / count
    squares = 0.0
    for i in range(first, total):
        squares += (values[i] - mean) * (values[i] - mean)
    return math.sqrt(squares / count)


@kernel
def _distinct(values: Table, first: int, total: int, table: Table, generation: int) -> int:
    """Count different values with a hash set that is never cleared, only stamped."""
    size = 4
    while size < 2 * (total - first):
        size *= 2
    mask = np.uint64(size - 1)
    count = 0
    for i in range(first, total):
        x = np.uint64(values[i]) * np.uint64(0x9E3779B97F4A7C15)
        at = (x >> np.uint64(32)) & mask
        while table[at, 1] == generation and table[at, 0] != values[i]:
            at = (at + np.uint64(1)) & mask
        if table[at, 1] != generation:
            table[at, 0] = values[i]
            table[at, 1] = generation
            count += 1
    return count


@kernel
def _reduce(aggregate: int, values: Table, first: int, total: int) -> float:
    """Return a plain aggregate of `values[first:total]`."""
    if first == total:
        return np.nan
    if aggregate == Aggregate.FIRST:
        return float(values[first])
    if aggregate == Aggregate.STD:
        return float(_std(values, first, total))
    result = values[first]
    if aggregate == Aggregate.MIN:
        for i in range(first, total):
            result = min(result, values[i])
        return float(result)
    for i in range(first, total):
        result = max(result, values[i])
    return float(result)


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
def _search(
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
    ts_ms: int,
    current: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill a family that asks for its newest event only: SEEN, or SINCE and LAST.

    `current` is the record's own value of the family's cell.
    """
    first, last = families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
    matching = members[first, MemberField.AGGREGATE] == Aggregate.SEEN
    newest = -1
    if not matching or current != MISSING:
        newest = _newest(
            arena, start, capacity, families, family, terms,
            positions[members[first, MemberField.LOW_BOUND]], high, skip,
            current if matching else MISSING,
        )  # fmt: skip
    for member in range(first, last):
        output = members[member, MemberField.OUTPUT]
        within = newest >= positions[members[member, MemberField.LOW_BOUND]]
        if matching:
            slot_values[output, row] = 1.0 if within else 0.0
        elif within and members[member, MemberField.AGGREGATE] == Aggregate.SINCE:
            slot_values[output, row] = ts_ms - arena[start + newest]
        elif within:
            column = members[member, MemberField.COLUMN]
            slot_values[output, row] = arena[start + column * capacity + newest]


@kernel
def _accumulate(
    arena: Table,
    start: int,
    capacity: int,
    families: Table,
    family: int,
    members: Table,
    terms: Table,
    control: Table,
    positions: Table,
    starts: Table,
    values: Table,
    distinct: Table,
    high: int,
    skip: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill a family whose aggregates need every qualifying event of their windows."""
    first, last = families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
    total = int(np.int64(0))  # a bare 0 would compile the callees once more, for a literal
    for member in range(first, last):
        low = positions[members[member, MemberField.LOW_BOUND]]
        until = high
        if member + 1 < last:
            until = positions[members[member + 1, MemberField.LOW_BOUND]]
        starts[member] = total
        total = _gather(
            arena, start, capacity, families, family, terms, low, until, skip, values, total
        )
    for member in range(first, last):
        aggregate = members[member, MemberField.AGGREGATE]
        if aggregate == Aggregate.DISTINCT:
            control[Control.GENERATION] += 1
            generation = control[Control.GENERATION]
            value = float(_distinct(values, starts[member], total, distinct, generation))
        else:
            value = _reduce(aggregate, values, starts[member], total)
        slot_values[members[member, MemberField.OUTPUT], row] = value


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
def compute(
    entities: Table,
    bounds: Table,
    families: Table,
    members: Table,
    terms: Table,
    histories: Table,
    arena: Table,
    control: Table,
    positions: Table,
    starts: Table,
    values: Table,
    distinct: Table,
    entity: int,
    history: int,
    position: int,
    cells: Cells,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill `slot_values[:, row]` for the slots of `entity`, whose current event is at `position`.

    A value that is undefined may be left alone: `slot_values` comes in full of NaN.
    """
    start = histories[history, HistoryField.START]
    capacity = histories[history, HistoryField.CAPACITY]
    high = histories[history, HistoryField.COUNT]
    known = histories[history, HistoryField.KNOWN]
    ts_ms = arena[start + position]
    for bound in range(
        entities[entity, EntityField.BOUND_FROM], entities[entity, EntityField.BOUND_TO]
    ):
        high = later_than(arena, start, high, ts_ms - bounds[bound])
        positions[bound] = high
    family_to = entities[entity, EntityField.FAMILY_TO]
    for family in range(entities[entity, EntityField.FAMILY_FROM], family_to):
        high = positions[families[family, FamilyField.HIGH_BOUND]]
        skip = -1 if families[family, FamilyField.INCLUDING_CURRENT] else position
        cell = families[family, FamilyField.VALUE_CELL]
        method = families[family, FamilyField.METHOD]
        if families[family, FamilyField.NEEDS] & ~known:
            _nothing(members, families, family, row, slot_values)
        elif method == Method.ENDS:
            _count(members, families, family, positions, high, skip, row, slot_values)
        elif method == Method.SEARCH:
            current = cells[cell, row] if cell >= 0 else 0
            _search(
                arena, start, capacity, families, family, members, terms, positions, high, skip,
                ts_ms, current, row, slot_values,
            )  # fmt: skip
        elif method == Method.TALLY:
            _sum_up(
                arena, start, capacity, families, family, members, terms, positions, high, skip,
                row, slot_values,
            )  # fmt: skip
        else:
            _accumulate(
                arena, start, capacity, families, family, members, terms, control, positions,
                starts, values, distinct, high, skip, row, slot_values,
            )  # fmt: skip
