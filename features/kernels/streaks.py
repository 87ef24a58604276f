"""The current run of events that meet a condition: STREAK and STREAK_AGE."""

import numpy as np
from numpy.typing import NDArray

from features.kernels.jit import part
from features.kernels.layout import FamilyField, Layout, MemberField, Table
from features.kernels.terms import qualifies
from features.plan import Aggregate


@part
def _end_run(
    members: Table,
    member: int,
    length: int,
    age_ms: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    output = members[member, MemberField.OUTPUT]
    if members[member, MemberField.AGGREGATE] == Aggregate.STREAK:
        slot_values[output, row] = length
    elif length > 0:
        slot_values[output, row] = age_ms


@part
def fill_streaks(
    layout: Layout,
    arena: Table,
    positions: Table,
    start: int,
    capacity: int,
    family: int,
    high: int,
    skip: int,
    ts_ms: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill a family of runs: back from the newest event, through one window after the other.

    Only events that qualify count; the first of them that doesn't meet the run's terms ends it.
    """
    fields, members, terms = layout.families[family], layout.members, layout.terms
    first, member = fields[FamilyField.MEMBER_FROM], fields[FamilyField.MEMBER_TO] - 1
    term_from, term_to = fields[FamilyField.TERM_FROM], fields[FamilyField.TERM_TO]
    run_from, run_to = fields[FamilyField.RUN_FROM], fields[FamilyField.RUN_TO]
    length, age_ms, i = 0, 0, high - 1
    while member >= first:
        # Members stand with the widest window first: the narrowest ends first.
        if i < positions[members[member, MemberField.LOW_BOUND]]:
            _end_run(members, member, length, age_ms, row, slot_values)
            member -= 1
            continue
        if i != skip and qualifies(arena, start + i, capacity, terms, term_from, term_to):
            if not qualifies(arena, start + i, capacity, terms, run_from, run_to):
                break
            length += 1
            age_ms = ts_ms - arena[start + i]
        i -= 1
    while member >= first:
        _end_run(members, member, length, age_ms, row, slot_values)
        member -= 1
