"""Each rule of the shipped policy by a scenario in which it must fire, and ones in which not."""

import numpy as np
import pytest
from actions_scene import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOON_MS,
    bank_plan,
    bank_policy,
    fired_at,
    fraud_label,
    outputs_of,
    payment,
    verdicts_of,
)

from features.records import Record, Transaction

BERLIN = {"lat": 52.52, "lon": 13.40}
MADRID = {"lat": 40.42, "lon": -3.70}


def habits(count: int, every_ms: int = DAY_MS, amount: float = 40.0, **fields: str) -> list[Record]:
    """`count` ordinary payments, the last one `every_ms` before noon."""
    return [payment(NOON_MS - (count - i) * every_ms, amount, **fields) for i in range(count)]


def small_payments(count: int, step_ms: int, amount: float = 1.0) -> list[Record]:
    return [payment(NOON_MS - (count - i) * step_ms, amount, card_id="k1") for i in range(count)]


def test_card_testing_fires_at_the_sixth_small_payment_in_ten_minutes() -> None:
    records = small_payments(6, MINUTE_MS)
    assert fired_at(records) == {"card_testing_burst"}
    assert fired_at(records, 4) == set()


@pytest.mark.parametrize(
    "records",
    [small_payments(6, 3 * MINUTE_MS), [*small_payments(5, MINUTE_MS), payment(NOON_MS, 6.0)]],
)
def test_card_testing_needs_both_haste_and_smallness(records: list[Record]) -> None:
    assert fired_at(records) == set()


def test_cash_out_after_card_testing() -> None:
    tested = small_payments(5, 8 * MINUTE_MS)
    assert fired_at([*tested, payment(NOON_MS, 100.0, card_id="k1")]) == {"card_testing_cash_out"}
    assert fired_at([*tested, payment(NOON_MS, 99.99, card_id="k1")]) == set()
    assert fired_at([*tested[1:], payment(NOON_MS, 100.0, card_id="k1")]) == set()


def takeover(amount: float, device: str, payee: str) -> Transaction:
    return payment(NOON_MS, amount, device_id=device, payee_id=payee, type="transfer_out")


def test_account_takeover_needs_new_device_new_payee_and_outflow() -> None:
    past = habits(10, device_id="own", payee_id="landlord")
    assert fired_at([*past, takeover(200.0, "new", "new")]) == {"account_takeover"}
    assert fired_at([*past, takeover(199.0, "new", "new")]) == set()
    assert fired_at([*past, takeover(200.0, "own", "new")]) == set()
    assert fired_at([*past, takeover(200.0, "new", "landlord")]) == set()
    assert fired_at([*past[1:], takeover(200.0, "new", "new")]) == set()
    usual = habits(10, amount=100.0, device_id="own", payee_id="landlord")
    assert fired_at([*usual, takeover(200.0, "new", "new")]) == set()


def test_first_device_ever_is_not_a_new_device() -> None:
    assert fired_at([*habits(10), takeover(500.0, "first", "first")]) == set()


def at_place(ts_ms: int, place: dict[str, float]) -> Transaction:
    return payment(ts_ms, 20.0, card_id="k1", channel="pos", **place)


def test_impossible_travel() -> None:
    # Berlin to Madrid is about 1,870 km.
    here = at_place(NOON_MS, BERLIN)
    assert fired_at([here, at_place(NOON_MS + HOUR_MS, MADRID)]) == {"impossible_travel"}
    assert fired_at([here, at_place(NOON_MS + 3 * HOUR_MS, MADRID)]) == set()
    near = {"lat": 52.40, "lon": 13.06}  # Potsdam: any speed, but no distance
    assert fired_at([here, at_place(NOON_MS + 1_000, near)]) == set()


def test_new_country_spree() -> None:
    past = habits(20, card_id="k1", country="DE")
    abroad = {"card_id": "k1", "country": "BR"}
    assert fired_at([*past, payment(NOON_MS, 200.0, **abroad)]) == {"new_country_spree"}
    assert fired_at([*past, payment(NOON_MS, 199.0, **abroad)]) == set()
    assert fired_at([*past, payment(NOON_MS, 200.0, card_id="k1", country="DE")]) == set()
    assert fired_at([*past[1:], payment(NOON_MS, 200.0, **abroad)]) == set()


def at_terminal(days_ago: int, customer: str) -> Transaction:
    ts_ms = NOON_MS - days_ago * DAY_MS
    return payment(ts_ms, 30.0, customer_id=customer, terminal_id="t1", card_id=f"k-{customer}")


def test_compromised_terminal_waits_for_labels_of_the_week_before_last() -> None:
    # (t - 14 days, t - 7 days]: days 8 to 13 are inside, 6 and 15 are not.
    frauds = [at_terminal(days, f"v{days}") for days in (13, 11, 9)]
    honest = [at_terminal(days, f"h{days}") for days in (12, 10, 8)]
    labels = [fraud_label(transaction) for transaction in frauds]
    now = at_terminal(0, "c1")
    assert fired_at([*frauds, *honest, *labels, now]) == {"compromised_terminal"}
    assert fired_at([*frauds, *honest, *labels[1:], now]) == set()
    more = at_terminal(8, "h7")
    assert fired_at([*frauds, *honest, more, *labels, now]) == set()
    recent = [at_terminal(days, f"r{days}") for days in (6, 5, 4)]
    assert fired_at([*recent, *map(fraud_label, recent), now]) == set()


def incoming(ts_ms: int, amount: float) -> Transaction:
    return payment(ts_ms, amount, type="transfer_in", direction="in")


def outgoing(amount: float) -> Transaction:
    return payment(NOON_MS, amount, type="transfer_out")


def test_mule_passes_money_through() -> None:
    came = incoming(NOON_MS - 5 * HOUR_MS, 1000.0)
    assert fired_at([came, outgoing(800.0)]) == {"mule_in_and_out"}
    assert fired_at([came, outgoing(799.0)]) == set()
    assert fired_at([incoming(NOON_MS - DAY_MS, 1000.0), outgoing(800.0)]) == set()
    assert fired_at([incoming(NOON_MS - HOUR_MS, 999.0), outgoing(900.0)]) == set()


def test_who_gets_such_transfers_every_month_is_no_mule() -> None:
    rent = incoming(NOON_MS - 30 * DAY_MS, 1000.0)
    assert fired_at([rent, incoming(NOON_MS - HOUR_MS, 1000.0), outgoing(900.0)]) == set()


def test_gang_device_is_seen_across_customers() -> None:
    records: list[Record] = [
        payment(NOON_MS + i, 50.0, customer_id=f"g{i}", account_id=f"g{i}", device_id="d")
        for i in range(4)
    ]
    assert fired_at(records) == {"gang_device"}
    assert fired_at(records, 2) == set()
    same = [payment(NOON_MS + i, 50.0, device_id="d") for i in range(4)]
    assert fired_at(same) == set()


def test_structuring_is_only_recorded() -> None:
    records: list[Record] = [
        payment(NOON_MS + i * DAY_MS, 9000.0, type="deposit", direction="in") for i in range(3)
    ]
    assert fired_at(records) == {"structuring"}
    outputs, _ = outputs_of(records)
    _, verdicts = verdicts_of(outputs)
    assert not verdicts.actions.any()


def ordinary_traffic(n: int, seed: int) -> list[Record]:
    """Ten weeks of customers with their own terminals, cards, salaries and rent; no fraud."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for ts_ms in np.sort(rng.integers(NOON_MS, NOON_MS + 70 * DAY_MS, n)).tolist():
        c = int(rng.integers(0, 25))
        own = {"customer_id": f"c{c}", "account_id": f"a{c}", "card_id": f"k{c}"}
        kind = rng.random()
        if kind < 0.9:
            amount = float(rng.lognormal(3.2, 0.8))
            terminal = f"t{int(rng.integers(0, 60))}"
            records.append(payment(ts_ms, amount, terminal_id=terminal, device_id=f"d{c}", **own))
        elif kind < 0.95:
            salary = {"type": "salary", "direction": "in"}
            records.append(payment(ts_ms, 2400.0, **own | salary))
        else:
            rent = {"type": "transfer_out", "payee_id": f"landlord{c}"}
            records.append(payment(ts_ms, 900.0, device_id=f"d{c}", **own | rent))
    return records


def test_ordinary_traffic_hardly_ever_alerts() -> None:
    outputs, transactions = outputs_of(ordinary_traffic(4000, seed=7))
    _, verdicts = verdicts_of(outputs)
    assert len(transactions) == 4000
    assert np.count_nonzero(verdicts.actions) <= 4  # a tenth of a percent


def test_bare_data_gives_models_finite_inputs_and_rules_no_hits() -> None:
    """Customer, terminal, card and amount are all that some sources have."""
    rng = np.random.default_rng(3)
    records: list[Record] = [
        payment(
            NOON_MS + i * 20 * MINUTE_MS,
            float(rng.lognormal(3.5, 1.0)),
            customer_id=f"c{i % 40}",
            account_id=f"c{i % 40}",
            card_id=f"k{i % 40}",
            terminal_id=f"t{int(rng.integers(0, 30))}",
        )
        for i in range(1500)
    ]
    outputs, _ = outputs_of(records)
    inputs = [row for name, row in bank_plan().before_models.outputs.items() if "model:" in name]
    assert len(inputs) == len(bank_policy().models[0].inputs) == 19
    values = outputs.before[inputs]
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 25
    assert not verdicts_of(outputs)[1].actions.any()


def test_model_inputs_of_one_event_by_hand() -> None:
    sunday_night_ms = NOON_MS - DAY_MS - 9 * HOUR_MS  # 2024-06-02 03:00
    outputs, _ = outputs_of(
        [payment(sunday_night_ms - HOUR_MS, 10.0), payment(sunday_night_ms, 30.0)]
    )
    value = outputs.row(1)
    assert value("model:fraud:log_amount") == pytest.approx(np.log(31.0))
    assert value("model:fraud:amount_ratio") == pytest.approx(3.0)
    assert value("model:fraud:amount_zscore") == pytest.approx(1.0)  # mean 20, deviation 10
    assert value("model:fraud:customer_count_1h") == pytest.approx(np.log(2.0))  # (t - 1 h, t]
    assert value("model:fraud:customer_count_1d") == pytest.approx(np.log(3.0))
    assert value("model:fraud:customer_sum_7d") == pytest.approx(np.log(41.0))
    assert (value("model:fraud:night"), value("model:fraud:weekend")) == (1.0, 1.0)


def test_money_that_comes_in_neither_has_an_unusual_size_nor_makes_one() -> None:
    salary = {"type": "salary", "direction": "in", "channel": "web"}
    outputs, _ = outputs_of(
        [
            payment(NOON_MS, 10.0),
            payment(NOON_MS + HOUR_MS, 2500.0, **salary),
            payment(NOON_MS + 2 * HOUR_MS, 99.0, **{**salary, "type": "transfer_in"}),
            payment(NOON_MS + 3 * HOUR_MS, 30.0),
        ]
    )
    names = ("log_amount", "amount_ratio", "amount_zscore", "transfer_in")
    rows = [[outputs.row(row)(f"model:fraud:{name}") for name in names] for row in (1, 2, 3)]
    assert rows[0] == [0.0, 0.0, 0.0, 0.0]
    assert rows[1] == pytest.approx([0.0, 0.0, 0.0, np.log(100.0)])
    assert rows[2] == pytest.approx([np.log(31.0), 3.0, 1.0, 0.0])  # beside the 10 alone
