"""Aggregates that need every qualifying event of their windows, gathered side by side."""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells
from features.kernels.jit import part
from features.kernels.layout import (
    Control,
    FamilyField,
    Layout,
    MemberField,
    Method,
    Scratch,
    Table,
)
from features.kernels.order import quantile
from features.kernels.series import ewma, gather_timed, trend
from features.kernels.terms import qualifies
from features.plan import Aggregate


@part
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
        value = arena[base + i]
        values[total] = value
        holds = qualifies(arena, start + i, capacity, terms, first, last)
        total += 1 if holds and value != MISSING and i != skip else 0
    return total


@part
def _mask(count: int) -> int:
    """Return the mask of a hash set that stays at most half full."""
    size = 4
    while size < 2 * count:
        size *= 2
    return size - 1


@part
def _place(table: Table, mask: int, value: int, generation: int) -> int:
    """Return where a value stands in a hash set, or the free place where it belongs."""
    x = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    at = (x >> np.uint64(32)) & np.uint64(mask)
    while table[at, 1] == generation and table[at, 0] != value:
        at = (at + np.uint64(1)) & np.uint64(mask)
    return int(np.int64(at))


@part
def _distinct(values: Table, first: int, total: int, table: Table, generation: int) -> int:
    """Count different values with a hash set that is never cleared, only stamped."""
    mask, count = _mask(total - first), 0
    for i in range(first, total):
        at = _place(table, mask, values[i], generation)
        if table[at, 1] != generation:
            table[at, 0] = values[i]
            table[at, 1] = generation
            count += 1
    return count


@part
def _is_top(
    values: Table,
    first: int,
    total: int,
    wanted: int,
    table: Table,
    tallies: Table,
    generation: int,
) -> float:
    """Say whether `wanted` is the most frequent value; of several, the one used most recently."""
    if first == total or wanted == MISSING:
        return np.nan
    mask = _mask(total - first)
    for i in range(first, total):
        at = _place(table, mask, values[i], generation)
        if table[at, 1] != generation:
            table[at, 0] = values[i]
            table[at, 1] = generation
            tallies[at] = 0
        tallies[at] += 1
    top, most = wanted, 0
    for i in range(total - 1, first - 1, -1):
        count = tallies[_place(table, mask, values[i], generation)]
        if count > most:
            top, most = values[i], count
    return 1.0 if top == wanted else 0.0


@part
def _gather_windows(
    layout: Layout,
    arena: Table,
    scratch: Scratch,
    start: int,
    capacity: int,
    family: int,
    high: int,
    skip: int,
) -> int:
    """Gather what the widest window of a family holds; returns how much that is.

    `scratch.starts` then says where each member's own window begins in `scratch.values`.
    """
    families, members = layout.families, layout.members
    first, last = families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
    timed = families[family, FamilyField.METHOD] == Method.SERIES
    total = int(np.int64(0))  # a bare 0 would compile the callees once more, for a literal
    for member in range(first, last):
        low = scratch.positions[members[member, MemberField.LOW_BOUND]]
        until = high
        if member + 1 < last:
            until = scratch.positions[members[member + 1, MemberField.LOW_BOUND]]
        scratch.starts[member] = total
        if timed:
            total = gather_timed(
                arena, start, capacity, families, family, layout.terms, low, until, skip,
                scratch.values, scratch.times, total,
            )  # fmt: skip
        else:
            total = _gather(
                arena, start, capacity, families, family, layout.terms, low, until, skip,
                scratch.values, total,
            )  # fmt: skip
    return total


@part
def accumulate(
    layout: Layout,
    arena: Table,
    control: Table,
    scratch: Scratch,
    start: int,
    capacity: int,
    family: int,
    high: int,
    skip: int,
    cells: Cells,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill a family whose aggregates need every qualifying event of their windows."""
    members, values = layout.members, scratch.values
    total = _gather_windows(layout, arena, scratch, start, capacity, family, high, skip)
    ranked_from = -1
    first = layout.families[family, FamilyField.MEMBER_FROM]
    for member in range(first, layout.families[family, FamilyField.MEMBER_TO]):
        aggregate, parameter = (
            members[member, MemberField.AGGREGATE],
            members[member, MemberField.PARAMETER],
        )
        begin = scratch.starts[member]
        if aggregate == Aggregate.DISTINCT:
            control[Control.GENERATION] += 1
            generation = control[Control.GENERATION]
            value = float(_distinct(values, begin, total, scratch.distinct, generation))
        elif aggregate == Aggregate.QUANTILE:
            if begin != ranked_from:
                ranked_from = begin
                for i in range(begin, total):
                    scratch.ranked[i - begin] = values[i]
            value = quantile(scratch.ranked, total - begin, parameter)
        elif aggregate == Aggregate.TOP:
            control[Control.GENERATION] += 1
            value = _is_top(
                values, begin, total, cells[members[member, MemberField.MATCH], row],
                scratch.distinct, scratch.tallies, control[Control.GENERATION],
            )  # fmt: skip
        elif aggregate == Aggregate.EWMA:
            value = ewma(values, scratch.times, begin, total, parameter)
        else:
            value = trend(values, scratch.times, begin, total)
        slot_values[members[member, MemberField.OUTPUT], row] = value
