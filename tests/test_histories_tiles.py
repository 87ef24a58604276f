"""Windows beyond what a history keeps: a bound that holds, whatever the arrivals."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import MISSING, Cell
from features.histories import FeatureEngine, Features
from features.plan import Aggregate, Comparison, Plan
from tests.oracle_histories import (
    Oracle,
    Rows,
    Slot,
    Where,
    make_entity,
    make_plan,
    make_rows,
    transaction,
)

AMOUNT, CHANNEL = int(Cell.AMOUNT), int(Cell.CHANNEL)
ALL = [0, 1, 2]
EVER_MS = 1 << 62
REACH_MS = 1 << 40
ENTITIES = (
    make_entity("customer", Cell.CUSTOMER_ID, False, Cell.TERMINAL_ID, AMOUNT, CHANNEL),
    make_entity("terminal", Cell.TERMINAL_ID, True, AMOUNT, CHANNEL),
)
TOLD = (  # by tiles
    Aggregate.COUNT, Aggregate.SUM, Aggregate.MEAN, Aggregate.STD, Aggregate.MIN, Aggregate.MAX,
    Aggregate.DISTINCT,
)  # fmt: skip
SPANS_MS = (5, 40, 100, 170, 400, 1_000, EVER_MS)


@st.composite
def wheres(draw: st.DrawFn) -> Where:
    term = st.tuples(
        st.sampled_from([AMOUNT, CHANNEL]),
        st.sampled_from([int(c) for c in Comparison]),
        st.sampled_from([0, 1, 5, int(MISSING)]),
    )
    return tuple(draw(st.lists(term, max_size=2)))


@st.composite
def slots(draw: st.DrawFn) -> Slot:
    aggregate = draw(st.sampled_from([*TOLD, *TOLD, *Aggregate]))
    parameter = {Aggregate.QUANTILE: 500_000, Aggregate.EWMA: 50}.get(aggregate, 0)
    value = draw(st.sampled_from([AMOUNT, CHANNEL]))
    if aggregate in (Aggregate.COUNT, Aggregate.STREAK, Aggregate.STREAK_AGE):
        value = -1
    return Slot(
        draw(st.integers(0, 1)),
        aggregate,
        value,
        draw(st.sampled_from(SPANS_MS)),
        draw(st.sampled_from([0, 0, 60])),
        draw(wheres()),
        draw(st.booleans()),
        parameter,
        CHANNEL if aggregate == Aggregate.TOP else -1,
        scale=100 if aggregate in (Aggregate.MEAN, Aggregate.STD) else 1,
    )


@st.composite
def streams(draw: st.DrawFn) -> Rows:
    """Up to 80 payments of a customer and a terminal: in order or not, some late, some twice."""
    count = draw(st.integers(0, 80))
    times = draw(st.lists(st.integers(0, 600), min_size=count, max_size=count))
    if draw(st.booleans()):
        times.sort()
        for _ in range(draw(st.integers(0, 5))):
            if times:
                times.append(draw(st.sampled_from(times)))
    rows = [
        transaction(
            draw(st.integers(0, 1)), ts_ms, draw(st.sampled_from([i, i // 2, i % 7])),
            customer_id=5, terminal_id=draw(st.sampled_from([8, 8, 8, MISSING])),
            amount=draw(st.sampled_from([MISSING, -70, 0, 1, 5, 6, 900, 10**12])),
            channel=draw(st.sampled_from([MISSING, 0, 1, 2])),
        )
        for i, ts_ms in enumerate(times)
    ]  # fmt: skip
    return make_rows(rows)


def holds(plan: Plan, features: Features, truth: np.ndarray) -> None:
    """Check that no value is further from the truth than it says, and exact ones bit for bit."""
    values, errors = features.values, features.errors
    exact = errors == 0
    std = plan.slots[:, 1] == Aggregate.STD
    for slot, row in zip(*np.nonzero(exact), strict=True):
        got, expected = values[slot, row], truth[slot, row]
        close = std[slot] or plan.slots[slot, 1] in (Aggregate.EWMA, Aggregate.TREND)
        same = np.isclose(got, expected, rtol=1e-12, equal_nan=True) if close else (
            got == expected or (np.isnan(got) and np.isnan(expected))
        )  # fmt: skip
        assert same, (plan.slot_texts[slot], row, got, expected)
    bounded = ~exact & np.isfinite(errors)
    for slot, row in zip(*np.nonzero(bounded), strict=True):
        got, expected = values[slot, row], truth[slot, row]
        assert abs(got - expected) <= errors[slot, row], (
            plan.slot_texts[slot], row, got, expected, errors[slot, row],
        )  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(slots(), min_size=1, max_size=8), streams(), st.sampled_from([1, 3, 8, 20]),
       st.sampled_from([0, 1000]))  # fmt: skip
def test_no_value_is_further_from_the_truth_than_it_says(
    asked: list[Slot], rows: Rows, event_cap: int, run_from_count: int
) -> None:
    plan = make_plan(ENTITIES, asked, REACH_MS, event_cap)
    engine = FeatureEngine(plan, ALL, assume_fresh=True, run_from_count=run_from_count)
    holds(plan, engine.update(*rows), Oracle(plan).take_all(rows))
