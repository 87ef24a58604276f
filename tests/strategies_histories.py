"""Hypothesis strategies of plans and of streams with ties, late and repeated events, and labels."""

import dataclasses

import numpy as np
from hypothesis import strategies as st

from features.columns import MISSING, Cell, Kind
from features.kernels.opcodes import Opcode
from features.plan import Aggregate, Comparison, Entity, KeptValue, Plan, Program
from tests.oracle_histories import (
    Event,
    Rows,
    Slot,
    Where,
    label,
    make_entity,
    make_plan,
    make_rows,
    record,
    transaction,
)

CUSTOMER, SHARED_TERMINAL, LOCAL_CARD = 0, 1, 2
_KEYS = (Cell.CUSTOMER_ID, Cell.CARD_ID, Cell.TERMINAL_ID)
_VALUES = (Cell.AMOUNT, Cell.CHANNEL)
ENTITIES = (
    make_entity("customer", Cell.CUSTOMER_ID, False, *_KEYS[1:], *_VALUES),
    make_entity("terminal", Cell.TERMINAL_ID, True, *_KEYS, *_VALUES),
    make_entity("card", Cell.CARD_ID, False, *_KEYS, *_VALUES),
)
_KEPT = (len(Cell), len(Cell) + 1)
MIXED_ENTITIES = (
    make_entity("customer", Cell.CUSTOMER_ID, False, *_KEYS[1:], *_VALUES, *_KEPT),
    make_entity("terminal", Cell.TERMINAL_ID, True, *_KEYS, *_VALUES, _KEPT[0]),
    make_entity("card", Cell.CARD_ID, False, *_VALUES, _KEPT[1]),
    make_entity("customer@interaction", Cell.CUSTOMER_ID, False, *_VALUES, kind=Kind.INTERACTION),
    make_entity("terminal@interaction", Cell.TERMINAL_ID, True, *_VALUES, kind=Kind.INTERACTION),
    make_entity("customer@label", Cell.CUSTOMER_ID, False, kind=Kind.LABEL),
    make_entity("customer@outcome", Cell.CUSTOMER_ID, False, *_VALUES, kind=Kind.OUTCOME),
)


def _readable(entity: Entity, labels: bool, stage: int = 0) -> list[int]:
    """Return the cells that slots of a stage may read of an entity's events."""
    kept = [int(c) for c in _VALUES if c in entity.kept]
    kept += [c for c in entity.kept if len(Cell) <= c < len(Cell) + stage]
    return [*kept, int(Cell.LABEL)] if labels else kept


@st.composite
def _wheres(draw: st.DrawFn, cells: list[int]) -> Where:
    term = st.tuples(
        st.sampled_from(cells),
        st.sampled_from([int(c) for c in Comparison]),
        st.sampled_from([-1, 0, 1, 2, 3, int(MISSING)]),
    )
    clause = st.one_of(term, st.lists(term, min_size=1, max_size=3).map(tuple))
    return tuple(draw(st.lists(clause, max_size=3)))


@st.composite
def _slots(
    draw: st.DrawFn,
    entities: tuple[Entity, ...],
    labels: bool,
    stage: int = 0,
    aggregates: tuple[Aggregate, ...] = tuple(Aggregate),
) -> Slot:
    number = draw(st.integers(0, len(entities) - 1))
    aggregate = draw(st.sampled_from(aggregates))
    cells = _readable(entities[number], labels, stage)
    values = cells
    if aggregate in (Aggregate.COUNT, Aggregate.STREAK, Aggregate.STREAK_AGE):
        values = [-1]
    elif aggregate == Aggregate.SINCE:
        values = [*cells, -1]
    parameters = {
        Aggregate.QUANTILE: [0, 250_000, 333_333, 500_000, 999_999, 1_000_000],
        Aggregate.EWMA: [1, 7, 1_000],
    }
    value = draw(st.sampled_from(values))
    matches = [int(c) for c in _VALUES] + [value]
    runs = aggregate in (Aggregate.STREAK, Aggregate.STREAK_AGE)
    return Slot(
        number,
        aggregate,
        value,
        draw(st.sampled_from([0, 1, 5, 17, 1 << 62])),
        draw(st.sampled_from([0, 0, 1, 6])),
        draw(_wheres(cells)),
        draw(st.booleans()),
        draw(st.sampled_from(parameters.get(aggregate, [0]))),
        draw(st.sampled_from(matches)) if aggregate == Aggregate.TOP else -1,
        draw(_wheres(cells)) if runs else (),
        stage,
        100 if aggregate in (Aggregate.MEAN, Aggregate.STD) else 1,
    )


def plans(labels: bool = True) -> st.SearchStrategy[list[Slot]]:
    """Slots over ENTITIES; without `labels` none of them reads labels."""
    return st.lists(_slots(ENTITIES, labels), max_size=10)


# Their values are the same float64 wherever they are computed: so are kept values of them.
_EXACT = tuple(
    kind
    for kind in Aggregate
    if kind
    not in (Aggregate.STD, Aggregate.QUANTILE, Aggregate.EWMA, Aggregate.TREND, Aggregate.TOP)
)


@st.composite
def _programs(draw: st.DrawFn, name: str, slot: int) -> Program:
    """Return a program that keeps the amount per slot, their sum, or the slot alone."""
    code = {
        "ratio": [
            (Opcode.CELL, 0, Cell.AMOUNT, 1),
            (Opcode.SLOT, 1, slot, 0),
            (Opcode.DIV, 2, 0, 1),
        ],
        "sum": [(Opcode.CELL, 0, Cell.AMOUNT, 1), (Opcode.SLOT, 1, slot, 1), (Opcode.ADD, 2, 0, 1)],
        "slot": [(Opcode.SLOT, 2, slot, 2)],
    }[draw(st.sampled_from(["ratio", "sum", "slot"]))]
    rows = np.array([*code, (Opcode.STORE, 0, 2, 0)], np.int64)
    return Program(rows, np.array([1.0, 100.0, 8.0]), np.zeros(0, np.int64), 3, {name: 0})


@st.composite
def mixed_plans(draw: st.DrawFn) -> Plan:
    """Plans over the histories of several kinds, with up to two kept values and with repeats."""
    count = draw(st.integers(0, 2))
    values = tuple(
        KeptValue(f"kept_{k}", len(Cell) + k, draw(st.sampled_from([1, 4, 1_000])), k)
        for k in range(count)
    )
    entities = tuple(
        dataclasses.replace(e, kept=tuple(c for c in e.kept if c < len(Cell) + count))
        for e in MIXED_ENTITIES
    )
    slots = draw(st.lists(_slots(entities, True), max_size=6))
    stages = []
    for k in range(count):
        slots.append(draw(_slots(entities, True, draw(st.integers(0, k)), _EXACT)))
        stages.append(draw(_programs(values[k].name, len(slots) - 1)))
        slots += draw(st.lists(_slots(entities, True, k + 1), min_size=1, max_size=4))
    repeats_ms = draw(st.sampled_from([0, 3, 1_000]))
    return make_plan(
        entities, slots, values=values, stages=tuple(stages), repeat_horizon_ms=repeats_ms
    )


@st.composite
def _rows(draw: st.DrawFn) -> tuple[Kind, int, Event]:
    partition, event = draw(st.integers(0, 2)), draw(st.integers(0, 25))
    maybe = st.sampled_from([MISSING, 0, 1])
    if draw(st.integers(0, 4)) == 0:
        return label(partition, event, draw(st.integers(0, 1)), draw(st.integers(1, 2)))
    fields = {
        "customer_id": draw(maybe),
        "card_id": draw(maybe),
        "terminal_id": draw(maybe),
        "amount": draw(st.sampled_from([MISSING, -2, 0, 1, 3, 10**12])),
        "channel": draw(st.sampled_from([MISSING, 0, 1, 2])),
    }
    return transaction(partition, draw(st.integers(0, 30)), event, **fields)


_MIXED_KINDS = (
    *[Kind.TRANSACTION] * 6, Kind.INTERACTION, Kind.INTERACTION, Kind.LABEL, Kind.LABEL,
    Kind.OUTCOME, Kind.CONTACT, Kind.PROFILE,
)  # fmt: skip


@st.composite
def _mixed_rows(draw: st.DrawFn) -> tuple[Kind, int, Event]:
    kind, partition = draw(st.sampled_from(_MIXED_KINDS)), draw(st.integers(0, 1))
    event, ts_ms = draw(st.integers(0, 12)), draw(st.integers(0, 30))
    maybe = st.sampled_from([MISSING, 0, 1])
    if kind == Kind.LABEL:
        when_ms = draw(st.sampled_from([MISSING, ts_ms]))
        return label(partition, event, draw(st.integers(0, 1)), draw(st.integers(1, 2)), when_ms)
    fields = {
        "customer_id": draw(st.sampled_from([MISSING, 0, 0, 1])),
        "card_id": draw(maybe),
        "terminal_id": draw(maybe),
        "amount": draw(st.sampled_from([MISSING, -2, 0, 1, 3, 250, 10**12])),
        "channel": draw(st.sampled_from([MISSING, 0, 1, 2])),
    }
    return record(kind, partition, ts_ms, event, **fields)


def mixed_streams() -> st.SearchStrategy[Rows]:
    """Batches of up to 50 rows of all kinds, in which events come again with other times."""
    return st.lists(_mixed_rows(), max_size=50).map(make_rows)


def streams() -> st.SearchStrategy[Rows]:
    """Batches of up to 60 rows: few keys, times and events, so that everything collides."""
    return st.lists(_rows(), max_size=60).map(make_rows)
