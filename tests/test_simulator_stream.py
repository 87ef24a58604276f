"""The simulator's stream: same bytes, in order, valid, within bounds of memory."""

import gc
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator_runs import DAY_MS, HOUR_MS, Run, busy_run, offer, stream_bytes

from features.errors import MillraceError
from replay.simulator import TOPIC_ORDER, SettingsError, Simulator, SimulatorSettings
from replay.simulator.spending import PAUSE_MS, spaced

SMALL = SimulatorSettings(60, 9, seed=3)


@pytest.mark.parametrize(
    "change",
    [
        {"customer_count": 0},
        {"customer_count": 2.5},
        {"day_count": True},
        {"day_count": 3_661},
        {"seed": -1},
        {"start_ms": 1_751_328_000_001},
        {"start_ms": 1_751_328_000},
        {"start_ms": 4_102_444_800_000},
        {"fraud_rate": 0.051},
        {"fraud_rate": float("nan")},
        {"activity": "much"},
        {"currency": "euro"},
        {"offers": ["a"]},
        {"offers": ("a", "a")},
        {"fraud_start_day": -1},
    ],
)
def test_a_wrong_setting_is_refused_by_name(change: dict[str, Any]) -> None:
    (name,) = change
    known = {"customer_count": 10, "day_count": 2}
    with pytest.raises(SettingsError, match=f"^({name}|day_count): expected "):
        SimulatorSettings(**(known | change))


def test_same_settings_give_same_bytes() -> None:
    first = stream_bytes(list(Simulator(SMALL).chunks()))
    again = stream_bytes(list(Simulator(SimulatorSettings(60, 9, seed=3)).chunks()))
    assert first == again
    assert len(first) > 100_000


def test_another_seed_gives_another_stream() -> None:
    one = Simulator(SimulatorSettings(10, 1, seed=1))
    two = Simulator(SimulatorSettings(10, 1, seed=2))
    assert stream_bytes(list(one.chunks())) != stream_bytes(list(two.chunks()))


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short = stream_bytes(list(Simulator(SimulatorSettings(40, 3, seed=5)).chunks()))
    longer = stream_bytes(list(Simulator(SimulatorSettings(40, 6, seed=5)).chunks()))
    # Who leaves the bank depends on the run's length, from day 5 on only.
    assert longer.startswith(short)


def test_answers_change_nothing_but_outcomes() -> None:
    alone = [r for chunk in Simulator(SMALL).chunks() for r in chunk]
    simulator = Simulator(SMALL)
    answered = []
    for number, chunk in enumerate(simulator.chunks()):
        answered += chunk
        simulator.answer(offer(chunk[0].key, chunk[0].ts_ms, number))
    assert [r for r in answered if r.topic != "outcomes"] == alone
    assert len(answered) > len(alone) + 100


def test_two_simulators_side_by_side_do_not_meet() -> None:
    alone = stream_bytes(list(Simulator(SMALL).chunks()))
    pairs = list(zip(Simulator(SMALL).chunks(), Simulator(SMALL).chunks(), strict=True))
    assert stream_bytes([left for left, _ in pairs]) == alone
    assert stream_bytes([right for _, right in pairs]) == alone


def test_chunks_are_hours_in_order_of_time_and_topic() -> None:
    run = busy_run()
    hours: list[int] = []
    for chunk in run.chunks:
        ranks = [(r.ts_ms, TOPIC_ORDER.index(r.topic)) for r in chunk]
        assert ranks == sorted(ranks)
        within = {(r.ts_ms - run.settings.start_ms) // HOUR_MS for r in chunk}
        assert len(within) == 1
        hours += within
    assert hours == sorted(set(hours))
    assert hours[0] >= 0 and hours[-1] < run.settings.hour_count


def test_every_record_is_valid_and_says_the_same_as_its_envelope() -> None:
    run = busy_run()  # decoding by the typed decoders has checked the fields
    pairs = Counter((r.topic, r.key, r.ts_ms) for chunk in run.chunks for r in chunk)
    inside = Counter(
        (topic, record.customer_id, record.ts_ms)
        for topic, records in run.records.items()
        for record in records
    )
    assert pairs == inside


def test_event_ids_are_unique() -> None:
    run = busy_run()
    ids = [t.event_id for t in run.transactions] + [i.event_id for i in run.interactions]
    assert len(set(ids)) == len(ids)


def test_every_customer_has_a_profile_within_the_first_hour() -> None:
    run = busy_run()
    first = [p for p in run.records["profiles"] if p.ts_ms < run.settings.start_ms + HOUR_MS]
    assert Counter(p.customer_id for p in first) == Counter(
        f"CU{k + 1:08d}" for k in range(run.settings.customer_count)
    )
    assert len(run.records["profiles"]) > 1.5 * len(first)
    share = sum("marketing:sms" in p.consents for p in first) / len(first)
    assert 0.4 < share < 0.65


def test_every_kind_of_event_occurs_at_about_the_usual_rate() -> None:
    run = busy_run()
    types = {t.type for t in run.transactions} | {i.type for i in run.interactions}
    assert {
        "purchase", "transfer_out", "transfer_in", "cash", "salary", "refund", "fee", "deposit",
        "loan_payment", "interest", "login", "page_view", "fx_query", "application_abandoned",
        "complaint_opened", "complaint_closed", "survey", "telemetry", "address_change",
        "phone_change",
    } == types  # fmt: skip
    months = run.settings.customer_count * run.settings.day_count / 30
    assert 80 < sum(len(chunk) for chunk in run.chunks) / months < 120


def test_a_run_is_streamed_once() -> None:
    simulator = Simulator(SimulatorSettings(5, 1))
    list(simulator.chunks())
    with pytest.raises(MillraceError, match="once"):
        simulator.chunks()


@pytest.mark.parametrize("customer_count", [1, 2, 5])
def test_very_few_customers_are_enough(customer_count: int) -> None:
    run = Run(SimulatorSettings(customer_count, 12, seed=4, fraud_rate=0.05, fraud_start_day=0))
    assert {t.customer_id for t in run.transactions} <= {
        f"CU{k + 1:08d}" for k in range(customer_count)
    }


def test_memory_does_not_grow_with_the_run() -> None:
    simulator = Simulator(SimulatorSettings(120, 46, seed=2))
    held_counts: list[int] = []
    record_count = 0
    for chunk in simulator.chunks():
        record_count += len(chunk)
        if chunk[-1].ts_ms >= simulator.settings.start_ms + (len(held_counts) + 1) * 15 * DAY_MS:
            gc.collect()
            held_counts.append(sys.getallocatedblocks())
    # The last 15 days have 5,500 records of a tuple, an integer and bytes: 16,500 if kept.
    assert record_count > 15_000
    assert held_counts[2] - held_counts[1] < 3_000


def test_nothing_stays_pending_after_the_run() -> None:
    simulator = Simulator(SimulatorSettings(60, 12, seed=2, fraud_rate=0.05))
    for number, chunk in enumerate(simulator.chunks()):
        simulator.answer(offer(chunk[0].key, chunk[0].ts_ms, number))
    assert len(simulator.truth.fraud) > 20
    assert not simulator._labels
    assert not simulator._outcomes._pending
    assert not simulator._planner._ahead and not simulator._planner._replacements


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5_000_000)), max_size=40).map(
        lambda rows: sorted(rows, key=lambda row: row[0])
    )
)
def test_spacing_against_the_obvious_loop(rows: list[tuple[int, int]]) -> None:
    customer = np.array([row[0] for row in rows], dtype=np.int64)
    ts_ms = np.array([row[1] for row in rows], dtype=np.int64)
    expected: list[int] = []
    for who in sorted(set(customer.tolist())):
        last = None
        for t in sorted(ts_ms[customer == who].tolist()):
            last = t if last is None else max(t, last + PAUSE_MS)
            expected.append(last)
    assert spaced(customer, ts_ms).tolist() == expected
