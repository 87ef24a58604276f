"""The slow, obvious truth about histories: plain lists of all arrivals, searched from scratch."""

import itertools
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells, Kind, LabelCode, empty_cells
from features.histories import Change, EntityKey, FeatureEngine
from features.plan import Aggregate, Comparison, Entity, Plan, Program, SlotField

LEAD = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))
Term = tuple[int, int, int]  # cell, comparison, constant
Where = tuple[Term | tuple[Term, ...], ...]  # a term alone is a clause of its own
NO_WHERE: Where = ()
Event = dict[int, int]
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


def make_entity(name: str, key: Cell, shared: bool, *cells: int) -> Entity:
    return Entity(name, key, shared, (*LEAD, *sorted(int(c) for c in set(cells))))


def make_plan(
    entities: tuple[Entity, ...],
    slots: Iterable[tuple[Any, ...]],
    reach_ms: int = 1 << 40,
    event_cap: int = 4096,
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


def transaction(partition: int, ts_ms: int, event: int, **fields: int) -> tuple[Kind, int, Event]:
    cells = {Cell[name.upper()]: value for name, value in fields.items()}
    lead = {Cell.TS_MS: ts_ms, Cell.EVENT_ID: event, Cell.LABEL: LabelCode.UNKNOWN}
    return Kind.TRANSACTION, partition, {int(c): int(v) for c, v in (lead | cells).items()}


def label(partition: int, event: int, customer: int, code: int) -> tuple[Kind, int, Event]:
    cells = {Cell.EVENT_ID: event, Cell.CUSTOMER_ID: customer, Cell.LABEL: code}
    return Kind.LABEL, partition, {int(c): int(v) for c, v in cells.items()}


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

    def take(self, kind: int, partition: int, cells: Event) -> list[float]:
        values = [math.nan] * len(self.plan.slots)
        if kind == Kind.LABEL:
            self._label(partition, cells)
        if kind != Kind.TRANSACTION:
            return values
        for number, entity in enumerate(self.plan.entities):
            if cells[entity.key] == MISSING:
                continue
            events = self._events(number, partition, cells[entity.key])
            current = next((e for e in events if _order(e) == _order(cells)), None)
            if current is None:
                current = dict(cells)
                events.append(current)
            for s, slot in enumerate(self.plan.slots.tolist()):
                if slot[SlotField.ENTITY] == number:
                    values[s] = self._value(slot, events, current, cells)
        return values

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
        names = [entity.key for entity in self.plan.entities]
        customer = names.index(Cell.CUSTOMER_ID)
        own = self._events(customer, partition, cells[Cell.CUSTOMER_ID])
        found = [e for e in own if e[Cell.EVENT_ID] == cells[Cell.EVENT_ID]]
        if not found:
            self.unmatched_labels += 1
            return
        labelled = max(found, key=_order)
        for number, entity in enumerate(self.plan.entities):
            for event in self._events(number, partition, labelled[entity.key]):
                if _order(event) == _order(labelled):
                    event[Cell.LABEL] = cells[Cell.LABEL]

    def _value(self, slot: list[int], events: list[Event], current: Event, cells: Event) -> float:
        newest_ts = current[Cell.TS_MS] - slot[SlotField.DELAY_MS]
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
            return float(current[Cell.TS_MS] - met[-1][Cell.TS_MS]) if met else math.nan
        if cell >= 0:
            window = [e for e in window if e[cell] != MISSING]
        if kind == Aggregate.SINCE:
            return float(current[Cell.TS_MS] - window[-1][Cell.TS_MS]) if window else math.nan
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
        return aggregate(kind, values, cells.get(cell, MISSING))


def ewma(values: list[int], ages_ms: list[int], half_life_ms: int) -> float:
    weights = [Fraction(0.5 ** (age_ms / half_life_ms)) for age_ms in ages_ms]
    if not values:
        return math.nan
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def trend(values: list[int], ages_ms: list[int]) -> float:
    """Return the slope of the least-squares line, its times in days, with exact fractions."""
    if len(set(ages_ms)) < 2:
        return math.nan
    days = [Fraction(-age_ms, 86_400_000) for age_ms in ages_ms]
    mean_day, mean = Fraction(sum(days), len(days)), Fraction(sum(values), len(values))
    covariance = sum((d - mean_day) * (v - mean) for d, v in zip(days, values, strict=True))
    return float(covariance / sum((d - mean_day) ** 2 for d in days))


def quantile(values: list[int], share: int) -> float:
    """Return the point `share` millionths along the line through the sorted values."""
    if not values:
        return math.nan
    ranked, at = sorted(values), Fraction((len(values) - 1) * share, 1_000_000)
    below, above = ranked[math.floor(at)], ranked[math.ceil(at)]
    return float(below + (above - below) * (at - math.floor(at)))


def top(values: list[int], wanted: int) -> float:
    if not values or wanted == MISSING:
        return math.nan
    most = max(values.count(value) for value in values)
    newest = next(value for value in reversed(values) if values.count(value) == most)
    return float(newest == wanted)


def _order(event: Event) -> tuple[int, int]:
    return event[Cell.TS_MS], event[Cell.EVENT_ID]


def meets(event: Event, terms: list[list[int]]) -> bool:
    """Say whether every clause has a term that holds of the event."""
    clauses: list[list[bool]] = [[]]
    for cell, compare, constant, ends in terms:
        clauses[-1].append(_holds(event[cell], compare, constant))
        if ends:
            clauses.append([])
    return all(any(clause) for clause in clauses[:-1])


def _holds(value: int, compare: int, constant: int) -> bool:
    if constant == MISSING and compare == Comparison.EQ:
        return value == MISSING
    if value == MISSING:
        return False
    return {
        Comparison.EQ: value == constant,
        Comparison.NE: value != constant,
        Comparison.LT: value < constant,
        Comparison.LE: value <= constant,
        Comparison.GT: value > constant,
        Comparison.GE: value >= constant,
    }[Comparison(compare)]


def aggregate(kind: Aggregate, values: list[int], current: int) -> float:
    """Return an aggregate by its definition, with exact fractions."""
    if kind == Aggregate.COUNT:
        return float(len(values))
    if kind == Aggregate.SEEN:
        return float(current != MISSING and current in values)
    if kind == Aggregate.DISTINCT:
        return float(len(set(values)))
    if kind == Aggregate.SUM:
        return float(sum(values))
    if not values:
        return math.nan
    if kind == Aggregate.MEAN:
        return sum(values) / len(values)
    if kind == Aggregate.STD:
        mean = Fraction(sum(values), len(values))
        return math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    pick = {
        Aggregate.MIN: min(values),
        Aggregate.MAX: max(values),
        Aggregate.FIRST: values[0],
        Aggregate.LAST: values[-1],
    }
    return float(pick[kind])
