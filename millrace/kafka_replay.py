"""`millrace replay --via kafka`: a broker, a Redis and workers around the replay."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from typing import Any
from uuid import uuid4

from actions.policy import Policy
from features.errors import MillraceError
from replay.sources import Source
from replay.summary import EvaluationWindow
from replay.via_kafka import play_via_kafka
from streams.child_process import die_with_parent, log_tail
from streams.private_kafka import PrivateKafka
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore
from streams.settings import Settings, environment_of
from streams.topics import create_topics, delete_topics

LOG_TAIL_LINES = 8
STOP_MAX_S = 30.0


def replay_via_kafka(
    source: Source,
    policy: Policy,
    policy_dir: Path,
    out: Path,
    *,
    worker_count: int,
    partitions_count: int,
    speed: float | None,
    window: EvaluationWindow,
    redis_url: str | None,
    title: str,
    progress: Any,
) -> dict[str, Any]:
    """Replay through the Kafka of MILLRACE_KAFKA, or a private one; return the summary.

    Topics and keys of Redis have a prefix of this replay alone, and the topics are deleted at its
    end.
    """
    name = f"replay-{uuid4().hex[:12]}"
    with ExitStack() as closing:
        settings = replace(
            Settings.from_environment(),
            inputs="one",
            topic_prefix=f"{name}.",
            group=name,
            redis_prefix=name,
            partitions_count=partitions_count,
            decisions=True,
            wait_for_models=True,
            listen="127.0.0.1:0",
        )
        if not os.environ.get("MILLRACE_KAFKA"):
            broker = closing.enter_context(PrivateKafka())
            settings = replace(settings, kafka=broker.address)
        url = redis_url or closing.enter_context(PrivateRedis()).url
        settings = replace(settings, redis=url)
        store = RedisStore.from_settings(settings)
        closing.callback(store.close)
        create_topics(settings)
        closing.callback(delete_topics, settings)
        workers = closing.enter_context(_Workers(settings, policy_dir, worker_count).running())
        return play_via_kafka(
            source, policy, store, out, settings, workers.check,
            speed=speed, window=window, title=title,
            progress=progress,
        )  # fmt: skip


class _Workers:
    """Worker processes that end with this one."""

    def __init__(self, settings: Settings, policy_dir: Path, count: int) -> None:
        self._settings = settings
        self._command = [
            sys.executable, "-m", "millrace", "worker", "--policy", str(policy_dir.absolute()),
            "--log-level", "WARNING",
        ]  # fmt: skip
        self._count = count
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []

    @contextmanager
    def running(self) -> Iterator["_Workers"]:
        """Start the workers; have them leave in good order at the end."""
        with tempfile.TemporaryDirectory(prefix="millrace-workers-") as folder:
            try:
                for number in range(self._count):
                    self._start(Path(folder) / f"worker-{number}.log")
                yield self
            finally:
                for process, _ in self._processes:
                    process.terminate()
                deadline_s = time.monotonic() + STOP_MAX_S
                for process, _ in self._processes:
                    _end(process, deadline_s)

    def check(self) -> None:
        """Raise MillraceError with the end of its log where a worker has ended."""
        for process, log in self._processes:
            if process.poll() is not None:
                tail = log_tail(log, LOG_TAIL_LINES)
                raise MillraceError(f"a worker ended, status {process.returncode}{tail}")

    def _start(self, log: Path) -> None:
        with log.open("wb") as output:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment_of(self._settings),
                preexec_fn=die_with_parent(SIGTERM),
            )
        self._processes.append((process, log))


def _end(process: "subprocess.Popen[bytes]", deadline_s: float) -> None:
    try:
        process.wait(max(deadline_s - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
