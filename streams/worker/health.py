"""Metrics and health over HTTP, and the watchdog that does not trust the event loop."""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from aiohttp import web

from features.errors import MillraceError
from streams.metrics import Metrics
from streams.worker.status import Status

EXIT_STALLED = 3
SUSPENDED_S = 5.0  # so late, a look of the watchdog's own has been held up with all else
LEAVE_MAX_S = 10.0  # how long a stalled worker may take to leave in good order
logger = logging.getLogger(__name__)


class HealthServer:
    """`/metrics`, `/health/live` and `/health/ready`; health that is bad is answered with 503.

    Live: the watchdog would leave it alone. Ready: it decides records, or stands by to.
    """

    def __init__(self, listen: str, status: Status, metrics: Metrics, stall_s: float) -> None:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit():
            raise MillraceError(f"MILLRACE_LISTEN: expected `host:port`, got {listen!r}")
        self._host, self._port = host.strip("[]"), int(port)
        self._status = status
        self._metrics = metrics
        self._stall_s = stall_s
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; raise MillraceError where the address can't be had."""
        application = web.Application()
        application.router.add_get("/metrics", self._metrics_page)
        application.router.add_get("/health/live", self._live)
        application.router.add_get("/health/ready", self._ready)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            raise MillraceError(
                f"MILLRACE_LISTEN: {self._host}:{self._port} can't be listened on: "
                f"{error.strerror}; each worker of a machine needs a port of its own (0: any)"
            ) from error
        logger.info("metrics and health at http://%s", self.address)

    @property
    def address(self) -> str:
        """Where it listens, as `host:port`."""
        if self._runner is None:
            return f"{self._host}:{self._port}"
        host, port = self._runner.addresses[0][:2]
        return f"{host}:{port}"

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._metrics.text(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _live(self, _: web.Request) -> web.Response:
        idle_s = self._status.idle_s()
        return _answer(
            [] if idle_s < self._stall_s else [f"nothing went on for {idle_s:.0f} s"],
            self._status,
        )

    async def _ready(self, _: web.Request) -> web.Response:
        return _answer(self._status.unready(), self._status)


def _answer(reasons: list[str], status: Status) -> web.Response:
    body = {
        "ok": not reasons,
        "reasons": reasons,
        "phase": status.phase.name.lower(),
        "partitions": list(status.partitions),
    }
    return web.json_response(body, status=503 if reasons else 200)


class Watchdog:
    """Ends a worker that neither decides, nor has nothing to decide, nor knows what it waits for.

    A thread of its own, since a stall may be that of the event loop. `on_stall` is asked to end
    the worker in good order first; then the process ends, whatever hangs.
    """

    def __init__(
        self,
        status: Status,
        stall_s: float,
        on_stall: Callable[[str], None],
        *,
        leave_max_s: float = LEAVE_MAX_S,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._status = status
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._leave_max_s = leave_max_s
        self._end = end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._over.set()

    def _watch(self) -> None:
        pause_s = min(self._stall_s / 10, 1.0)
        looked_s = time.monotonic()
        while not self._over.wait(pause_s):
            before_s, looked_s = looked_s, time.monotonic()
            if looked_s - before_s > pause_s + SUSPENDED_S:
                self._status.progress()  # the whole process stood still: that is no stall
            idle_s = self._status.idle_s()
            if idle_s >= self._stall_s:
                self._stalled(idle_s)
                return

    def _stalled(self, idle_s: float) -> None:
        message = (
            f"stalled: nothing was decided for {idle_s:.0f} s while {self._status.lag_count} "
            f"records wait (phase: {self._status.phase}); leaving the group, exit code "
            f"{EXIT_STALLED}"
        )
        logger.critical(message)
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        self._on_stall(message)
        if not self._over.wait(self._leave_max_s):
            logger.critical("could not leave in good order within %.0f s", self._leave_max_s)
            self._end(EXIT_STALLED)
