"""Latencies from when a payment was due until it, and what came of it, can be read from Kafka.

    python -m bench.streaming.receiver KAFKA RATE FIRST COUNT SKIP SIGNAL OUT TOPIC WANTED …

Reads all TOPICs from their ends. WANTED is how many of the COUNT payments will be seen there, `all`
or `some`; the first is the bare echo of what was produced. The first SKIP payments aren't counted.
SIGNAL is as for the sender.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Consumer, TopicPartition
from hdrh.histogram import HdrHistogram

from bench.streaming.sender import wait_for

LATENCY_MAX_US = 60_000_000
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
PATIENCE_S = 5.0  # without any message after the last payment was due


class Arrivals:
    """What arrived on one topic of the payments that are measured, and how late."""

    def __init__(self, first: int, skip: int, count: int, rate: int) -> None:
        self._first, self._skip, self._count, self._rate = first, skip, count, rate
        self.start_ns = 0
        self._seen = bytearray(count)
        self._histogram = HdrHistogram(1, LATENCY_MAX_US, 3)
        self.missing_count = count

    def take(self, value: bytes, now_ns: int) -> None:
        """Count a message; a repeat is not counted twice."""
        number = int(orjson.loads(value)["event_id"][2:]) - self._first
        if not 0 <= number < self._count or self._seen[number]:
            return
        self._seen[number] = 1
        self.missing_count -= 1
        if number >= self._skip:
            due_ns = self.start_ns + number * 1_000_000_000 // self._rate
            self._histogram.record_value(max(1, (now_ns - due_ns) // 1_000))

    def facts(self, wanted: str) -> dict[str, Any]:
        """Return the percentiles in microseconds."""
        found = {f"p{p:g}_us": self._histogram.get_value_at_percentile(p) for p in PERCENTILES}
        missing_count = self.missing_count if wanted == "all" else 0
        return {"count": self._histogram.total_count, "missing_count": missing_count, **found}


def ends(consumer: Consumer, topic: str) -> list[TopicPartition]:
    """Return where each partition of a topic ends now."""
    found = []
    for partition in consumer.list_topics(topic, PATIENCE_S).topics[topic].partitions:
        place = TopicPartition(topic, partition)
        _, end = consumer.get_watermark_offsets(place, PATIENCE_S)
        found.append(TopicPartition(topic, partition, end))
    return found


def receive(
    kafka: str, wanted: dict[str, str], arrivals: dict[str, Arrivals], load_ns: int, signal: Path
) -> None:
    """Read the topics from their ends until all has arrived, or nothing comes any more."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False,
         "fetch.wait.max.ms": 10, "fetch.min.bytes": 1}
    )  # fmt: skip
    consumer.assign([place for topic in arrivals for place in ends(consumer, topic)])
    consumer.poll(1.0)  # connect
    start_ns = wait_for(signal)
    for some in arrivals.values():
        some.start_ns = start_ns
    end_ns = start_ns + load_ns
    whole = [arrivals[topic] for topic, share in wanted.items() if share == "all"]
    last_ns = end_ns
    while time.perf_counter_ns() < end_ns or any(some.missing_count for some in whole):
        message = consumer.poll(0.1)
        now_ns = time.perf_counter_ns()
        if message is None:
            if now_ns - last_ns > PATIENCE_S * 1e9:
                break
        elif message.error() is None:
            last_ns = max(end_ns, now_ns)
            arrivals[message.topic()].take(message.value(), now_ns)
    consumer.close()


def main(arguments: list[str]) -> None:
    kafka, *numbers = arguments[:5]
    signal, out, *pairs = arguments[5:]
    rate, first, count, skip = map(int, numbers)
    wanted = dict(zip(pairs[::2], pairs[1::2], strict=True))
    arrivals = {topic: Arrivals(first, skip, count, rate) for topic in wanted}
    receive(kafka, wanted, arrivals, count * 1_000_000_000 // rate, Path(signal))
    facts = {topic: arrivals[topic].facts(share) for topic, share in wanted.items()}
    Path(out).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
