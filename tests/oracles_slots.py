"""Brute-force values of a plan's slots, from its tables alone, and records as cells."""

import math

import numpy as np
from numpy.typing import NDArray
from oracles_expressions import LABELS, Record, hashed, summary

from features.codes import code_of
from features.columns import CODE_CELLS, MISSING, Cell, empty_cells
from features.plan import Aggregate, Comparison, Plan, SlotField

COMPARE = {
    Comparison.EQ: lambda cell, constant: cell == constant,
    Comparison.NE: lambda cell, constant: cell != constant,
    Comparison.LT: lambda cell, constant: cell < constant,
    Comparison.LE: lambda cell, constant: cell <= constant,
    Comparison.GT: lambda cell, constant: cell > constant,
    Comparison.GE: lambda cell, constant: cell >= constant,
}


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
    now, *events = to_cells([record, *past]).T.tolist()
    return [slot_value(plan, row, now, events) for row in plan.slots.tolist()]


def slot_value(plan: Plan, row: list[int], now: list[int], past: list[list[int]]) -> float:
    entity = plan.entities[row[SlotField.ENTITY]]
    if now[entity.key] == MISSING:
        return math.nan
    end = now[Cell.TS_MS] - row[SlotField.DELAY_MS]
    terms = plan.terms[row[SlotField.TERM_FROM] : row[SlotField.TERM_TO]].tolist()
    chosen = [
        event
        for event in [*past, *([now] if row[SlotField.INCLUDING_CURRENT] else [])]
        if event[entity.key] == now[entity.key]
        and end - row[SlotField.WINDOW_MS] < event[Cell.TS_MS] <= end
        and all(COMPARE[Comparison(op)](event[cell], constant) for cell, op, constant, _ in terms)
    ]
    chosen.sort(key=lambda event: (event[Cell.TS_MS], event[Cell.EVENT_ID]))
    kind, value = Aggregate(row[SlotField.AGGREGATE]), row[SlotField.VALUE]
    assert {cell for cell, *_ in terms} | ({value} - {-1}) <= set(entity.kept)
    if value < 0:
        if kind is Aggregate.COUNT:
            return len(chosen)
        assert kind is Aggregate.SINCE
        return now[Cell.TS_MS] - chosen[-1][Cell.TS_MS] if chosen else math.nan
    values = [event[value] for event in chosen if event[value] != MISSING]
    if kind is Aggregate.SEEN:
        return math.nan if now[value] == MISSING else float(now[value] in values)
    if kind is Aggregate.DISTINCT:
        return len(set(values))
    return summary(kind.name.lower(), values)
