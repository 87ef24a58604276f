"""Kept values and repeated events, by hand."""

import dataclasses

import numpy as np
import pytest

from features.columns import Cell, Kind, LabelCode
from features.histories import FeatureEngine
from features.kernels.opcodes import Opcode
from features.plan import Aggregate, KeptValue, Plan, Program
from tests.oracle_histories import (
    NO_WHERE,
    Slot,
    Store,
    apply,
    fetch,
    label,
    make_entity,
    make_plan,
    make_rows,
    transaction,
)

AMOUNT = int(Cell.AMOUNT)
EVER_MS, HOUR_MS, DAY_MS = 1 << 62, 3_600_000, 86_400_000
RATIO, DOUBLE = len(Cell), len(Cell) + 1
ENTITIES = (
    make_entity("customer", Cell.CUSTOMER_ID, False, Cell.CARD_ID, AMOUNT, RATIO, DOUBLE),
    make_entity("card", Cell.CARD_ID, False, AMOUNT, RATIO),
)
VALUES = (KeptValue("ratio", RATIO, 1_000, 1), KeptValue("double", DOUBLE, 1, 2))


def program(code: list[tuple[int, ...]], floats: list[float], **outputs: int) -> Program:
    rows = np.array(code, np.int64).reshape(len(code), 4)
    return Program(rows, np.array(floats), np.zeros(0, np.int64), 3, outputs)


# Stage 0: the amount over the mean of earlier ones. Stage 1: twice the largest such ratio so far.
RATIO_OF = program(
    [
        (Opcode.CELL, 0, AMOUNT, 0),
        (Opcode.SLOT, 1, 0, 0),
        (Opcode.DIV, 2, 0, 1),
        (Opcode.STORE, 0, 2, 0),
    ],
    [1.0],
    ratio=0,
)
DOUBLE_OF = program(
    [(Opcode.SLOT, 0, 1, 0), (Opcode.ADD, 1, 0, 0), (Opcode.STORE, 0, 1, 0)], [1_000.0], double=0
)
SLOTS = [
    Slot(0, Aggregate.MEAN, AMOUNT, EVER_MS, 0, NO_WHERE, False),
    Slot(0, Aggregate.MAX, RATIO, EVER_MS, 0, NO_WHERE, True, stage=1),
    Slot(1, Aggregate.SUM, RATIO, EVER_MS, 0, NO_WHERE, False, stage=1),
    Slot(0, Aggregate.SUM, DOUBLE, EVER_MS, 0, NO_WHERE, True, stage=2),
    Slot(0, Aggregate.SEEN, RATIO, EVER_MS, 0, NO_WHERE, False, stage=1),
]


def kept_plan(repeat_horizon_ms: int = 0) -> Plan:
    return make_plan(
        ENTITIES,
        SLOTS,
        values=VALUES,
        stages=(RATIO_OF, DOUBLE_OF),
        repeat_horizon_ms=repeat_horizon_ms,
    )


def purchase(
    ts_ms: int, event: int, amount: int, card: int = 7
) -> tuple[Kind, int, dict[int, int]]:
    return transaction(0, ts_ms, event, customer_id=1, card_id=card, amount=amount)


def test_kept_values_stage_by_stage() -> None:
    events = [
        purchase(10, 1, 100),
        purchase(20, 2, 300),
        purchase(30, 3, 100),
        purchase(40, 4, 500),
    ]
    engine = FeatureEngine(kept_plan(), [0], assume_fresh=True)
    values = engine.update(*make_rows(events)).values
    nan = np.nan
    # Means of earlier amounts: none, 100, 200, 500/3; so the ratios are none, 3, 0.5 and 3.
    np.testing.assert_array_equal(values[0], [nan, 100, 200, 500 / 3])
    np.testing.assert_array_equal(values[1], [nan, 3_000, 3_000, 3_000])
    np.testing.assert_array_equal(values[2], [0, 0, 3_000, 3_500])
    np.testing.assert_array_equal(values[3], [0, 6, 12, 18])
    np.testing.assert_array_equal(values[4], [0, 0, 0, 1])


def test_a_late_event_takes_its_own_value_and_changes_none() -> None:
    engine = FeatureEngine(kept_plan(), [0], assume_fresh=True)
    engine.update(*make_rows([purchase(10, 1, 100), purchase(30, 3, 400)]))
    values = engine.update(*make_rows([purchase(20, 2, 50), purchase(40, 4, 0)])).values
    # 50 after 100 is 0.5; the 400 stays 4.0, although the mean before it is now 75.
    assert values[2].tolist() == [0, 4_500]


def test_kept_values_are_rounded_half_to_even_and_bounded() -> None:
    one = (make_entity("customer", Cell.CUSTOMER_ID, False, AMOUNT, RATIO),)
    slots = [
        Slot(0, Aggregate.LAST, AMOUNT, EVER_MS, 0, NO_WHERE, True),
        Slot(0, Aggregate.LAST, RATIO, 0, 0, NO_WHERE, True, stage=1),
        Slot(0, Aggregate.LAST, RATIO, 1, 0, NO_WHERE, True, stage=1),
    ]
    half = program([(Opcode.SLOT, 0, 0, 0), (Opcode.STORE, 0, 0, 0)], [2.0], ratio=0)
    plan = make_plan(one, slots, values=(KeptValue("ratio", RATIO, 1, 1),), stages=(half,))
    amounts = [1, 3, 5, -1, -3, 2**52, 2**52 + 2, -(2**52), -(2**52) - 2]
    listed = [transaction(0, i, i, customer_id=1, amount=a) for i, a in enumerate(amounts)]
    values = FeatureEngine(plan, [0], assume_fresh=True).update(*make_rows(listed)).values
    assert np.isnan(values[1]).all()
    nan = np.nan
    np.testing.assert_array_equal(values[2], [0, 2, 2, 0, -2, 2**51, nan, -(2**51), nan])


@pytest.mark.parametrize("horizon_ms", [0, HOUR_MS])
def test_a_repeated_event_keeps_what_was_kept(horizon_ms: int) -> None:
    events = [purchase(10, 1, 100), purchase(20, 2, 300), purchase(30, 3, 400)]
    engine = FeatureEngine(kept_plan(horizon_ms), [0], assume_fresh=True)
    first = engine.update(*make_rows(events)).values
    engine.changes()
    # 300 was three times the mean before it; now another amount is claimed.
    again = engine.update(*make_rows([purchase(20, 2, 900)])).values
    assert engine.changes() == []
    np.testing.assert_array_equal(again[:4, 0], first[:4, 1])
    assert engine.repeated_events == 1


def test_kept_values_survive_a_restart() -> None:
    events = [
        purchase(10, 1, 100),
        purchase(20, 2, 300),
        purchase(30, 3, 100),
        purchase(40, 4, 500),
    ]
    expected = FeatureEngine(kept_plan(), [0], assume_fresh=True).update(*make_rows(events)).values
    store: Store = {}
    for i, event in enumerate(events):
        engine = FeatureEngine(kept_plan(), [0])
        rows = make_rows([event])
        fetch(engine, store, rows)
        np.testing.assert_array_equal(engine.update(*rows).values[:, 0], expected[:, i])
        apply(store, engine.changes())


def test_a_repeat_with_another_time_is_the_same_event() -> None:
    slots = [
        Slot(0, Aggregate.COUNT, -1, EVER_MS, 0, NO_WHERE, True),
        Slot(0, Aggregate.SINCE, -1, EVER_MS, 0, NO_WHERE, False),
        Slot(1, Aggregate.COUNT, -1, EVER_MS, 0, NO_WHERE, True),
        Slot(1, Aggregate.COUNT, -1, EVER_MS, 0, NO_WHERE, False),
    ]
    entities = tuple(
        dataclasses.replace(e, kept=tuple(c for c in e.kept if c < len(Cell))) for e in ENTITIES
    )
    plan = make_plan(entities, slots, repeat_horizon_ms=DAY_MS)
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    first = [purchase(0, 1, 1), purchase(HOUR_MS, 2, 1), purchase(2 * HOUR_MS, 3, 1)]
    engine.update(*make_rows(first))
    engine.changes()
    repeats = [
        purchase(HOUR_MS + DAY_MS, 2, 1),  # as late as may be
        purchase(-23 * HOUR_MS, 2, 1),  # as early
        purchase(5 * HOUR_MS, 2, 1, card=8),  # another card: of its history nothing is this event
    ]
    values = engine.update(*make_rows(repeats)).values
    nan = np.nan
    np.testing.assert_array_equal(values[0], [2, 2, 2])
    np.testing.assert_array_equal(values[1], [HOUR_MS] * 3)
    np.testing.assert_array_equal(values[2], [2, 2, 0])
    np.testing.assert_array_equal(values[3], [1, 1, 0])
    assert engine.changes() == []
    assert engine.repeated_events == 3
    # Beyond the horizon, of another customer, or of another partition: events of their own.
    others = [
        purchase(HOUR_MS + DAY_MS + 1, 2, 1),
        transaction(0, HOUR_MS, 2, customer_id=2, card_id=9),
        transaction(1, HOUR_MS, 2, customer_id=1, card_id=9),
        transaction(0, HOUR_MS, 2, card_id=9),
    ]
    engine = FeatureEngine(plan, [0, 1], assume_fresh=True)
    counts = engine.update(*make_rows([*first, *others])).values[0, 3:]
    np.testing.assert_array_equal(counts, [4, 1, 1, nan])
    assert engine.repeated_events == 0


def test_a_label_finds_an_event_that_was_repeated() -> None:
    fraud = ((int(Cell.LABEL), 0, int(LabelCode.FRAUD)),)
    slots = [Slot(0, Aggregate.COUNT, -1, EVER_MS, 0, fraud, True)]
    engine = FeatureEngine(make_plan(ENTITIES[:1], slots, values=VALUES, repeat_horizon_ms=9), [0])
    rows = [
        purchase(0, 1, 1),
        purchase(5, 1, 1),
        label(0, 1, 1, LabelCode.FRAUD),
        purchase(9, 2, 1),
    ]
    assert engine.update(*make_rows(rows)).values[0, -1] == 1


def test_plans_with_kept_values_that_contradict_themselves_are_refused() -> None:
    plan = kept_plan()
    early = make_plan(ENTITIES, [SLOTS[0], SLOTS[1]._replace(stage=0)], values=VALUES)
    external = program([(Opcode.EXTERNAL, 0, 0, 0), (Opcode.STORE, 0, 0, 0)], [1.0], ratio=0)
    wrong = {
        "expected a stage after those of ratio, got 0": early,
        "stage 0: instruction 0: expected a slot up to it, got 1": dataclasses.replace(
            plan, stages=(program(DOUBLE_OF.code.tolist(), [1.0], ratio=0), DOUBLE_OF)
        ),
        "stage 0: instruction 0: expected no profile and no model": dataclasses.replace(
            plan, stages=(external, DOUBLE_OF)
        ),
        "stage 0: expected kept values of the plan, got other": dataclasses.replace(
            plan, stages=(dataclasses.replace(RATIO_OF, outputs={"other": 0}), DOUBLE_OF)
        ),
        "kept values: expected cells from": dataclasses.replace(plan, values=VALUES[1:]),
        f"from 0 to {len(Cell) - 1}, got": dataclasses.replace(plan, values=()),
        "repeat_horizon_ms: expected at least 0, got -1": kept_plan(-1),
        "entity customer: expected one of TRANSACTION, .*, got PROFILE": dataclasses.replace(
            plan, entities=(dataclasses.replace(ENTITIES[0], kind=Kind.PROFILE), ENTITIES[1])
        ),
    }
    for message, contradiction in wrong.items():
        with pytest.raises(ValueError, match=message):
            FeatureEngine(contradiction, [0])
