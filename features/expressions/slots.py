"""The slots that a plan's programs read: one for each different aggregate, however often used."""

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import SLOT_KINDS, Cell, Kind
from features.expressions.clauses import ALWAYS, Clauses, identity, text_of
from features.expressions.declarations import CUSTOMER, Declarations
from features.expressions.fields import FIELDS
from features.expressions.types import duration_text
from features.plan import Aggregate, Entity, KeptValue, SlotField, TermField

_OF_EARLIER = (Aggregate.FIRST, Aggregate.LAST, Aggregate.SINCE, Aggregate.SEEN)
_ALWAYS_KEPT = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))


class Request(NamedTuple):
    """What a slot computes over one history; `value` and `match` are cells or -1."""

    history: int
    aggregate: Aggregate
    value: int
    window_ms: int
    delay_ms: int
    clauses: Clauses
    including_current: bool
    parameter: int = 0
    match: int = -1
    run: Clauses = ALWAYS
    scale: int = 1

    def cells(self) -> set[int]:
        """Return the cells that the history must keep for this."""
        terms = (term for clause in (*self.clauses, *self.run) for term in clause)
        return {term.cell for term in terms} | ({self.value} if self.value >= 0 else set())


class SlotTable:
    """Numbers the histories and slots of all expressions in the order of their first use.

    The declared entities' transactions are the first histories, used or not.
    """

    def __init__(self, declarations: Declarations) -> None:
        self._entities = declarations.entities
        self._histories: dict[tuple[int, Kind], int] = {
            (entity, Kind.TRANSACTION): entity for entity in range(len(self._entities))
        }
        self._slots: dict[tuple[object, ...], int] = {}
        self._requests: list[Request] = []
        self._stages: list[int] = []
        self._kept: dict[int, tuple[KeptValue, int]] = {}

    def history(self, entity: int, kind: Kind) -> int:
        """Return the number of an entity's history of records of one kind."""
        return self._histories.setdefault((entity, kind), len(self._histories))

    def keep(self, kept: KeptValue, stage: int) -> None:
        """Know the cell of a kept value, and after the slots of which stage it is filled."""
        self._kept[kept.cell] = (kept, stage)

    def slot(self, request: Request) -> int:
        """Return the row of a slot, equal for requests that ask for the same."""
        if request.delay_ms > 0 or request.aggregate in _OF_EARLIER or not self._decides(request):
            # A delayed window ends before the current event; the others never count it.
            request = request._replace(including_current=False)
        canonical = request._replace(clauses=ALWAYS, run=ALWAYS)
        key = (*canonical, identity(request.clauses), identity(request.run))
        number = self._slots.setdefault(key, len(self._requests))
        if number == len(self._requests):
            self._requests.append(request)
            after = [self._kept[cell][1] for cell in request.cells() if cell in self._kept]
            self._stages.append(max(after) + 1 if after else 0)
        return number

    def stage(self, number: int) -> int:
        """Return the stage of a slot: 0, or one above those of the kept values that it reads."""
        return self._stages[number]

    def tables(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the slots and terms tables of the plan."""
        slots = np.zeros((len(self._requests), len(SlotField)), dtype=np.int64)
        rows: list[tuple[int, int, int, int]] = []
        ranges: dict[object, tuple[int, int]] = {(): (0, 0)}

        def place(clauses: Clauses) -> tuple[int, int]:
            key = identity(clauses)
            if key not in ranges:
                first = len(rows)
                for clause in key:
                    rows.extend((*term, term == clause[-1]) for term in clause)
                ranges[key] = (first, len(rows))
            return ranges[key]

        for row, request, stage in zip(slots, self._requests, self._stages, strict=True):
            row[SlotField.ENTITY] = request.history
            row[SlotField.AGGREGATE] = request.aggregate
            row[SlotField.VALUE] = request.value
            row[SlotField.WINDOW_MS] = request.window_ms
            row[SlotField.DELAY_MS] = request.delay_ms
            row[SlotField.TERM_FROM], row[SlotField.TERM_TO] = place(request.clauses)
            row[SlotField.INCLUDING_CURRENT] = request.including_current
            row[SlotField.PARAMETER] = request.parameter
            row[SlotField.MATCH] = request.match
            row[SlotField.RUN_FROM], row[SlotField.RUN_TO] = place(request.run)
            row[SlotField.STAGE] = stage
            row[SlotField.SCALE] = request.scale
        return slots, np.array(rows, dtype=np.int64).reshape(len(rows), len(TermField))

    def texts(self) -> tuple[str, ...]:
        """Return the canonical text of each slot."""
        return tuple(self._text(request) for request in self._requests)

    def entities(self) -> tuple[Entity, ...]:
        """Return the histories with the cells that they must keep.

        Labels reach a transaction through its customer's history, which therefore keeps the keys
        of every entity that has slots over labels.
        """
        histories = list(self._histories)
        kept: list[set[int]] = [
            {FIELDS[name].cell for name in self._entities[entity].keep}
            if kind is Kind.TRANSACTION
            else set()
            for entity, kind in histories
        ]
        labelled: set[int] = set()
        for request in self._requests:
            cells = request.cells()
            kept[request.history] |= cells
            entity, kind = histories[request.history]
            if Cell.LABEL in cells and kind is Kind.TRANSACTION:
                labelled.add(FIELDS[self._entities[entity].key].cell)
        if labelled:
            # Conditions over labels are refused where no customer is declared.
            names = [entity.name for entity in self._entities]
            kept[names.index(CUSTOMER)] |= labelled - {int(Cell.CUSTOMER_ID)}
        return tuple(
            Entity(
                name=self._name(history),
                key=FIELDS[self._entities[entity].key].cell,
                shared=self._entities[entity].shared,
                kept=_ALWAYS_KEPT + tuple(sorted(kept[history] - set(_ALWAYS_KEPT))),
                kind=kind,
            )
            for history, (entity, kind) in enumerate(histories)
        )

    def _decides(self, request: Request) -> bool:
        """Return whether the current event can be one of the history's."""
        return list(self._histories)[request.history][1] in SLOT_KINDS

    def _name(self, history: int) -> str:
        entity, kind = list(self._histories)[history]
        name = self._entities[entity].name
        return name if kind is Kind.TRANSACTION else f"{name}@{kind.name.lower()}"

    def _cell_name(self, cell: int) -> str:
        return self._kept[cell][0].name if cell in self._kept else Cell(cell).name.lower()

    def _text(self, request: Request) -> str:
        name, _, kind = self._name(request.history).partition("@")
        arguments = [self._cell_name(request.value)] if request.value >= 0 else []
        if request.run:
            arguments.append(text_of(request.run))
        if request.aggregate is Aggregate.QUANTILE:
            arguments.append(f"{request.parameter / 1e6:.6g}")
        elif request.parameter:
            arguments.append(json.dumps(duration_text(request.parameter)))
        arguments.append(json.dumps(duration_text(request.window_ms)))
        if kind:
            arguments.append(f"of={kind}")
        if request.clauses:
            arguments.append(f"where={text_of(request.clauses)}")
        if request.delay_ms:
            arguments.append(f"delay={json.dumps(duration_text(request.delay_ms))}")
        elif not request.including_current and self._counts_current(request):
            arguments.append("including_current=False")
        call = f"{name}.{request.aggregate.name.lower()}({', '.join(arguments)})"
        return call if request.match < 0 else f"{call} == {self._cell_name(request.match)}"

    def _counts_current(self, request: Request) -> bool:
        return request.aggregate not in _OF_EARLIER and self._decides(request)
