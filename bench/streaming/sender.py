"""An open-loop load: payment i is due at start + i/rate, whatever became of those before it.

    python -m bench.streaming.sender KAFKA TOPIC PARTITIONS RATE COUNT FIRST CUSTOMERS START_NS

START_NS is of the monotonic clock, which all processes of a machine share. A sender that falls
behind sends at once; latency counts from when a payment was due, so waiting is never left out
(coordinated omission: Tene, "How not to measure latency").
"""

import sys
import time

from confluent_kafka import Producer

from bench.streaming.question import payments

SLEEP_LATE_NS = 60_000  # what a sleep usually takes too long
LINGER_MS = 1.0


def send(
    kafka: str,
    topic: str,
    partition_count: int,
    rate: int,
    count: int,
    first: int,
    customer_count: int,
    start_ns: int,
) -> None:
    """Produce `count` payments, numbered from `first`, at `rate` a second."""
    made = payments(count, customer_count, seed=first + 2, first=first)
    partitions = made.partitions(partition_count)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": LINGER_MS, "acks": "1"})
    producer.list_topics(topic)
    if time.perf_counter_ns() > start_ns:
        raise SystemExit("the sender was not ready at START_NS")
    rows = zip(partitions, made.keys, made.values, strict=True)
    for i, (partition, key, value) in enumerate(rows):
        ahead_ns = start_ns + i * 1_000_000_000 // rate - time.perf_counter_ns()
        if ahead_ns > SLEEP_LATE_NS:
            time.sleep((ahead_ns - SLEEP_LATE_NS) / 1e9)
        producer.produce(topic, value, key, partition)
        producer.poll(0)
    producer.flush()


def main(arguments: list[str]) -> None:
    kafka, topic, *numbers = arguments
    send(kafka, topic, *map(int, numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
