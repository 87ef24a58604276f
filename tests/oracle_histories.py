"""The slow, obvious truth about histories: plain lists of all arrivals, searched from scratch."""

import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, SLOT_KINDS, Cell, Cells, Kind, LabelCode, empty_cells
from features.histories import Change, EntityKey, FeatureEngine
from features.kernels.opcodes import Opcode
from features.plan import (
    Aggregate,
    Entity,
    KeptValue,
    Plan,
    Program,
    SlotField,
)
from tests.oracle_aggregates import Event, aggregate, ewma, meets, quantile, top, trend

LEAD = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))

Term = tuple[int, int, int]  # cell, comparison, constant
Where = tuple[Term | tuple[Term, ...], ...]  # a term alone is a clause of its own
NO_WHERE: Where = ()
Rows = tuple[NDArray[np.uint8], Cells, NDArray[np.uint16]]
Store = dict[EntityKey, bytearray]


class Slot(NamedTuple):
    entity: int
    aggregate: Aggregate
    value: int
    window_ms: int
    delay_ms: int
    where: Where
    including_current: bool
    parameter: int = 0
    match: int = -1
    run: Where = ()
    stage: int = 0
    scale: int = 1


def make_entity(
    name: str, key: Cell, shared: bool, *cells: int, kind: Kind = Kind.TRANSACTION
) -> Entity:
    return Entity(name, key, shared, (*LEAD, *sorted(int(c) for c in set(cells))), kind)


def make_plan(
    entities: tuple[Entity, ...],
    slots: Iterable[tuple[Any, ...]],
    reach_ms: int = 1 << 40,
    event_cap: int = 4096,
    values: tuple[KeptValue, ...] = (),
    stages: tuple[Program, ...] = (),
    repeat_horizon_ms: int = 0,
) -> Plan:
    """`slots`: the fields of `Slot`."""
    rows: list[list[int]] = []
    terms: list[tuple[int, ...]] = []
    texts: list[str] = []
    for given in slots:
        slot = Slot(*given)
        row = [0] * len(SlotField)
        row[SlotField.ENTITY] = slot.entity
        row[SlotField.AGGREGATE] = slot.aggregate
        row[SlotField.VALUE] = slot.value
        row[SlotField.WINDOW_MS] = slot.window_ms
        row[SlotField.DELAY_MS] = slot.delay_ms
        row[SlotField.TERM_FROM] = len(terms)
        terms.extend(term_rows(slot.where))
        row[SlotField.TERM_TO] = len(terms)
        row[SlotField.INCLUDING_CURRENT] = slot.including_current
        row[SlotField.PARAMETER] = slot.parameter
        row[SlotField.MATCH] = slot.match
        row[SlotField.RUN_FROM] = len(terms)
        terms.extend(term_rows(slot.run))
        row[SlotField.RUN_TO] = len(terms)
        row[SlotField.STAGE] = slot.stage
        row[SlotField.SCALE] = slot.scale
        rows.append(row)
        texts.append(repr(slot))
    program = Program(
        np.zeros((0, 4), np.int64), np.zeros(0), np.zeros(0, np.int64), 0, dict[str, int]()
    )
    return Plan(
        entities,
        np.array(rows, np.int64).reshape(len(rows), len(SlotField)),
        np.array(terms, np.int64).reshape(len(terms), 4),
        tuple(texts),
        (),
        program,
        program,
        reach_ms,
        event_cap,
        values,
        stages,
        repeat_horizon_ms,
    )


def term_rows(where: Where) -> Iterable[tuple[int, int, int, int]]:
    """Yield rows of TermField."""
    for clause in where:
        terms = [clause] if isinstance(clause[0], int) else list(clause)
        for i, term in enumerate(terms, start=1):
            yield (*term, int(i == len(terms)))


def make_rows(rows: Iterable[tuple[Kind, int, Event]]) -> Rows:
    """`rows`: (kind, partition, cells)."""
    listed = list(rows)
    cells = empty_cells(len(listed))
    for i, (_, _, event) in enumerate(listed):
        for cell, value in event.items():
            cells[cell, i] = value
    kinds = np.array([kind for kind, _, _ in listed], np.uint8)
    return kinds, cells, np.array([partition for _, partition, _ in listed], np.uint16)


def record(
    kind: Kind, partition: int, ts_ms: int, event: int, **fields: int
) -> tuple[Kind, int, Event]:
    cells = {Cell[name.upper()]: value for name, value in fields.items()}
    lead = {Cell.TS_MS: ts_ms, Cell.EVENT_ID: event, Cell.LABEL: LabelCode.UNKNOWN}
    return kind, partition, {int(c): int(v) for c, v in (lead | cells).items()}


def transaction(partition: int, ts_ms: int, event: int, **fields: int) -> tuple[Kind, int, Event]:
    return record(Kind.TRANSACTION, partition, ts_ms, event, **fields)


def label(
    partition: int, event: int, customer: int, code: int, ts_ms: int = MISSING
) -> tuple[Kind, int, Event]:
    return record(Kind.LABEL, partition, ts_ms, event, customer_id=customer, label=code)


def part(rows: Rows, first: int, last: int) -> Rows:
    return rows[0][first:last], rows[1][:, first:last], rows[2][first:last]


def apply(store: Store, changes: Iterable[Change]) -> None:
    """Do what the real store does with changes."""
    for owner, offset, value in changes:
        if offset == 0:
            store[owner] = bytearray(value)
        else:
            assert offset <= len(store[owner]), "a change must not leave a hole"
            store[owner][offset : offset + len(value)] = value


def fetch(engine: FeatureEngine, store: Store, rows: Rows) -> None:
    """Load what a batch needs; two rounds must do."""
    for _ in range(2):
        wanted = engine.missing(*rows)
        engine.load((k, bytes(store[k]) if k in store else None) for k in wanted)
    assert engine.missing(*rows) == []


class Oracle:
    """Expected slot values of rows taken one by one."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.arrivals: dict[tuple[int, int | None, int], list[Event]] = {}
        self.unmatched_labels = 0
        self.repeated_events = 0

    def take(self, kind: int, partition: int, cells: Event) -> list[float]:
        values = [math.nan] * len(self.plan.slots)
        if kind == Kind.LABEL:
            self._label(partition, cells)
        if cells[Cell.TS_MS] == MISSING:
            return values
        now = cells | {value.cell: MISSING for value in self.plan.values}
        stored = self._repeated(kind, partition, cells)
        ts_ms = cells[Cell.TS_MS] if stored is None else stored[Cell.TS_MS]
        found, fresh = self._enter(kind, partition, now, ts_ms, may_insert=stored is None)
        if kind not in SLOT_KINDS:
            return values
        known: Event = {}
        for number, event in found.items():
            for cell in self.plan.entities[number].kept:
                if cell >= len(Cell) and number not in fresh:
                    known.setdefault(cell, event[cell])
        now |= known
        last = max([slot[SlotField.STAGE] for slot in self.plan.slots.tolist()], default=0)
        for stage in range(max(last + 1, len(self.plan.stages))):
            for s, slot in enumerate(self.plan.slots.tolist()):
                number = slot[SlotField.ENTITY]
                key = now[self.plan.entities[number].key]
                if slot[SlotField.STAGE] == stage and key != MISSING:
                    events = self._events(number, partition, key)
                    values[s] = self._value(slot, events, found.get(number), now, ts_ms)
            if stage < len(self.plan.stages):
                now |= run_stage(self.plan, self.plan.stages[stage], now, values) | known
                for number in fresh:
                    found[number] |= {c: v for c, v in now.items() if c >= len(Cell)}
        return values

    def _repeated(self, kind: int, partition: int, cells: Event) -> Event | None:
        """Return the customer's event that a transaction repeats."""
        customer = self._customer()
        if kind != Kind.TRANSACTION or customer is None or cells[Cell.CUSTOMER_ID] == MISSING:
            return None
        own = self._events(customer, partition, cells[Cell.CUSTOMER_ID])
        horizon_ms = self.plan.repeat_horizon_ms
        same = [
            e
            for e in own
            if e[Cell.EVENT_ID] == cells[Cell.EVENT_ID]
            and abs(e[Cell.TS_MS] - cells[Cell.TS_MS]) <= horizon_ms
        ]
        self.repeated_events += bool(same)
        return max(same, key=_order) if same and horizon_ms else None

    def _enter(
        self, kind: int, partition: int, now: Event, ts_ms: int, may_insert: bool
    ) -> tuple[dict[int, Event], list[int]]:
        """Return the row's event in each history of its kind, and where it came in just now."""
        found: dict[int, Event] = {}
        fresh: list[int] = []
        for number, entity in enumerate(self.plan.entities):
            if now[entity.key] == MISSING or entity.kind != kind:
                continue
            events = self._events(number, partition, now[entity.key])
            for event in events:
                if _order(event) == (ts_ms, now[Cell.EVENT_ID]):
                    found[number] = event
            if number not in found and may_insert:
                found[number] = dict(now)
                events.append(found[number])
                fresh.append(number)
        return found, fresh

    def _customer(self) -> int | None:
        for number, entity in enumerate(self.plan.entities):
            if entity.key == Cell.CUSTOMER_ID and entity.kind == Kind.TRANSACTION:
                return number
        return None

    def take_all(self, rows: Rows) -> NDArray[np.float64]:
        kinds, cells, partitions = rows
        columns = [
            self.take(int(kinds[i]), int(partitions[i]), dict(enumerate(cells[:, i].tolist())))
            for i in range(len(kinds))
        ]
        return np.array(columns, np.float64).reshape(len(kinds), len(self.plan.slots)).T

    def _events(self, number: int, partition: int, key: int) -> list[Event]:
        scope = None if self.plan.entities[number].shared else partition
        return self.arrivals.setdefault((number, scope, key), [])

    def _label(self, partition: int, cells: Event) -> None:
        customer = self._customer()
        if customer is None:
            return
        own = self._events(customer, partition, cells[Cell.CUSTOMER_ID])
        found = [e for e in own if e[Cell.EVENT_ID] == cells[Cell.EVENT_ID]]
        if not found:
            self.unmatched_labels += 1
            return
        labelled = max(found, key=_order)
        for number, entity in enumerate(self.plan.entities):
            if entity.kind != Kind.TRANSACTION:
                continue
            for event in self._events(number, partition, labelled[entity.key]):
                if _order(event) == _order(labelled):
                    event[Cell.LABEL] = cells[Cell.LABEL]

    def _value(
        self, slot: list[int], events: list[Event], current: Event | None, cells: Event, ts_ms: int
    ) -> float:
        newest_ts = ts_ms - slot[SlotField.DELAY_MS]
        oldest_ts = newest_ts - slot[SlotField.WINDOW_MS]
        where = self.plan.terms[slot[SlotField.TERM_FROM] : slot[SlotField.TERM_TO]].tolist()
        window = [
            e
            for e in sorted(events, key=_order)
            if oldest_ts < e[Cell.TS_MS] <= newest_ts
            and (slot[SlotField.INCLUDING_CURRENT] or e is not current)
            and meets(e, where)
        ]
        kind, cell = Aggregate(slot[SlotField.AGGREGATE]), slot[SlotField.VALUE]
        if kind in (Aggregate.STREAK, Aggregate.STREAK_AGE):
            run = self.plan.terms[slot[SlotField.RUN_FROM] : slot[SlotField.RUN_TO]].tolist()
            met = list(itertools.takewhile(lambda e: meets(e, run), reversed(window)))
            if kind == Aggregate.STREAK:
                return float(len(met))
            return float(ts_ms - met[-1][Cell.TS_MS]) if met else math.nan
        if cell >= 0:
            window = [e for e in window if e[cell] != MISSING]
        if kind == Aggregate.SINCE:
            return float(ts_ms - window[-1][Cell.TS_MS]) if window else math.nan
        values = [e[cell] if cell >= 0 else 0 for e in window]
        ages_ms = [newest_ts - e[Cell.TS_MS] for e in window]
        if kind == Aggregate.EWMA:
            return ewma(values, ages_ms, slot[SlotField.PARAMETER])
        if kind == Aggregate.TREND:
            return trend(values, ages_ms)
        if kind == Aggregate.QUANTILE:
            return quantile(values, slot[SlotField.PARAMETER])
        if kind == Aggregate.TOP:
            return top(values, cells[slot[SlotField.MATCH]])
        return aggregate(kind, values, cells.get(cell, MISSING), slot[SlotField.SCALE])


def run_stage(plan: Plan, program: Program, now: Event, values: list[float]) -> Event:
    """Return the kept values that a stage's program gives, rounded to their units."""
    registers: dict[int, float] = {}
    results: dict[int, float] = {}
    for opcode, to, a, b in program.code.tolist():
        match Opcode(opcode):
            case Opcode.CELL:
                cell = now[a]
                registers[to] = math.nan if cell == MISSING else cell / program.floats[b]
            case Opcode.SLOT:
                registers[to] = values[a] / program.floats[b]
            case Opcode.ADD:
                registers[to] = registers[a] + registers[b]
            case Opcode.DIV:
                registers[to] = registers[a] / registers[b] if registers[b] else math.nan
            case Opcode.HASH_EQ:
                registers[to] = float(now[a] == program.ints[b])
            case Opcode.STORE:
                results[to] = registers[a]
            case other:
                raise NotImplementedError(other.name)
    kept: Event = {}
    for value in plan.values:
        if value.name in program.outputs:
            units = results[program.outputs[value.name]] * value.scale
            sound = math.isfinite(units) and abs(units) <= 2**51
            kept[value.cell] = round(units) if sound else MISSING  # half to even, as the kernel
    return kept


def _order(event: Event) -> tuple[int, int]:
    return event[Cell.TS_MS], event[Cell.EVENT_ID]
