"""An open-loop load: payment i is due at start + i/rate, whatever became of those before it.

    python -m bench.streaming.sender KAFKA TOPIC PARTITIONS RATE COUNT FIRST CUSTOMERS SIGNAL

Says `ready`, and waits for the file SIGNAL, which holds the start in nanoseconds of the monotonic
clock, which all processes of a machine share. A sender that falls
behind sends at once; latency counts from when a payment was due, so waiting is never left out
(coordinated omission: Tene, "How not to measure latency").
"""

import sys
import time
from pathlib import Path

from confluent_kafka import Producer

from bench.streaming.question import payments

SLEEP_MIN_NS = 500_000  # shorter ones would cost more of a core than they tell
LINGER_MS = 5.0  # what librdkafka has by itself
POLL_S = 0.005


def wait_for(signal: Path) -> int:
    """Say that we are ready; return what the file holds once it is there."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not signal.exists():
        time.sleep(POLL_S)
    return int(signal.read_text(encoding="ascii"))


def send(
    kafka: str,
    topic: str,
    partition_count: int,
    rate: int,
    count: int,
    first: int,
    customer_count: int,
    signal: Path,
) -> None:
    """Produce `count` payments, numbered from `first`, at `rate` a second."""
    made = payments(count, customer_count, seed=first + 2, first=first)
    partitions = made.partitions(partition_count)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": LINGER_MS, "acks": "1"})
    producer.list_topics(topic)
    start_ns = wait_for(signal)
    rows = zip(partitions, made.keys, made.values, strict=True)
    for i, (partition, key, value) in enumerate(rows):
        ahead_ns = start_ns + i * 1_000_000_000 // rate - time.perf_counter_ns()
        if ahead_ns > 0:
            time.sleep(max(ahead_ns, SLEEP_MIN_NS) / 1e9)
        producer.produce(topic, value, key, partition)
        producer.poll(0)
    producer.flush()


def main(arguments: list[str]) -> None:
    kafka, topic, *numbers, signal = arguments
    partition_count, rate, count, first, customer_count = map(int, numbers)
    send(kafka, topic, partition_count, rate, count, first, customer_count, Path(signal))


if __name__ == "__main__":
    main(sys.argv[1:])
