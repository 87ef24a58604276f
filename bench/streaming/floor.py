"""The floor under any worker in Python: fetch, decode, and write as many bytes to Redis.

    python -m bench.streaming.floor KAFKA REDIS_URL TOPIC COUNT KEYS_PER_EVENT BYTES_PER_KEY OUT

aiokafka's `getmany`, msgspec's typed decoder on every record, and commits to the same store in the
same rhythm, with as many keys and bytes for each event as the worker wrote: no feature, no score,
no decision, no emission.
"""

import asyncio
import json
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer

from features.records import Transaction
from streams.redis_store import RedisStore
from streams.store import PartitionChange

CHECKPOINT_S = 0.1
FETCH_MAX_COUNT = 4_096
PARTITION = "floor"


class Commits:
    """Commits of made-up values, one under way at most, as the worker's."""

    def __init__(self, url: str, topic: str, keys_per_event: float, bytes_per_key: int) -> None:
        self._store = RedisStore(url, f"floor-{topic}-{os.getpid()}")
        self._epoch, _ = self._store.acquire(PARTITION)
        self._topic = topic
        self._keys_per_event = keys_per_event
        self._value = b"x" * bytes_per_key
        self._offset = 0
        self._key_count = 0
        self._pool = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None

    def begin(self, offset: int) -> None:
        """Send off what stands for the events up to `offset`."""
        self.finish()
        count = int((offset - self._offset) * self._keys_per_event)
        writes = [(b"history:%016x" % (self._key_count + i), 0, self._value) for i in range(count)]
        self._key_count += count
        offsets = {self._topic: (self._offset, offset)}
        change = PartitionChange(PARTITION, self._epoch, offsets, writes, [])
        self._under_way = self._pool.submit(self._store.commit, [change])
        self._offset = offset

    def finish(self) -> None:
        """Wait for the commit under way."""
        if self._under_way is not None:
            self._under_way.result()


async def run(kafka: str, topic: str, count: int, commits: Commits) -> dict[str, float]:
    """Read `count` records from the beginning; return the figures."""
    decoder = msgspec.json.Decoder(Transaction)
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    seen, total_minor = 0, 0
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    checkpoint_s = began_s
    while seen < count:
        fetched = await consumer.getmany(timeout_ms=100, max_records=FETCH_MAX_COUNT)
        for records in fetched.values():
            for record in records:
                total_minor += decoder.decode(record.value).amount_minor
            seen += len(records)
        if time.perf_counter() - checkpoint_s >= CHECKPOINT_S:
            checkpoint_s = time.perf_counter()
            commits.begin(seen)
    commits.begin(seen)
    commits.finish()
    facts = {
        "event_count": seen,
        "whole_count": seen,
        "wall_s": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - began_cpu_s,
        "total_minor": total_minor,
    }
    await consumer.stop()
    return facts


def main(arguments: list[str]) -> None:
    kafka, url, topic, count, keys, size, out = arguments
    commits = Commits(url, topic, float(keys), int(float(size)))
    facts = asyncio.run(run(kafka, topic, int(count), commits))
    Path(out).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
