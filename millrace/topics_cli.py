"""`millrace topics` and `millrace settings`: what has to be there before a worker runs."""

import sys
from dataclasses import asdict, replace

import click
import orjson
from rich.console import Console
from rich.table import Table

from streams.partitioner import PARTITIONS_MAX_COUNT
from streams.settings import Settings, page
from streams.topics import TopicState, create_topics

REPLICATION_MAX_COUNT = 32_767


@click.group()
def topics() -> None:
    """Look after the topics in Kafka."""


@topics.command()
@click.option(
    "--partitions",
    "partitions_count",
    type=click.IntRange(1, PARTITIONS_MAX_COUNT),
    help="Of topics with a customer's key; else MILLRACE_PARTITIONS.",
)
@click.option(
    "--replication",
    "replication_count",
    type=click.IntRange(1, REPLICATION_MAX_COUNT),
    help="Copies of each partition; else MILLRACE_REPLICATION.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--json", "as_json", is_flag=True, help="Print the topics as JSON.")
def create(
    partitions_count: int | None, replication_count: int | None, dry_run: bool, as_json: bool
) -> None:
    """Make the topics that are missing in the Kafka of MILLRACE_KAFKA.

    Topics that are there are left as they are; how they differ from what is expected is shown, and
    the exit code is then 1.
    """
    given = Settings.from_environment()
    chosen = replace(
        given,
        partitions_count=partitions_count or given.partitions_count,
        replication_count=replication_count or given.replication_count,
    )
    states = create_topics(chosen, dry_run=dry_run)
    if as_json:
        facts = [asdict(state) for state in states]
        click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2))
    else:
        Console().print(_view(states))
    if any(state.state == "differs" for state in states):
        sys.exit(1)


def _view(states: list[TopicState]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("topic", overflow="fold")
    table.add_column("partitions", justify="right")
    table.add_column("", overflow="fold")
    for state in states:
        otherwise = "; ".join(
            f"{what}: expected {expected}, got {got}" for what, expected, got in state.differences
        )
        words = f"{state.state}: {otherwise}" if otherwise else state.state
        table.add_row(state.name, str(state.partition_count), words)
    return table


@click.command()
def settings() -> None:
    """Print the page of all settings that come from the environment."""
    click.echo(page(), nl=False)
