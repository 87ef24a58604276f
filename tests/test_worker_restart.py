"""One worker on a real broker and a real Redis: killed, told to end, and as the embedded engine."""

import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from test_streams_restart import check_repeats
from worker_runs import (
    Bank,
    Lines,
    Records,
    differing,
    embedded,
    wait_until,
    without_training,
)

from bench.chaos.reference import of_partitions
from online_models.versions import decode_version
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
    assert differing(of_partitions(bank.state()), of_partitions(state)) == []
    check_repeats(without_clocks(bank.lines()), lines)


def without_clocks(lines: Lines) -> Lines:
    """Return what came out, without what only trainers read."""
    examples = [line for line in lines["training"] if b'"kind":"clock"' not in line]
    return {k: v for k, v in lines.items() if k != "decisions"} | {"training": examples}


def test_with_waiting_for_models_all_is_as_in_an_embedded_run(
    open_bank: Callable[..., Bank], records: Records
) -> None:
    """Scores too: models have learned the same, and every version came at the same place."""
    bank = open_bank(wait_for_models=True, decisions=True)
    bank.produce(records)
    bank.start_worker()
    wait_until(bank.is_decided, "all is decided")
    state, lines = embedded(read_policy(), records, 1)
    found = bank.state()
    assert differing(of_partitions(found), of_partitions(state)) == []
    model = ("trainer", b"fraud:version")
    assert model in state
    assert decode_version(found[model]) == decode_version(state[model])
    got = without_clocks(bank.lines())
    assert {k: sorted(v) for k, v in got.items()} == {k: sorted(v) for k, v in lines.items()}
    decided = [msgspec.json.decode(line) for line in bank.lines()["decisions"]]
    assert len({row["models"] for row in decided}) > 3
    assert len({row["event_id"] for row in decided}) == len(decided)
