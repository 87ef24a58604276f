"""`millrace replay`: a source, a store and a progress bar around the player."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from rich.panel import Panel
from rich.table import Table

from actions.policy import Policy
from features.errors import MillraceError
from millrace.identity import id_key
from millrace.progress import progress_bar
from replay.mapping import Mapping
from replay.mapping_parser import load_mapping
from replay.player import ReplaySettings, play
from replay.sources import Source, open_source
from replay.summary import EvaluationWindow
from streams.embedded import EmbeddedSettings
from streams.policy_files import BANK_POLICY
from streams.private_redis import PrivateRedis
from streams.redis_route import TlsFiles
from streams.redis_store import RedisStore
from streams.settings import Settings

SIMULATION_FILE = "simulation.json"
CHECKPOINT_MS = (
    10_000  # a replay that is cut off starts again: it need not write ten times a second
)
BATCH_MAX_COUNT = 1024  # a replay is after throughput


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What the command line asked for; times are epoch milliseconds."""

    source: Path
    mapping: str | None
    out: Path
    speed: float | None
    redis_url: str | None
    partition_count: int
    evaluate_from_ms: int | None
    evaluate_to_ms: int | None
    known_from_ms: int | None
    memory_mib_max: int | None = None
    via: Literal["embedded", "kafka"] = "embedded"
    worker_count: int = 1
    policy_dir: Path = BANK_POLICY

    @property
    def window(self) -> EvaluationWindow:
        """Over which decisions the metrics are."""
        return EvaluationWindow(
            from_ms=self.evaluate_from_ms,
            to_ms=self.evaluate_to_ms,
            known_from_ms=self.known_from_ms,
        )


def run_replay(request: ReplayRequest, policy: Policy) -> dict[str, Any]:
    """Play the source; return the summary. The state goes to a Redis, a private one by default."""
    if request.out.exists() and request.out.samefile(request.source):
        raise MillraceError(
            f"{request.out}: expected another folder for the outputs, got that of the source"
        )
    source = open_source(request.source, source_mapping(request.source, request.mapping))
    if request.via == "kafka":
        return _run_via_kafka(request, source, policy)
    settings = ReplaySettings(
        speed=request.speed,
        window=request.window,
        runtime=EmbeddedSettings(
            partition_count=request.partition_count,
            batch_max_count=BATCH_MAX_COUNT,
            checkpoint_ms=CHECKPOINT_MS,
            id_key=id_key(),
            emit_training=False,
            memory_mib_max=request.memory_mib_max,
        ),
    )
    with ExitStack() as closing:
        url = request.redis_url or closing.enter_context(PrivateRedis()).url
        # Every replay has keys of its own: it starts from nothing, whoever else uses this Redis.
        store = open_store(url, prefix=f"replay-{uuid4().hex[:12]}")
        closing.callback(store.close)
        advance = closing.enter_context(progress_bar("replaying", source.record_count))
        title = f"Replay of {request.source.name}"
        return play(source, policy, store, request.out, settings, title=title, progress=advance)


def _run_via_kafka(request: ReplayRequest, source: Source, policy: Policy) -> dict[str, Any]:
    """Play the source through Kafka and workers of its own."""
    from millrace.kafka_replay import replay_via_kafka

    # Each record is seen twice: when it is sent, and when it is decided.
    count = None if source.record_count is None else 2 * source.record_count
    with progress_bar("replaying", count) as advance:
        return replay_via_kafka(
            source,
            policy,
            request.policy_dir,
            request.out,
            worker_count=request.worker_count,
            partitions_count=max(request.partition_count, request.worker_count),
            speed=request.speed,
            window=request.window,
            redis_url=request.redis_url,
            title=f"Replay of {request.source.name} through Kafka",
            progress=advance,
        )


def open_store(url: str, prefix: str) -> RedisStore:
    """Return the store that a command's `--redis` names, with the environment's files for TLS."""
    settings = Settings.from_environment()
    tls = TlsFiles(settings.redis_ca, settings.redis_certificate, settings.redis_key)
    try:
        return RedisStore(url, prefix, tls=tls)
    except ValueError as error:  # the URL itself is not shown: it may hold a password
        raise MillraceError(
            f"--redis: expected a URL such as redis://HOST:6379/0 or unix://PATH, got one that "
            f"can't be read: {error}"
        ) from error


def source_mapping(source: Path, name: str | None) -> Mapping | None:
    """Return the mapping of that name or file; a simulation's folder has its own."""
    if name is not None:
        return load_mapping(name)
    if (source / SIMULATION_FILE).exists():
        return load_mapping("simulator")
    return None


def replay_view(summary: dict[str, Any], out: Path) -> Panel:
    """Return the closing panel of a replay."""
    records, latency, metrics = summary["records"], summary["latency_us"], summary["metrics"]
    rows = {
        "records": f"{records['in']:,} in, {records['decided']:,} decided, "
        f"{records['dead_lettered']:,} dead letters",
        "speed": f"{summary['throughput_per_s']:,.0f} records a second, {summary['wall_s']:.1f} s",
        "memory peak": f"{summary['memory_peak_mib']:,.0f} MiB",
        "batch latency": "p50 {p50} µs, p99 {p99} µs, p99.9 {p999} µs".format(
            **{name: f"{value or 0:,.0f}" for name, value in latency.items()}
        ),
        "alerts, offers": f"{summary['alerts']:,}, {summary['offers']:,}",
        "AUC ROC": _metric(metrics["auc"]),
        "average precision": _metric(metrics["average_precision"]),
        "card precision@100": _metric(metrics["card_precision_at_100"]),
        "decisions": summary["decisions_sha256"],
        "report": str(out / "report.html"),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, text)
    return Panel(table, title="replay", title_align="left")


def _metric(value: float | None) -> str:
    return "no labels" if value is None else f"{value:.3f}"
