"""The day on which frauds change: nothing before it moves, and what comes then is new."""

from collections import Counter, defaultdict
from functools import cache

import pytest
from simulator_runs import DAY_MS, HOUR_MS, Run, stream_bytes

from features.records import Transaction
from replay.simulator import SettingsError, Simulator, SimulatorSettings

CHANGE_DAY = 20
CARDS = {"card_testing", "stolen_card", "compromised_terminal"}
ACCOUNTS = {"account_takeover", "mule", "talked_into_paying"}


@cache
def changed_run() -> Run:
    return Run(settings(pattern_change_day=CHANGE_DAY))


def settings(pattern_change_day: int | None) -> SimulatorSettings:
    return SimulatorSettings(
        300, 40, seed=11, fraud_rate=0.02, pattern_change_day=pattern_change_day
    )


def after_change_ms() -> int:
    return changed_run().settings.start_ms + CHANGE_DAY * DAY_MS


def test_nothing_before_its_day_tells_of_the_change() -> None:
    later = Simulator(settings(pattern_change_day=2 * CHANGE_DAY)).chunks()
    before = [[r for r in chunk if r.ts_ms < after_change_ms()] for chunk in later]
    changed = [[r for r in chunk if r.ts_ms < after_change_ms()] for chunk in changed_run().chunks]
    assert stream_bytes(changed) == stream_bytes(before)
    assert sum(map(len, before)) > 10_000


def test_a_run_without_it_says_nothing_of_it() -> None:
    assert "pattern_change_day" not in SimulatorSettings(10, 2).to_dict()
    assert settings(pattern_change_day=3).to_dict()["pattern_change_day"] == 3
    with pytest.raises(SettingsError, match=r"^pattern_change_day: expected"):
        settings(pattern_change_day=-1)


def test_frauds_are_with_cards_before_it_and_with_accounts_from_then_on() -> None:
    run = changed_run()
    kinds: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for t in run.transactions:
        if t.event_id in run.fraud:
            kinds[t.ts_ms >= after_change_ms()][run.fraud[t.event_id]] += 1
    late = {kind: count for kind, count in kinds[True].items() if kind in CARDS}
    assert sum(late.values()) < 20  # what a card was begun with before midnight
    assert set(kinds[False]) == CARDS
    assert set(kinds[True]) - set(late) == ACCOUNTS
    total = {when: sum(count.values()) for when, count in kinds.items()}
    assert 0.7 < total[True] / total[False] < 1.4  # their number stays what it was
    wanted = {"account_takeover": 0.2, "mule": 0.4, "talked_into_paying": 0.4}
    for kind, share in wanted.items():
        assert 0.6 * share < kinds[True][kind] / total[True] < 1.5 * share


def by_customer(kind: str) -> list[list[Transaction]]:
    """Return the frauds of a kind by customer and day of UTC."""
    found: dict[tuple[str, int], list[Transaction]] = defaultdict(list)
    for t in changed_run().frauds(kind):
        found[t.customer_id, t.ts_ms // DAY_MS].append(t)
    return list(found.values())


def test_a_victim_of_a_caller_pays_from_the_usual_device() -> None:
    run = changed_run()
    devices: dict[str, set[str | None]] = defaultdict(set)
    for t in run.transactions:
        if t.event_id not in run.fraud:
            devices[t.customer_id].add(t.device_id)
    for event in run.interactions:
        devices[event.customer_id].add(event.device_id)
    for group in by_customer("talked_into_paying"):
        assert {t.device_id for t in group} <= devices[group[0].customer_id]
        assert len({t.ip for t in group}) == 1


def test_a_victim_of_a_caller_pays_one_new_payee_in_parts() -> None:
    first_paid: dict[str, int] = {}
    for t in changed_run().transactions:
        if t.payee_id:
            first_paid.setdefault(t.payee_id, t.ts_ms)
    groups = by_customer("talked_into_paying")
    assert len(groups) > 10
    for group in groups:
        assert {t.type for t in group} == {"transfer_out"}
        for payee in {t.payee_id for t in group}:
            parts = [t for t in group if t.payee_id == payee]
            assert len(parts) <= 7  # fewer than four where the account had no more
            assert first_paid[payee or ""] == parts[0].ts_ms
            assert parts[-1].ts_ms - parts[0].ts_ms < 2.5 * HOUR_MS
            assert max(t.amount_minor for t in parts) <= 66_000
