"""How long nothing is decided after a worker was killed, with many customers in Redis.

The load goes on meanwhile, in an open loop. The clock runs from the kill until the first decision
of a payment that was due after it, in the first and in the last of the partitions that the killed
worker had.
"""

import re
import time
from dataclasses import dataclass, replace
from typing import Any

import orjson
from confluent_kafka import Consumer

from bench.streaming.latency import new_sender, start
from bench.streaming.question import POLICY, payments
from bench.streaming.receiver import ends
from bench.streaming.scene import BenchError, Child, Scene, worker
from streams.settings import Settings

FILL_COUNT = 200_000  # payments that are put together at once
RATE = 500
BEFORE_S = 3.0  # of load before the kill
PATIENCE_S = 40.0
READY = "worker of group"  # what a worker's log says when it is ready to join


@dataclass(frozen=True, slots=True)
class Case:
    """Who goes on: a worker that stands by in the group, or a process that is started at once.

    `has_name`: the new process has the killed one's name in the group (static membership).
    """

    title: str
    session_timeout_ms: int
    stands_by: bool = False
    has_name: bool = False


CASES = (
    Case("a worker stands by", 10_000, stands_by=True),
    Case("a worker stands by", 3_000, stands_by=True),
    Case("a new process", 10_000),
    Case("a new process of the same name", 10_000, has_name=True),
)


class Watch:
    """Reads `decisions`, and says when a payment was first decided."""

    def __init__(self, settings: Settings) -> None:
        topic = settings.topic_prefix + "decisions"
        self._consumer = Consumer(
            {"bootstrap.servers": settings.kafka, "group.id": "unused",
             "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        )  # fmt: skip
        self._consumer.assign(ends(self._consumer, topic))

    def next(self, wait_s: float) -> int | None:
        """Return the number of the next payment that was decided, None where none comes."""
        message = self._consumer.poll(wait_s)
        if message is None or message.error() is not None:
            return None
        return int(orjson.loads(message.value())["event_id"][2:])

    def close(self) -> None:
        """Read no more."""
        self._consumer.close()


def preload(scene: Scene, settings: Settings, customer_count: int) -> float:
    """Have a worker decide a payment of every customer; return the seconds."""
    for first in range(0, customer_count, FILL_COUNT):
        count = min(FILL_COUNT, customer_count - first)
        scene.fill(settings, payments(count, customer_count, first=first, in_turn=True))
    began_s = time.perf_counter()
    child = worker(scene, settings, POLICY, "preload")
    child.wait_until(lambda: scene.decided_count(settings) >= customer_count)
    child.end()
    return time.perf_counter() - began_s


def taken(child: Child) -> set[int]:
    """Return the partitions that a worker took last."""
    found = child.says(r"took partitions (.*)")
    return {int(number) for number in re.findall(r"\d+", found[-1])} if found else set()


def standby(scene: Scene, settings: Settings) -> Child:
    """Return a second worker that has its share of the partitions."""
    child = worker(scene, settings, POLICY, "other")
    child.wait_until(lambda: bool(taken(child)))
    return child


def one(scene: Scene, settings: Settings, case: Case, first: int, customer_count: int) -> Any:
    """Kill a worker under load; return how long it took until others decided."""
    child = worker(scene, settings, POLICY, "first")
    child.wait_until(lambda: bool(taken(child)))
    other = standby(scene, settings) if case.stands_by else None
    count, signal = int(RATE * (BEFORE_S + PATIENCE_S)), scene.folder / "start"
    signal.unlink(missing_ok=True)
    partitions = payments(count, customer_count, seed=first + 2, first=first).partitions(
        settings.partitions_count
    )
    sender = new_sender(scene, settings, (RATE, count, first, customer_count), signal)
    sender.wait_until(lambda: sender.says("ready"))
    watch = Watch(settings)
    start_ns = start(signal)
    while time.perf_counter_ns() < start_ns + BEFORE_S * 1e9:
        watch.next(0.05)
    lost = taken(child)
    child.kill()
    killed_ns = time.perf_counter_ns()
    if other is None:
        other = worker(scene, settings, POLICY, "other")
    ready_ns = 0
    found_ns: dict[int, int] = {}
    is_late_from = first + (killed_ns - start_ns) * RATE // 1_000_000_000
    while not lost <= found_ns.keys():
        number = watch.next(0.05)
        if not ready_ns and other.says(READY):
            ready_ns = time.perf_counter_ns()
        if number is not None and number > is_late_from:
            found_ns.setdefault(partitions[number - first], time.perf_counter_ns())
        if time.perf_counter_ns() - killed_ns > PATIENCE_S * 1e9:
            raise BenchError(f"{case.title}: {len(found_ns)} of {len(lost)} partitions came back")
    other.check()
    times_s = sorted((found_ns[partition] - killed_ns) / 1e9 for partition in lost)
    watch.close()
    sender.kill()
    other.end()
    facts: dict[str, Any] = {"title": case.title, "session_timeout_ms": case.session_timeout_ms}
    facts["started_s"] = 0.0 if case.stands_by else (ready_ns - killed_ns) / 1e9
    return facts | {"partition_count": len(lost), "first_s": times_s[0], "last_s": times_s[-1]}


def run(scene: Scene, customer_count: int, cases: tuple[Case, ...] = CASES) -> dict[str, Any]:
    """Return the times of all cases, and what it took to put the customers there."""
    settings = scene.bank("recovery", decisions=True)
    found: dict[str, Any] = {"customer_count": customer_count, "rate": RATE, "cases": []}
    found["preload_s"] = preload(scene, settings, customer_count)
    found["redis_key_count"] = int(scene.redis.dbsize())
    found["redis_bytes"] = int(scene.redis.info("memory")["used_memory"])
    first = customer_count
    for case in cases:
        named = replace(
            settings,
            session_timeout_ms=case.session_timeout_ms,
            group=f"{settings.group}-{len(found['cases'])}",
            instance="one" if case.has_name else "",
        )
        found["cases"].append(one(scene, named, case, first, customer_count))
        first += int(RATE * (BEFORE_S + PATIENCE_S))
    return found
