"""Slot values against the oracle, and by hand."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import MISSING, Cell, Kind, LabelCode
from features.histories import EntityKey, FeatureEngine
from features.plan import Aggregate, Comparison
from tests.oracle_histories import (
    NO_WHERE,
    Oracle,
    Rows,
    Slot,
    label,
    make_entity,
    make_plan,
    make_rows,
    part,
    transaction,
)
from tests.strategies_histories import CUSTOMER, ENTITIES, SHARED_TERMINAL, plans, streams

AMOUNT = int(Cell.AMOUNT)
FRAUD_TERM = (int(Cell.LABEL), int(Comparison.EQ), int(LabelCode.FRAUD))


def assert_matches(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-9, equal_nan=True)


@settings(max_examples=150, deadline=None)
@given(plans(), streams(), st.data())
def test_values_equal_the_oracle_for_any_cut(
    slots: list[Slot], rows: Rows, data: st.DataObject
) -> None:
    plan = make_plan(ENTITIES, slots)
    oracle = Oracle(plan)
    expected = oracle.take_all(rows)
    whole = FeatureEngine(plan, [0, 1, 2], assume_fresh=True)
    values = whole.update(*rows).values
    assert_matches(values, expected)
    assert whole.unmatched_labels == oracle.unmatched_labels
    count = len(rows[0])
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=6)))
    cut_up = FeatureEngine(plan, [0, 1, 2], assume_fresh=True)
    pieces = [
        cut_up.update(*part(rows, a, b)).values for a, b in itertools.pairwise([0, *cuts, count])
    ]
    assert np.concatenate(pieces, axis=1).tobytes() == values.tobytes()


OF_EVENTS = (Aggregate.COUNT, Aggregate.SINCE, Aggregate.STREAK, Aggregate.STREAK_AGE)
PARAMETERS = {Aggregate.QUANTILE: (0, 500_000, 900_000, 1_000_000), Aggregate.EWMA: (3, 50)}
WHERES = {
    "all": NO_WHERE,
    "one": ((AMOUNT, int(Comparison.GT), 0),),
    "two": ((int(Cell.CHANNEL), int(Comparison.NE), 1), FRAUD_TERM),
    "either": (((int(Cell.CHANNEL), int(Comparison.EQ), 2), (AMOUNT, int(Comparison.LT), 2)),),
    "missing": ((AMOUNT, int(Comparison.EQ), int(MISSING)),),
    "clauses": (
        ((AMOUNT, int(Comparison.EQ), int(MISSING)), (AMOUNT, int(Comparison.GE), 2)),
        ((int(Cell.CHANNEL), int(Comparison.EQ), 0), (int(Cell.CHANNEL), int(Comparison.EQ), 2)),
        (int(Cell.LABEL), int(Comparison.NE), int(LabelCode.FRAUD)),
    ),
}


@pytest.mark.parametrize("where", WHERES)
@pytest.mark.parametrize("entity", [CUSTOMER, SHARED_TERMINAL])
def test_every_aggregate_where_delay_and_including_current(entity: int, where: str) -> None:
    slots: list[Slot] = []
    for kind, delay_ms, including, window_ms in itertools.product(
        Aggregate, (0, 5), (False, True), (0, 9, 1 << 62)
    ):
        cell = -1 if kind in OF_EVENTS else AMOUNT
        match, run = -1, NO_WHERE
        if kind == Aggregate.TOP:
            cell = match = int(Cell.CHANNEL)
        elif kind in (Aggregate.STREAK, Aggregate.STREAK_AGE):
            run = ((AMOUNT, int(Comparison.GT), 0), (int(Cell.LABEL), int(Comparison.NE), 2))
        for parameter in PARAMETERS.get(kind, (0,)):
            window = (entity, kind, cell, window_ms, delay_ms, WHERES[where], including)
            slots.append(Slot(*window, parameter, match, run))
    slots.append((entity, Aggregate.SINCE, AMOUNT, 20, 0, WHERES[where], False))
    slots.append((entity, Aggregate.DISTINCT, int(Cell.CHANNEL), 20, 0, WHERES[where], True))
    plan = make_plan(ENTITIES, slots)
    rng = np.random.default_rng(7)
    listed = []
    for i in range(60):
        if i % 4 == 3:
            listed.append(label(0, int(rng.integers(i)), int(rng.integers(2)), 1 + i % 2))
            continue
        amount = int(rng.choice([MISSING, -3, 1, 2, 900]))
        fields = {"amount": amount, "channel": int(rng.integers(3)), "terminal_id": i % 2}
        fields["customer_id"] = int(rng.integers(2))
        listed.append(transaction(0, int(rng.integers(40)), i, **fields))
    rows = make_rows(listed)
    expected = Oracle(plan).take_all(rows)
    assert_matches(FeatureEngine(plan, [0], assume_fresh=True).update(*rows).values, expected)


@pytest.mark.parametrize("comparison", Comparison)
def test_a_term_compares_raw_cells_and_is_false_of_a_missing_one(comparison: Comparison) -> None:
    where = ((AMOUNT, int(comparison), 5),)
    plan = make_plan(ENTITIES, [(CUSTOMER, Aggregate.COUNT, -1, 100, 0, where, True)])
    amounts = [4, 5, 6, MISSING]
    rows = make_rows(transaction(0, 1, i, customer_id=1, amount=a) for i, a in enumerate(amounts))
    counts = {"EQ": 1.0, "NE": 2.0, "LT": 1.0, "LE": 2.0, "GT": 1.0, "GE": 2.0}
    values = FeatureEngine(plan, [0]).update(*rows).values
    assert values[0, -1] == counts[comparison.name]


def test_clauses_by_hand() -> None:
    country, mcc = int(Cell.COUNTRY), int(Cell.MCC)
    equal, above = int(Comparison.EQ), int(Comparison.GT)
    abroad_or_unknown = ((country, equal, 2), (country, equal, int(MISSING)))
    large_or_gambling = ((AMOUNT, above, 10), (mcc, equal, 7995))
    wheres = [
        (abroad_or_unknown,),
        (large_or_gambling,),
        (abroad_or_unknown, large_or_gambling),
        (abroad_or_unknown, large_or_gambling, (AMOUNT, above, 5)),
        ((country, int(Comparison.NE), int(MISSING)),),
        ((mcc, equal, int(MISSING)), (mcc, above, 0)),
    ]
    slots = [(CUSTOMER, Aggregate.COUNT, -1, 100, 0, where, True) for where in wheres]
    plan = make_plan(
        (make_entity("customer", Cell.CUSTOMER_ID, False, country, mcc, AMOUNT),), slots
    )
    listed = [
        {"country": 1, "amount": 20},
        {"country": 2, "amount": 20},
        {"amount": 20, "mcc": 1},
        {"country": 2, "amount": 3},
        {"amount": 3, "mcc": 7995},
        {"country": 1, "mcc": 7995},
    ]
    rows = make_rows(transaction(0, 1, i, customer_id=1, **f) for i, f in enumerate(listed))
    values = FeatureEngine(plan, [0]).update(*rows).values
    assert values[:, -1].tolist() == [4, 5, 3, 2, 4, 0]


def test_a_window_by_hand() -> None:
    slots: list[Slot] = [
        (CUSTOMER, Aggregate.SUM, AMOUNT, 10, 0, NO_WHERE, True),
        (CUSTOMER, Aggregate.COUNT, -1, 10, 0, NO_WHERE, False),
        (CUSTOMER, Aggregate.SINCE, -1, 10, 0, NO_WHERE, False),
        (CUSTOMER, Aggregate.FIRST, AMOUNT, 10, 0, NO_WHERE, False),
    ]
    rows = make_rows(
        [
            transaction(0, 100, 1, customer_id=1, amount=7),
            transaction(0, 110, 2, customer_id=1, amount=5),  # 100 is just outside (100, 110]
            transaction(0, 104, 3, customer_id=1, amount=1),  # late: 110 is in its future
            transaction(0, 110, 9, customer_id=1, amount=2),  # a tie is inside
            transaction(0, 110, 2, customer_id=1, amount=99),  # repeated: the stored amount counts
        ]
    )
    values = FeatureEngine(make_plan(ENTITIES, slots), [0]).update(*rows).values
    assert values[0].tolist() == [7, 5, 8, 8, 8]
    assert values[1].tolist() == [0, 0, 1, 2, 2]
    np.testing.assert_array_equal(values[2], [np.nan, np.nan, 4, 0, 0])
    np.testing.assert_array_equal(values[3], [np.nan, np.nan, 7, 1, 1])


def test_large_amounts_sum_exactly_and_std_is_stable() -> None:
    slots: list[Slot] = [
        (CUSTOMER, Aggregate.SUM, AMOUNT, 100, 0, NO_WHERE, True),
        (CUSTOMER, Aggregate.STD, AMOUNT, 100, 0, NO_WHERE, True),
    ]
    amounts = [10**15 + 1, 10**15 + 3, -(10**15), 10**15 + 5]
    rows = make_rows(transaction(0, i, i, customer_id=1, amount=a) for i, a in enumerate(amounts))
    values = FeatureEngine(make_plan(ENTITIES, slots), [0]).update(*rows).values
    assert values[0].tolist() == [10**15 + 1, 2 * 10**15 + 4, 10**15 + 4, 2 * 10**15 + 9]
    assert values[1, :2].tolist() == [0.0, 1.0]


def test_an_absent_entity_and_other_rows_have_no_values_and_leave_no_trace() -> None:
    slots: list[Slot] = [
        (CUSTOMER, Aggregate.COUNT, -1, 100, 0, NO_WHERE, True),
        (SHARED_TERMINAL, Aggregate.COUNT, -1, 100, 0, NO_WHERE, True),
    ]
    _, _, profile = transaction(0, 5, 2, customer_id=1, terminal_id=4)
    rows = make_rows(
        [
            transaction(0, 5, 1, customer_id=1),
            (Kind.PROFILE, 0, profile),
            (Kind.REFUSED, 0, profile),
            transaction(0, 5, 3, customer_id=1, terminal_id=4),
        ]
    )
    values = FeatureEngine(make_plan(ENTITIES, slots), [0]).update(*rows).values
    np.testing.assert_array_equal(values, [[1, np.nan, np.nan, 2], [np.nan, np.nan, np.nan, 1]])


def test_a_local_entity_is_apart_in_each_partition_and_a_shared_one_is_not() -> None:
    slots: list[Slot] = [
        (CUSTOMER, Aggregate.COUNT, -1, 100, 0, NO_WHERE, True),
        (SHARED_TERMINAL, Aggregate.COUNT, -1, 100, 0, NO_WHERE, True),
    ]
    rows = make_rows(transaction(p, p, p, customer_id=1, terminal_id=1) for p in range(3))
    values = FeatureEngine(make_plan(ENTITIES, slots), [0, 1, 2]).update(*rows).values
    assert values.tolist() == [[1, 1, 1], [1, 2, 3]]


def test_unmatched_labels_are_counted() -> None:
    plan = make_plan(ENTITIES, [])
    engine = FeatureEngine(plan, [0])
    engine.update(*make_rows([transaction(0, 1, 1, customer_id=1), label(0, 1, 1, 2)]))
    assert engine.unmatched_labels == 0
    engine.update(*make_rows([label(0, 2, 1, 2), label(0, 1, 9, 2), label(1, 1, 1, 2)]))
    assert engine.unmatched_labels == 3


@settings(max_examples=80, deadline=None)
@given(plans(labels=False), streams(), st.integers(1, 20), st.integers(0, 40))
def test_small_histories_are_exact_above_their_floor_and_never_wrong_below(
    slots: list[Slot], rows: Rows, event_cap: int, reach_ms: int
) -> None:
    plan = make_plan(ENTITIES, slots, reach_ms, event_cap)
    expected = Oracle(plan).take_all(rows)
    engine = FeatureEngine(plan, [0, 1, 2], assume_fresh=True)
    for i in range(len(rows[0])):
        features = engine.update(*part(rows, i, i + 1))
        for s, slot in enumerate(slots):
            entity = plan.entities[slot.entity]
            owner = EntityKey(int(rows[2][i]), entity.name, int(rows[1][entity.key, i]))
            floor_ts = engine.floor_ts(owner)
            start_ms = int(rows[1][Cell.TS_MS, i]) - slot.window_ms - slot.delay_ms
            if floor_ts is None or start_ms >= floor_ts:
                assert features.errors[s, 0] == 0
                assert_matches(features.values[s, 0], expected[s, i])
            elif features.errors[s, 0] == 0:  # tiles may still know
                assert_matches(features.values[s, 0], expected[s, i])
            else:
                assert rows[0][i] == Kind.TRANSACTION
                assert not abs(features.values[s, 0] - expected[s, i]) > features.errors[s, 0]


def test_blocks_grow_and_then_drop_what_is_out_of_reach() -> None:
    slots: list[Slot] = [(CUSTOMER, Aggregate.COUNT, -1, 1 << 50, 0, NO_WHERE, True)]
    plan = make_plan(ENTITIES, slots, reach_ms=10, event_cap=32)
    engine = FeatureEngine(plan, [0])
    steady = make_rows(transaction(0, i, i, customer_id=1) for i in range(8))
    owner = EntityKey(0, "customer", 1)
    assert engine.update(*steady).values[0].tolist() == list(range(1, 9))
    assert engine.floor_ts(owner) is None
    # The ninth finds the block of 8 full; 0 ... 5 are out of the reach of 15: five or more go.
    assert engine.update(*make_rows([transaction(0, 15, 99, customer_id=1)])).values[0, 0] == 3
    assert engine.floor_ts(owner) == 5
    # All at one time: nothing is out of reach, so blocks double up to the cap, then drop a quarter.
    burst = make_rows(transaction(0, 15, 100 + i, customer_id=1) for i in range(30))
    counts = engine.update(*burst).values[0].tolist()
    assert counts == [*range(4, 33), 25]
    assert engine.floor_ts(owner) == 15


def test_tables_and_arena_grow_in_the_middle_of_a_batch() -> None:
    slots: list[Slot] = [
        (CUSTOMER, Aggregate.COUNT, -1, 1 << 50, 0, NO_WHERE, True),
        (SHARED_TERMINAL, Aggregate.COUNT, -1, 1 << 50, 0, NO_WHERE, True),
    ]
    engine = FeatureEngine(make_plan(ENTITIES, slots), [0], assume_fresh=True)
    customers = np.random.default_rng(3).integers(0, 4000, 12_000)
    rows = make_rows(
        transaction(0, i, i, customer_id=int(c), terminal_id=int(c) % 7)
        for i, c in enumerate(customers)
    )
    seen: Counter[int] = Counter()
    expected = []
    for customer in customers.tolist():
        seen[customer] += 1
        expected.append(seen[customer])
    assert engine.update(*rows).values[0].tolist() == expected
    assert len(engine.changes()) == len(seen) + 7
