"""Two workers of one group: partitions move, a zombie wakes up, Redis and Kafka go away."""

import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from test_streams_restart import Fragile, identity
from worker_runs import Bank, Records, differing, embedded, wait_until, without_training

from bench.chaos.reference import histories
from replay.simulator import Simulator, SimulatorSettings
from streams.policy_files import BANK_POLICY, read_policy

PARTITION_COUNT = 4
STALL_MS = 4_000


@pytest.fixture(scope="module")
def records() -> Records:
    simulation = SimulatorSettings(customer_count=60, day_count=15, seed=7, fraud_rate=0.05)
    return [(r.topic, r.key, r.value) for c in Simulator(simulation).chunks() for r in c]


@pytest.fixture
def fragile() -> Iterator[Fragile]:
    with closing(Fragile(Path(tempfile.mkdtemp(prefix="millrace-test-")))) as server:
        yield server


def decided_events(bank: Bank) -> list[str]:
    return [msgspec.json.decode(line)["event_id"] for line in bank.lines()["decisions"]]


def test_partitions_move_a_zombie_is_refused_and_redis_comes_back(
    open_bank: Callable[..., Bank], records: Records, fragile: Fragile, tmp_path: Path
) -> None:
    policy = without_training(BANK_POLICY, tmp_path / "policy")
    bank = open_bank(
        policy,
        partitions_count=PARTITION_COUNT,
        redis=fragile.url,
        redis_timeout_ms=500,
        batch_max_count=50,
        checkpoint_ms=1_000,  # so that there is something that is decided and not stored
        decisions=True,
    )
    part = len(records) // 4
    first, second = bank.start_worker(), bank.start_worker()
    wait_until(bank.is_shared_out, "partitions are shared out")
    bank.produce(records[:part])
    wait_until(bank.is_decided, "both have decided the first part")

    before = bank.topic_end("decisions")
    bank.produce(records[part : 2 * part])
    wait_until(lambda: bank.topic_end("decisions") > before + 200, "much is decided")
    first.signal(signal.SIGSTOP)
    wait_until(bank.is_decided, "the second one has all partitions")
    taken = bank.epochs()
    first.signal(signal.SIGCONT)
    wait_until(lambda: bank.epochs() != taken and bank.is_shared_out(), "it is back")

    assert re.search(r"partition \d: our epoch is \d+, the stored one", first.log.read_text())

    fragile.stop()
    bank.produce(records[2 * part : 3 * part])
    wait_until(lambda: second.says("the store is away"), "the store is missed")
    fragile.start()
    wait_until(bank.is_decided, "they go on when Redis is back")

    first.signal(signal.SIGTERM)
    assert first.ends() == 0, first.log.read_text()
    bank.produce(records[3 * part :])
    wait_until(bank.is_decided, "the one that is left decides the rest")

    state, lines = embedded(read_policy(policy), records, PARTITION_COUNT)
    assert differing(histories(bank.state()), histories(state)) == []
    events = decided_events(bank)
    assert len(set(events)) == sum(b'"kind":"transaction"' in value for _, _, value in records)
    found = bank.lines()
    for family in ("alerts", "offers"):
        # Alerts on shared entities depend on how partitions interleave: most do not.
        expected = {identity(family, line) for line in lines.get(family, [])}
        got = {identity(family, line) for line in found.get(family, [])}
        assert len(got & expected) >= 0.9 * len(expected | got)


def test_the_watchdog_leaves_alone_who_stands_by_and_who_stood_still(
    open_bank: Callable[..., Bank],
) -> None:
    """Faust says nothing to a worker that is given no partitions: it knows all the same."""
    bank = open_bank(stall_ms=STALL_MS)
    workers = [bank.start_worker(), bank.start_worker()]
    wait_until(bank.is_shared_out, "one has the partition and the other none")
    standing_by = next(worker for worker in workers if worker.took()[-1] == set())
    time.sleep(1.5 * STALL_MS / 1000)
    assert all(worker.is_running for worker in workers), standing_by.log.read_text()
    standing_by.signal(signal.SIGSTOP)  # as a machine that sleeps
    time.sleep(2 * STALL_MS / 1000)
    standing_by.signal(signal.SIGCONT)
    took_count = len(standing_by.took())
    wait_until(lambda: len(standing_by.took()) > took_count, "it is in the group again")
    assert all(worker.is_running for worker in workers), standing_by.log.read_text()
