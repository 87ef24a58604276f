"""How fast one worker empties a topic that was filled beforehand, and what others make of it."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from bench.streaming.fill import create_topics, read_all
from bench.streaming.question import POLICY, payments
from bench.streaming.scene import EVENTS, Child, Scene, answer, worker
from streams.policy_files import BANK_POLICY
from streams.settings import Settings

CUSTOMER_COUNT = 20_000
PAYMENTS_PER_CUSTOMER = 10  # where answers are compared, so that all rules fire
WARM_SHARE = 0.2  # of the records, decided before the clock starts
STORED_VALUE_BYTES = 64  # of the floor's values: a row or two of a history
STORED_KEY_BYTES = 48
RULE_PREFIX = "rule:"
SHARED_RULE = "busy_terminal"  # reads windows that payments of several partitions share
Alerts = dict[str, tuple[str, ...]]  # event id -> rules that fired, in alphabetical order


def drain(scene: Scene, settings: Settings, policy: Path, count: int) -> dict[str, Any]:
    """Have a worker decide the `count` payments of a topic; return figures from WARM_SHARE on."""
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
        "cpu_s": {name: ended_cpu_s[name] - began_cpu_s[name] for name in ended_cpu_s},
        "bytes_per_event": (scene.written_bytes() - sent_bytes) / count,
    }


def _now(scene: Scene, settings: Settings, child: Child) -> tuple[int, float, dict[str, float]]:
    used_s = {"own": child.cpu_s(), **scene.servers_cpu_s()}
    return scene.decided_count(settings), time.perf_counter(), used_s


def _timed(scene: Scene, child: Child, out: Path) -> dict[str, Any]:
    """Wait for a candidate that times itself; add what the servers used for it."""
    before_s = scene.servers_cpu_s()
    child.wait()
    after_s = scene.servers_cpu_s()
    facts: dict[str, Any] = answer(out)
    share = facts["event_count"] / facts.pop("whole_count")  # of what the servers did
    servers = {name: (after_s[name] - before_s[name]) * share for name in after_s}
    return facts | {"cpu_s": {"own": facts["cpu_s"], **servers}}


def floor(scene: Scene, filled: Settings, count: int, bytes_per_event: float) -> dict[str, Any]:
    """Fetch, decode and write as many bytes, from a topic that a worker has emptied before."""
    out = scene.folder / "floor.json"
    keys = bytes_per_event / (STORED_KEY_BYTES + STORED_VALUE_BYTES)
    arguments = [
        "-m", "bench.streaming.floor", filled.kafka, filled.redis, filled.topic_prefix + EVENTS,
        str(count), str(keys), str(STORED_VALUE_BYTES), str(out),
    ]  # fmt: skip
    return _timed(scene, Child(scene, "floor", arguments, {}), out)


def stock(scene: Scene, filled: Settings, count: int, warm_count: int) -> dict[str, Any]:
    """Decide the first `count` payments by the stock agent."""
    out, group = scene.folder / "stock.json", f"stock-{filled.group}"
    create_topics(filled.kafka, [f"{group}-alerts"], filled.partitions_count)
    environment = {
        "MILLRACE_BENCH_KAFKA": filled.kafka,
        "MILLRACE_BENCH_REDIS": filled.redis,
        "MILLRACE_BENCH_TOPIC": filled.topic_prefix + EVENTS,
        "MILLRACE_BENCH_GROUP": group,
        "MILLRACE_BENCH_COUNT": str(count),
        "MILLRACE_BENCH_WARM_COUNT": str(warm_count),
        "MILLRACE_BENCH_OUT": str(out),
    }
    arguments = ["-m", "bench.streaming.stock", "worker", "-l", "error"]
    return _timed(scene, Child(scene, group, arguments, environment), out)


def worker_alerts(settings: Settings) -> Alerts:
    """Return the alerts that rules raised, as they stand in Kafka."""
    found: Alerts = {}
    for value in read_all(settings.kafka, f"{settings.topic_prefix}alerts"):
        alert = orjson.loads(value)
        sources = [reason["source"] for reason in alert["reasons"]]
        rules = [name.removeprefix(RULE_PREFIX) for name in sources if name.startswith(RULE_PREFIX)]
        if rules:
            found[alert["event_id"]] = tuple(sorted(rules))
    return found


def compare(own: Alerts, others: Alerts, event_ids: Iterable[str]) -> dict[str, Any]:
    """Compare alerts about these events; count differences by whether a shared rule explains them.

    Payments of several partitions meet at a terminal in the order in which they arrive, which is
    another one for each candidate: there the shared rule may differ, and nothing else.
    """
    found: dict[str, Any] = {"compared_count": 0, "alert_count": 0}
    by_rule: dict[str, int] = {}
    found |= {"shared_count": 0, "different_count": 0, "example": "", "rule_counts": by_rule}
    for event_id in event_ids:
        ours, theirs = set(own.get(event_id, ())), set(others.get(event_id, ()))
        found["compared_count"] += 1
        found["alert_count"] += bool(ours)
        for rule in ours:
            by_rule[rule] = by_rule.get(rule, 0) + 1
        if ours == theirs:
            continue
        if ours ^ theirs == {SHARED_RULE}:
            found["shared_count"] += 1
        else:
            found["different_count"] += 1
            found["example"] = f"{event_id}: {sorted(ours)} here, {sorted(theirs)} there"
    return found


def agreement(scene: Scene, count: int) -> dict[str, Any]:
    """Compare a worker's alerts with the stock agent's, about payments of one partition."""
    settings = scene.bank("one", 1)
    scene.fill(settings, payments(count, max(1, count // PAYMENTS_PER_CUSTOMER)))
    drain(scene, settings, POLICY, count)
    return _compared(settings, stock(scene, settings, count, count // 5))


def _compared(settings: Settings, found: dict[str, Any]) -> dict[str, Any]:
    theirs = {event_id: tuple(sorted(rules)) for event_id, rules in found.pop("alerts")}
    return compare(worker_alerts(settings), theirs, found.pop("event_ids"))


def run(scene: Scene, count: int, stock_count: int, *, whole: bool = True) -> dict[str, Any]:
    """Return the figures of all candidates; of the default bank policy, too, where `whole`."""
    found: dict[str, Any] = {"agreement": agreement(scene, stock_count)}
    made = payments(count, CUSTOMER_COUNT)
    plain = scene.bank("plain")
    scene.fill(plain, made)
    found["worker"] = drain(scene, plain, POLICY, count)
    found["floor"] = floor(scene, plain, count, found["worker"]["bytes_per_event"])
    found["stock"] = stock(scene, plain, stock_count, stock_count // 5)
    found["agreement_of_all"] = _compared(plain, found["stock"])
    if whole:
        full = scene.bank("full")
        scene.fill(full, made)
        found["bank"] = drain(scene, full, BANK_POLICY, count)
        found["bank_floor"] = floor(scene, full, count, found["bank"]["bytes_per_event"])
    return found
