"""What aggregates, kinds of records and named values mean, by hand."""

import math

import pytest
from oracles_expressions import Record
from strategies_expressions import NOW_MS
from test_expressions_values import RECORD, assert_same, compiled, run

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def event(number: int, days: float, **fields: object) -> Record:
    """An earlier transaction of the same customer and card, so many days ago."""
    return RECORD | {"event_id": f"E{number}", "ts_ms": NOW_MS - round(days * DAY_MS)} | fields


def other(kind: str, number: int, days: float, **fields: object) -> Record:
    """An earlier record of the same customer that is no transaction."""
    nothing = dict.fromkeys(RECORD) | {"label": "unknown", "customer_id": "C1"}
    place = {"event_id": f"O{number}", "ts_ms": NOW_MS - round(days * DAY_MS), "kind": kind}
    return nothing | place | fields


def value(text: str, past: list[Record], record: Record = RECORD) -> float:
    return float(run(compiled(text), [record], past, {})["rule:0"][0])


# Amounts of 10, 20, 40 and 80; this record's is 123.45. Merchants M1, M2, M2, M1; mcc absent, then
# 5411. The first two are fraud.
PAST = [
    event(1, 4, amount=1_000, merchant_id="M1", label="fraud"),
    event(2, 3, amount=2_000, merchant_id="M2", label="fraud"),
    event(3, 2, amount=4_000, merchant_id="M2", label="legitimate", mcc=5411),
    event(4, 1, amount=8_000, merchant_id="M1", mcc=5411),
]
EARLIER = ", '30d', including_current=False"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Order statistics 10, 20, 40, 80: the places are 1.5, 0.75, 0 and 3.
        (f"customer.median(amount{EARLIER})", 30.0),
        ("customer.quantile(amount, 0.25, '30d', including_current=False)", 17.5),
        ("customer.quantile(amount, 0, '30d')", 10.0),
        ("customer.quantile(amount, 1, '30d', including_current=False)", 80.0),
        ("customer.median(amount, '30d')", 40.0),
        ("customer.median(mcc, '1h')", math.nan),
        # Weights 1/2, 1/4, 1/8, 1/16 of 80, 40, 20, 10: 40 + 10 + 2.5 + 0.625 over 15/16.
        ("customer.ewma(amount, '1d', '30d', including_current=False)", 53.125 / 0.9375),
        ("customer.ewma(amount, half_life='1d', window='30d', delay='2d')", (40 + 10 + 2.5) / 1.75),
        # Days -1.5, -0.5, 0.5, 1.5 around the middle: (-15 - 10 + 20 + 120) / 5.
        (f"customer.trend(amount{EARLIER})", 23.0),
        ("customer.trend(amount, '1h')", math.nan),
        ("customer.streak(mcc == 5411, including_current=False)", 2.0),
        ("customer.streak(amount > 5, '30d')", 5.0),
        ("customer.streak(mcc == 5411)", 0.0),  # this record has none
        ("customer.streak(fraud, delay='3d')", 2.0),
        ("customer.streak(fraud, where=not (genuine or is_missing(merchant_id)), delay='1d')", 0.0),
        ("customer.streak(fraud, where=fraud or genuine, delay='1d')", 0.0),
        ("customer.streak(fraud, where=fraud, including_current=False)", 2.0),
        ("customer.streak_age(mcc == 5411, including_current=False) == '48h'", 1.0),
        ("customer.streak_age(amount > 100) == '0s'", 1.0),
        ("is_missing(customer.streak_age(mcc == 5411))", 1.0),
        # M1 and M2 are equally frequent: M1 was used most recently.
        (f"merchant_id == customer.top(merchant_id{EARLIER})", 1.0),
        (f"merchant_id != customer.top(merchant_id{EARLIER})", 0.0),
        ("merchant_id != customer.top(merchant_id, '30d', where=merchant_id != 'M1')", 1.0),
        ("mcc == customer.top(mcc, '30d')", 0.0),  # this record has none
        ("mcc != customer.top(mcc, '30d')", 0.0),
        ("is_missing(customer.top(mcc, '30d'))", 0.0),
        ("is_missing(customer.top(mcc, '36h', where=merchant_id == 'M2'))", 1.0),
        ("is_missing(terminal.top(mcc, '30d'))", 1.0),  # no terminal
        ("customer.seen(merchant_id, '30d')", 1.0),
        ("customer.seen(mcc, '30d')", 0.0),  # this record has none: that was never seen
        ("customer.rate(mcc == 5411, '30d')", 0.4),
        ("customer.rate(not mcc == 5411, '30d')", 0.6),  # absent: not equal to 5411
        ("customer.rate(mcc != 5411, '30d')", 0.0),  # absent: not different from 5411
        ("customer.count('30d', where=not (fraud or mcc == 5411))", 1.0),
        ("customer.count('30d', where=is_missing(mcc) and merchant_id in ['M2', 'M3'])", 1.0),
    ],
)
def test_aggregates_by_hand(text: str, expected: float) -> None:
    assert_same(value(text, PAST), expected, text)


OTHERS = [
    other("interaction", 1, 2, type="login", channel="app", device_id="D1"),
    other("interaction", 2, 1, type="telemetry", channel="app", metric="stock", value=1_500_000),
    other("interaction", 3, 0.5, type="telemetry", channel="app", metric="stock", value=-500_000),
    other("contact", 4, 3, channel="sms", offer="loan"),
    other("contact", 5, 2, channel="email"),
    other("outcome", 6, 2, result="clicked", amount=0),
    other("outcome", 7, 1, result="converted", amount=12_345),
    other("label", 8, 1, label="fraud"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("customer.count('30d', of=interaction)", 3.0),
        ("customer.count('30d', of=transaction)", 1.0),
        ("customer.mean(value, '30d', of=interaction, where=metric == 'stock')", 0.5),
        ("customer.trend(value, '30d', of=interaction)", -4.0),  # 2 less in half a day
        ("customer.last(value, of=interaction)", -0.5),
        ("customer.count('30d', of=interaction, where=value > -0.5)", 1.0),
        ("customer.since(of=interaction, where=type == 'login') == '2d'", 1.0),
        ("device.count('30d', of=interaction)", 1.0),
        ("device.seen(channel, '30d', of=interaction)", 1.0),
        ("customer.count('7d', of=contact, where=channel == 'sms')", 1.0),
        ("customer.share(is_missing(offer), '7d', of=contact)", 0.5),
        ("customer.sum(amount, '7d', of=outcome)", 123.45),
        ("customer.zscore(amount, '7d', of=outcome)", 1.0),  # 0 and 123.45: both 61.725 off
        ("customer.rate(result == 'converted', '7d', of=outcome)", 0.5),
        ("customer.since(of=label, where=fraud) == '24h'", 1.0),
        ("customer.count('7d', of=label, where=genuine)", 0.0),
    ],
)
def test_kinds_by_hand(text: str, expected: float) -> None:
    record = RECORD | {"device_id": "D1", "channel": "app"}
    assert_same(value(text, OTHERS, record), expected, text)


def test_a_mean_of_money_is_rounded_once() -> None:
    """7,747 cents in five payments: 1,549.4 cents over 100 would be 15.494000000000002."""
    cents = [1_549, 1_549, 1_549, 1_550, 1_550]
    past = [event(i, 1, amount=amount) for i, amount in enumerate(cents)]
    found = value("customer.mean(amount, '30d', including_current=False)", past)
    assert found == 15.494 != sum(cents) / 5 / 100
    # Deviations of 0.4 and 0.6 cents: sqrt((3 * 0.16 + 2 * 0.36) / 5) is sqrt(0.24).
    found = value("customer.std(amount, '30d', including_current=False)", past)
    assert found == pytest.approx(math.sqrt(0.24) / 100, rel=1e-15)


def test_an_interaction_is_current_in_its_own_history_alone() -> None:
    now = other("interaction", 9, 0, type="login", channel="app")
    assert value("customer.count('30d', of=interaction)", OTHERS, now) == 4
    assert value("customer.count('30d', of=interaction, including_current=False)", OTHERS, now) == 3
    assert value("customer.count('30d')", OTHERS, now) == 0
    assert value("customer.seen(type, '36h', of=interaction)", OTHERS, now) == 0
    assert value("customer.seen(type, '30d', of=interaction)", OTHERS, now) == 1


def test_named_values_are_those_of_their_own_time() -> None:
    """`ratio` is the amount over the mean of seven days before: none, 2, 40 / 15, 80 / 70 * 3."""
    arrived = [event(number, days, amount=amount) for number, days, amount in
               ((1, 4, 1_000), (2, 3, 2_000), (3, 2, 4_000), (4, 1, 8_000))]  # fmt: skip
    assert value("customer.first(ratio)", arrived) == 2.0
    assert value("customer.max(ratio, '30d', including_current=False)", arrived) == 3.428571
    assert value("customer.count('30d', where=ratio < 2.7)", arrived) == 2  # 2 and 2.666667
    assert value("customer.count('30d', where=ratio == 2.666667)", arrived) == 1
    assert value("customer.count('30d', where=is_missing(ratio))", arrived) == 1
    assert value("customer.share(odd, '30d', including_current=False)", arrived) == 0.5
    # This record: 123.45 over the mean 37.5; in an expression the value is not rounded.
    assert value("ratio", arrived) == 123.45 / 37.5
    assert value("customer.max(ratio, '1h')", arrived) == 3.292
    assert value("risen == customer.max(ratio, '60d') - ratio", arrived) == 1
    # The event of day 2 arrives last: what it saw then are three others.
    late = [arrived[0], arrived[1], arrived[3], arrived[2]]
    assert value("customer.count('30d', where=ratio < 1.1)", late) == 0  # 40 / 15, as before
    assert value("customer.max(ratio, '36h', including_current=False)", late) == 5.333333  # 80 / 15


def test_kept_values_have_a_bound() -> None:
    """2**51 millionths are 2,251,799,813.685248; `doubled` is just below, and 2 cents more."""
    arrived = [event(1, 1, amount=112_589_990_734), event(2, 2, amount=112_589_990_735)]
    largest = value("customer.max(doubled, '30d', including_current=False)", arrived)
    assert largest == 2_251_799_813.68
    assert value("customer.count('30d', where=is_missing(doubled))", arrived) == 1


def test_conditions_and_durations_are_kept_whole() -> None:
    arrived = [event(1, 3), event(2, 2), event(3, 0.5)]
    assert value("customer.max(pause, '30d', including_current=False) == '36h'", arrived) == 1
    assert value("customer.count('30d', where=pause >= '1d')", arrived) == 2  # 24 h and 36 h
    assert value("customer.count('30d', where=not odd)", arrived) == 4
