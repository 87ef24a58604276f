"""`millrace features`: values of features over history, and as they stand now."""

import math
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from features.records import TS_MS_MAX
from features.status import Status
from millrace.identity import id_key
from millrace.progress import progress_bar
from millrace.replaying import open_store, source_mapping
from streams.policy_files import BANK_POLICY, read_policy

if TYPE_CHECKING:
    from streams.reader import EntityReading, FeatureValue

EXISTING = click.Path(exists=True, path_type=Path)
EXISTING_DIR = click.Path(exists=True, file_okay=False, path_type=Path)
OUT_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def features() -> None:
    """Compute features over history, and read those of now."""


@features.command()
@click.argument("source", type=EXISTING)
@click.option("--mapping", help="A mapping file, or the name of a shipped one (handbook, ...).")
@click.option(
    "--expressions",
    required=True,
    type=EXISTING,
    help="A YAML file of expressions, or a policy's folder: the inputs of its models.",
)
@click.option("--out", required=True, type=OUT_FILE, help="The Parquet file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def backfill(
    source: Path, mapping: str | None, expressions: Path, out: Path, as_json: bool
) -> None:
    """Write point-in-time values of expressions: one row for every transaction of SOURCE.

    Each value is what the live engine would have seen at that moment, computed by the same code.
    """
    from replay.backfill import check_out, run_backfill
    from replay.expression_files import read_expressions
    from replay.sources import open_source

    check_out(out, source)
    found = read_expressions(expressions)
    opened = open_source(source, source_mapping(source, mapping))
    with progress_bar("computing", opened.record_count) as advance:
        summary = run_backfill(opened, found, out, id_key=id_key(), progress=advance)
    if as_json:
        click.echo(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
    else:
        Console().print(_backfill_view(summary))


def _backfill_view(summary: dict[str, Any]) -> Panel:
    """Return the closing panel of a backfill: what was computed and how far it can be trusted."""
    records = summary["records"]
    about = (
        f"{records['in']:,} records in, {records['rows']:,} rows, "
        f"{records['dead_lettered']:,} dead letters; {summary['throughput_per_s']:,.0f} records a "
        f"second, {summary['memory_peak_mib']:,.0f} MiB"
    )
    shown = [status for status in Status if status is not Status.STALE]
    table = Table(box=None, pad_edge=False, caption=f"{summary['out']}\n{about}")
    table.add_column("feature")
    for status in shown:
        table.add_column(status.name.lower(), justify="right")
    for name, counts in summary["features"].items():
        table.add_row(name, *(f"{counts[status.name.lower()]:,}" for status in shown))
    return Panel(table, title="backfill", title_align="left")


def _at_ms(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if text == "now":
        return time.time_ns() // 1_000_000
    if not (text.isascii() and text.isdigit() and int(text) <= TS_MS_MAX):
        raise click.BadParameter(f"expected epoch milliseconds or now, got {text!r}")
    return int(text)


def _prefix(ctx: click.Context, parameter: click.Parameter, text: str) -> str:
    if not text or any(letter in "{}" or letter.isspace() for letter in text):
        raise click.BadParameter(f"expected text without braces and blanks, got {text!r}")
    return text


@features.command()
@click.argument("entity")
@click.argument("entity_id", metavar="ID")
@click.option(
    "--at", "at_ms", callback=_at_ms, help="Epoch milliseconds, or now; else its newest event."
)
@click.option(
    "--redis",
    "redis_url",
    envvar="MILLRACE_REDIS",
    show_envvar=True,
    default="redis://localhost:6379/0",
    show_default=True,
)
@click.option(
    "--prefix",
    envvar="MILLRACE_REDIS_PREFIX",
    show_envvar=True,
    default="millrace",
    show_default=True,
    callback=_prefix,
)
@click.option("--partition", type=click.IntRange(0), help="Where several know a local entity.")
@click.option("--json", "as_json", is_flag=True, help="Print the values as JSON.")
@click.option(
    "--policy",
    "policy_dir",
    type=EXISTING_DIR,
    default=BANK_POLICY,
    show_default="the bank policy that ships with Millrace",
    help="Folder of the policy's YAML files.",
)
def get(
    entity: str,
    entity_id: str,
    at_ms: int | None,
    redis_url: str,
    prefix: str,
    partition: int | None,
    as_json: bool,
    policy_dir: Path,
) -> None:
    """Print what the policy's features say of one entity, as last stored in Redis.

    ID is the plain id; it is hashed under MILLRACE_ID_KEY, as the engine does. Exit code 1 where
    nothing is stored under it.
    """
    from streams.reader import FeatureReader, UnknownEntityError

    policy = read_policy(policy_dir)
    with closing(open_store(redis_url, prefix)) as store:
        reader = FeatureReader(policy, store, id_key=id_key())
        try:
            reading = reader.read(entity, entity_id, at_ms, partition)
        except UnknownEntityError as error:
            click.echo(f"millrace: {error}", err=True)
            sys.exit(1)
    if as_json:
        click.echo(orjson.dumps(_reading_facts(reading), option=orjson.OPT_INDENT_2))
    else:
        Console().print(_reading_view(reading))


def _reading_facts(reading: "EntityReading") -> dict[str, Any]:
    """Return a reading as plain values; what is undefined or unbounded is null."""
    return {
        "entity": reading.entity,
        "id": reading.id,
        "at_ms": reading.at_ms,
        "features": [_value_facts(name, found) for name, found in reading.values.items()],
        "expressions": [_value_facts(name, found) for name, found in reading.outputs.items()],
    }


def _value_facts(name: str, found: "FeatureValue") -> dict[str, Any]:
    return {
        "name": name,
        "value": None if math.isnan(found.value) else found.value,
        "status": found.status.name.lower(),
        "bound": found.bound if math.isfinite(found.bound) else None,
    }


def _reading_view(reading: "EntityReading") -> Panel:
    table = Table(box=None, pad_edge=False)
    table.add_column("feature", overflow="fold")
    table.add_column("value", justify="right")
    table.add_column("status")
    for name, found in (*reading.values.items(), *reading.outputs.items()):
        value = "" if math.isnan(found.value) else f"{found.value:,.10g}"
        bound = f" ± {found.bound:,.4g}" if 0.0 < found.bound < math.inf else ""
        table.add_row(name, value, found.status.name.lower() + bound)
    moment = datetime.fromtimestamp(reading.at_ms / 1000, tz=UTC).isoformat(" ", "milliseconds")
    return Panel(table, title=f"{reading.entity} {reading.id} at {moment}", title_align="left")
