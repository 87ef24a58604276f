"""The stage of a streaming benchmark: a broker, a Redis, topics, and processes that come and go."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import redis

from bench.streaming.fill import fill
from bench.streaming.question import Payments
from streams.private_kafka import PrivateKafka
from streams.private_redis import PrivateRedis
from streams.settings import Settings, variable
from streams.topics import create_topics

ROOT = Path(__file__).parent.parent.parent
EVENTS = "events"
POLL_S = 0.02
PATIENCE_S = 600.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A candidate failed."""


class Scene:
    """A broker and a Redis of their own; each bank has its topics, group and keys."""

    def __init__(self, kafka: PrivateKafka, server: PrivateRedis, partition_count: int) -> None:
        self._settings = Settings(
            kafka=kafka.address, redis=server.url, partitions_count=partition_count
        )
        self.redis = redis.Redis.from_url(server.url)
        self.folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))

    def bank(self, name: str, **changes: Any) -> Settings:
        """Return settings of their own, with topics made."""
        named = {"topic_prefix": f"{name}-", "group": name, "redis_prefix": name}
        settings = replace(self._settings, **named, listen="127.0.0.1:0", **changes)
        create_topics(settings)
        return settings

    def fill(self, settings: Settings, made: Payments) -> None:
        """Put payments into the bank's topic of records."""
        topic = settings.topic_prefix + EVENTS
        fill(settings.kafka, topic, made, settings.partitions_count)

    def decided_count(self, settings: Settings) -> int:
        """Return how many records are decided and stored."""
        pipe = self.redis.pipeline(transaction=False)
        for partition in range(settings.partitions_count):
            key = f"{settings.redis_prefix}:{{{partition}}}:meta"
            pipe.hget(key, f"offset:{EVENTS}")
        return sum(int(offset or 0) for offset in pipe.execute())

    def written_bytes(self) -> int:
        """Return how many bytes Redis has been sent so far."""
        return int(self.redis.info("stats")["total_net_input_bytes"])


class Child:
    """A process of the benchmark; what it says goes to a file."""

    def __init__(
        self, scene: Scene, name: str, arguments: Sequence[str], environment: dict[str, str]
    ) -> None:
        self.name = name
        self.log = scene.folder / f"{name}.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def cpu_s(self) -> float:
        """Return the processor time that it has taken so far."""
        found = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        user, system = found.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / CLOCK_TICKS

    def check(self) -> None:
        """Raise where it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended: {self.log.read_text()[-4_000:]}")

    def wait(self) -> None:
        """Wait for its good end."""
        if self.process.wait(PATIENCE_S):
            raise BenchError(f"{self.name} failed: {self.log.read_text()[-4_000:]}")

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Look again and again until something is so, and that it still runs."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not done():
            self.check()
            if time.monotonic() > deadline_s:
                raise BenchError(f"{self.name}: waited {PATIENCE_S:.0f} s in vain")
            time.sleep(POLL_S)

    def end(self) -> None:
        """Have it leave in good order."""
        self.process.terminate()
        self.wait()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


def worker(scene: Scene, settings: Settings, policy: Path, name: str = "worker") -> Child:
    """Start a worker with these settings."""
    given = {
        variable(field): str(getattr(settings, field.name))
        for field in fields(settings)
        if getattr(settings, field.name) != field.default
    }
    arguments = ["-m", "millrace", "worker", "--policy", str(policy)]
    return Child(scene, f"{settings.group}-{name}", arguments, given)


def answer(path: Path) -> Any:
    """Return what a child wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
