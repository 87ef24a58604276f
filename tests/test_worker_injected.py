"""Faults that a real broker can't be made to do on command, on librdkafka's mock cluster."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from mock_kafka import Api, Code, MockKafka
from worker_runs import Records, wait_until

from bench.chaos.rounds import BankRun
from bench.chaos.servers import Servers
from streams.settings import Settings
from streams.topics import all_topics

SLICE_COUNT = 300
BROKERS = (1, 2, 3)
BUSY = (Code.COORDINATOR_LOAD_IN_PROGRESS, Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE)


@pytest.fixture(scope="module")
def mock() -> Iterator[MockKafka]:
    with MockKafka(len(BROKERS)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def run(compiled: None, mock: MockKafka) -> Iterator[BankRun]:
    """One worker over four partitions, held to an embedded engine from test to test."""

    def make_topics(settings: Settings) -> None:
        for topic in all_topics(settings.inputs):
            count = topic.partition_count(settings.partitions_count)
            mock.make_topic(settings.topic_prefix + topic.name, count)

    with closing(Servers(mock)) as servers:
        # Newer clients of kafka-python ask for versions of requests that the cluster has not.
        options = {"api_version": (0, 11), "metadata_max_age_ms": 500}
        made = BankRun(
            servers,
            "local entities",
            seed=9,
            worker_count=1,
            make_topics=make_topics,
            client_options=options,
        )
        with closing(made):
            made.open()
            yield made


def feed(run: BankRun, break_it: Callable[[], object]) -> Records:
    """Put records in, break something, and only then let the worker see any of it."""
    records = run.next_slice()[:SLICE_COUNT]
    run.open()
    (worker,) = run.bank.running()
    worker.signal(signal.SIGSTOP)
    try:
        run.bank.produce(records)
        break_it()
    finally:
        worker.signal(signal.SIGCONT)
    return records


CODES = {
    "emissions are not taken": (
        Api.PRODUCE, (Code.NOT_LEADER, Code.REQUEST_TIMED_OUT, Code.NOT_ENOUGH_REPLICAS) * 2,
    ),
    "an emission is not allowed": (Api.PRODUCE, (Code.TOPIC_AUTHORIZATION_FAILED,)),
    "records are not given": (
        Api.FETCH, (Code.NOT_LEADER, Code.UNKNOWN_TOPIC_OR_PARTITION, Code.REQUEST_TIMED_OUT) * 2,
    ),
    "reading is not allowed for a while": (Api.FETCH, (Code.TOPIC_AUTHORIZATION_FAILED,) * 3),
    "the coordinator is busy": (Api.HEARTBEAT, BUSY),
    "the group has forgotten us": (Api.HEARTBEAT, (Code.UNKNOWN_MEMBER,)),
    "another generation": (Api.HEARTBEAT, (Code.ILLEGAL_GENERATION,)),
    "hints are not taken": (
        Api.OFFSET_COMMIT, (*BUSY, Code.ILLEGAL_GENERATION, Code.GROUP_AUTHORIZATION_FAILED),
    ),
    "ends are not told": (Api.LIST_OFFSETS, (Code.REQUEST_TIMED_OUT, Code.NOT_LEADER) * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", CODES)
def test_an_error_is_got_over(run: BankRun, mock: MockKafka, name: str) -> None:
    api, codes = CODES[name]
    records = feed(run, lambda: mock.fail(api, *codes))
    run.check(records)


def test_slow_round_trips(run: BankRun, mock: MockKafka) -> None:
    try:
        records = feed(run, lambda: [mock.slow_down(broker, 300) for broker in BROKERS])
        wait_until(run.bank.is_decided, "all is decided, slowly")
    finally:
        for broker in BROKERS:
            mock.slow_down(broker, 0)
    run.check(records)


def test_the_coordinator_and_the_leaders_move(run: BankRun, mock: MockKafka) -> None:
    settings = run.bank.settings
    for broker in (2, 3, 1):
        records = feed(run, lambda to=broker: mock.move_coordinator(settings.group, to))
        for partition in range(settings.partitions_count):
            for topic in ("events", "decisions", "alerts"):
                mock.move_leader(settings.topic_prefix + topic, partition, broker)
        run.check(records)


def test_a_broker_goes_down_and_comes_back(run: BankRun, mock: MockKafka) -> None:
    try:
        records = feed(run, lambda: mock.take_down(2))
        (worker,) = run.bank.running()
        wait_until(
            lambda: run.bank.decided() != dict.fromkeys(run.bank.ends, 0) and worker.is_running,
            "the others are there",
        )
    finally:
        mock.bring_up(2)
    run.check(records)


def test_what_does_not_end_is_told_and_loses_nothing(run: BankRun, mock: MockKafka) -> None:
    """Emissions that are never allowed end the worker with the reason; the next repeats them."""
    records = feed(run, lambda: mock.fail(Api.PRODUCE, *[Code.TOPIC_AUTHORIZATION_FAILED] * 400))
    (worker,) = run.bank.running()
    run.ended.add(worker)
    assert worker.ends() == 2
    assert re.search(
        "the engine failed 5 times in a row, the last time with SinkError: Kafka did not take "
        "an emission: TopicAuthorizationFailedError",
        worker.log.read_text(),
    )
    mock.clear(Api.PRODUCE)
    run.open()
    run.check(records)
