"""A worker when Kafka goes away, when records are gone, with transactions, with topics by kind."""

import dataclasses
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from test_streams_restart import check_repeats
from test_worker_restart import without_clocks
from worker_runs import (
    Bank,
    Records,
    differing,
    embedded,
    wait_until,
    whole_topic,
    without_training,
)

from bench.chaos.reference import of_partitions
from replay.simulator import Simulator, SimulatorSettings
from streams.policy_files import BANK_POLICY, read_policy
from streams.private_kafka import PrivateKafka


@pytest.fixture(scope="module")
def records() -> Records:
    simulation = SimulatorSettings(customer_count=60, day_count=15, seed=11, fraud_rate=0.05)
    return [(r.topic, r.key, r.value) for c in Simulator(simulation).chunks() for r in c]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return without_training(BANK_POLICY, tmp_path / "policy")


@pytest.fixture
def own_kafka(kafka: PrivateKafka) -> Iterator[PrivateKafka]:
    """Return a broker that a test may stop; `kafka` says whether there can be one."""
    with PrivateKafka() as broker:
        yield broker


def test_kafka_goes_away_and_transactions_hide_what_was_not_stored(
    open_bank: Callable[..., Bank], own_kafka: PrivateKafka, records: Records, policy: Path
) -> None:
    bank = open_bank(policy, kafka=own_kafka.address, transactional=True, batch_max_count=50)
    third = len(records) // 3
    bank.produce(records[:third])
    worker = bank.start_worker()
    wait_until(lambda: bank.decided()[0] > third // 2, "it decides")
    own_kafka.kill()
    own_kafka.start()
    bank.produce(records[third : 2 * third])
    wait_until(bank.is_decided, "it goes on when Kafka is back")
    worker.signal(signal.SIGKILL)
    worker.ends()
    bank.start_worker()
    bank.produce(records[2 * third :])
    wait_until(bank.is_decided, "another worker has decided the rest")
    state, lines = embedded(read_policy(policy), records, 1)
    assert differing(of_partitions(bank.state()), of_partitions(state)) == []
    check_repeats(without_clocks(bank.lines("read_committed")), lines)


def test_records_that_are_gone_are_not_skipped_in_silence(
    open_bank: Callable[..., Bank], records: Records, policy: Path
) -> None:
    bank = open_bank(policy)
    bank.produce(records[:300])
    first = bank.start_worker()
    wait_until(bank.is_decided, "the first records are decided")
    first.signal(signal.SIGTERM)
    assert first.ends() == 0
    bank.produce(records[300:600])
    place = TopicPartition(f"{bank.settings.topic_prefix}events", 0)
    with closing(KafkaAdminClient(bootstrap_servers=bank.settings.kafka)) as admin:
        admin.delete_records({place: 500})
    second = bank.start_worker()
    assert second.ends() == 2
    assert f"{place.topic}/0: expected to go on at offset 300, Kafka holds 500 to 600" in (
        second.log.read_text()
    )
    assert bank.decided() == {0: 300}
    bank.settings = dataclasses.replace(bank.settings, lost_records="skip")
    third = bank.start_worker()
    wait_until(bank.is_decided, "what is left is decided")
    assert third.says("Kafka holds 500 to 600: records were deleted before they were decided; go")


def test_records_may_come_by_a_topic_for_each_kind(
    open_bank: Callable[..., Bank], records: Records, policy: Path
) -> None:
    bank = open_bank(policy, inputs="kinds", decisions=True)
    bank.produce_by_kind(records)
    bank.start_worker()
    wait_until(lambda: bank.topic_end("decisions") >= count_of(records), "all is decided")
    with closing(KafkaConsumer(bootstrap_servers=bank.settings.kafka)) as consumer:
        lines = list(whole_topic(consumer, bank.settings.topic_prefix + "decisions"))
    events = [msgspec.json.decode(line)["event_id"] for line in lines]
    assert len(set(events)) == len(events) == count_of(records)


def count_of(records: Records) -> int:
    """Return how many of the records are transactions."""
    return sum(b'"kind":"transaction"' in value for _, _, value in records)
