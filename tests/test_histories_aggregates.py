"""Aggregates by hand, and against numpy and exact fractions where numbers are large or many."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import MISSING, Cell, LabelCode
from features.histories import FeatureEngine
from features.plan import Aggregate, Comparison
from tests.oracle_aggregates import quantile, trend
from tests.oracle_histories import (
    NO_WHERE,
    Slot,
    Where,
    label,
    make_entity,
    make_plan,
    make_rows,
    transaction,
)

AMOUNT, MCC = int(Cell.AMOUNT), int(Cell.MCC)
EVER_MS = 1 << 62
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
ENTITIES = (make_entity("customer", Cell.CUSTOMER_ID, False, AMOUNT, MCC),)


def of(aggregate: Aggregate, window_ms: int = EVER_MS, **fields: object) -> Slot:
    slot = Slot(0, aggregate, AMOUNT, window_ms, 0, NO_WHERE, True)
    return slot._replace(**fields)


def values_of(slots: list[Slot], events: list[dict[str, int]]) -> np.ndarray:
    """Return (slots, events); an event is its fields and `ts_ms`."""
    listed = [
        transaction(0, fields.pop("ts_ms", i), i, customer_id=1, **fields)
        for i, fields in enumerate([dict(event) for event in events])
    ]
    engine = FeatureEngine(make_plan(ENTITIES, slots), [0], assume_fresh=True)
    return engine.update(*make_rows(listed)).values


def test_quantiles_by_hand() -> None:
    shares = (0, 250_000, 500_000, 900_000, 1_000_000)
    slots = [of(Aggregate.QUANTILE, parameter=share) for share in shares]
    amounts = [40, 10, 30, 20]
    values = values_of(slots, [{"amount": amount} for amount in amounts])
    assert values[:, 0].tolist() == [40, 40, 40, 40, 40]
    assert values[:, 1].tolist() == [10, 17.5, 25, 37, 40]
    # Ranks 0, 0.75, 1.5, 2.7 and 3 of 10, 20, 30, 40.
    assert values[:, 3].tolist() == [10, 17.5, 25, 37, 40]


@pytest.mark.parametrize("shape", ["random", "few", "ascending", "descending", "pipe", "equal"])
def test_quantiles_of_many_values_are_those_of_numpy(shape: str) -> None:
    rng = np.random.default_rng(11)
    shapes = {
        "random": rng.integers(-(10**9), 10**9, 300),
        "few": rng.integers(0, 4, 300),
        "ascending": np.arange(300),
        "descending": np.arange(300)[::-1],
        "pipe": np.concatenate([np.arange(150), np.arange(150)[::-1]]),
        "equal": np.full(300, 7),
    }
    shares = (0, 100_000, 500_000, 990_000, 1_000_000)
    slots = [
        of(Aggregate.QUANTILE, window_ms, parameter=share)
        for share in shares
        for window_ms in (40, EVER_MS)
    ]
    amounts = shapes[shape]
    values = values_of(slots, [{"amount": int(amount)} for amount in amounts])
    for s, slot in enumerate(slots):
        for i in range(300):
            window = amounts[max(0, i - 39) if slot.window_ms == 40 else 0 : i + 1]
            expected = np.quantile(window, slot.parameter / 1e6)
            assert values[s, i] == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_quantiles_between_distant_values_keep_their_digits() -> None:
    slots = [of(Aggregate.QUANTILE, parameter=500_000), of(Aggregate.QUANTILE, parameter=1)]
    huge = 4 * 10**18
    values = values_of(slots, [{"amount": -huge}, {"amount": huge + 1}])
    assert values[:, 1].tolist() == [0.5, -huge + 2 * huge / 1e6]
    values = values_of(slots, [{"amount": -(10**12) - 1}, {"amount": 10**12}])
    assert values[0, 1] == -0.5


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(-(2**51), 2**51), min_size=1, max_size=5),
    st.lists(
        st.one_of(st.sampled_from([500_000, 250_000]), st.integers(0, 10**6)),
        min_size=1,
        max_size=8,
    ),
)
def test_quantiles_are_rounded_once(amounts: list[int], shares: list[int]) -> None:
    slots = [of(Aggregate.QUANTILE, parameter=share) for share in shares]
    values = values_of(slots, [{"amount": amount} for amount in amounts])
    assert values[:, -1].tolist() == [quantile(amounts, share) for share in shares]


def test_an_ewma_by_hand() -> None:
    slots = [
        of(Aggregate.EWMA, parameter=HOUR_MS),
        of(Aggregate.EWMA, 2 * HOUR_MS, parameter=HOUR_MS),
        of(Aggregate.EWMA, parameter=HOUR_MS, delay_ms=400 * DAY_MS),
    ]
    values = values_of(
        slots,
        [
            {"ts_ms": 0, "amount": 100},
            {"ts_ms": HOUR_MS, "amount": 400},
            {"ts_ms": 3 * HOUR_MS, "amount": 700},
            {"ts_ms": 3 * HOUR_MS},
            {"ts_ms": 500 * DAY_MS, "amount": 1},
        ],
    )
    assert values[0, 0] == 100
    assert values[0, 1] == pytest.approx((100 / 2 + 400) / 1.5)
    both = (100 / 8 + 400 / 4 + 700) / (1 / 8 + 1 / 4 + 1)
    assert values[0, 2:4] == pytest.approx([both, both])
    assert values[1, 2:4].tolist() == [700, 700]
    # The newest of that window is 100 days, or 2,400 half-lives, old; its weight is no float64.
    assert values[2, 4] == pytest.approx(both)
    assert math.isnan(values[2, 3])


def test_a_trend_by_hand() -> None:
    slots = [of(Aggregate.TREND), of(Aggregate.TREND, DAY_MS)]
    values = values_of(
        slots,
        [
            {"ts_ms": 0, "amount": 100},
            {"ts_ms": 0, "amount": 300},
            {"ts_ms": DAY_MS, "amount": 260},
            {"ts_ms": 3 * DAY_MS, "amount": 140},
        ],
    )
    # Means: 200 at 0, then 260 a day later: 60 a day. Then times 0, 0, 1, 3 have the mean 1,
    # amounts 200: (-1 * -100) + (-1 * 100) + 0 + (2 * -60) over 1 + 1 + 0 + 4.
    np.testing.assert_array_equal(values[0], [np.nan, np.nan, 60, -20])
    assert np.isnan(values[1]).all()


def test_a_trend_that_is_nearly_flat_keeps_its_digits() -> None:
    start_ms = 1_751_328_000_000
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(0, 90 * DAY_MS, 400)) + start_ms
    amounts = 10**13 + rng.integers(-3, 4, 400)
    events = [{"ts_ms": int(t), "amount": int(a)} for t, a in zip(times, amounts, strict=True)]
    actual = values_of([of(Aggregate.TREND)], events)[0, -1]
    ages_ms = [int(times[-1] - t) for t in times]
    assert actual == pytest.approx(trend(amounts.tolist(), ages_ms), rel=1e-12)
    there_and_back = [
        {"ts_ms": start_ms + i * DAY_MS, "amount": 10**13 * (i % 2)} for i in range(5)
    ]
    assert values_of([of(Aggregate.TREND)], there_and_back)[0, -1] == 0


def test_the_top_value_by_hand() -> None:
    slots = [
        of(Aggregate.TOP, value=MCC, match=MCC),
        of(Aggregate.TOP, value=MCC, match=MCC, including_current=False),
        of(Aggregate.TOP, 2, value=MCC, match=AMOUNT),
    ]
    events = [
        {"mcc": 1, "amount": 1},
        {"mcc": 2, "amount": 1},  # a tie: 2 was used most recently
        {"mcc": 1, "amount": 2},
        {"amount": 2},  # no mcc to compare
        {"mcc": 2, "amount": 2},  # twice each: 2 is the newer
        {"mcc": 1, "amount": 2},
    ]
    values = values_of(slots, events)
    nan = np.nan
    np.testing.assert_array_equal(values[0], [1, 1, 1, nan, 1, 1])
    np.testing.assert_array_equal(values[1], [nan, 0, 0, nan, 0, 0])
    np.testing.assert_array_equal(values[2], [1, 0, 0, 0, 1, 0])


RUN: Where = ((int(Cell.LABEL), int(Comparison.EQ), int(LabelCode.FRAUD)),)


def test_a_streak_by_hand() -> None:
    counted: Where = ((AMOUNT, int(Comparison.GT), 0),)
    common = {"value": -1, "run": RUN, "including_current": False}
    slots = [
        of(Aggregate.STREAK, **common),
        of(Aggregate.STREAK_AGE, **common),
        of(Aggregate.STREAK, 25, **common),
        of(Aggregate.STREAK_AGE, 25, **common),
        of(Aggregate.STREAK, where=counted, **common),
    ]
    listed = [transaction(0, 10 * i, i, customer_id=1, amount=1 - i % 2) for i in range(5)]
    verdicts = [label(0, i, 1, LabelCode.FRAUD) for i in (0, 2, 3, 4)]
    last = transaction(0, 50, 9, customer_id=1, amount=1)
    engine = FeatureEngine(make_plan(ENTITIES, slots), [0], assume_fresh=True)
    values = engine.update(*make_rows([*listed, *verdicts, last])).values[:, [4, -1]]
    # Before any verdict no event is known as fraud; then those at 20, 30 and 40 are, 10 is not.
    # Of 0, 20 and 40 alone, which have an amount above 0, all three are.
    np.testing.assert_array_equal(values[:, 0], [0, np.nan, 0, np.nan, 0])
    np.testing.assert_array_equal(values[:, 1], [3, 30, 2, 20, 3])


def test_new_aggregates_of_a_field_that_never_came() -> None:
    slots = [
        of(Aggregate.QUANTILE, parameter=500_000),
        of(Aggregate.EWMA, parameter=1),
        of(Aggregate.TREND),
        of(Aggregate.TOP, match=MCC),
        of(Aggregate.STREAK, where=((AMOUNT, int(Comparison.GT), 0),), run=RUN),
        of(Aggregate.STREAK, run=((AMOUNT, int(Comparison.EQ), int(MISSING)),)),
    ]
    nan = np.nan
    values = values_of(slots, [{"mcc": 1}, {"mcc": 1}])
    np.testing.assert_array_equal(values[:, 1], [nan, nan, nan, nan, 0, 2])


def test_parameters_that_make_no_sense_are_refused() -> None:
    wrong = {
        "0 to 1000000 millionths, got 1000001": of(Aggregate.QUANTILE, parameter=1_000_001),
        "half-life of at least 1 ms, got 0": of(Aggregate.EWMA),
        "a cell of the record to match, got -1": of(Aggregate.TOP),
        "expected a cell to aggregate, got none": of(Aggregate.TREND, value=-1),
    }
    for message, slot in wrong.items():
        with pytest.raises(ValueError, match=message):
            FeatureEngine(make_plan(ENTITIES, [slot]), [0])


def test_means_of_one_cell_have_one_scale() -> None:
    cents, raw = of(Aggregate.MEAN)._replace(scale=100), of(Aggregate.STD)
    with pytest.raises(ValueError, match="expected a scale of 100, got 1"):
        FeatureEngine(make_plan(ENTITIES, [cents, raw]), [0])
    for wrong in (of(Aggregate.SUM)._replace(scale=100), of(Aggregate.MEAN)._replace(scale=0)):
        with pytest.raises(ValueError, match="expected a scale of 1, got"):
            FeatureEngine(make_plan(ENTITIES, [wrong]), [0])
