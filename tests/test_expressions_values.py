"""Compiled expressions against the oracle that walks the text over dict records."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles_expressions import Oracle, Record
from oracles_slots import fill_slots, to_cells
from strategies_expressions import (
    DECLARATIONS,
    EXTERNALS,
    KIND_TEXTS,
    NOW_MS,
    conditions_on_events,
    expression_texts,
    external_values,
    histories,
    other_records,
    records,
)

from features.expressions import ExpressionText, compile_plan
from features.kernels.walker import evaluate
from features.plan import Plan

Externals = dict[str, float]


def compiled(*texts: str) -> Plan:
    named = {
        f"rule:{number}": ExpressionText(text, "policy.yaml", 1, 1)
        for number, text in enumerate(texts)
    }
    return compile_plan(named, DECLARATIONS)


def run(plan: Plan, batch: list[Record], past: list[Record], given: Externals) -> dict[str, list]:
    """Evaluate both programs for records that each see the same past."""
    slots = np.array([fill_slots(plan, record, past) for record in batch], dtype=np.float64)
    slots = slots.reshape(len(batch), len(plan.slots)).T
    externals = np.array([[given[name]] * len(batch) for name in plan.externals])
    externals = externals.reshape(len(plan.externals), len(batch))
    values: dict[str, list[float]] = {}
    for program in (plan.before_models, plan.after_models):
        results = evaluate(program, to_cells(batch), slots, externals)
        values |= {name: results[row].tolist() for name, row in program.outputs.items()}
    return values


def assert_same(got: float, expected: float, text: str) -> None:
    same = got == expected or (math.isnan(got) and math.isnan(expected))
    assert same or math.isclose(got, expected, rel_tol=1e-12), f"{text}: {got} not {expected}"


@settings(max_examples=100)
@given(
    texts=st.lists(expression_texts, min_size=2, max_size=6),
    batch=st.lists(records() | other_records(0, "interaction"), min_size=1, max_size=2),
    past=histories(),
    given_values=external_values,
)
def test_compiled_equals_oracle(
    texts: list[str], batch: list[Record], past: list[Record], given_values: Externals
) -> None:
    values = run(compiled(*texts), batch, past, given_values)
    for number, text in enumerate(texts):
        for column, record in enumerate(batch):
            expected = Oracle(record, past, given_values).value(text)
            assert_same(values[f"rule:{number}"][column], expected, text)


@st.composite
def one_customer(draw: st.DrawFn) -> tuple[str, list[Record]]:
    """A kind, and up to ten records of it, all of one customer."""
    kind = draw(st.sampled_from([*KIND_TEXTS, "transaction"]))
    numbers = range(draw(st.integers(1, 10)))
    made = [
        draw(records(number) if kind == "transaction" else other_records(number, kind))
        for number in numbers
    ]
    return kind, [record | {"customer_id": "C1"} for record in made]


@settings(max_examples=200)
@given(scene=one_customer(), data=st.data())
def test_conditions_equal_oracle(scene: tuple[str, list[Record]], data: st.DataObject) -> None:
    """Every event that is there counts, so that a condition gone wrong shows."""
    kind, past = scene
    conditions = data.draw(st.lists(conditions_on_events(kind), min_size=4, max_size=8))
    texts = [f"customer.count('60d', of={kind}, where={condition})" for condition in conditions]
    texts += [f"customer.streak({condition}, of={kind})" for condition in conditions]
    record = RECORD | {"event_id": "E99"}
    values = run(compiled(*texts), [record], past, {})
    for number, text in enumerate(texts):
        assert_same(values[f"rule:{number}"][0], Oracle(record, past, {}).value(text), text)


@settings(max_examples=50)
@given(
    past=st.lists(records(), min_size=3, max_size=8),
    name=st.sampled_from(["ratio", "risen", "doubled"]),
    kind=st.sampled_from(["max", "mean", "first", "median", "trend"]),
    condition=st.sampled_from(["odd", "not odd", "risen < 0", "pause > '1h' or ratio > 1"]),
)
def test_kept_values_equal_oracle(past: list[Record], name: str, kind: str, condition: str) -> None:
    """All of one customer, so that values have a past, and those that read others too."""
    past = [
        record | {"event_id": f"E{number}", "customer_id": "C1"}
        for number, record in enumerate(past)
    ]
    *past, record = past
    texts = [
        f"customer.{kind}({name}, '60d')",
        f"customer.count('60d', where={condition})",
        f"card.{kind}({name}, '60d', where=is_missing(risen) or {condition})",
    ]
    values = run(compiled(*texts), [record], past, {})
    for number, text in enumerate(texts):
        expected = Oracle(record, past, {}).value(text)
        assert_same(values[f"rule:{number}"][0], expected, text)


@settings(max_examples=50)
@given(record=records(), past=histories(), entity=st.sampled_from(["customer", "card"]))
def test_travel_equals_oracle(record: Record, past: list[Record], entity: str) -> None:
    texts = [f"speed_kmh({entity})", f"distance_km({entity})", f"speed_kmh({entity}) > 900"]
    values = run(compiled(*texts), [record], past, {})
    oracle = Oracle(record, past, {})
    for number, text in enumerate(texts):
        got, expected = values[f"rule:{number}"][0], oracle.value(text)
        assert math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-9) or (
            math.isnan(got) and math.isnan(expected)
        )


RECORD: Record = {
    "kind": "transaction",
    "event_id": "E0", "ts_ms": NOW_MS, "customer_id": "C1", "account_id": "A1", "card_id": "K1",
    "merchant_id": "M1", "terminal_id": None, "payee_id": None, "device_id": None, "ip": None,
    "type": "purchase", "direction": "out", "channel": "pos", "country": None, "currency": "EUR",
    "mcc": None, "amount": 12_345, "balance": -50, "lat": 52_520_008, "lon": 13_404_954,
    "label": "unknown",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount == 123.45", 1.0),  # 12,345 minor units
        ("amount % 100", 23.45),
        ("-7 % 5", 3.0),  # the divisor's sign, as in Python
        ("balance", -0.5),
        ("1 / 0", math.nan),
        ("5 % 0", math.nan),
        ("0 ** -1", math.nan),
        ("(0 - 8) ** 0.5", math.nan),
        ("1e300 * 1e300", math.nan),  # not finite
        ("mcc", math.nan),
        ("mcc ** 0", math.nan),
        ("mcc == 5411", 0.0),
        ("mcc != 5411", 0.0),
        ("not (mcc != 5411)", 1.0),
        ("mcc not in [5411]", 0.0),
        ("not (mcc in [5411])", 1.0),
        ('country == "DE"', 0.0),
        ('country != "DE"', 0.0),
        ('country not in ["DE"]', 0.0),
        ("merchant_id == payee_id", 0.0),
        ("merchant_id != payee_id", 0.0),
        ("is_missing(country) and is_missing(mcc) and not is_missing(type)", 1.0),
        ("max(1, mcc)", math.nan),
        ("coalesce(mcc, 7)", 7.0),
        ("floor(-0.5)", -1.0),
        ("log1p(-1)", math.nan),
        ("sqrt(-1)", math.nan),
        ("1 < 2 <= 2 < 3", 1.0),
        ("2 ** 3 ** 2", 512.0),
        ("1 if mcc > 0 else 2", 2.0),
        ("1 if amount > 0 else 2", 1.0),
        ("terminal.seen(merchant_id, '1h') and True", 0.0),
        ("terminal.seen(merchant_id, '1h') or True", 1.0),
        ("hour()", 22.0),  # 1,700,000,000 s is Tuesday 2023-11-14 22:13:20 UTC
        ("weekday()", 1.0),
        ("day_of_month()", 14.0),
        ("terminal.count('1h')", math.nan),
        ("not terminal.seen(merchant_id, '1h')", 1.0),
        ("card.count('1h')", 1.0),
        ("card.count('1h', including_current=False)", 0.0),
        ("card.since() < '10m'", 0.0),
        ("card.since()", math.nan),
        ("card.last(amount)", math.nan),
        ("card.zscore(amount, '1h')", math.nan),  # a spread of nothing
        ("card.sum(amount, '1h')", 123.45),
        ("profile.assets", 1000.5),
        ("amount\n > 100\n and True  # over lines", 1.0),
    ],
)
def test_meaning_by_hand(text: str, expected: float) -> None:
    got = run(compiled(text), [RECORD], [], {"profile.assets": 100_050.0})["rule:0"][0]
    assert_same(got, expected, text)


OPERANDS = (math.nan, -1.5, -1.0, 0.0, 0.5, 2.0, 1e200)
BINARY = ("+", "-", "*", "/", "%", "**", "<", "<=", "==", "!=", ">", ">=")
FLAGS = (
    "not corporate", "corporate and True", "True and corporate", "corporate and False",
    "corporate or False", "False or corporate", "corporate or True", "1 if corporate else 2",
    "corporate == True", "corporate != True", "is_missing(corporate)",
    "coalesce(corporate, mcc == mcc)", "corporate and (not corporate)", "corporate",
)  # fmt: skip


def test_operators_on_every_pair_of_operands() -> None:
    """Registers, constants on the right and constants on the left compile to different opcodes."""
    x, y = "profile.age_years", "profile.tenure_days"
    calls = [f"{name}({x}, {y})" for name in ("min", "max", "coalesce")]
    calls += [f"({x} if {y} > 0 else -{x})", f"{x} in [0.5, 2]", f"{x} not in [0.5, 2]"]
    calls += [f"{name}({x})" for name in ("abs", "floor", "sqrt", "log1p", "is_missing")]
    for left in OPERANDS:
        for right in OPERANDS:
            texts = [f"{x} {operator} {y}" for operator in BINARY] + calls
            if not math.isnan(right):
                texts += [f"{x} {operator} {right!r}" for operator in BINARY]
                texts += [f"{right!r} {operator} {x}" for operator in BINARY]
            given_values = {x: left, y: right}
            values = run(compiled(*texts), [RECORD], [], given_values)
            for number, text in enumerate(texts):
                expected = Oracle(RECORD, [], given_values).value(text)
                assert_same(values[f"rule:{number}"][0], expected, f"{text} {left} {right}")


@pytest.mark.parametrize("flag", [math.nan, 0.0, 1.0])
def test_logic_takes_absence_for_false(flag: float) -> None:
    texts = [text.replace("corporate", "profile.corporate") for text in FLAGS]
    values = run(compiled(*texts), [RECORD], [], {"profile.corporate": flag})
    for number, text in enumerate(texts):
        expected = Oracle(RECORD, [], {"profile.corporate": flag}).value(text)
        assert_same(values[f"rule:{number}"][0], expected, text)


def test_hashes_that_agree_as_float64_stay_apart() -> None:
    other = RECORD | {"merchant_id": "M2"}
    cells = to_cells([RECORD, other])
    assert np.float64(cells[5, 0]) == np.float64(cells[5, 1])
    texts = ('merchant_id == "M1"', 'merchant_id in ["M1", "M3"]', 'merchant_id != "M1"')
    values = run(compiled(*texts), [RECORD, other], [], {})
    assert list(values.values()) == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]


def test_speed_by_hand() -> None:
    """One degree of a great circle is 6371.0088 pi / 180 = 111.195 km; here in half an hour."""
    here = RECORD | {"lat": 1_000_000, "lon": 0}
    earlier = RECORD | {"event_id": "E1", "ts_ms": NOW_MS - 1_800_000, "lat": 0, "lon": 0}
    unlocated = RECORD | {"event_id": "E2", "ts_ms": NOW_MS - 60_000, "lat": None, "lon": 5}
    values = run(compiled("speed_kmh(card)", "distance_km(card)"), [here], [earlier, unlocated], {})
    assert values["rule:0"][0] == pytest.approx(222.390, abs=1e-3)
    assert values["rule:1"][0] == pytest.approx(111.195, abs=1e-3)


def test_durations_add_scale_and_divide() -> None:
    earlier = RECORD | {"event_id": "E1", "ts_ms": NOW_MS - 5_400_000}
    texts = ("card.since() / '1h'", "card.since() * 2 == '3h'", "card.since() - '30m' == '1h'")
    values = run(compiled(*texts, "coalesce(terminal.since(), '1h') == '60m'"), [RECORD],
                 [earlier], {})  # fmt: skip
    assert [value[0] for value in values.values()] == [1.5, 1.0, 1.0, 1.0]


def test_externals_are_those_of_the_strategies() -> None:
    assert compiled(*EXTERNALS).externals == EXTERNALS
