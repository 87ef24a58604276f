"""The stage of a streaming benchmark: a broker, a Redis, topics, and processes that come and go."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from bench.streaming.fill import fill
from bench.streaming.question import Payments
from streams.child_process import die_with_parent
from streams.private_kafka import PrivateKafka
from streams.private_redis import PrivateRedis
from streams.settings import Settings, environment_of
from streams.topics import create_topics

ROOT = Path(__file__).parent.parent.parent
EVENTS = "events"
POLL_S = 0.02
STOLEN_MAX_SHARE = 0.02  # of the processors' time that others had; more makes a play count less
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A candidate failed."""


class Scene:
    """A broker and a Redis; each bank has its topics, group and keys. A context manager.

    Whatever it started is ended with it; the servers keep what they hold. Nothing takes longer
    than until `deadline_s`, on the clock of `time.monotonic`.
    """

    def __init__(
        self, kafka: PrivateKafka, server: PrivateRedis, partition_count: int, deadline_s: float
    ) -> None:
        self._kafka = kafka
        self._server = server
        self.deadline_s = deadline_s
        self.partition_count = partition_count
        self.kafka_address = kafka.address
        self.redis = redis.Redis.from_url(server.url)
        self.folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
        self.children: list[Child] = []
        self._tag = self.folder.name[-8:]

    def __enter__(self) -> "Scene":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self.children:
            child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def bank(self, name: str, partition_count: int | None = None, **changes: Any) -> Settings:
        """Return settings of their own, with topics made."""
        settings = replace(
            Settings(kafka=self._kafka.address, redis=self._server.url),
            topic_prefix=f"{name}-{self._tag}-",
            group=f"{name}-{self._tag}",
            redis_prefix=f"{name}-{self._tag}",
            partitions_count=partition_count or self.partition_count,
            listen="127.0.0.1:0",
            **changes,
        )
        create_topics(settings)
        return settings

    def fill(self, settings: Settings, made: Payments) -> None:
        """Put payments into the bank's topic of records."""
        topic = settings.topic_prefix + EVENTS
        fill(settings.kafka, topic, made, settings.partitions_count)

    def decided_counts(self, settings: Settings) -> list[int]:
        """Return how many records are decided and stored, by partition."""
        pipe = self.redis.pipeline(transaction=False)
        for partition in range(settings.partitions_count):
            key = f"{settings.redis_prefix}:{{{partition}}}:meta"
            pipe.hget(key, f"offset:{EVENTS}")
        return [int(offset or 0) for offset in pipe.execute()]

    def decided_count(self, settings: Settings) -> int:
        """Return how many records are decided and stored."""
        return sum(self.decided_counts(settings))

    def written_bytes(self) -> int:
        """Return how many bytes Redis has been sent so far."""
        return int(self.redis.info("stats")["total_net_input_bytes"])

    def servers_cpu_s(self) -> dict[str, float]:
        """Return the processor time that broker and Redis have taken so far."""
        return {"kafka": cpu_s(self._kafka.pid), "redis": cpu_s(self._server.pid)}


class Child:
    """A process of the benchmark; what it says goes to a file."""

    def __init__(
        self, scene: Scene, name: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self._deadline_s = scene.deadline_s
        self.log = scene.folder / f"{len(scene.children)}-{name}.log"
        scene.children.append(self)
        with self.log.open("xb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=scene.folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def cpu_s(self) -> float:
        """Return the processor time that it has taken so far."""
        return cpu_s(self.pid)

    def says(self, pattern: str) -> list[str]:
        """Return what of its log matches."""
        return re.findall(pattern, self.log.read_text(encoding="utf-8", errors="replace"))

    def check(self) -> None:
        """Raise where it has ended."""
        if self.process.poll() is not None:
            raise BenchError(f"{self.name} ended: {self.log.read_text()[-4_000:]}")

    def wait(self) -> None:
        """Wait for its good end."""
        try:
            code = self.process.wait(max(0.0, self._deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{self.name}: out of time") from error
        if code:
            raise BenchError(f"{self.name} failed: {self.log.read_text()[-4_000:]}")

    def wait_until(self, done: Callable[[], Any], poll_s: float = POLL_S) -> None:
        """Look again and again until something is so, and that it still runs."""
        while not done():
            self.check()
            if time.monotonic() > self._deadline_s:
                raise BenchError(f"{self.name}: out of time; {self.log.read_text()[-2_000:]}")
            time.sleep(poll_s)

    def end(self) -> None:
        """Have it leave in good order."""
        self.process.terminate()
        self.wait()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has taken so far."""
    found = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    user, system = found.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / CLOCK_TICKS


def stolen_cpu_s() -> float:
    """Return the processors' time that this machine's host has given to others so far."""
    whole = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    return int(whole[8]) / CLOCK_TICKS  # "cpu", user, nice, system, idle, iowait, irq, softirq


def worker(scene: Scene, settings: Settings, policy: Path, name: str = "worker") -> Child:
    """Start a worker with these settings."""
    arguments = ["-m", "millrace", "worker", "--policy", str(policy)]
    return Child(scene, f"{settings.group}-{name}", arguments, environment_of(settings))


def answer(path: Path) -> Any:
    """Return what a child wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
