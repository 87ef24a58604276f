"""Filling topics beforehand, and reading what came out, with librdkafka: it takes no time."""

from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.streaming.question import Payments

LINGER_MS = 20
PATIENCE_S = 10.0


def create_topics(kafka: str, names: list[str], partition_count: int) -> None:
    """Create topics of one replica, and wait until they are there."""
    admin = AdminClient({"bootstrap.servers": kafka})
    made = admin.create_topics([NewTopic(name, partition_count, 1) for name in names])
    for future in made.values():
        future.result()


def fill(kafka: str, topic: str, payments: Payments, partition_count: int) -> None:
    """Produce all payments, each to its customer's partition, in their order."""
    producer = Producer(
        {"bootstrap.servers": kafka, "linger.ms": LINGER_MS, "acks": "all",
         "max.in.flight.requests.per.connection": 1, "queue.buffering.max.messages": 200_000}
    )  # fmt: skip
    rows = zip(payments.partitions(partition_count), payments.keys, payments.values, strict=True)
    for partition, key, value in rows:
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    producer.flush()


def read_all(kafka: str, topic: str) -> Iterator[bytes]:
    """Yield the values of a topic from its beginning to its present end."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False}
    )
    names = consumer.list_topics(topic, PATIENCE_S).topics[topic].partitions
    places = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in names]
    ends = [consumer.get_watermark_offsets(place, PATIENCE_S) for place in places]
    left_count = sum(high - low for low, high in ends)
    consumer.assign(places)
    while left_count:
        messages = consumer.consume(min(left_count, 1_000), PATIENCE_S)
        if not messages:
            raise TimeoutError(f"{topic}: {left_count} records did not come")
        for message in messages:
            if message.error() is None:
                left_count -= 1
                yield message.value() or b""
    consumer.close()
