"""Lists and policies published to workers that run: on a real broker and a real Redis."""

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result
from kafka import KafkaProducer
from reload_policies import VARIANTS, policy
from strategies_streams import HOUR_MS, START_MS, transaction
from worker_runs import Bank, Records, Worker, wait_until

from features.records import ENCODER, Alert, DeadLetter
from millrace.cli import main


def folder(files: dict[str, str], directory: Path) -> Path:
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


def payments(first: int, count: int, terminal: str, customer: str = "ada") -> Records:
    records = [
        transaction(n, START_MS + n * HOUR_MS, customer, terminal_id=terminal)
        for n in range(first, first + count)
    ]
    return [("transactions", customer, ENCODER.encode(record)) for record in records]


def millrace(bank: Bank, *arguments: str) -> Result:
    settings = bank.settings
    environment = {
        "MILLRACE_KAFKA": settings.kafka,
        "MILLRACE_TOPIC_PREFIX": settings.topic_prefix,
    }
    result = CliRunner().invoke(main, list(arguments), env=environment)
    assert result.exit_code == 0, result.output
    return result


def alerts(bank: Bank) -> dict[str, str]:
    """Return event -> version of the policy that raised the alert."""
    found = [msgspec.json.decode(v, type=Alert) for v in bank.lines().get("alerts", [])]
    return {alert.event_id: alert.versions.policy for alert in found}


def metrics(worker: Worker) -> str:
    """Return the metrics page of a worker that has told where it listens."""
    found = re.search(r"metrics and health at (http://\S+)", worker.log.read_text())
    assert found
    with urllib.request.urlopen(f"{found[1]}/metrics") as page:
        return page.read().decode()


def owned(worker: Worker) -> set[str]:
    """Return the partitions that a worker took last."""
    found: list[str] = re.findall(r"took partitions (.*)", worker.log.read_text())
    return set(found[-1].split(", ")) - {"none"} if found else set()


def shared_reads(worker: Worker) -> float:
    found = re.search(r"^millrace_shared_reads (\S+)$", metrics(worker), re.MULTILINE)
    assert found
    return float(found[1])


def takes(worker: Worker, version: str) -> None:
    wait_until(lambda: worker.says(f"version {version}, decides"), "it decides by what was pushed")


def test_a_published_list_changes_the_alerts_of_a_worker_that_runs(
    open_bank: Callable[..., Bank], tmp_path: Path
) -> None:
    directory = folder(VARIANTS["counted"], tmp_path / "policy")
    start = policy("counted")
    bank = open_bank(directory)
    worker = bank.start_worker()
    bank.produce([*payments(0, 3, "t2"), *payments(3, 1, "t1")])
    wait_until(bank.is_decided, "it decides by the policy it was started with")
    texts = tmp_path / "watched.txt"
    texts.write_text("t2\nt3\n")
    published = ("lists", "publish", "watched", str(texts), "--policy", str(directory))
    millrace(bank, *published)
    changed = start.with_lists({"watched": ("t2", "t3")}).version
    takes(worker, changed)
    bank.produce([*payments(4, 1, "t2"), *payments(5, 1, "t1")])
    wait_until(bank.is_decided, "it decides by the new list")
    found = [msgspec.json.decode(v, type=Alert) for v in bank.lines()["alerts"]]
    assert [(a.event_id, a.versions.policy) for a in found] == [
        ("e3", start.version),
        ("e4", changed),
        ("e5", changed),
    ]
    # The window knows the payments at t2 from before anybody watched it.
    assert "4 times at watched terminals" in [reason.text for reason in found[1].reasons]

    worker.process.kill()
    worker.ends()
    another = bank.start_worker()
    bank.produce(payments(6, 1, "t3"))
    wait_until(bank.is_decided, "a worker that starts later has read the list before")
    assert alerts(bank)["e6"] == changed
    takes(another, changed)


def test_policies_are_pushed_refused_and_stand_after_a_restart(
    open_bank: Callable[..., Bank], tmp_path: Path
) -> None:
    bank = open_bank(folder(VARIANTS["busy"], tmp_path / "policy"), partitions_count=2)
    workers = [bank.start_worker(), bank.start_worker()]
    for worker in workers:
        wait_until(lambda w=worker: len(owned(w)) == 1, "each has one of the two partitions")
    bank.produce([*payments(0, 1, "t1"), *payments(1, 1, "t1", "dora")])
    wait_until(bank.is_decided, "they decide by the policy that they were started with")
    for worker in workers:
        wait_until(lambda w=worker: shared_reads(w) > 0, "it has read the other's terminal")
    with KafkaProducer(bootstrap_servers=bank.settings.kafka) as producer:
        bad = b'{"ts_ms": 1751328000000, "files": {"policy.yaml": "name: b\\nnane: c"}}'
        topic = bank.settings.topic_prefix + "policies"
        producer.send(topic, key=b"mine", value=bad).get()
    for worker in workers:
        wait_until(lambda w=worker: w.says("is refused"), "a bad policy is refused")
    pushed = folder(VARIANTS["no model"], tmp_path / "pushed")
    assert "listed, version" in millrace(bank, "policy", "push", str(pushed)).output
    version = policy("no model").version
    for worker in workers:
        takes(worker, version)
    bank.produce(payments(2, 1, "t1"))
    wait_until(bank.is_decided, "they decide by the policy that was pushed")
    for worker in workers:
        worker.process.kill()
        worker.ends()
    bank.start_worker()
    bank.produce(payments(3, 1, "t1"))
    wait_until(bank.is_decided, "a worker that starts later decides by it too")
    first = policy("busy").version
    assert alerts(bank) == {"e0": first, "e1": first, "e2": version, "e3": version}
    letters = [msgspec.json.decode(v, type=DeadLetter) for v in bank.lines()["dead-letters"]]
    assert len(letters) == len(workers)  # each worker tells, in the same bytes
    assert letters[0] == letters[1]
    assert (letters[0].topic, letters[0].raw, letters[0].nearest) == ("policies", bad, "name")
    assert letters[0].path == "$.files['policy.yaml']:2:1"
    text = metrics(bank.workers[-1])
    assert f'millrace_policy{{policy="listed",version="{version}"}} 1.0' in text
    assert 'millrace_policy_changes_total{result="refused",topic="policies"} 1.0' in text
    assert 'millrace_policy_changes_total{result="taken",topic="policies"} 1.0' in text
