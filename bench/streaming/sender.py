"""An open-loop load: payment i is due at start + i/rate, whatever became of those before it.

    python -m bench.streaming.sender KAFKA TOPIC PARTITIONS RATE COUNT FIRST START_NS

START_NS is of the monotonic clock, which all processes of a machine share. A sender that falls
behind sends at once; latency counts from when a payment was due, so waiting is never left out
(coordinated omission: Tene, "How not to measure latency").
"""

import sys
import time

from confluent_kafka import Producer

from bench.streaming.question import payments

CUSTOMER_COUNT = 20_000


def send(
    kafka: str, topic: str, partition_count: int, rate: int, count: int, first: int, start_ns: int
) -> None:
    """Produce `count` payments, numbered from `first`, at `rate` a second."""
    made = payments(count, CUSTOMER_COUNT, seed=first + 2, first=first)
    partitions = made.partitions(partition_count)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 0, "acks": "1"})
    producer.list_topics(topic)
    for i, (partition, key, value) in enumerate(
        zip(partitions, made.keys, made.values, strict=True)
    ):
        due_ns = start_ns + i * 1_000_000_000 // rate
        while (ahead_ns := due_ns - time.perf_counter_ns()) > 0:
            producer.poll(0)
            if ahead_ns > 200_000:
                time.sleep((ahead_ns - 100_000) / 1e9)
        producer.produce(topic, value, key, partition)
    producer.flush()


def main(arguments: list[str]) -> None:
    kafka, topic, *numbers = arguments
    partition_count, rate, count, first, start_ns = map(int, numbers)
    send(kafka, topic, partition_count, rate, count, first, start_ns)


if __name__ == "__main__":
    main(sys.argv[1:])
