"""How long after a payment was due its decision can be read, beside a bare echo.

Payments come in an open loop at a fixed rate. The echo is the payment itself, read from its topic:
once with no worker at all, once beside the worker.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.streaming.question import POLICY, payments
from bench.streaming.scene import EVENTS, Child, Scene, answer, worker
from streams.settings import Settings

CUSTOMER_COUNT = 20_000
NEW_VERSION = "model .*, is out"  # what a worker's log says
READY_S = 4.0  # for interpreters to start
MADE_PER_S = 200_000  # payments that a sender puts together in a second, at least


@dataclass(frozen=True, slots=True)
class Load:
    """Payments at `rate` a second, those of the first `skip_s` not counted."""

    rate: int
    seconds: float
    skip_s: float

    @property
    def count(self) -> int:
        """How many payments that is."""
        return int(self.rate * self.seconds)


def measure(
    scene: Scene, settings: Settings, load: Load, first: int, topics: dict[str, str]
) -> dict[str, Any]:
    """Send a load; return the latencies at which it could be read from these topics.

    `topics` says by name whether `all` payments or `some` will be seen there.
    """
    out = scene.folder / "latency.json"
    wait_s = READY_S + load.count / MADE_PER_S
    start_ns = time.perf_counter_ns() + int(wait_s * 1e9)
    named = [w for name, share in topics.items() for w in (settings.topic_prefix + name, share)]
    numbers = (load.rate, first, load.count, int(load.rate * load.skip_s), start_ns)
    receiver = Child(
        scene,
        "receiver",
        ["-m", "bench.streaming.receiver", settings.kafka, *map(str, numbers), str(out), *named],
        {},
    )
    numbers = (settings.partitions_count, load.rate, load.count, first, CUSTOMER_COUNT, start_ns)
    topic = settings.topic_prefix + EVENTS
    arguments = [settings.kafka, topic, *map(str, numbers)]
    sender = Child(scene, "sender", ["-m", "bench.streaming.sender", *arguments], {})
    sender.wait()
    receiver.wait()
    found = answer(out)
    return {name: found[settings.topic_prefix + name] for name in topics}


def warmed(scene: Scene, settings: Settings, policy: Path, count: int) -> Child:
    """Return a worker that has decided `count` payments."""
    scene.fill(settings, payments(count, CUSTOMER_COUNT))
    child = worker(scene, settings, policy)
    child.wait_until(lambda: scene.decided_count(settings) >= count)
    return child


def beside(
    scene: Scene, settings: Settings, policy: Path, load: Load, warm_count: int
) -> dict[str, Any]:
    """Return latencies of echo, decisions and alerts with a worker, and the processors' time."""
    child = warmed(scene, settings, policy, warm_count)
    topics = {EVENTS: "all", "alerts": "some"}
    if settings.decisions:
        topics["decisions"] = "all"
    before_s = {"own": child.cpu_s(), **scene.servers_cpu_s()}
    version_count = len(child.says(NEW_VERSION))
    found = measure(scene, settings, load, warm_count, topics)
    after_s = {"own": child.cpu_s(), **scene.servers_cpu_s()}
    version_count = len(child.says(NEW_VERSION)) - version_count
    child.end()
    used_s = {name: after_s[name] - before_s[name] for name in after_s}
    found["echo"] = found.pop(EVENTS)
    return found | {"version_count": version_count, "event_count": load.count, "cpu_s": used_s}


def run(scene: Scene, loads: list[Load], warm_count: int) -> dict[str, Any]:
    """Return, for each load, what the echo alone, alerts, and all decisions take."""
    rows = []
    for load in loads:
        echo = scene.bank(f"echo{load.rate}")
        row: dict[str, Any] = {"rate": load.rate}
        row["echo"] = measure(scene, echo, load, 0, {EVENTS: "all"})[EVENTS]
        for name in ("alerts", "decisions"):
            settings = scene.bank(f"{name}{load.rate}", decisions=name == "decisions")
            row[name] = beside(scene, settings, POLICY, load, warm_count)
        rows.append(row)
    return {"rates": rows}
