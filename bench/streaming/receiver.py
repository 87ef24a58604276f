"""Latencies from when a payment was due until it, and its decision, can be read from Kafka.

    python -m bench.streaming.receiver KAFKA INPUT DECISIONS RATE FIRST COUNT SKIP START_NS OUT

One process reads both topics: INPUT, the bare echo of what was produced, and DECISIONS.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from hdrh.histogram import HdrHistogram

LATENCY_MAX_US = 60_000_000
PERCENTILES = (50.0, 99.0, 99.9)
PATIENCE_S = 30.0


class Arrivals:
    """What arrived on one topic of the payments that are measured, and how late."""

    def __init__(self, first: int, skip: int, count: int, rate: int, start_ns: int) -> None:
        self._first, self._skip, self._count = first, skip, count
        self._rate, self._start_ns = rate, start_ns
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
            due_ns = self._start_ns + number * 1_000_000_000 // self._rate
            self._histogram.record_value(max(1, (now_ns - due_ns) // 1_000))

    def facts(self) -> dict[str, Any]:
        """Return the percentiles in microseconds."""
        found = {f"p{p:g}_us": self._histogram.get_value_at_percentile(p) for p in PERCENTILES}
        return {"missing_count": self.missing_count, "count": self._histogram.total_count, **found}


def receive(kafka: str, arrivals: dict[str, Arrivals]) -> None:
    """Read the topics from their ends until all has arrived, or nothing for PATIENCE_S."""
    consumer = Consumer(
        {"bootstrap.servers": kafka, "group.id": "unused", "enable.auto.commit": False,
         "fetch.wait.max.ms": 10, "fetch.min.bytes": 1}
    )  # fmt: skip
    places = []
    for topic in arrivals:
        for partition in consumer.list_topics(topic).topics[topic].partitions:
            places.append(TopicPartition(topic, partition, OFFSET_END))
    consumer.assign(places)
    consumer.poll(0.5)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    last_s = time.perf_counter()
    while any(a.missing_count for a in arrivals.values()):
        messages = consumer.consume(500, 0.1)
        now_ns = time.perf_counter_ns()
        if messages:
            last_s = time.perf_counter()
        elif time.perf_counter() - last_s > PATIENCE_S:
            break
        for message in messages:
            if message.error() is None:
                arrivals[message.topic()].take(message.value(), now_ns)
    consumer.close()


def main(arguments: list[str]) -> None:
    kafka, source, decisions, *numbers, out = arguments
    rate, first, count, skip, start_ns = map(int, numbers)
    arrivals = {
        topic: Arrivals(first, skip, count, rate, start_ns) for topic in (source, decisions)
    }
    receive(kafka, arrivals)
    facts = {"echo": arrivals[source].facts(), "decision": arrivals[decisions].facts()}
    Path(out).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
