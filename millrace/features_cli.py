"""`millrace features`: values of features over history, and as they stand now."""

from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from features.status import Status
from millrace.identity import id_key
from millrace.progress import progress_bar
from millrace.replaying import source_mapping

EXISTING = click.Path(exists=True, path_type=Path)
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
