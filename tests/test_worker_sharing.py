"""Workers whose customers pay at the same terminals, held to the embedded engine."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from strategies_streams import START_MS, transaction
from worker_runs import Bank, Records, embedded, wait_until

from bench.chaos.rounds import BankRun
from bench.chaos.servers import Servers
from features.records import ENCODER, Alert
from streams.partitioner import partition_of
from streams.policy_files import read_policy
from streams.private_kafka import PrivateKafka

PARTITION_COUNT = 4
REFRESH_MS, STALENESS_MS_MAX, CHECKPOINT_MS = 20, 500, 10
# From sending a payment until it is decided and stored, on a machine that is busy with much else.
STORING_MAX_MS = 2_000
TERMINALS = ("ta", "tb", "tc")
# One rule quotes what follows from the customer alone, the other what all partitions know.
POLICY = """\
name: sharing
currency: EUR
entities:
  customer: {key: customer_id, scope: local, keep: [amount]}
  terminal: {key: terminal_id, scope: shared, keep: [amount]}
rules:
  - id: own
    risk: size
    when: amount > 0
    action: review
    reason: "{customer.count('30d')} {customer.sum(amount, '7d')} {customer.max(amount, '30d')}"
  - id: shared
    risk: size
    when: amount > 0
    action: review
    reason: "{terminal.count('30d')} {terminal.sum(amount, '7d')} {terminal.max(amount, '1d')}"
"""


class Said(NamedTuple):
    """What an alert says of the customer and of the terminal."""

    own: str
    shared: str
    status: str  # of the values of the terminal


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "policy.yaml").write_text(POLICY)
    return folder


@pytest.fixture
def bank(open_bank: Callable[..., Bank], policy: Path) -> Bank:
    """Two workers with two partitions each."""
    bank = open_bank(
        policy,
        partitions_count=PARTITION_COUNT,
        shared_refresh_ms=REFRESH_MS,
        shared_staleness_ms_max=STALENESS_MS_MAX,
        checkpoint_ms=CHECKPOINT_MS,
    )
    for _ in range(2):
        bank.start_worker()
    wait_until(lambda: bank.is_shared_out() and all(w.took()[-1] for w in bank.workers), "shared")
    return bank


def customers() -> list[str]:
    """Return two customers of each partition."""
    found: dict[int, list[str]] = {p: [] for p in range(PARTITION_COUNT)}
    number = 0
    while any(len(own) < 2 for own in found.values()):
        name = f"C{number}"
        found[partition_of(name, PARTITION_COUNT)].append(name)
        number += 1
    return [name for own in found.values() for name in own[:2]]


def payment(number: int, ts_ms: int, customer: str, terminal: str, amount: int) -> tuple[str, ...]:
    made = transaction(number, ts_ms, customer, terminal_id=terminal, amount_minor=100 * amount)
    return ("transactions", customer, ENCODER.encode(made))  # type: ignore[return-value]


def said(lines: list[bytes]) -> dict[str, Said]:
    """Return what the alerts say, by event; each payment has one."""
    found = {}
    for line in lines:
        alert = msgspec.json.decode(line, type=Alert)
        texts = {reason.source: reason for reason in alert.reasons}
        own, shared = texts["rule:own"], texts["rule:shared"]
        assert own.status == "exact"
        found[alert.event_id] = Said(own.text, shared.text, shared.status)
    assert len(found) == len(lines)
    return found


def slices(count: int) -> Iterator[Records]:
    """Yield payments; within a slice a terminal is visited from one partition only.

    So a slice means the same however partitions interleave. In the first one each partition visits
    each terminal for the first time, one after the other: a terminal that is new to a process has
    not been read yet.
    """
    rng, names = random.Random(11), customers()
    visits = [(name, terminal) for name in names for terminal in TERMINALS]
    for _ in range(count):
        visits += [(rng.choice(names), rng.choice(TERMINALS)) for _ in range(4)]
    visitors: dict[str, int] = {}
    records: Records = []
    for number, (name, terminal) in enumerate(visits):
        partition = partition_of(name, PARTITION_COUNT)
        if visitors.setdefault(terminal, partition) != partition:
            yield records
            records, visitors = [], {terminal: partition}
        amount, ts_ms = rng.randrange(1, 90), START_MS + 60_000 * number
        records.append(payment(number, ts_ms, name, terminal, amount))  # type: ignore[arg-type]
    yield records


def test_with_pauses_two_workers_say_what_one_engine_says(bank: Bank, policy: Path) -> None:
    """A pause is long enough to store and to read what the other worker stored."""
    records: Records = []
    for some in slices(25):
        records += some
        bank.produce(some)
        wait_until(bank.is_decided, "the slice is decided and stored")
        time.sleep(5 * REFRESH_MS / 1000)
    _, lines = embedded(read_policy(policy), records, PARTITION_COUNT)
    expected, found = said(lines["alerts"]), said(bank.lines()["alerts"])
    assert found.keys() == expected.keys()
    assert {k: v.own for k, v in found.items()} == {k: v.own for k, v in expected.items()}
    first_visits = 2 * len(TERMINALS) * PARTITION_COUNT
    late = list(expected)[first_visits:]
    stale = [event for event in late if found[event].status != "exact"]
    assert len(stale) < len(late) / 4, "on a machine that stood still some copies were old"
    exact = [event for event in late if event not in stale]
    assert {k: found[k].shared for k in exact} == {k: expected[k].shared for k in exact}
    # Values that only one worker's customers make would be the same without any exchange.
    assert max(int(expected[event].shared.split()[0]) for event in exact) > len(exact) / 4


def test_without_pauses_a_value_is_stale_or_lacks_only_what_is_young(bank: Bank) -> None:
    """Event time is the time of sending here."""
    rng, names = random.Random(12), customers()
    sent: list[tuple[int, str, str, int]] = []  # ts_ms, customer, terminal, amount
    for number in range(450):
        name, terminal, amount = rng.choice(names), rng.choice(TERMINALS), rng.randrange(1, 90)
        ts_ms = time.time_ns() // 1_000_000
        sent.append((ts_ms, name, terminal, amount))
        bank.produce([payment(number, ts_ms, name, terminal, amount)])  # type: ignore[list-item]
        time.sleep(0.012)
    wait_until(bank.is_decided, "all is decided")
    found = said(bank.lines()["alerts"])
    assert len(found) == len(sent)
    exact_count = foreign_count = 0
    for number, (ts_ms, name, terminal, _) in enumerate(sent):
        value = found[f"e{number}"]
        before = [visit for visit in sent[: number + 1] if visit[2] == terminal]
        own = {id(v) for v in before if v[1] == name}
        assert value.own.split()[0] == str(sum(v[1] == name for v in sent[: number + 1]))
        old_ms = ts_ms - STALENESS_MS_MAX - STORING_MAX_MS
        known = [visit for visit in before if id(visit) in own or visit[0] < old_ms]
        count, amount = (float(text) for text in value.shared.replace(",", "").split()[:2])
        at_most = [v for v in sent if v[2] == terminal and v[0] <= ts_ms]
        assert count <= len(at_most)
        assert amount <= sum(visit[3] for visit in at_most)
        if value.status != "exact":
            continue
        exact_count += 1
        foreign_count += len(known) - len(own)
        assert len(known) <= count
        assert sum(visit[3] for visit in known) <= amount
    assert exact_count > len(sent) / 2
    assert foreign_count > len(sent), "there was much to read of the other worker"


@pytest.mark.parametrize("worker_count", [1, 2])
def test_over_local_entities_any_number_of_workers_is_the_embedded_engine(
    compiled: None, kafka: PrivateKafka, worker_count: int
) -> None:
    """Alerts, offers, decisions, examples and all that is stored, byte for byte."""
    with closing(Servers(kafka)) as servers:
        run = BankRun(servers, "local entities", seed=3, worker_count=worker_count)
        with closing(run):
            run.open()
            run.skip(6)
            assert len(run.bank.running()) == worker_count
            assert {"alerts", "offers", "training", "dead-letters"} <= run.ledger.found.keys()
