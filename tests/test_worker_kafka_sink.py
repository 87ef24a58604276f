"""Emissions on a real broker: order, places, acknowledgement, and what can't be taken."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from worker_runs import wait_until, whole_topic

from bench.streaming.fill import create_topics
from streams.emissions import Emission
from streams.private_kafka import PrivateKafka
from streams.sinks import SinkError
from streams.topics import MODEL_MAX_BYTES
from streams.worker.kafka_sink import BATCH_MAX_BYTES, KafkaSink, new_producer
from streams.worker.producers import Producers

PARTITION_COUNT = 3


@pytest.fixture
def prefix(kafka: PrivateKafka) -> str:
    """Return the prefix of topics `a` and `b` of this test alone."""
    name = f"sink-{uuid.uuid4().hex[:8]}."
    create_topics(kafka.address, [f"{name}a", f"{name}b"], PARTITION_COUNT)
    return name


@contextmanager
def looping() -> Iterator[asyncio.AbstractEventLoop]:
    """Give the loop of another thread, as in a worker."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def sinking(
    kafka: PrivateKafka, prefix: str, transactions: str | None = None
) -> Iterator[KafkaSink]:
    """Give a sink whose producer runs on the loop of another thread."""

    async def start() -> tuple[KafkaSink, object]:
        producer = new_producer({"bootstrap_servers": kafka.address}, transactions)
        await producer.start()
        own = KafkaSink(producer, loop, prefix, transactional=transactions is not None)
        return own, producer

    with looping() as loop:
        sink, producer = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield sink
        finally:
            asyncio.run_coroutine_threadsafe(producer.stop(), loop).result()


def stored(kafka: PrivateKafka, topic: str, isolation: str = "read_uncommitted") -> list[bytes]:
    with closing(
        KafkaConsumer(bootstrap_servers=kafka.address, isolation_level=isolation)
    ) as consumer:
        return list(whole_topic(consumer, topic))


def test_every_key_keeps_its_order_over_batches_of_all_sizes(
    kafka: PrivateKafka, prefix: str
) -> None:
    # 40 writes of up to 39 records, and one that alone is more than two batches of the producer.
    numbers = iter(range(10_000))
    writes = [
        [
            Emission("ab"[n % 2], f"K{n % 7}", b"%d" % n)
            for n in (next(numbers) for _ in range(size))
        ]
        for size in range(40)
    ]
    large = b"x" * (BATCH_MAX_BYTES // 4)
    writes.append([Emission("a", "K1", b"%d " % next(numbers) + large) for _ in range(9)])
    with sinking(kafka, prefix) as sink:
        for write in writes:
            sink.write(write)
        sink.flush()
        for topic in "ab":
            sent = [(e.key, e.value) for write in writes for e in write if e.topic == topic]
            with closing(KafkaConsumer(bootstrap_servers=kafka.address)) as consumer:
                places = [TopicPartition(prefix + topic, p) for p in range(PARTITION_COUNT)]
                consumer.assign(places)
                consumer.seek_to_beginning(*places)
                read: list[tuple[str, bytes]] = []
                while len(read) < len(sent):
                    for records in consumer.poll(timeout_ms=5_000).values():
                        read += [(record.key.decode(), record.value) for record in records]
            for key in {key for key, _ in sent}:
                assert [v for k, v in read if k == key] == [v for k, v in sent if k == key]
            assert len(read) == len(sent)


def test_a_key_has_the_partition_that_kafkas_own_producers_give_it(
    kafka: PrivateKafka, prefix: str
) -> None:
    keys = [f"customer-{n}" for n in range(30)]
    with closing(KafkaProducer(bootstrap_servers=kafka.address)) as producer:
        expected = {
            key: producer.send(f"{prefix}a", key=key.encode(), value=b"").get().partition
            for key in keys
        }
    with sinking(kafka, prefix) as sink:
        sink.write([Emission("b", key, key.encode()) for key in keys])
        sink.flush()
    with closing(KafkaConsumer(bootstrap_servers=kafka.address)) as consumer:
        places = [TopicPartition(f"{prefix}b", p) for p in range(PARTITION_COUNT)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        found: dict[str, int] = {}
        while len(found) < len(keys):
            for place, records in consumer.poll(timeout_ms=5_000).items():
                found |= {record.value.decode(): place.partition for record in records}
    assert found == expected
    assert set(found.values()) == set(range(PARTITION_COUNT))


def test_a_record_that_is_too_large_is_told_by_the_next_call_and_nothing_comes_behind_it(
    kafka: PrivateKafka, prefix: str
) -> None:
    with sinking(kafka, prefix) as sink:
        sink.write([Emission("a", "K", b"first")])
        sink.flush()
        with pytest.raises(SinkError, match=rf"at most {MODEL_MAX_BYTES} bytes"):
            sink.write([Emission("a", "K", bytes(MODEL_MAX_BYTES + 1))])
            sink.flush()
        with pytest.raises(SinkError, match=rf"at most {MODEL_MAX_BYTES} bytes"):
            sink.write([Emission("a", "K", b"behind")])
            sink.flush()
    assert stored(kafka, f"{prefix}a") == [b"first"]


def test_a_transaction_is_seen_when_it_is_flushed(kafka: PrivateKafka, prefix: str) -> None:
    with sinking(kafka, prefix, f"{prefix}writer") as sink:
        sink.write([Emission("a", "K", b"1"), Emission("b", "K", b"2")])
        sink.flush()
        sink.write([Emission("a", "K", b"3")])
        assert stored(kafka, f"{prefix}a", "read_committed") == [b"1"]
        sink.flush()
        assert stored(kafka, f"{prefix}a", "read_committed") == [b"1", b"3"]
        assert stored(kafka, f"{prefix}b", "read_committed") == [b"2"]


def test_whoever_takes_a_partition_aborts_what_its_last_owner_left_open(
    kafka: PrivateKafka, prefix: str
) -> None:
    def new_sink(partitions: list[int]) -> KafkaSink:
        async def make() -> KafkaSink:
            producers.append(Producers({"bootstrap_servers": kafka.address}, prefix, prefix))
            return await producers[-1].sink(partitions)

        return asyncio.run_coroutine_threadsafe(make(), loop).result()

    producers: list[Producers] = []
    with looping() as loop:
        dead = new_sink([2, 3])
        dead.write([Emission("a", "K", b"1")])
        dead.flush()
        dead.write([Emission("a", "K", b"left open")])
        wait_until(lambda: len(stored(kafka, f"{prefix}a")) == 2, "both are written")
        heir = new_sink([1, 2])  # its own id is that of 1
        heir.write([Emission("a", "K", b"2")])
        heir.flush()
        assert stored(kafka, f"{prefix}a", "read_committed") == [b"1", b"2"]
        with pytest.raises(SinkError):
            dead.flush()
        for one in producers:
            asyncio.run_coroutine_threadsafe(one.drop(), loop).result()


def test_a_write_outside_of_a_transaction_is_an_error_of_the_sink(
    kafka: PrivateKafka, prefix: str
) -> None:
    with sinking(kafka, prefix, f"{prefix}writer") as sink:
        sink.write([Emission("a", "K", b"1")])
        sink.flush()
        sink._is_open = True  # as if the transaction had gone meanwhile
        sink.write([Emission("a", "K", b"2")])
        with pytest.raises(SinkError, match="not in transaction"):
            sink.flush()
