"""How fast one worker empties a topic that was filled beforehand, and what others make of it."""

import json
import time
from pathlib import Path
from typing import Any

from bench.streaming.fill import create_topics
from bench.streaming.question import POLICY, payments
from bench.streaming.scene import EVENTS, Scene, answer, worker, Child
from streams.policy_files import BANK_POLICY
from streams.settings import Settings

CUSTOMER_COUNT = 20_000
WARM_SHARE = 0.2  # of the records, decided before the clock starts
STORED_VALUE_BYTES = 64  # of the floor's values: a row or two of a history
STORED_KEY_BYTES = 48


def drain(scene: Scene, name: str, policy: Path, count: int) -> dict[str, Any]:
    """Have a worker decide `count` payments; return its figures from WARM_SHARE on."""
    settings = scene.bank(name)
    scene.fill(settings, payments(count, CUSTOMER_COUNT))
    sent_bytes = scene.written_bytes()
    child = worker(scene, settings, policy)
    warm_count = int(count * WARM_SHARE)
    child.wait_until(lambda: scene.decided_count(settings) >= warm_count)
    began_count, began_s, began_cpu_s = _now(scene, settings, child)
    child.wait_until(lambda: scene.decided_count(settings) >= count)
    ended_count, ended_s, ended_cpu_s = _now(scene, settings, child)
    child.end()
    return {
        "event_count": ended_count - began_count,
        "wall_s": ended_s - began_s,
        "cpu_s": ended_cpu_s - began_cpu_s,
        "bytes_per_event": (scene.written_bytes() - sent_bytes) / count,
    }


def _now(scene: Scene, settings: Settings, child: Child) -> tuple[int, float, float]:
    return scene.decided_count(settings), time.perf_counter(), child.cpu_s()


def floor(scene: Scene, filled: Settings, count: int, bytes_per_event: float) -> dict[str, Any]:
    """Fetch, decode and write as many bytes, from a topic that a worker has emptied before."""
    out = scene.folder / "floor.json"
    keys = bytes_per_event / (STORED_KEY_BYTES + STORED_VALUE_BYTES)
    arguments = [
        "-m", "bench.streaming.floor", filled.kafka, filled.redis, filled.topic_prefix + EVENTS,
        str(count), str(keys), str(STORED_VALUE_BYTES), str(out),
    ]  # fmt: skip
    Child(scene, "floor", arguments, {}).wait()
    facts: dict[str, Any] = answer(out)
    return facts


def stock(scene: Scene, filled: Settings, count: int) -> dict[str, Any]:
    """Decide the first `count` payments by the stock agent."""
    out, group = scene.folder / "stock.json", f"stock-{filled.group}"
    create_topics(filled.kafka, [f"{group}-alerts"], filled.partitions_count)
    environment = {
        "MILLRACE_BENCH_KAFKA": filled.kafka,
        "MILLRACE_BENCH_REDIS": filled.redis,
        "MILLRACE_BENCH_TOPIC": filled.topic_prefix + EVENTS,
        "MILLRACE_BENCH_GROUP": group,
        "MILLRACE_BENCH_COUNT": str(count),
        "MILLRACE_BENCH_OUT": str(out),
    }
    arguments = ["-m", "bench.streaming.stock", "worker", "-l", "error"]
    Child(scene, "stock", arguments, environment).wait()
    facts: dict[str, Any] = answer(out)
    return facts


def run(scene: Scene, count: int, stock_count: int) -> dict[str, Any]:
    """Return the figures of all candidates."""
    found: dict[str, Any] = {}
    found["worker"] = drain(scene, "plain", POLICY, count)
    filled = scene.bank("plain")
    found["floor"] = floor(scene, filled, count, found["worker"]["bytes_per_event"])
    found["bank"] = drain(scene, "full", BANK_POLICY, count)
    full = scene.bank("full")
    found["bank_floor"] = floor(scene, full, count, found["bank"]["bytes_per_event"])
    found["stock"] = stock(scene, filled, stock_count)
    return found


if __name__ == "__main__":
    import sys

    from streams.private_kafka import PrivateKafka
    from streams.private_redis import PrivateRedis

    with PrivateKafka() as kafka, PrivateRedis() as server:
        result = run(Scene(kafka, server, 4), int(sys.argv[1]), int(sys.argv[2]))
    for part in result.values():
        part.pop("alerts", None)
        part["rate"] = part["event_count"] / part["wall_s"]
        part["cpu_us"] = part["cpu_s"] / part["event_count"] * 1e6
    print(json.dumps(result, indent=1))
