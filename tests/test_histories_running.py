"""Windows that are kept running against windows that are walked over: the same, bit for bit."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import MISSING, Cell
from features.histories import FeatureEngine
from features.plan import Aggregate, Comparison
from tests.oracle_histories import (
    Oracle,
    Rows,
    Slot,
    Where,
    label,
    make_plan,
    make_rows,
    part,
    transaction,
)
from tests.strategies_histories import CUSTOMER, ENTITIES, SHARED_TERMINAL, plans

AMOUNT, CHANNEL, LABEL = int(Cell.AMOUNT), int(Cell.CHANNEL), int(Cell.LABEL)
ALWAYS, NEVER = 1, 1 << 30
WHERES: dict[str, Where] = {
    "all": (),
    "range": ((AMOUNT, int(Comparison.GT), 0),),
    "fraud": ((LABEL, int(Comparison.EQ), 2), (CHANNEL, int(Comparison.NE), 1)),
}
RUNNING = tuple(Aggregate)[: Aggregate.DISTINCT + 1]


@st.composite
def mostly_in_order(draw: st.DrawFn) -> Rows:
    """Events as they come: mostly one after the other, with ties, late ones, repeats and labels."""
    now_ms, listed = 0, []
    for number in range(draw(st.integers(0, 70))):
        now_ms += draw(st.sampled_from([0, 1, 1, 2, 3, 40]))
        kind = draw(st.integers(0, 19))
        if kind == 0 and number:
            listed.append(label(0, draw(st.integers(0, number)), 1, draw(st.integers(1, 2))))
            continue
        listed.append(
            transaction(
                0,
                max(0, now_ms - (draw(st.integers(1, 12)) if kind == 1 else 0)),
                draw(st.integers(0, number)) if kind == 2 else number,
                customer_id=draw(st.sampled_from([1, 1, 1, 2])),
                card_id=draw(st.sampled_from([MISSING, 7])),
                terminal_id=draw(st.sampled_from([MISSING, 4, 4])),
                amount=draw(st.sampled_from([MISSING, -3, 0, 1, 5, 5, 8, 10**9, -(10**12)])),
                channel=draw(st.sampled_from([MISSING, 0, 1, 2])),
            )
        )
    return make_rows(listed)


def values_of(plan_slots: list[Slot], rows: Rows, run_from_count: int, cuts: list[int],
              **limits: int) -> bytes:  # fmt: skip
    engine = FeatureEngine(
        make_plan(ENTITIES, plan_slots, **limits), [0], assume_fresh=True,
        run_from_count=run_from_count,
    )  # fmt: skip
    edges = [0, *cuts, len(rows[0])]
    pieces = [engine.update(*part(rows, a, b)).values for a, b in itertools.pairwise(edges)]
    return np.concatenate(pieces, axis=1).tobytes()


@settings(max_examples=150, deadline=None)
@given(plans(), mostly_in_order(), st.integers(1, 30), st.data())
def test_running_equals_walking(
    slots: list[Slot], rows: Rows, run_from_count: int, data: st.DataObject
) -> None:
    count = len(rows[0])
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=3)))
    walked = values_of(slots, rows, NEVER, [])
    assert values_of(slots, rows, run_from_count, cuts) == walked
    assert values_of(slots, rows, ALWAYS, cuts) == walked


@settings(max_examples=60, deadline=None)
@given(plans(), mostly_in_order(), st.integers(2, 24), st.integers(5, 60))
def test_running_equals_walking_where_events_are_dropped(
    slots: list[Slot], rows: Rows, event_cap: int, reach_ms: int
) -> None:
    limits = {"event_cap": event_cap, "reach_ms": reach_ms}
    assert values_of(slots, rows, ALWAYS, [], **limits) == values_of(
        slots, rows, NEVER, [], **limits
    )


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("entity", [CUSTOMER, SHARED_TERMINAL])
def test_every_aggregate_over_a_long_stream(entity: int, where: str) -> None:
    slots: list[Slot] = []
    for kind, delay_ms, including, window_ms in itertools.product(
        RUNNING, (0, 50), (False, True), (0, 30, 400)
    ):
        cell = -1 if kind in (Aggregate.COUNT, Aggregate.SINCE) else AMOUNT
        if kind in (Aggregate.DISTINCT, Aggregate.SEEN):
            cell = CHANNEL
        slots.append((entity, kind, cell, window_ms, delay_ms, WHERES[where], including))
    rng = np.random.default_rng(11)
    listed, now_ms = [], 0
    for i in range(240):
        now_ms += int(rng.integers(0, 5)) + 600 * (i % 80 == 79)
        if i % 15 == 14:
            listed.append(label(0, int(rng.integers(max(0, i - 60), i)), 1, 1 + i % 2))
            continue
        amount = int(rng.integers(-50, 50)) if i % 7 else 100 - i % 100
        late_ms = int(rng.integers(0, 30)) if i % 40 == 39 else 0
        listed.append(
            transaction(0, max(0, now_ms - late_ms), i, customer_id=1, terminal_id=3,
                        amount=amount, channel=int(rng.integers(40)))
        )  # fmt: skip
    rows = make_rows(listed)
    plan = make_plan(ENTITIES, slots)
    engine = FeatureEngine(plan, [0], assume_fresh=True, run_from_count=ALWAYS)
    np.testing.assert_allclose(
        engine.update(*rows).values, Oracle(plan).take_all(rows), rtol=1e-12, atol=0
    )
    assert values_of(slots, rows, ALWAYS, [10, 100]) == values_of(slots, rows, NEVER, [])
