"""Each fraud scenario by the property that gives it away, and the labels that follow."""

from collections import Counter, defaultdict
from itertools import pairwise

from simulator_runs import DAY_MS, HOUR_MS, Run, busy_run, speed_kmh

from features.records import Transaction
from replay.simulator import SimulatorSettings

MINUTE_MS = 60_000
SCENARIOS = {
    "card_testing", "account_takeover", "stolen_card", "compromised_terminal", "mule", "gang",
}  # fmt: skip


def incidents(frauds: list[Transaction], pause_ms: int) -> list[list[Transaction]]:
    """Frauds of one customer that follow each other within `pause_ms`."""
    by_customer: dict[str, list[Transaction]] = defaultdict(list)
    for t in frauds:
        by_customer[t.customer_id].append(t)
    found = []
    for events in by_customer.values():
        found.append([events[0]])
        for before, after in pairwise(events):
            if after.ts_ms - before.ts_ms > pause_ms:
                found.append([])
            found[-1].append(after)
    return found


def test_every_scenario_occurs_and_nothing_before_its_day() -> None:
    run = busy_run()
    assert set(run.fraud.values()) == SCENARIOS
    begin_ms = run.settings.start_ms + run.settings.fraud_start_day * DAY_MS
    assert all(t.ts_ms >= begin_ms for t in run.transactions if t.event_id in run.fraud)
    assert set(run.fraud) <= {t.event_id for t in run.transactions}


def test_the_default_rate_is_realistic() -> None:
    run = Run(SimulatorSettings(1_200, 18, seed=1))
    share = len(run.fraud) / len(run.transactions)
    assert 0.003 < share < 0.008


def test_no_fraud_at_rate_zero() -> None:
    assert not Run(SimulatorSettings(50, 8, fraud_rate=0.0)).fraud


def test_card_testing_is_a_burst_of_tiny_purchases_and_a_large_one() -> None:
    bursts = incidents(busy_run().frauds("card_testing"), HOUR_MS)
    assert len(bursts) > 10
    for burst in bursts:
        *tiny, large = burst
        assert len(tiny) >= 6 and max(t.amount_minor for t in tiny) < 300
        assert large.amount_minor > 20 * max(t.amount_minor for t in tiny)
        assert {t.channel for t in burst} == {"online"}
        assert len({t.card_id for t in burst}) == len({t.device_id for t in burst}) == 1
        assert tiny[-1].ts_ms - tiny[0].ts_ms < 20 * MINUTE_MS


def test_a_stolen_card_travels_impossibly_fast() -> None:
    run = busy_run()
    bursts = incidents(run.frauds("stolen_card"), 2 * HOUR_MS)
    assert len(bursts) > 10
    present: dict[str, list[Transaction]] = defaultdict(list)
    for t in run.transactions:
        if t.lat is not None and t.card_id:
            present[t.card_id].append(t)
    for burst in bursts:
        assert burst[0].card_id is not None
        before = [t for t in present[burst[0].card_id] if t.ts_ms < burst[0].ts_ms][-1]
        assert before.event_id not in run.fraud or run.fraud[before.event_id] != "stolen_card"
        assert speed_kmh(before, burst[0]) > 900


def test_a_take_over_is_login_phone_change_and_transfer_to_a_new_payee() -> None:
    run = busy_run()
    takeovers = incidents(run.frauds("account_takeover"), HOUR_MS)
    assert len(takeovers) > 10
    seen_devices: dict[str, int] = {}
    for event in run.interactions:
        if event.device_id:
            seen_devices.setdefault(event.device_id, event.ts_ms)
    first_paid: dict[str, int] = {}
    for t in run.transactions:
        if t.payee_id:
            first_paid.setdefault(t.payee_id, t.ts_ms)
    done: dict[tuple[str, str | None], set[str]] = defaultdict(set)
    for event in run.interactions:
        done[event.customer_id, event.device_id].add(event.type)
    for transfers in takeovers:
        first = transfers[0]
        assert first.device_id is not None
        assert first.ts_ms - HOUR_MS < seen_devices[first.device_id] < first.ts_ms
        assert {"login", "phone_change"} <= done[first.customer_id, first.device_id]
        assert first.payee_id is not None and first_paid[first.payee_id] == first.ts_ms
        assert first.type == "transfer_out" and first.amount_minor >= 15_000


def test_compromised_terminals_stay_at_their_place_and_inflate() -> None:
    run = busy_run()
    frauds = run.frauds("compromised_terminal")
    terminals: dict[str, list[Transaction]] = defaultdict(list)
    for t in frauds:
        assert t.terminal_id is not None and t.channel == "pos"
        terminals[t.terminal_id].append(t)
    repeated = [group for group in terminals.values() if len(group) >= 3]
    assert len(repeated) >= 5
    genuine = [
        t.amount_minor
        for t in run.transactions
        if t.terminal_id in terminals and t.type == "purchase" and t.event_id not in run.fraud
    ]
    mean_fraud = sum(t.amount_minor for t in frauds) / len(frauds)
    # Uniform between 2 and 5 times: 3.5 on average; half as much is still far from 1.
    assert mean_fraud > 1.75 * sum(genuine) / len(genuine)


def test_a_mule_passes_on_quickly_what_it_receives() -> None:
    groups: dict[str, list[Transaction]] = defaultdict(list)
    for t in busy_run().frauds("mule"):
        groups[t.customer_id].append(t)
    checked = 0
    for group in groups.values():
        received = [t for t in group if t.type == "transfer_in"]
        if not received:
            continue
        first, last = received[0].ts_ms, received[-1].ts_ms
        sent = [
            t for t in group
            if t.type == "transfer_out" and first < t.ts_ms < last + HOUR_MS
        ]  # fmt: skip
        passed_on = sum(t.amount_minor for t in sent)
        assert passed_on >= 0.8 * sum(t.amount_minor for t in received)
        checked += 1
    assert checked > 10


def test_a_gang_shares_devices_and_a_payee() -> None:
    run = busy_run()
    users: dict[str, set[str]] = defaultdict(set)
    last_ms: dict[str, int] = {}
    for event in run.interactions:
        if event.device_id:
            users[event.device_id].add(event.customer_id)
            last_ms[event.device_id] = event.ts_ms
    frauds = run.frauds("gang")
    assert len(frauds) > 30
    payees: dict[str, set[str]] = defaultdict(set)
    for t in frauds:
        assert t.device_id is not None and len(users[t.device_id]) >= 2
        if t.payee_id:
            payees[t.payee_id].add(t.customer_id)
    assert all(len(customers) >= 3 for customers in payees.values())
    # Nobody else shares a device; a gang of the last week hasn't struck yet.
    members = {t.customer_id for t in frauds}
    for device, customers in users.items():
        if len(customers) >= 2 and last_ms[device] < run.settings.end_ms - 8 * DAY_MS:
            assert customers <= members


def test_labels_come_late_but_not_too_late() -> None:
    run = busy_run()
    events = {t.event_id: t for t in run.transactions}
    delays = []
    for label in run.labels:
        event = events[label.event_id]
        assert event.customer_id == label.customer_id
        assert (label.verdict == "fraud") == (label.event_id in run.fraud)
        delays.append(label.ts_ms - event.ts_ms)
    delays.sort()
    assert delays[0] >= 2 * HOUR_MS and delays[-1] <= 6.5 * DAY_MS
    # The median of the log-normal is 2 days; the cut at 6.5 days takes 7 % from above: 1.86.
    assert 1.6 * DAY_MS < delays[len(delays) // 2] < 2.1 * DAY_MS


def test_nearly_all_frauds_are_reported_and_some_suspects_cleared() -> None:
    run = busy_run()
    known = {label.event_id for label in run.labels}
    settled_ms = run.settings.end_ms - 6.5 * DAY_MS
    old = [t for t in run.transactions if t.ts_ms < settled_ms and t.event_id in run.fraud]
    share = sum(t.event_id in known for t in old) / len(old)
    assert 0.91 < share < 0.985
    assert Counter(label.verdict for label in run.labels)["legitimate"] > 30
    assert len({label.event_id for label in run.labels}) == len(run.labels)


def test_a_card_is_replaced_after_a_report() -> None:
    run = busy_run()
    reported = {label.event_id: label.ts_ms for label in run.labels if label.verdict == "fraud"}
    last_use: dict[str, int] = {}
    for t in run.transactions:
        if t.card_id and t.type in {"purchase", "cash"}:
            last_use[t.card_id] = t.ts_ms
    for t in run.frauds("stolen_card"):
        if t.event_id in reported:
            assert t.card_id is not None
            assert last_use[t.card_id] < reported[t.event_id] + 2 * DAY_MS
