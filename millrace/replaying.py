"""`millrace replay`: a source, a store and a progress bar around the player."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
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
from replay.sources import open_source
from replay.summary import EvaluationWindow
from streams.embedded import EmbeddedSettings
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore

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


def run_replay(request: ReplayRequest, policy: Policy) -> dict[str, Any]:
    """Play the source; return the summary. The state goes to a Redis, a private one by default."""
    if request.out.exists() and request.out.samefile(request.source):
        raise MillraceError(
            f"{request.out}: expected another folder for the outputs, got that of the source"
        )
    source = open_source(request.source, source_mapping(request.source, request.mapping))
    settings = ReplaySettings(
        speed=request.speed,
        window=EvaluationWindow(
            from_ms=request.evaluate_from_ms,
            to_ms=request.evaluate_to_ms,
            known_from_ms=request.known_from_ms,
        ),
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


def open_store(url: str, prefix: str) -> RedisStore:
    """Return the store that a command's `--redis` names."""
    try:
        return RedisStore(url, prefix)
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
