"""The closed loop: customers' answers, and the true uplift behind them."""

from collections import defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator_runs import DECODERS, HOUR_MS, offer, stream_bytes

from features.records import Outcome
from replay.simulator import (
    DEFAULT_OFFERS,
    OfferTimeError,
    Simulator,
    SimulatorSettings,
    UnknownChannelError,
    UnknownCustomerError,
)
from replay.simulator.randomness import mixed_uniform
from replay.source_record import SourceRecord

CUSTOMERS = 40


def outcomes_of(chunks: list[list[SourceRecord]]) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = defaultdict(list)
    for chunk in chunks:
        for record in chunk:
            if record.topic == "outcomes":
                outcome = DECODERS["outcomes"].decode(record.value)
                found[outcome.action_id].append(outcome)
    return found


def experiment(control: bool, repeats: int = 80) -> tuple[Simulator, dict[str, list[Outcome]]]:
    """Offer the same to each of CUSTOMERS many times on the first day, then listen."""
    simulator = Simulator(SimulatorSettings(CUSTOMERS, 15, seed=9, activity=0.1, fraud_rate=0))
    chunks = simulator.chunks()
    streamed = [next(chunks)]
    ts_ms = simulator.settings.start_ms + 1_000
    for k in range(CUSTOMERS * repeats):
        customer_id = f"CU{k % CUSTOMERS + 1:08d}"
        simulator.answer(offer(customer_id, ts_ms, k, control=control))
    return simulator, outcomes_of([*streamed, *chunks])


def test_the_measured_uplift_is_the_true_one() -> None:
    repeats = 80
    simulator, contacted = experiment(control=False, repeats=repeats)
    _, alone = experiment(control=True, repeats=repeats)
    converted = [
        sum(o.result == "converted" for answers in arm.values() for o in answers)
        for arm in (contacted, alone)
    ]
    model = simulator.truth.responses
    ids = [f"CU{k + 1:08d}" for k in range(CUSTOMERS)]
    truth = [model.response(who, "savings_plan", "sms") for who in ids]
    count = CUSTOMERS * repeats
    for hits, chances in (
        (converted[0], [t.p_with for t in truth]),
        (converted[1], [t.p_without for t in truth]),
    ):
        mean = sum(chances) / CUSTOMERS
        spread = np.sqrt(sum(p * (1 - p) for p in chances) / CUSTOMERS / count)
        assert abs(hits / count - mean) < 4 * spread
    uplift = sum(simulator.truth.uplift(who, "savings_plan", "sms") for who in ids) / CUSTOMERS
    assert abs((converted[0] - converted[1]) / count - uplift) < 0.015
    assert uplift > 0.02


def test_the_control_group_is_left_in_peace() -> None:
    _, alone = experiment(control=True, repeats=20)
    assert {o.result for answers in alone.values() for o in answers} == {"converted"}


def test_answers_follow_the_course_of_a_contact() -> None:
    _, contacted = experiment(control=False, repeats=20)
    courses = set()
    for answers in contacted.values():
        assert [o.ts_ms for o in answers] == sorted(o.ts_ms for o in answers)
        results = tuple(o.result for o in answers)
        courses.add(results)
        if "seen" in results:
            assert results[:2] == ("delivered", "seen")
            assert ("converted" in results) <= ("accepted" in results)
        for outcome in answers:
            assert (outcome.value_minor > 0) == (outcome.result == "converted")
    assert courses == {
        ("delivered",),
        ("delivered", "seen"),
        ("delivered", "seen", "rejected"),
        ("delivered", "seen", "accepted"),
        ("delivered", "seen", "accepted", "converted"),
        ("delivered", "converted"),
        ("converted",),
    }


def play(order: int, repeat: bool = False) -> bytes:
    """A run in which each hour's offers are answered in one of two orders."""
    simulator = Simulator(SimulatorSettings(30, 8, seed=6))
    chunks, number = [], 0
    for chunk in simulator.chunks():
        chunks.append(chunk)
        offers = []
        for record in chunk[:6]:
            number += 1
            name = DEFAULT_OFFERS[number % 3]
            offers.append(offer(record.key, record.ts_ms, number, name, control=number % 4 == 0))
        for made in offers[::order]:
            simulator.answer(made)
            if repeat:
                simulator.answer(made)
    return stream_bytes(chunks)


def test_neither_the_order_nor_repeats_of_answers_matter() -> None:
    assert play(1) == play(-1) == play(1, repeat=True)


def test_a_repeat_in_a_later_hour_is_ignored() -> None:
    simulator = Simulator(SimulatorSettings(5, 6, seed=1))
    made = None
    chunks = []
    for chunk in simulator.chunks():
        chunks.append(chunk)
        made = made or offer("CU00000002", chunk[0].ts_ms, 1)
        simulator.answer(made)
    (answers,) = outcomes_of(chunks).values()
    assert len({o.result for o in answers}) == len(answers) >= 1


def test_other_customers_offers_do_not_change_an_answer() -> None:
    def answer_of_one(others: int) -> list[Outcome]:
        simulator = Simulator(SimulatorSettings(20, 10, seed=8))
        chunks = simulator.chunks()
        first = next(chunks)
        for k in range(others):
            simulator.answer(offer(f"CU{k + 2:08d}", first[0].ts_ms, 100 + k))
        for k in range(5):
            simulator.answer(offer("CU00000001", first[0].ts_ms, k))
        found = outcomes_of(list(chunks))
        return [o for k in range(5) for o in found[f"A{k:06d}"]]

    assert answer_of_one(0) == answer_of_one(15) != []


def test_a_late_answer_stays_in_order_of_time() -> None:
    simulator = Simulator(SimulatorSettings(20, 5, seed=8))
    chunks = simulator.chunks()
    streamed = [next(chunks) for _ in range(50)]
    for k in range(20):
        simulator.answer(offer(f"CU{k + 1:08d}", simulator.settings.start_ms, k))
    later = list(chunks)
    answers = [o for found in outcomes_of(later).values() for o in found]
    assert len(answers) >= 20
    assert min(o.ts_ms for o in answers) > streamed[-1][-1].ts_ms
    times = [r.ts_ms for chunk in [*streamed, *later] for r in chunk]
    assert times == sorted(times)


def test_wrong_offers_are_refused() -> None:
    simulator = Simulator(SimulatorSettings(5, 2))
    next(simulator.chunks())
    start_ms = simulator.settings.start_ms
    for who in ("CU00000006", "CU6", "C1", "CU00000000", "CU٣", ""):
        with pytest.raises(UnknownCustomerError, match="CU00000001 to CU00000005"):
            simulator.answer(offer(who, start_ms, 1))
    with pytest.raises(OfferTimeError):
        simulator.answer(offer("CU00000001", start_ms + 3 * HOUR_MS, 1))
    with pytest.raises(UnknownChannelError, match="app_push"):
        simulator.truth.uplift("CU00000001", "x", "fax")


@given(st.text(min_size=1, max_size=30), st.sampled_from([None, "sms", "phone"]))
def test_any_offer_has_a_true_response(name: str, channel: str | None) -> None:
    model = SIMULATOR.truth.responses
    p_without, p_with, p_seen = model.response("CU00000003", name, channel)
    assert 0 < p_without < 1 and 0 < p_with < 1 and 0 < p_seen < 1
    assert min(p_without, p_seen) <= p_with <= max(p_without, p_seen)
    assert model.response("CU00000003", name, channel) == (p_without, p_with, p_seen)


SIMULATOR = Simulator(SimulatorSettings(400, 1, seed=2))


@pytest.mark.parametrize("name", DEFAULT_OFFERS)
def test_customers_differ_in_how_an_offer_moves_them(name: str) -> None:
    p_without, p_with, _ = SIMULATOR.truth.responses.table(name, 0, 400)
    uplift = p_with - p_without
    assert uplift.min() < 0 < 0.1 < uplift.max()
    # Those likely to buy anyway are not simply those whom the offer moves.
    assert abs(np.corrcoef(p_without, uplift)[0, 1]) < 0.9


def test_mixing_looks_uniform() -> None:
    values = mixed_uniform(np.arange(20_000, dtype=np.uint64), 77)
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    # Each bin is binomial(20000, 1/20): 1000 with a spread of 31.
    assert abs(counts - 1_000).max() < 5 * 31
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03


def test_an_offer_that_waits_is_delivered_after_its_time() -> None:
    simulator = Simulator(SimulatorSettings(40, 4, seed=3))
    wait_ms = 5 * 3_600_000
    made: dict[str, int] = {}
    outcomes: list[Outcome] = []
    for chunk in simulator.chunks():
        outcomes += [
            msgspec.json.decode(r.value, type=Outcome) for r in chunk if r.topic == "outcomes"
        ]
        if chunk and not made:
            for number, record in enumerate(chunk[:40]):
                waiting = offer(
                    record.key, record.ts_ms, number, deliver_from_ms=record.ts_ms + wait_ms
                )
                made[waiting.action_id] = waiting.deliver_from_ms
                simulator.answer(waiting)
    assert len({o.action_id for o in outcomes if o.result == "delivered"}) > 20
    assert all(o.ts_ms > made[o.action_id] for o in outcomes)
