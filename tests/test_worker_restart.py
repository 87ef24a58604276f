"""One worker on a real broker and a real Redis: killed, told to end, and as the embedded engine."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_streams_restart import check_repeats
from worker_runs import Bank, Records, Worker, embedded, wait_until, without_training

from replay.simulator import Simulator, SimulatorSettings
from streams.policy_files import BANK_POLICY, read_policy
from streams.private_kafka import PrivateKafka
from streams.settings import Settings


@pytest.fixture(scope="module")
def records() -> Records:
    """Fifteen simulated days with frauds and labels, and a bad record now and then."""
    simulation = SimulatorSettings(customer_count=100, day_count=15, seed=4, fraud_rate=0.05)
    found = [(r.topic, r.key, r.value) for c in Simulator(simulation).chunks() for r in c]
    for place in range(0, len(found), 200):
        found.insert(place, ("events", f"C{place}", b'{"kind": "transactoin"}'))
    return found


@pytest.fixture
def bank(kafka: PrivateKafka, redis_url: str, redis_prefix: str) -> Bank:
    name = f"t{uuid.uuid4().hex[:8]}"
    settings = Settings(
        kafka=kafka.address,
        topic_prefix=f"{name}.",
        group=name,
        redis=redis_url,
        redis_prefix=redis_prefix,
        partitions_count=1,
        batch_max_count=50,
        checkpoint_ms=20,
        session_timeout_ms=3_000,
        listen="127.0.0.1:0",
    )
    return Bank(settings)


@pytest.fixture
def policy_dir(tmp_path: Path) -> Path:
    return without_training(BANK_POLICY, tmp_path / "policy")


@pytest.fixture
def workers(bank: Bank, policy_dir: Path, tmp_path: Path) -> Iterator[list[Worker]]:
    """Return workers made but not started; what still runs at the end is ended."""
    made = []
    bytecode = tmp_path.parent / "bytecode"
    yield made
    for worker in made:
        worker.close()


def start(bank: Bank, policy_dir: Path, tmp_path: Path, workers: list[Worker]) -> Worker:
    log = tmp_path / f"worker{len(workers)}.log"
    worker = Worker(bank.settings, policy_dir, log, tmp_path.parent / "bytecode")
    workers.append(worker)
    return worker


def test_a_worker_that_is_killed_or_ended_goes_on_where_it_was(
    bank: Bank, records: Records, policy_dir: Path, tmp_path: Path, workers: list[Worker]
) -> None:
    bank.produce(records[:2000])
    first = start(bank, policy_dir, tmp_path, workers)
    wait_until(lambda: bank.decided()[0] > 500, "the first worker decides")
    first.signal(signal.SIGKILL)
    assert first.ends() == -signal.SIGKILL
    second = start(bank, policy_dir, tmp_path, workers)
    wait_until(bank.is_decided, "the second worker has decided all")
    assert 0 < bank.epochs()[0] == 2
    bank.produce(records[2000:4000])
    wait_until(lambda: bank.decided()[0] > 2500, "it goes on")
    second.signal(signal.SIGTERM)
    assert second.ends() == 0, second.log.read_text()
    middle = bank.decided()[0]
    start(bank, policy_dir, tmp_path, workers)
    bank.produce(records[4000:])
    wait_until(bank.is_decided, "the third worker has decided all")
    state, lines = embedded(read_policy(policy_dir), records, 1)
    assert middle > 2500
    found = bank.state()
    del found["0", b"training-sequence"]  # an embedded engine does not number its examples
    assert found == state
    check_repeats(bank.lines(), lines)
