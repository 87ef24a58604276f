"""Filling topics beforehand and counting what is in them, with librdkafka: it takes no time."""

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.streaming.question import Payments

LINGER_MS = 20


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
         "enable.idempotence": True, "queue.buffering.max.messages": 200_000}
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
