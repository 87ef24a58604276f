"""One worker on a real broker and a real Redis: killed, told to end, and as the embedded engine."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from test_streams_restart import check_repeats
from worker_runs import Bank, Records, embedded, wait_until, without_training

from replay.simulator import Simulator, SimulatorSettings
from streams.policy_files import BANK_POLICY, read_policy


@pytest.fixture(scope="module")
def records() -> Records:
    """Fifteen simulated days with frauds and labels, and a bad record now and then."""
    simulation = SimulatorSettings(customer_count=100, day_count=15, seed=4, fraud_rate=0.05)
    found = [(r.topic, r.key, r.value) for c in Simulator(simulation).chunks() for r in c]
    for place in range(0, len(found), 200):
        found.insert(place, ("events", f"C{place}", b'{"kind": "transactoin"}'))
    return found


def test_a_worker_that_is_killed_or_ended_goes_on_where_it_was(
    open_bank: Callable[..., Bank], records: Records, tmp_path: Path
) -> None:
    policy = without_training(BANK_POLICY, tmp_path / "policy")
    bank = open_bank(policy, batch_max_count=50)
    bank.produce(records[:2000])
    first = bank.start_worker()
    wait_until(lambda: bank.decided()[0] > 500, "the first worker decides")
    first.signal(signal.SIGKILL)
    assert first.ends() == -signal.SIGKILL
    second = bank.start_worker()
    wait_until(bank.is_decided, "the second worker has decided all")
    assert bank.epochs() == {0: 2}
    bank.produce(records[2000:4000])
    wait_until(lambda: bank.decided()[0] > 2500, "it goes on")
    second.signal(signal.SIGTERM)
    assert second.ends() == 0, second.log.read_text()
    bank.start_worker()
    bank.produce(records[4000:])
    wait_until(bank.is_decided, "the third worker has decided all")
    state, lines = embedded(read_policy(policy), records, 1)
    found = bank.state()
    del found["0", b"training-sequence"]  # an embedded engine does not number its examples
    assert found == state
    bank_lines = bank.lines()
    bank_lines["training"] = [t for t in bank_lines["training"] if b'"kind":"clock"' not in t]
    check_repeats(bank_lines, lines)
