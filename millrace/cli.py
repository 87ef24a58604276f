"""The command line: parses options, puts the parts together, prints what came of it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
import orjson
from rich.console import Console

from features.errors import MillraceError
from features.expressions.reference import page
from millrace.features_cli import features
from millrace.identity import id_key
from millrace.models_cli import models
from millrace.options import policy_option
from millrace.policy_cli import lists, policy
from millrace.process import tune_process
from millrace.replaying import ReplayRequest, replay_view, run_replay
from millrace.topics_cli import settings as settings_page
from millrace.topics_cli import topics
from streams.partitioner import PARTITIONS_MAX_COUNT
from streams.policy_files import read_policy
from streams.schemas import write_documents

EXISTING = click.Path(exists=True, path_type=Path)
ANY_PATH = click.Path(path_type=Path)
OUT_DIR = click.Path(file_okay=False, path_type=Path)


class _Commands(click.Group):
    """Shows errors that Millrace raises on purpose as one line, exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MillraceError as error:
            click.echo(f"millrace: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            if error.filename is None:  # not a file that somebody named: a fault of ours
                raise
            click.echo(f"millrace: {error.filename}: {error.strerror}", err=True)
            sys.exit(2)


def _play_s(ctx: click.Context, parameter: click.Parameter, seconds: float) -> float:
    if not 0.0 < seconds < float("inf"):
        raise click.BadParameter(f"expected a number of seconds above 0, got {seconds:g}")
    return seconds


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="millrace")
def main() -> None:
    """Real-time risk and next-best-action engine for banks."""
    tune_process()


@main.command()
@click.option("--customers", default=800, show_default=True, help="Simulated customers.")
@click.option("--days", default=65, show_default=True, help="Simulated days.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same traffic.")
@click.option(
    "--seconds",
    default=45.0,
    show_default=True,
    callback=_play_s,
    help="Wall time to spread it over.",
)
@click.option("--svg", type=ANY_PATH, help="Also save the last screen as a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, no live view.")
@policy_option
def demo(
    customers: int,
    days: int,
    seed: int,
    seconds: float,
    svg: Path | None,
    as_json: bool,
    policy_dir: Path,
) -> None:
    """Run the engine on simulated bank traffic and show alerts, offers and latency live."""
    from millrace.demo import DemoSettings, run_demo
    from replay.simulator import SimulatorSettings

    simulation = SimulatorSettings(customer_count=customers, day_count=days, seed=seed)
    settings = DemoSettings(simulation, seconds, id_key())
    console, notices = Console(quiet=as_json), Console(stderr=True)
    finished = run_demo(settings, read_policy(policy_dir), console, notices)
    if svg is not None:
        finished.save_picture(svg)
    if as_json:
        click.echo(orjson.dumps(finished.as_dict(), option=orjson.OPT_INDENT_2))


@main.command()
@click.option("--customers", required=True, type=int)
@click.option("--days", required=True, type=int)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--pattern-change-day",
    type=int,
    help="Frauds are with cards before this day, with accounts from then on.",
)
@click.option("--out", required=True, type=ANY_PATH, help="Folder for the files; new or empty.")
@click.option("--overwrite", is_flag=True, help="Replace what is in the folder.")
def simulate(
    customers: int,
    days: int,
    seed: int,
    pattern_change_day: int | None,
    out: Path,
    overwrite: bool,
) -> None:
    """Write simulated bank traffic with its ground truth as Parquet files."""
    from millrace.progress import progress_bar
    from replay.simulator import SimulatorSettings, write_files

    settings = SimulatorSettings(customers, days, seed=seed, pattern_change_day=pattern_change_day)
    with progress_bar("simulating", settings.hour_count) as advance:
        write_files(settings, out, progress=lambda done, _: advance(1), overwrite=overwrite)
    click.echo(f"{out}: {customers:,} customers, {days} days, seed {seed}")


main.add_command(features)
main.add_command(lists)
main.add_command(models)
main.add_command(policy)
main.add_command(topics)
main.add_command(settings_page)


@main.command()
def expressions() -> None:
    """Print the reference page of the expression language."""
    click.echo(page(), nl=False)


@main.command()
@click.argument("directory", type=OUT_DIR)
def schemas(directory: Path) -> None:
    """Write the JSON Schemas of all records and the AsyncAPI document of all topics."""
    for file in write_documents(directory):
        click.echo(str(file))


@main.command()
@click.argument("source", type=EXISTING)
@click.option("--mapping", help="A mapping file, or the name of a shipped one (handbook, ...).")
@click.option("--out", required=True, type=OUT_DIR, help="Folder for the outputs.")
@click.option(
    "--speed",
    default="max",
    show_default=True,
    help="max, or event time over wall time, such as 60x.",
)
@click.option(
    "--via",
    type=click.Choice(["embedded", "kafka"]),
    default="embedded",
    show_default=True,
    help="kafka: through workers and the Kafka of MILLRACE_KAFKA, or a private one.",
)
@click.option(
    "--workers",
    "worker_count",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="With --via kafka: worker processes.",
)
@click.option("--redis", "redis_url", help="Keep the state in this Redis; else in a private one.")
@click.option(
    "--partitions",
    type=click.IntRange(1, PARTITIONS_MAX_COUNT),
    default=1,
    show_default=True,
    help="Partitions of the log or topic; an embedded replay decides the same with any number.",
)
@click.option(
    "--memory-max",
    "memory_mib_max",
    type=click.IntRange(min=1),
    envvar="MILLRACE_MEMORY_MAX",
    show_envvar=True,
    help="MiB that the process may take; what is idle then waits in Redis. Decisions do not depend "
    "on it.",
)
@click.option(
    "--evaluate-from", type=click.DateTime(), help="Metrics over decisions from here on (UTC)."
)
@click.option("--evaluate-to", type=click.DateTime(), help="... and before this.")
@click.option(
    "--known-from", type=click.DateTime(), help="Only frauds from here on make a card known."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@policy_option
def replay(
    source: Path,
    mapping: str | None,
    out: Path,
    speed: str,
    via: Literal["embedded", "kafka"],
    worker_count: int,
    redis_url: str | None,
    partitions: int,
    memory_mib_max: int | None,
    evaluate_from: datetime | None,
    evaluate_to: datetime | None,
    known_from: datetime | None,
    as_json: bool,
    policy_dir: Path,
) -> None:
    """Decide historical traffic as if it were live, and report on it."""

    request = ReplayRequest(
        source=source,
        mapping=mapping,
        out=out,
        speed=_speed(speed),
        redis_url=redis_url,
        partition_count=partitions,
        evaluate_from_ms=_ms(evaluate_from),
        evaluate_to_ms=_ms(evaluate_to),
        known_from_ms=_ms(known_from),
        memory_mib_max=memory_mib_max,
        via=via,
        worker_count=worker_count,
        policy_dir=policy_dir,
    )
    summary = run_replay(request, read_policy(policy_dir))
    if as_json:
        click.echo(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    else:
        Console().print(replay_view(summary, out))


@main.command()
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    show_default=True,
)
@policy_option
def worker(log_level: str, policy_dir: Path) -> None:
    """Decide live records from Kafka, with state in Redis; both are named by the environment."""
    from millrace.working import work
    from streams.settings import Settings

    work(read_policy(policy_dir), Settings.from_environment(), log_level)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp() * 1000)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < float("inf"):
        raise click.BadParameter(
            f"expected max or a factor such as 60x, got {text!r}", param_hint="--speed"
        )
    return speed
