"""The broker and the Redis that faults are made on."""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

from bench.chaos.proxy import CommitCutter
from streams.private_kafka import PrivateKafka
from streams.private_redis import PrivateRedis

# A Redis that is killed may lose nothing that it has acknowledged.
DURABLE = {"appendfsync": "always"}


class Servers:
    """A Kafka and a Redis, each on an address that stays, with data that outlive their processes.

    To be made and used on one thread that stays: the kernel ends a server with the thread that
    started it. Workers reach Redis through `cutter`, who checks them directly. `kafka` is a broker
    that is somebody else's.
    """

    def __init__(self, kafka: Any = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="millrace-chaos-"))
        self._own_kafka = kafka is None
        self.kafka: Any = kafka or PrivateKafka()
        self._link = self.folder / "redis.sock"
        self.redis_url = f"unix://{self._link}"
        self._redis: PrivateRedis | None = None
        self.start_redis()
        self.cutter = CommitCutter(self._link)

    def start_redis(self) -> None:
        """Start Redis on what the one before has stored."""
        self._redis = PrivateRedis(self.folder / "redis", options=DURABLE)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self._redis.socket_path)

    def kill_redis(self) -> None:
        """End Redis at once; what it has stored stays."""
        server, self._redis = self._redis, None
        if server is not None:
            os.kill(server.pid, signal.SIGKILL)
            server.close()

    def freeze_redis(self) -> None:
        """Have Redis stand still: connections stay open, and nothing is answered."""
        self._signal_redis(signal.SIGSTOP)

    def thaw_redis(self) -> None:
        """Have Redis go on where it stood."""
        self._signal_redis(signal.SIGCONT)

    def freeze_kafka(self) -> None:
        """Have the broker stand still."""
        os.kill(self._broker_pid(), signal.SIGSTOP)

    def thaw_kafka(self) -> None:
        """Have the broker go on where it stood."""
        os.kill(self._broker_pid(), signal.SIGCONT)

    def close(self) -> None:
        """End both and remove all that they stored."""
        self.cutter.close()
        self.thaw_redis()
        self.kill_redis()
        if self._own_kafka:
            self.kafka.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _broker_pid(self) -> int:
        return self.kafka.pid

    def _signal_redis(self, number: signal.Signals) -> None:
        if self._redis is not None:
            os.kill(self._redis.pid, number)
