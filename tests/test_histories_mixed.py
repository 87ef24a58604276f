"""Histories of several kinds, with kept values and repeats: as a property, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import Cell, Kind, LabelCode
from features.histories import EntityKey, FeatureEngine
from features.plan import Aggregate, Comparison, Plan
from tests.oracle_histories import (
    NO_WHERE,
    Oracle,
    Rows,
    Slot,
    Store,
    apply,
    fetch,
    label,
    make_entity,
    make_plan,
    make_rows,
    part,
    record,
    transaction,
)
from tests.strategies_histories import mixed_plans, mixed_streams

AMOUNT, LABEL = int(Cell.AMOUNT), int(Cell.LABEL)
EVER_MS = 1 << 62
PARTITIONS = [0, 1]


@settings(max_examples=200, deadline=None)
@given(mixed_plans(), mixed_streams(), st.data())
def test_values_equal_the_oracle_for_any_cut_and_any_restart(
    plan: Plan, rows: Rows, data: st.DataObject
) -> None:
    oracle = Oracle(plan)
    expected = oracle.take_all(rows)
    whole = FeatureEngine(plan, PARTITIONS, assume_fresh=True)
    features = whole.update(*rows)
    np.testing.assert_allclose(features.values, expected, rtol=1e-12, atol=1e-9, equal_nan=True)
    assert not features.errors.any()
    assert whole.unmatched_labels == oracle.unmatched_labels
    assert whole.repeated_events == oracle.repeated_events
    stored: Store = {}
    apply(stored, whole.changes())
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(rows[0])), max_size=6))), len(rows[0])]
    for restarting in (False, True):
        engine = FeatureEngine(plan, PARTITIONS)
        store: Store = {}
        pieces = []
        for piece in (part(rows, a, b) for a, b in itertools.pairwise(cuts)):
            engine = FeatureEngine(plan, PARTITIONS) if restarting else engine
            fetch(engine, store, piece)
            pieces.append(engine.update(*piece).values)
            apply(store, engine.changes())
        assert np.concatenate(pieces, axis=1).tobytes() == features.values.tobytes()
        assert store == stored


KINDS = (
    make_entity("customer", Cell.CUSTOMER_ID, False, Cell.DEVICE_ID, AMOUNT),
    make_entity("device", Cell.DEVICE_ID, True),
    make_entity("customer@interaction", Cell.CUSTOMER_ID, False, kind=Kind.INTERACTION),
    make_entity("customer@label", Cell.CUSTOMER_ID, False, kind=Kind.LABEL),
    make_entity("customer@contact", Cell.CUSTOMER_ID, False, kind=Kind.CONTACT),
)


def count_of(entity: int, including_current: bool = True, **fields: object) -> Slot:
    slot = Slot(entity, Aggregate.COUNT, -1, EVER_MS, 0, NO_WHERE, including_current)
    return slot._replace(**fields)


def test_each_kind_has_a_history_of_its_own() -> None:
    slots = [
        *[count_of(entity, including) for entity in (0, 2) for including in (True, False)],
        count_of(1),
        count_of(3),
        count_of(4),
        Slot(2, Aggregate.SINCE, -1, EVER_MS, 0, NO_WHERE, False),
        Slot(0, Aggregate.SUM, AMOUNT, EVER_MS, 0, NO_WHERE, True),
    ]
    fields = {"customer_id": 1, "device_id": 5}
    rows = make_rows(
        [
            transaction(0, 10, 1, amount=3, **fields),
            record(Kind.INTERACTION, 0, 20, 2, **fields),
            record(Kind.CONTACT, 0, 30, 3, **fields),
            transaction(0, 40, 4, amount=4, customer_id=1),
            record(Kind.INTERACTION, 0, 15, 5, **fields),  # late: of the events, one is before it
            record(Kind.INTERACTION, 0, 15, 5, **fields),  # repeated
            record(Kind.OUTCOME, 0, 50, 6, **fields),
            transaction(0, 60, 7, customer_id=1),
        ]
    )
    values = FeatureEngine(make_plan(KINDS, slots), [0], assume_fresh=True).update(*rows).values
    nan = np.nan
    expected = {
        "all": [1, 1, nan, 2, 1, 1, nan, 3],
        "all before": [0, 1, nan, 1, 1, 1, nan, 2],
        "interactions": [0, 1, nan, 1, 1, 1, nan, 2],
        "interactions before": [0, 0, nan, 1, 0, 0, nan, 2],
        "device": [1, 1, nan, nan, 1, 1, nan, nan],
        "labels": [0, 0, nan, 0, 0, 0, nan, 0],
        "contacts": [0, 0, nan, 1, 0, 0, nan, 1],
        "since an interaction": [nan, nan, nan, 20, nan, nan, nan, 40],
        "amounts": [3, 3, nan, 7, 3, 3, nan, 7],
    }
    np.testing.assert_array_equal(values, list(expected.values()))


def test_a_label_is_kept_as_it_was_given_and_still_joins_its_transaction() -> None:
    fraud = ((LABEL, int(Comparison.EQ), int(LabelCode.FRAUD)),)
    slots = [count_of(entity, where=fraud) for entity in (0, 1, 3)]
    engine = FeatureEngine(make_plan(KINDS, slots), [0], assume_fresh=True)
    fields = {"customer_id": 1, "device_id": 5}
    rows = make_rows(
        [
            transaction(0, 10, 1, **fields),
            label(0, 1, 1, LabelCode.FRAUD, ts_ms=20),
            label(0, 1, 1, LabelCode.FRAUD),  # without a time it joins, and is no event
            transaction(0, 30, 2, **fields),
            label(0, 1, 1, LabelCode.LEGITIMATE, ts_ms=40),
            transaction(0, 50, 3, **fields),
        ]
    )
    values = engine.update(*rows).values[:, [0, 3, 5]]
    # The verdict of the transaction changed; that it was once called a fraud stays known.
    assert values.tolist() == [[0, 1, 0], [0, 1, 0], [0, 1, 1]]
    assert engine.unmatched_labels == 0


def test_what_a_row_of_each_kind_needs_loaded() -> None:
    slots = [count_of(1), count_of(2), count_of(4)]
    engine = FeatureEngine(make_plan(KINDS, slots), [0])
    fields = {"customer_id": 1, "device_id": 5}

    def names(kind: Kind) -> list[str]:
        return [
            owner.entity for owner in engine.missing(*make_rows([record(kind, 0, 1, 1, **fields)]))
        ]

    asked = ["device", "customer@interaction", "customer@contact"]
    assert names(Kind.TRANSACTION) == ["customer", *asked]
    assert names(Kind.INTERACTION) == asked
    assert names(Kind.CONTACT) == ["customer@contact"]
    assert names(Kind.LABEL) == ["customer@label", "customer"]
    assert names(Kind.OUTCOME) == names(Kind.PROFILE) == []


@pytest.mark.parametrize("kind", [Kind.TRANSACTION, Kind.INTERACTION])
def test_histories_of_another_kind_that_dropped_events_know_what_they_dropped(kind: Kind) -> None:
    first: Slot = (2, Aggregate.STREAK, -1, EVER_MS, 0, NO_WHERE, True)
    slots = [count_of(2), count_of(2, window_ms=5), count_of(0), first]
    plan = make_plan(KINDS, slots, event_cap=8)
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    clicks = [record(Kind.INTERACTION, 0, i, i, customer_id=1) for i in range(9)]
    engine.update(*make_rows(clicks))
    assert engine.floor_ts(EntityKey(0, "customer@interaction", 1)) == 1
    features = engine.update(*make_rows([record(kind, 0, 8, 50, customer_id=1)]))
    itself = int(kind == Kind.INTERACTION)
    assert features.values[:3, 0].tolist() == [9 + itself, 5 + itself, 1 - itself]
    assert features.errors[:, 0].tolist() == [0, 0, 0, np.inf]
