"""From a slot's condition, a conjunction of clauses, to the ranges that the kernels test."""

import numpy as np

from features.columns import MISSING
from features.kernels.layout import RangeField
from features.plan import Comparison, Plan, TermField

LOWEST, HIGHEST = int(MISSING) + 1, int(np.iinfo(np.int64).max)

Term = tuple[int, int, int]  # cell, comparison, constant
Clause = tuple[Term, ...]  # holds where one of its terms does
Condition = tuple[Clause, ...]  # holds where all of its clauses do
Range = tuple[int, int, int, int]  # of RangeField, all but ENDS_CLAUSE


def condition_of(plan: Plan, first: int, last: int) -> Condition:
    """Return rows [first, last) of a plan's terms; ValueError where the last clause is open."""
    clauses: list[Clause] = []
    terms: list[Term] = []
    for row in plan.terms[first:last].tolist():
        terms.append((row[TermField.CELL], row[TermField.COMPARISON], row[TermField.CONSTANT]))
        if row[TermField.ENDS_CLAUSE]:
            clauses.append(tuple(terms))
            terms = []
    if terms:
        raise ValueError(f"terms [{first}, {last}): expected the last one to end its clause")
    return tuple(clauses)


def is_present(cell: int) -> Clause:
    """Return the clause that a cell isn't missing."""
    return ((cell, int(Comparison.GT), int(MISSING)),)


def cells_of(condition: Condition) -> set[int]:
    """Return the cells that a condition reads."""
    return {cell for clause in condition for cell, _, _ in clause}


def ranges_of(condition: Condition, kept: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return a condition as rows of RangeField; single terms on one cell become one range."""
    within: dict[int, tuple[int, int]] = {}
    single: set[Range] = set()
    several: set[tuple[Range, ...]] = set()
    for clause in condition:
        found = sorted({_range(term, kept) for term in clause})
        if len(found) > 1:
            several.add(tuple(found))
            continue
        column, low, high, negated = found[0]
        if negated or low == MISSING:
            single.add(found[0])
            continue
        least, most = within.get(column, (LOWEST, HIGHEST))
        within[column] = max(low, least), min(high, most)
    single |= {(column, low, high, 0) for column, (low, high) in within.items()}
    rows = [(*row, 1) for row in sorted(single)]
    for clause_rows in sorted(several):
        rows.extend((*row, 0) for row in clause_rows[:-1])
        rows.append((*clause_rows[-1], 1))
    return tuple(rows)


def needs_of(ranges: tuple[tuple[int, ...], ...]) -> int:
    """Return the bitmap of the columns that hold a value in every event that qualifies."""
    bits, clause = 0, []
    for row in ranges:
        clause.append(row)
        if row[RangeField.ENDS_CLAUSE]:
            columns = {row[RangeField.COLUMN] for row in clause}
            if len(columns) == 1 and all(row[RangeField.LOW] != MISSING for row in clause):
                bits |= 1 << columns.pop()
            clause = []
    return bits


def _range(term: Term, kept: tuple[int, ...]) -> Range:
    """Return the values that meet one term, apart from MISSING; an empty range where none does."""
    cell, comparison, constant = term
    column = kept.index(cell)
    if constant == MISSING and comparison == Comparison.EQ:
        return column, int(MISSING), int(MISSING), 0
    if constant == MISSING and comparison == Comparison.NE:
        return column, LOWEST, HIGHEST, 0
    low, high = LOWEST, HIGHEST
    match Comparison(comparison):
        case Comparison.NE:
            return column, constant, constant, 1
        case Comparison.EQ:
            low, high = constant, constant
        case Comparison.LT:
            # Nothing is below the lowest value: the range stays empty, and in 64 bits.
            high = max(constant, LOWEST) - 1
        case Comparison.LE:
            high = constant
        case Comparison.GT:
            low, high = (constant + 1, HIGHEST) if constant < HIGHEST else (LOWEST, LOWEST - 1)
        case Comparison.GE:
            low = max(constant, LOWEST)
    return column, low, high, 0
