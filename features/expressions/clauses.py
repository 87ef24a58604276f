"""Conditions on stored events in conjunctive normal form: clauses that must all hold.

A clause is a disjunction of terms. A term EQ with the constant MISSING holds exactly for a missing
cell; no other term holds for one. So `not (amount > 5)` is `amount <= 5 or is_missing(amount)`.
"""

from typing import NamedTuple

from features.columns import MISSING
from features.plan import Comparison

TERM_COUNT_MAX = 256  # of one condition in this form


SYMBOLS = {
    Comparison.EQ: "==",
    Comparison.NE: "!=",
    Comparison.LT: "<",
    Comparison.LE: "<=",
    Comparison.GT: ">",
    Comparison.GE: ">=",
}
NEGATED = {
    Comparison.EQ: Comparison.NE,
    Comparison.NE: Comparison.EQ,
    Comparison.LT: Comparison.GE,
    Comparison.GE: Comparison.LT,
    Comparison.LE: Comparison.GT,
    Comparison.GT: Comparison.LE,
}


class Term(NamedTuple):
    """A condition on one cell; `name` and `spelt` are for people and no part of its identity.

    `spelt` is the constant as one writes it, "" for a named condition that stands alone.
    """

    cell: int
    comparison: Comparison
    constant: int
    name: str
    spelt: str = ""

    @property
    def identity(self) -> tuple[int, int, int]:
        """Return what tells terms apart."""
        return self.cell, int(self.comparison), self.constant

    @property
    def text(self) -> str:
        """Return the term as one would write it."""
        if self.spelt:
            return f"{self.name} {SYMBOLS[self.comparison]} {self.spelt}"
        bare = f"is_missing({self.name})" if self.constant == MISSING else self.name
        return bare if self.comparison is Comparison.EQ else f"not {bare}"


Clause = tuple[Term, ...]
Clauses = tuple[Clause, ...]
ALWAYS: Clauses = ()


class TooManyTermsError(Exception):
    """A condition of more than TERM_COUNT_MAX terms in conjunctive normal form."""


def missing(cell: int, name: str) -> Term:
    """Return the term that holds where a cell is missing."""
    return Term(cell, Comparison.EQ, int(MISSING), name)


def present(cell: int, name: str) -> Term:
    """Return the term that holds where a cell is not missing: MISSING is the smallest int64."""
    return Term(cell, Comparison.GT, int(MISSING), name)


def negation(term: Term) -> Term:
    """Return the term that holds of a cell that is present where this one does not."""
    return term._replace(comparison=NEGATED[term.comparison])


def conjunction(*parts: Clauses) -> Clauses:
    """Return the clauses of `a and b …` in canonical order.

    Raises TooManyTermsError.
    """
    return _canonical([clause for part in parts for clause in part])


def disjunction(*parts: Clauses) -> Clauses:
    """Return the clauses of `a or b …` in canonical order: each of one with each of the other.

    Raises TooManyTermsError, before it would grow.
    """
    joined = parts[0]
    for part in parts[1:]:
        count = sum(map(len, joined)) * len(part) + sum(map(len, part)) * len(joined)
        if count > TERM_COUNT_MAX:
            raise TooManyTermsError
        joined = _canonical([one + other for one in joined for other in part])
    return joined


def identity(clauses: Clauses) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """Return what tells conditions apart: their terms without the texts."""
    return tuple(tuple(term.identity for term in clause) for clause in clauses)


def text_of(clauses: Clauses) -> str:
    """Return the condition as one would write it."""
    alone = len(clauses) == 1
    return " and ".join(
        " or ".join(term.text for term in clause)
        if alone or len(clause) == 1
        else f"({' or '.join(term.text for term in clause)})"
        for clause in clauses
    )


def _canonical(clauses: list[Clause]) -> Clauses:
    """Sort clauses and their terms; leave out repeats and what another clause already says."""
    if sum(map(len, clauses)) > TERM_COUNT_MAX:
        raise TooManyTermsError
    ordered: dict[tuple[tuple[int, int, int], ...], Clause] = {}
    for clause in sorted(map(_sorted_terms, clauses)):
        ordered.setdefault(identity((clause,))[0], clause)
    sets = {key: frozenset(key) for key in ordered}
    return tuple(
        clause
        for key, clause in ordered.items()
        if not any(other < sets[key] for other in sets.values())
    )


def _sorted_terms(clause: Clause) -> Clause:
    unique: dict[tuple[int, int, int], Term] = {}
    for term in sorted(clause):
        unique.setdefault(term.identity, term)
    return tuple(unique.values())
