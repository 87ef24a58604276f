"""Which events qualify: the conditions of a slot, as ranges of the stored cells."""

import numpy as np

from features.columns import MISSING
from features.kernels.jit import inlined, part
from features.kernels.layout import FamilyField, RangeField, Table

MOST = np.iinfo(np.int64).max


@part
def qualifies(arena: Table, block: int, capacity: int, terms: Table, first: int, last: int) -> bool:
    """Say whether the clauses of terms [first, last) hold of an event.

    `block` is where the event stands in its block's first column.
    """
    # All terms, without leaving early: what holds of an event is hard to guess.
    holds, met = True, False
    for term in range(first, last):
        value = arena[block + terms[term, RangeField.COLUMN] * capacity]
        low = terms[term, RangeField.LOW]
        inside = low <= value and value <= terms[term, RangeField.HIGH]
        right = inside != (terms[term, RangeField.NEGATED] != 0)
        met |= right and (value != MISSING or low == MISSING)
        ends = terms[term, RangeField.ENDS_CLAUSE] != 0
        holds &= met or not ends
        met &= not ends
    return holds


@part
def tally(
    arena: Table,
    start: int,
    capacity: int,
    terms: Table,
    first: int,
    last: int,
    column: int,
    low: int,
    high: int,
) -> tuple[int, int]:
    """Return how many events of [low, high) qualify, and the sum of their values.

    Where `column` is -1 only the count means something. At most one term is read in a loop that
    the compiler can vectorise.
    """
    count, total = 0, 0
    if last - first > 1:
        for i in range(low, high):
            value = arena[start + column * capacity + i] if column >= 0 else 0
            holds = qualifies(arena, start + i, capacity, terms, first, last)
            holds &= value != MISSING
            count += holds
            total += value if holds else 0
        return count, total
    term_column, least, most, negated = column, MISSING + 1, MOST, False
    if last > first:
        term_column = terms[first, RangeField.COLUMN]
        least, most = terms[first, RangeField.LOW], terms[first, RangeField.HIGH]
        negated = terms[first, RangeField.NEGATED] != 0
    # What a key and a value must not be: where a missing key is asked for, nothing that occurs.
    barred_key = MISSING + 1 if least == MISSING else MISSING
    barred_value = barred_key if column < 0 else MISSING
    # Unsigned positions spare numba's test for negative ones.
    tested = np.uint64(start + term_column * capacity + low)
    summed = np.uint64(start + column * capacity + low) if column >= 0 else tested
    for i in range(np.uint64(max(high - low, 0))):
        value, key = arena[summed + i], arena[tested + i]
        holds = ((least <= key) & (key <= most)) != negated
        holds &= (key != barred_key) & (value != barred_value)
        count += holds
        total += value if holds else 0
    return count, total


@inlined
def value_if(
    arena: Table, block: int, capacity: int, families: Table, family: int, terms: Table
) -> int:
    """Return the value that an event brings into a family; MISSING where it does not qualify.

    `block` is the event's word in the first column. Where events themselves are counted, each that
    qualifies brings 0.
    """
    column = families[family, FamilyField.VALUE_COLUMN]
    value = arena[block + column * capacity] if column >= 0 else 0
    first, last = families[family, FamilyField.TERM_FROM], families[family, FamilyField.TERM_TO]
    if first < last and not qualifies(arena, block, capacity, terms, first, last):
        return MISSING
    return int(value)
