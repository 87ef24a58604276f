"""A replay through a real Kafka and a worker, held to the embedded replay of the same file."""

import json
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer
from worker_runs import without_training

from features.errors import MillraceError
from millrace.cli import main
from millrace.kafka_replay import _Workers
from replay.simulator import Simulator, SimulatorSettings
from replay.sources import open_source
from replay.via_kafka import (
    KafkaReplayError,
    Produced,
    collect,
    produce,
    wait_until_decided,
    wait_until_owned,
)
from streams.policy_files import BANK_POLICY
from streams.private_kafka import PrivateKafka
from streams.redis_store import RedisStore
from streams.settings import Settings
from streams.store import PartitionChange
from streams.topics import create_topics, delete_topics

pytestmark = [pytest.mark.kafka, pytest.mark.redis]
BAD = b'{"kind":"transaction","event_id":"bad","ts_ms":1735700000000,"customer_id":"C1"}'


@pytest.fixture
def records_file(tmp_path: Path) -> Path:
    """A file of records with frauds, labels, profiles, and one that has to be refused."""
    simulation = SimulatorSettings(customer_count=60, day_count=8, seed=4, fraud_rate=0.05)
    values = [record.value for chunk in Simulator(simulation).chunks() for record in chunk]
    values.insert(len(values) // 2, BAD)
    file = tmp_path / "records.jsonl"
    file.write_bytes(b"\n".join(values) + b"\n")
    return file


def replayed(source: Path, policy: Path, out: Path, *more: str, **environment: str) -> Any:
    arguments = ["replay", str(source), "--policy", str(policy), "--out", str(out), "--json"]
    result = CliRunner().invoke(main, [*arguments, *more], env=environment)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("worker_count", [1, 2])
def test_the_same_file_gives_the_same_answers(
    kafka: PrivateKafka, records_file: Path, tmp_path: Path, worker_count: int
) -> None:
    policy = tmp_path / "policy"
    # Several workers agree to the byte where none has to wait for what another one knows.
    without_training(BANK_POLICY, policy, local=worker_count > 1)
    embedded = replayed(records_file, policy, tmp_path / "embedded")
    share_out = ("--workers", str(worker_count), "--partitions", str(2 * worker_count - 1))
    via_kafka = replayed(
        records_file,
        policy,
        tmp_path / "kafka",
        *("--via", "kafka", *share_out),
        MILLRACE_KAFKA=kafka.address,
    )
    assert embedded["records"]["dead_lettered"] == 1
    assert embedded["alerts"] > 0
    for key in ("records", "alerts", "offers", "tasks", "metrics", "versions", "decisions_sha256"):
        assert via_kafka[key] == embedded[key], key
    for name in ("alerts", "offers", "tasks"):
        file = f"{name}.jsonl"
        assert (tmp_path / "kafka" / file).read_bytes() == (
            tmp_path / "embedded" / file
        ).read_bytes()
    (letter,) = map(json.loads, (tmp_path / "kafka" / "dead-letters.jsonl").open())
    assert letter["topic"] == "events"
    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    assert not [topic for topic in admin.list_topics() if topic.startswith("replay-")]
    admin.close()


@pytest.fixture
def settings(kafka: PrivateKafka, redis_url: str, redis_prefix: str) -> Settings:
    return Settings(
        kafka=kafka.address,
        topic_prefix=f"t-{uuid.uuid4().hex[:8]}.",
        redis=redis_url,
        redis_prefix=redis_prefix,
        partitions_count=2,
    )


def test_a_repeat_counts_once_and_each_topic_is_read_whole(settings: Settings) -> None:
    create_topics(settings)
    assert not any(collect(settings).values())
    producer = KafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    for topic, value in (
        ("alerts", b"1"), ("alerts", b"2"), ("alerts", b"1"), ("offers.sms", b"3"),
        ("offers.control", b"4"),
    ):  # fmt: skip
        producer.send(settings.topic_prefix + topic, value, key=value)
    producer.flush()
    producer.close()
    found = collect(settings)
    assert sorted(found["alerts"]) == [b"1", b"2"]
    assert sorted(found["offers"]) == [b"3", b"4"]
    assert found["tasks"] == []
    delete_topics(settings)
    delete_topics(settings)


def test_where_records_went_is_known(settings: Settings, records_file: Path) -> None:
    create_topics(settings)
    source = open_source(records_file, None)
    first = produce(source, settings, None, lambda count: None)
    again = produce(source, settings, None, lambda count: None)
    count = len(records_file.read_bytes().splitlines())
    assert first.record_count == again.record_count == count
    assert again.first_offsets == [len(own) for own in first.positions]
    assert sorted(p for own in first.positions for p in own) == list(range(count))
    partition = next(p for p in range(2) if again.positions[p])
    assert (
        again.position(partition, again.first_offsets[partition]) == again.positions[partition][0]
    )
    assert again.ends() == {p: 2 * len(own) for p, own in enumerate(first.positions)}


def test_workers_that_decide_nothing_are_given_up(settings: Settings) -> None:
    produced = Produced(2, 3)
    produced.positions = [[0, 2], [1]]
    with closing(RedisStore.from_settings(settings)) as store:
        counts: list[int] = []
        with pytest.raises(KafkaReplayError, match="no worker took all partitions"):
            wait_until_owned(store, 2, lambda: None, quiet_max_s=0.3)
        epoch, _ = store.acquire("0")
        store.commit([PartitionChange("0", epoch, {"events": (0, 2)}, [], [])])
        with pytest.raises(KafkaReplayError, match="nothing for 0 s: 2 of 3 records"):
            wait_until_decided(store, produced, lambda: None, counts.append, quiet_max_s=0.3)
        epoch, _ = store.acquire("1")
        store.commit([PartitionChange("1", epoch, {"events": (0, 1)}, [], [])])
        wait_until_decided(store, produced, lambda: None, counts.append)
        assert counts == [2, 3]
        wait_until_owned(store, 2, lambda: None)


def test_a_worker_that_ends_is_told_with_its_words(settings: Settings, tmp_path: Path) -> None:
    with _Workers(settings, tmp_path / "no-policy", 1).running() as workers:
        ((process, _),) = workers._processes
        assert process.wait(60) == 2
        with pytest.raises(MillraceError, match=r"(?s)a worker ended, status 2; .*no-policy"):
            workers.check()


def test_a_kafka_that_is_away_is_told(settings: Settings, records_file: Path) -> None:
    source = open_source(records_file, None)
    with pytest.raises(KafkaReplayError, match="did not take the records"):
        produce(source, Settings(kafka="127.0.0.1:1", kafka_timeout_ms=500), None, lambda n: None)
