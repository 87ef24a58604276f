"""A private real Kafka as a child process, without Docker: for tests, benchmarks and replays."""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from features.errors import MillraceError
from streams.child_process import die_with_parent, log_tail

SCRIPT_VARIABLE = "MILLRACE_KAFKA_SCRIPT"
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05
ANSWER_TIMEOUT_S = 2.0
LOG_TAIL_LINES = 12

# Metadata request, version 1, about no topic: the answer's third word counts the live brokers.
_METADATA_REQUEST = struct.pack(">ihhihi", 14, 3, 1, 1, -1, 0)


class PrivateKafkaError(MillraceError):
    """The private Kafka can't be started."""


def kafka_script() -> Path:
    """Return the script that runs a broker: that of the checkout, or MILLRACE_KAFKA_SCRIPT."""
    given = os.environ.get(SCRIPT_VARIABLE)
    script = Path(given) if given else Path(__file__).parent.parent / "deploy" / "kafka" / "kafka"
    if not os.access(script, os.X_OK):
        raise PrivateKafkaError(
            f"no private Kafka: expected the script deploy/kafka/kafka of a checkout of Millrace, "
            f"found none at {script}: name it by {SCRIPT_VARIABLE}, or a cluster by MILLRACE_KAFKA"
        )
    return script


def lacking() -> str | None:
    """Return which program a private broker lacks on this machine, or None where it can run."""
    java_home = os.environ.get("JAVA_HOME")
    has_java = shutil.which("java") or (java_home and shutil.which(f"{java_home}/bin/java"))
    missing = [] if has_java else ["Java 17 (Debian: openjdk-17-jre-headless)"]
    if shutil.which("mvn") is None and not has_jars():
        missing.append("Maven (Debian: maven), which fetches Kafka once")
    return f"a private Kafka needs {' and '.join(missing)}" if missing else None


def has_jars() -> bool:
    """Whether the jars of some version are in the user's cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millrace"
    return any(home.glob("kafka-*/kafka_*.jar"))


class PrivateKafka:
    """A Kafka broker of this process alone, on 127.0.0.1; use it as a context manager.

    Without a `directory` nothing outlives it. With one, topics and offsets stay there for the next
    broker. It ends with this process, also when that is killed (Linux; start it from a thread that
    lives as long as it is needed). Port 0 is any free one, `port` is then the one found; after
    `stop` or `kill`, `start` runs it again on the same port and data.

    `options` are further settings of the broker, name to value. With `secure` it listens at
    `secure_address` too, with TLS and SASL; what that takes are options `listener.name.secure.*`.
    The first start on a machine fetches the jars. Raises PrivateKafkaError, with the end of the
    broker's log.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int = 0,
        options: Mapping[str, str] | None = None,
        secure: bool = False,
        heap_mib: int = 512,
        start_timeout_s: float = 60.0,
    ) -> None:
        self._temporary = (
            Path(tempfile.mkdtemp(prefix="millrace-kafka-")) if not directory else None
        )
        self.directory = Path(directory or self._temporary or "").absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log_path = self.directory / "kafka.log"
        self._port_file = self.directory / "port"
        self._start_timeout_s = start_timeout_s
        self.port = port
        self._environment = {
            **os.environ,
            "KAFKA_HEAP_MIB": str(heap_mib),
            "KAFKA_OPTIONS": "",
            "KAFKA_PROPERTIES": str(self._write_options(options or {})),
            "KAFKA_SECURE_PORT": "0" if secure else "",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        atexit.register(self.close)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "PrivateKafka":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """`host:port`, as clients take it for their bootstrap servers."""
        return f"127.0.0.1:{self.port}"

    @property
    def secure_address(self) -> str:
        """`host:port` of the listener with TLS and SASL; PrivateKafkaError where there is none."""
        file = self.directory / "secure_port"
        if not self._environment["KAFKA_SECURE_PORT"]:
            raise PrivateKafkaError(f"the Kafka of {self.directory} has no secure listener")
        return f"127.0.0.1:{int(file.read_text(encoding='ascii'))}"

    @property
    def pid(self) -> int:
        """Process id of the running broker; PrivateKafkaError where it is stopped."""
        if self._process is None:
            raise PrivateKafkaError(f"the Kafka of {self.directory} is stopped")
        return self._process.pid

    def start(self) -> None:
        """Run it again, after `stop` or `kill`, on the same port and data; wait till it answers."""
        if self._process is None:
            self._start()

    def stop(self) -> None:
        """End the broker in good order; its data stays. May be called twice."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker as a power cut would (SIGKILL); its data stays."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End the broker and remove its temporary files. May be called twice."""
        atexit.unregister(self.close)
        if os.getpid() != self._owner_pid:
            return  # a forked child holds this object too, but the broker is its parent's
        if self._temporary is not None:
            self.kill()
            shutil.rmtree(self._temporary, ignore_errors=True)
        else:
            self.stop()

    def _write_options(self, options: Mapping[str, str]) -> Path:
        file = self.directory / "options.properties"
        lines = (f"{name}={value}\n".replace("\\", r"\\") for name, value in options.items())
        file.write_text("".join(lines), encoding="utf-8")
        return file

    def _start(self) -> None:
        self._port_file.unlink(missing_ok=True)  # written once the port is known to be free
        command = [str(kafka_script()), "run", "--port", str(self.port)]
        command += ["--data-dir", str(self.directory)]
        with self.log_path.open("ab") as log:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,  # Ctrl-C goes to the whole group of a terminal
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
            except OSError as error:
                raise PrivateKafkaError(f"{command[0]} can't be run: {error}") from error
        self._wait_until_ready(self._process)

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + self._start_timeout_s
        while process.poll() is None:
            with contextlib.suppress(OSError, ValueError):  # no port yet, or nobody there
                port = int(self._port_file.read_text(encoding="ascii"))
                if broker_count(port) > 0:
                    self.port = port
                    return
            if time.monotonic() > deadline_s:
                self.kill()
                raise PrivateKafkaError(
                    f"Kafka did not answer within {self._start_timeout_s:g} s{self._log()}"
                )
            time.sleep(POLL_S)
        self._process = None
        raise PrivateKafkaError(f"Kafka ended at once, status {process.returncode}{self._log()}")

    def _end(self, signal_number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)  # a paused one could not end
        process.send_signal(signal_number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _log(self) -> str:
        return log_tail(self.log_path, LOG_TAIL_LINES)


def broker_count(port: int) -> int:
    """Return how many brokers of its cluster the one at this port of 127.0.0.1 knows alive.

    Raises OSError where nobody answers there.
    """
    with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as connection:
        connection.sendall(_METADATA_REQUEST)
        words = b""
        while len(words) < 12:
            piece = connection.recv(12 - len(words))
            if not piece:
                raise ConnectionResetError(f"127.0.0.1:{port} hung up")
            words += piece
    return int(struct.unpack(">iii", words)[2])
