"""The newest event of a window that qualifies: SEEN, SINCE and LAST."""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels.jit import part
from features.kernels.layout import FamilyField, MemberField, Table
from features.kernels.terms import qualifies
from features.plan import Aggregate


@part
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


@part
def search(
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
