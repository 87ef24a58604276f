"""The Faust application, and the process around it: from start to an orderly end."""

import asyncio
import gc
import logging
import signal
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

import faust
from faust.app.base import BootStrategy
from yarl import URL

from actions.policy import Policy
from features.errors import MillraceError
from streams.engine import EngineSettings
from streams.foreign import ForeignSettings
from streams.kafka_access import check_access
from streams.metrics import Metrics
from streams.settings import Settings, kafka_options
from streams.store import Store
from streams.worker.changes import PolicyChanges
from streams.worker.control import ControlReader
from streams.worker.deciding import Deciding
from streams.worker.health import HealthServer, Watchdog
from streams.worker.intake import EngineIntake
from streams.worker.status import Phase, Status
from streams.worker.trainer import TrainerPart
from streams.worker.transport import BatchTransport
from streams.worker.warming import warm_up
from streams.worker.watch import Watch

REQUEST_TIMEOUT_S = 30.0
REBALANCE_TIMEOUT_S = 30.0
FETCH_MAX_BYTES = 1 << 20  # of one partition
TRAINER_PATIENCE_S = 60.0  # how long models wait for a partition that says nothing
REPLAY_PATIENCE_S = 3.0  # the same in a replay, where all records are there
STORE_FOREVER_MS = 2**52  # a worker waits for its store; its health page says so
logger = logging.getLogger(__name__)


class StalledError(MillraceError):
    """The watchdog ended the worker."""


class _Boot(BootStrategy):
    """Only the consumer and what it needs: emissions have a producer of their own."""

    enable_kafka_producer = False
    enable_web = False


class _App(faust.App):
    BootStrategy = _Boot

    def _create_directories(self) -> None:
        """Make none: all state is in the store."""


@dataclass
class Parts:
    """What a running worker consists of."""

    app: Any
    intake: EngineIntake
    control: ControlReader
    status: Status
    watch: Watch
    health: HealthServer
    stall_s: float


def build(policy: Policy, store: Store, settings: Settings) -> Parts:
    """Put a worker together; nothing is connected yet."""
    status, metrics = Status(), Metrics()
    stall_s = settings.stall_ms / 1000
    engine = EngineSettings(
        checkpoint_ms=settings.checkpoint_ms,
        store_patience_ms=STORE_FOREVER_MS,
        id_key=settings.id_key,
        memory_mib_max=settings.memory_mib_max or None,
        partition_count=settings.partitions_count,
        foreign=ForeignSettings(settings.shared_refresh_ms, settings.shared_staleness_ms_max),
    )
    options = kafka_options(settings)
    deciding = Deciding(
        policy,
        store,
        engine,
        status,
        metrics,
        emits_decisions=settings.decisions,
        waits_for_models=settings.wait_for_models,
    )
    trainer = TrainerPart(
        policy.models,
        store,
        patience_s=REPLAY_PATIENCE_S if settings.wait_for_models else TRAINER_PATIENCE_S,
        store_patience_ms=STORE_FOREVER_MS,
        note_reports=metrics.models.note,
        sleep=deciding.patience.sleep,
    )
    intake = EngineIntake(deciding, trainer, settings, options, status, metrics)
    changes = PolicyChanges(policy, intake, metrics)
    control = ControlReader(settings.topic_prefix, options, intake.control, changes.take)
    app = _app(settings, options["bootstrap_servers"])
    transport = BatchTransport([URL(f"kafka://{s}") for s in options["bootstrap_servers"]], app)
    transport.intake, transport.kafka_options = intake, options
    transport.instance = settings.instance
    app.transport = transport
    watch = Watch(app, intake, status, metrics)
    health = HealthServer(settings.listen, status, metrics, stall_s)
    return Parts(app, intake, control, status, watch, health, stall_s)


def _app(settings: Settings, servers: Sequence[str]) -> Any:
    session_s = settings.session_timeout_ms / 1000
    return _App(
        settings.group,
        broker=[URL(f"kafka://{server}") for server in servers],
        broker_client_id="millrace",
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 10,  # how soon others hear that they take over
        broker_rebalance_timeout=REBALANCE_TIMEOUT_S,
        broker_request_timeout=max(REQUEST_TIMEOUT_S, session_s),
        broker_max_poll_records=settings.batch_max_count,
        consumer_max_fetch_size=FETCH_MAX_BYTES,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
        autodiscover=False,
        web_enabled=False,
        value_serializer="raw",
    )


async def run(parts: Parts) -> None:
    """Work until SIGTERM or SIGINT, then leave in good order; raise what ended it otherwise."""
    loop, app, status = asyncio.get_running_loop(), parts.app, parts.status
    stop: asyncio.Future[str] = loop.create_future()

    def end(reason: str) -> None:
        if not stop.done():
            stop.set_result(reason)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, "")

    def end_soon(reason: str) -> None:
        loop.call_soon_threadsafe(end, reason)

    watchdog = Watchdog(status, parts.stall_s, end_soon)
    await parts.health.start()
    watchdog.start()
    tasks = [asyncio.create_task(parts.control.run()), asyncio.create_task(parts.watch.run())]
    try:
        await first_of(stop, parts.control.caught_up.wait(), *tasks)
        if not stop.done():
            status.enter(Phase.JOINING)
            await app.start()
            await first_of(stop, app._crashed.wait(), *tasks)
    finally:
        status.enter(Phase.LEAVING)
        for task in tasks:
            task.cancel()
        await app.stop()
        await parts.intake.close()
        await parts.health.stop()
        watchdog.stop()
    if app.crash_reason is not None:
        raise app.crash_reason
    if stop.done() and stop.result():
        raise StalledError(stop.result())


async def first_of(*waits: Awaitable[Any]) -> None:
    """Wait for the first that ends; raise what it raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def run_worker(policy: Policy, store: Store, settings: Settings) -> None:
    """Run a worker in this process until it is told to end."""
    check_access(settings)
    warm_up(policy)
    # What is there now stays. Else the garbage collector walks through it again and again: 130 ms
    # each time, in which no thread decides anything.
    gc.collect()
    gc.freeze()
    parts = build(policy, store, settings)
    logger.info("worker of group %s at %s", settings.group, settings.kafka)
    asyncio.run(_run(parts))


async def _run(parts: Parts) -> None:
    try:
        await run(parts)
    except MillraceError:
        raise
    except Exception as error:
        raise MillraceError(f"the worker ended: {type(error).__name__}: {error}") from error
