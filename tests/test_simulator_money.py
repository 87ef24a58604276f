"""Money in simulated traffic: salaries by the month, balances to the cent, sane travel."""

from collections import defaultdict
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
from simulator_runs import DAY_MS, busy_run, speed_kmh

from features.records import Transaction
from replay.simulator.days import day_of
from replay.simulator.geography import CITIES, CITY_DISTANCE_KM
from replay.simulator.ledger import book
from replay.simulator.rows import Via, What, make_rows
from replay.simulator.scene import build_scene
from replay.simulator.settings import SimulatorSettings


def test_balances_follow_from_the_bookings() -> None:
    for transactions in busy_run().by_customer().values():
        for before, after in pairwise(transactions):
            sign = 1 if after.direction == "in" else -1
            assert before.balance_minor is not None
            assert after.balance_minor == before.balance_minor + sign * after.amount_minor


def test_no_payment_goes_beyond_the_overdraft() -> None:
    run = busy_run()
    overdraft = build_scene(run.settings).population.overdraft_minor
    balances = [t.balance_minor for t in run.transactions if t.balance_minor is not None]
    lowest = min(
        t.balance_minor + int(overdraft[int(t.customer_id[2:]) - 1])
        for t in run.transactions
        if t.balance_minor is not None
    )
    assert lowest >= 0
    assert max(balances) < 10**8


def test_what_is_not_covered_is_refused() -> None:
    scene = build_scene(SimulatorSettings(3, 1))
    scene.state.balance_minor[:] = [1_000, 0, 500]
    scene.population.overdraft_minor[:] = 100
    rows = make_rows(
        np.array([0, 2, 0, 0, 2]), [1, 2, 3, 4, 5],
        [What.PURCHASE, What.SALARY, What.PURCHASE, What.LOGIN, What.CASH], Via.POS,
        amount_minor=[900, 50, 300, 0, 650],
    )  # fmt: skip
    left = book(scene, rows)
    # Customer 0: 1000 - 900 = 100, then 300 more would be -200, below -100: refused.
    # Customer 2: 500 + 50 - 650 = -100, just covered.
    assert left["ts_ms"].tolist() == [1, 2, 4, 5]
    assert left["balance_minor"].tolist() == [100, 550, 0, -100]
    assert scene.state.balance_minor.tolist() == [100, 0, -100]


def test_the_salary_comes_from_one_payer_once_a_month() -> None:
    salaries: dict[str, list[Transaction]] = defaultdict(list)
    for transaction in busy_run().transactions:
        if transaction.type == "salary":
            salaries[transaction.customer_id].append(transaction)
    assert len(salaries) > 0.85 * busy_run().settings.customer_count
    gaps = []
    for paid in salaries.values():
        assert len({t.payee_id for t in paid}) == 1
        assert {t.direction for t in paid} == {"in"}
        for before, after in pairwise(paid):
            gaps.append((after.ts_ms - before.ts_ms) / DAY_MS)
            assert abs(after.amount_minor / before.amount_minor - 1) < 0.2
            months = [datetime.fromtimestamp(t.ts_ms / 1000, UTC).month for t in (before, after)]
            assert (months[1] - months[0]) % 12 == 1
    assert len(gaps) > 400
    # A calendar month has 28 to 31 days; each payday may shift by one day either way.
    assert min(gaps) > 28 - 3 and max(gaps) < 31 + 3


def test_bills_return_to_known_payees() -> None:
    months_of: dict[tuple[str, str], set[int]] = defaultdict(set)
    for t in busy_run().transactions:
        if t.type == "transfer_out" and t.payee_id and t.payee_id.startswith("UT"):
            months_of[t.customer_id, t.payee_id].add(
                datetime.fromtimestamp(t.ts_ms / 1000, UTC).month
            )
    repeated = sum(len(months) >= 2 for months in months_of.values())
    assert repeated > 0.9 * len(months_of) > 500


def test_genuine_customers_travel_no_faster_than_an_aeroplane() -> None:
    run = busy_run()
    fastest, far = 0.0, 0
    for transactions in run.by_customer().values():
        present = [t for t in transactions if t.lat is not None and t.event_id not in run.fraud]
        for before, after in pairwise(present):
            fastest = max(fastest, speed_kmh(before, after))
            far += before.country != after.country
    assert fastest < 800
    assert far > 100


def test_purchases_carry_what_their_channel_knows() -> None:
    for t in busy_run().transactions:
        if t.type != "purchase":
            continue
        assert t.merchant_id and t.mcc and t.card_id and t.country
        at_till = t.channel == "pos"
        assert (t.terminal_id is not None) == (t.lat is not None) == at_till
        assert (t.device_id is not None) == (t.ip is not None) == (not at_till)


def test_currencies_of_a_trip_are_asked_for_before_it() -> None:
    run = busy_run()
    asked: dict[str, list[int]] = defaultdict(list)
    for event in run.interactions:
        if event.type == "fx_query":
            assert event.metric is not None and event.metric != "EUR"
            asked[event.customer_id].append(event.ts_ms)
    other_money = {city.country for city in CITIES if city.currency != "EUR"}
    abroad = {
        t.customer_id: t.ts_ms
        for t in reversed(run.transactions)
        if t.country in other_money and t.terminal_id and t.event_id not in run.fraud
    }
    early = {who: ts for who, ts in abroad.items() if ts > run.settings.start_ms + 12 * DAY_MS}
    prepared = [who for who, ts in early.items() if any(q < ts for q in asked[who])]
    # Two to ten days of waiting at 0.9 queries a day: few ask for nothing.
    assert len(prepared) > 0.75 * len(early) > 20


def test_days_know_the_calendar() -> None:
    day = day_of(SimulatorSettings(1, 40), 31)  # 2025-07-01 + 31 days is Friday, August 1st
    assert (day.day_of_month, day.month % 12, day.weekday, day.is_weekend) == (1, 7, 4, False)


def test_distances_between_cities() -> None:
    # Berlin to Munich: 504 km along the great circle.
    assert abs(CITY_DISTANCE_KM[0, 2] - 504) < 3
    assert np.allclose(CITY_DISTANCE_KM, CITY_DISTANCE_KM.T)
