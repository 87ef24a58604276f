"""Brute-force values of a plan's slots, from its tables alone, and records as cells."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from oracles_expressions import (
    LABELS,
    Record,
    ewma,
    hashed,
    quantile,
    run_length,
    summary,
    top,
    trend,
)

from features.codes import code_of
from features.columns import CODE_CELLS, MISSING, Cell, Kind, empty_cells
from features.kernels.walker import evaluate
from features.plan import KEPT_UNITS_MAX, Aggregate, Comparison, Plan, SlotField

COMPARE = {
    Comparison.EQ: lambda cell, constant: cell == constant,
    Comparison.NE: lambda cell, constant: cell != constant,
    Comparison.LT: lambda cell, constant: cell < constant,
    Comparison.LE: lambda cell, constant: cell <= constant,
    Comparison.GT: lambda cell, constant: cell > constant,
    Comparison.GE: lambda cell, constant: cell >= constant,
}


class Event(NamedTuple):
    """A record as a history keeps it; `cells` ends in the plan's kept values."""

    kind: Kind
    cells: list[int]


def stored(cell: Cell, text: str) -> int:
    return code_of(text) if cell in CODE_CELLS else hashed(text)


def to_cells(records: list[Record]) -> NDArray[np.int64]:
    """Return the records as a batch: int64 (len(Cell), records)."""
    cells = empty_cells(len(records))
    for column, record in enumerate(records):
        for cell in Cell:
            value = record.get(cell.name.lower())
            if cell is Cell.LABEL:
                value = LABELS[value]
            if value is not None:
                cells[cell, column] = stored(cell, value) if isinstance(value, str) else value
    return cells


def fill_slots(plan: Plan, record: Record, past: list[Record]) -> list[float]:
    """Return the value of each slot for a record that arrives after all of `past`."""
    arrivals = [*past, record]
    rows = to_cells(arrivals).T.tolist()
    events: list[Event] = []
    values: list[float] = []
    for arrived, row in zip(arrivals, rows, strict=True):
        now = Event(Kind[arrived["kind"].upper()], [*row, *[MISSING] * len(plan.values)])
        if plan.values or arrived is record:
            values = fill_one(plan, now, events)
        events.append(now)
    return values


def fill_one(plan: Plan, now: Event, past: list[Event]) -> list[float]:
    """Return the value of each slot, and fill in the kept values of a transaction."""
    values = [math.nan] * len(plan.slots)
    for stage in range(int(plan.slots[:, SlotField.STAGE].max(initial=0)) + 1):
        for number, row in enumerate(plan.slots.tolist()):
            if row[SlotField.STAGE] == stage:
                values[number] = slot_value(plan, row, now, past)
        if stage < len(plan.stages) and now.kind is Kind.TRANSACTION:
            keep_values(plan, stage, now, values)
    return values


def keep_values(plan: Plan, stage: int, now: Event, values: list[float]) -> None:
    program = plan.stages[stage]
    cells = np.array([now.cells[: len(Cell)]], dtype=np.int64).T
    slots = np.array([values]).T
    results = evaluate(program, cells, slots, np.empty((0, 1)))
    for kept in plan.values:
        if kept.name in program.outputs:
            units = float(results[program.outputs[kept.name], 0]) * kept.scale
            fits = abs(units) <= KEPT_UNITS_MAX
            now.cells[kept.cell] = round(units) if fits else MISSING


def holds(plan: Plan, first: int, last: int, event: Event) -> bool:
    """Return whether an event meets the clauses in rows [first, last) of the terms table."""
    clause, clauses = False, True
    for cell, comparison, constant, ends_clause in plan.terms[first:last].tolist():
        value = event.cells[cell]
        if constant == MISSING and comparison == Comparison.EQ:
            clause |= value == MISSING
        else:
            clause |= value != MISSING and COMPARE[Comparison(comparison)](value, constant)
        if ends_clause:
            clause, clauses = False, clauses and clause
    return clauses


def slot_value(plan: Plan, row: list[int], now: Event, past: list[Event]) -> float:
    entity = plan.entities[row[SlotField.ENTITY]]
    key = now.cells[entity.key]
    if key == MISSING:
        return math.nan
    end = now.cells[Cell.TS_MS] - row[SlotField.DELAY_MS]
    terms = (row[SlotField.TERM_FROM], row[SlotField.TERM_TO])
    chosen = [
        event
        for event in [*past, *([now] if row[SlotField.INCLUDING_CURRENT] else [])]
        if event.kind is entity.kind
        and event.cells[entity.key] == key
        and end - row[SlotField.WINDOW_MS] < event.cells[Cell.TS_MS] <= end
        and holds(plan, *terms, event)
    ]
    chosen.sort(key=lambda event: (event.cells[Cell.TS_MS], event.cells[Cell.EVENT_ID]))
    assert needed_cells(plan, row) <= set(entity.kept)
    if row[SlotField.VALUE] < 0:
        return of_events(plan, row, now, chosen)
    return of_values(row, now, chosen, end)


def needed_cells(plan: Plan, row: list[int]) -> set[int]:
    ranges = (
        range(row[SlotField.TERM_FROM], row[SlotField.TERM_TO]),
        range(row[SlotField.RUN_FROM], row[SlotField.RUN_TO]),
    )
    return {int(plan.terms[term, 0]) for terms in ranges for term in terms} | (
        {row[SlotField.VALUE]} - {-1}
    )


def of_events(plan: Plan, row: list[int], now: Event, chosen: list[Event]) -> float:
    kind = Aggregate(row[SlotField.AGGREGATE])
    now_ms = now.cells[Cell.TS_MS]
    if kind is Aggregate.COUNT:
        return len(chosen)
    if kind is Aggregate.SINCE:
        return now_ms - chosen[-1].cells[Cell.TS_MS] if chosen else math.nan
    run = (row[SlotField.RUN_FROM], row[SlotField.RUN_TO])
    length = run_length([holds(plan, *run, event) for event in chosen])
    if kind is Aggregate.STREAK:
        return length
    assert kind is Aggregate.STREAK_AGE
    return now_ms - chosen[-length].cells[Cell.TS_MS] if length else math.nan


def of_values(row: list[int], now: Event, chosen: list[Event], end_ms: int) -> float:
    kind, value, match = (
        Aggregate(row[SlotField.AGGREGATE]),
        row[SlotField.VALUE],
        row[SlotField.MATCH],
    )
    timed = [
        (end_ms - event.cells[Cell.TS_MS], event.cells[value])
        for event in chosen
        if event.cells[value] != MISSING
    ]
    values = [stored_value for _, stored_value in timed]
    if kind is Aggregate.SEEN:
        own = now.cells[value]
        return float(own != MISSING and own in values)
    if kind is Aggregate.TOP:
        undefined = not values or now.cells[match] == MISSING
        return math.nan if undefined else float(top(values) == now.cells[match])
    assert match == -1
    if kind is Aggregate.DISTINCT:
        return len(set(values))
    if kind is Aggregate.QUANTILE:
        return quantile(values, row[SlotField.PARAMETER] / 1e6)
    if kind is Aggregate.EWMA:
        return ewma(timed, row[SlotField.PARAMETER])
    if kind is Aggregate.TREND:
        return trend(timed)
    return summary(kind.name.lower(), values, row[SlotField.SCALE])
