"""The slots that a plan's programs read: one for each different aggregate, however often used."""

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell
from features.expressions.types import CUSTOMER, FIELD_OF_CELL, FIELDS, Declarations, duration_text
from features.plan import Aggregate, Comparison, Entity, SlotField, TermField

_OF_EARLIER = (Aggregate.FIRST, Aggregate.LAST, Aggregate.SINCE, Aggregate.SEEN)
_ALWAYS_KEPT = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))


class Term(NamedTuple):
    """A condition on a stored event; `text` is for people and no part of its identity."""

    cell: int
    comparison: Comparison
    constant: int
    text: str = ""


class Request(NamedTuple):
    """What a slot computes; `value` is a cell or -1; terms sorted, without repeats."""

    entity: int
    aggregate: Aggregate
    value: int
    window_ms: int
    delay_ms: int
    terms: tuple[Term, ...]
    including_current: bool


def present(cell: int, text: str = "") -> Term:
    """Return the term that holds where a cell is not missing.

    Terms compare plain int64, and MISSING is the smallest: a term that a missing cell would pass
    (<, <= and !=) therefore needs this one beside it.
    """
    return Term(cell, Comparison.GT, int(MISSING), text)


def sorted_terms(terms: list[Term]) -> tuple[Term, ...]:
    """Return the terms in canonical order; of equal ones the one that has a text."""
    unique: dict[tuple[int, int, int], Term] = {}
    for term in sorted(terms):
        unique[term[:3]] = term
    return tuple(unique.values())


class SlotTable:
    """Numbers the different slots of all expressions in the order of their first use."""

    def __init__(self, declarations: Declarations) -> None:
        self._declarations = declarations
        self._names = [entity.name for entity in declarations.entities]
        self._keys = [int(FIELDS[entity.key].cell) for entity in declarations.entities]
        self._slots: dict[tuple[object, ...], int] = {}
        self._requests: list[Request] = []

    def slot(self, request: Request) -> int:
        """Return the row of a slot, equal for requests that ask for the same."""
        if request.delay_ms > 0 or request.aggregate in _OF_EARLIER:
            # A delayed window ends before the current event; the others never count it.
            request = request._replace(including_current=False)
        identity = (*request[:5], tuple(term[:3] for term in request.terms), request[6])
        number = self._slots.setdefault(identity, len(self._requests))
        if number == len(self._requests):
            self._requests.append(request)
        return number

    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the slots and terms tables of the plan."""
        slots = np.zeros((len(self._requests), len(SlotField)), dtype=np.int64)
        rows: list[tuple[int, int, int, int]] = []
        ranges: dict[tuple[tuple[int, int, int], ...], tuple[int, int]] = {(): (0, 0)}
        for number, request in enumerate(self._requests):
            terms = tuple((term.cell, int(term.comparison), term.constant)
                          for term in request.terms)  # fmt: skip
            if terms not in ranges:
                ranges[terms] = (len(rows), len(rows) + len(terms))
                rows.extend((*term, 1) for term in terms)
            slots[number, SlotField.ENTITY] = request.entity
            slots[number, SlotField.AGGREGATE] = request.aggregate
            slots[number, SlotField.VALUE] = request.value
            slots[number, SlotField.WINDOW_MS] = request.window_ms
            slots[number, SlotField.DELAY_MS] = request.delay_ms
            slots[number, SlotField.TERM_FROM] = ranges[terms][0]
            slots[number, SlotField.TERM_TO] = ranges[terms][1]
            slots[number, SlotField.INCLUDING_CURRENT] = request.including_current
            slots[number, SlotField.MATCH] = -1
        table = np.array(rows, dtype=np.int64).reshape(len(rows), len(TermField))
        return slots, table

    def texts(self) -> tuple[str, ...]:
        """Return the canonical text of each slot."""
        return tuple(self._text(request) for request in self._requests)

    def entities(self) -> tuple[Entity, ...]:
        """Return the declared entities with the cells that their histories must keep.

        Labels reach an event through its customer's history, which therefore keeps the keys of
        every entity that has slots over labels.
        """
        kept: list[set[int]] = [
            {int(FIELDS[name].cell) for name in entity.keep}
            for entity in self._declarations.entities
        ]
        labelled: set[int] = set()
        for request in self._requests:
            cells = {term.cell for term in request.terms}
            kept[request.entity] |= cells | ({request.value} if request.value >= 0 else set())
            if Cell.LABEL in cells:
                labelled.add(request.entity)
        if labelled:
            # Conditions over labels are refused where no customer is declared.
            customer = self._names.index(CUSTOMER)
            kept[customer] |= {self._keys[entity] for entity in labelled} - {self._keys[customer]}
        return tuple(
            Entity(
                name=entity.name,
                key=key,
                shared=entity.shared,
                kept=_ALWAYS_KEPT + tuple(sorted(cells - set(_ALWAYS_KEPT))),
            )
            for entity, key, cells in zip(
                self._declarations.entities, self._keys, kept, strict=True
            )
        )

    def _text(self, request: Request) -> str:
        name = request.aggregate.name.lower()
        arguments = [json.dumps(duration_text(request.window_ms))]
        if request.value >= 0:
            arguments.insert(0, FIELD_OF_CELL[request.value].name)
        shown = [term.text for term in request.terms if term.text]
        if shown:
            arguments.append(f"where={' and '.join(shown)}")
        if request.delay_ms:
            arguments.append(f"delay={json.dumps(duration_text(request.delay_ms))}")
        elif not request.including_current and request.aggregate not in _OF_EARLIER:
            arguments.append("including_current=False")
        return f"{self._names[request.entity]}.{name}({', '.join(arguments)})"
