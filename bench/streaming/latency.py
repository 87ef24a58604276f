"""How long after a payment was due its decision can be read, beside a bare echo.

Payments come in an open loop at a fixed rate. The echo is the payment itself, read from its topic:
once with no worker at all, once beside the worker. The topic has one partition: with four, a broker
that shares two cores with all others spends most of one of them on a fetch for every few payments.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.streaming.question import POLICY, labels, payments
from bench.streaming.scene import EVENTS, Child, Scene, answer, worker
from streams.settings import Settings

CUSTOMER_COUNT = 20_000
PARTITION_COUNT = 1
NEW_VERSION = "model .*, is out"  # what a worker's log says
AHEAD_S = 0.3  # of the first payment, when all are told


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


def new_sender(
    scene: Scene, settings: Settings, numbers: tuple[int, int, int, int], signal: Path
) -> Child:
    """Return a sender of (rate, count, first, customers) that waits for its start."""
    topic = settings.topic_prefix + EVENTS
    texts = map(str, (settings.partitions_count, *numbers, signal))
    arguments = ["-m", "bench.streaming.sender", settings.kafka, topic, *texts]
    return Child(scene, "sender", arguments, {})


def start(signal: Path) -> int:
    """Tell all that wait for the file when the first payment is due; return that time in ns."""
    start_ns = time.perf_counter_ns() + int(AHEAD_S * 1e9)
    fresh = signal.with_suffix(".new")
    fresh.write_text(str(start_ns), encoding="ascii")
    fresh.replace(signal)
    return start_ns


def measure(
    scene: Scene, settings: Settings, load: Load, first: int, topics: dict[str, str]
) -> dict[str, Any]:
    """Send a load; return the latencies at which it could be read from these topics.

    `topics` says by name whether `all` payments or `some` will be seen there.
    """
    out, signal = scene.folder / "latency.json", scene.folder / "start"
    signal.unlink(missing_ok=True)
    named = [w for name, share in topics.items() for w in (settings.topic_prefix + name, share)]
    numbers = [load.rate, first, load.count, int(load.rate * load.skip_s)]
    arguments = [settings.kafka, *map(str, numbers), str(signal), str(out), *named]
    receiver = Child(scene, "receiver", ["-m", "bench.streaming.receiver", *arguments], {})
    sender = new_sender(scene, settings, (load.rate, load.count, first, CUSTOMER_COUNT), signal)
    for child in (receiver, sender):
        child.wait_until(lambda child=child: child.says("ready"))
    start(signal)
    sender.wait()
    receiver.wait()
    found = answer(out)
    return {name: found[settings.topic_prefix + name] for name in topics}


def warmed(
    scene: Scene, settings: Settings, policy: Path, count: int, label_every_count: int = 0
) -> Child:
    """Return a worker that has decided `count` payments; each n-th may then be told a fraud."""
    made = payments(count, CUSTOMER_COUNT)
    scene.fill(settings, made)
    told = labels(made, label_every_count) if label_every_count else None
    if told is not None:
        scene.fill(settings, told)
    whole_count = count + (len(told.keys) if told else 0)
    child = worker(scene, settings, policy)
    child.wait_until(lambda: scene.decided_count(settings) >= whole_count)
    return child


def beside(
    scene: Scene,
    settings: Settings,
    policy: Path,
    load: Load,
    warm_count: int,
    label_every_count: int = 0,
) -> dict[str, Any]:
    """Return latencies of echo, decisions and alerts with a worker, and the processors' time."""
    child = warmed(scene, settings, policy, warm_count, label_every_count)
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
        echo = scene.bank(f"echo{load.rate}", PARTITION_COUNT)
        measure(scene, echo, Load(load.rate, load.skip_s, 0.0), load.count, {EVENTS: "all"})
        row: dict[str, Any] = {"rate": load.rate}
        row["echo"] = measure(scene, echo, load, 0, {EVENTS: "all"})[EVENTS]
        for name in ("alerts", "decisions"):
            is_audited = name == "decisions"
            settings = scene.bank(f"{name}{load.rate}", PARTITION_COUNT, decisions=is_audited)
            row[name] = beside(scene, settings, POLICY, load, warm_count)
        rows.append(row)
    return {"rates": rows}
