"""`millrace policy` and `millrace lists`: check what decides, and publish it to running workers."""

import time
from pathlib import Path

import click
import orjson

from features.errors import MillraceError
from features.records import CONTROL_RECORDS, ENCODER, ListChange, PolicyChange
from millrace.options import EXISTING_DIR, policy_option
from millrace.sending import send
from streams.adopting import Change
from streams.policy_files import policy_texts, read_policy, read_text
from streams.reloads import Reloads
from streams.settings import Settings
from streams.topics import LISTS, POLICIES

_AUTHOR = click.option(
    "--author", default="", envvar="USER", help="Who publishes; stands in the record."
)
_PRINT = click.option(
    "--print", "only_print", is_flag=True, help="Print the record, for a file that is replayed."
)


@click.group()
def policy() -> None:
    """Look after policies."""


@policy.command("check")
@click.argument("directory", type=EXISTING_DIR)
@click.option("--json", "as_json", is_flag=True)
def check(directory: Path, as_json: bool) -> None:
    """Check a policy folder; errors name file, line and column."""
    found = read_policy(directory)
    facts = {
        "policy": found.name,
        "version": found.version,
        "rules": len(found.rules),
        "models": len(found.models),
        "offers": len(found.offers),
    }
    if as_json:
        click.echo(orjson.dumps(facts))
    else:
        click.echo(", ".join(f"{name} {value}" for name, value in facts.items()))


@policy.command("push")
@click.argument("directory", type=EXISTING_DIR)
@_AUTHOR
@_PRINT
def push(directory: Path, author: str, only_print: bool) -> None:
    """Check a policy folder and have all running workers decide by it, without a restart.

    It stands until another is pushed, also for workers that start later.
    """
    found = read_policy(directory)
    record = PolicyChange(
        ts_ms=time.time_ns() // 1_000_000,
        files=policy_texts(directory),
        version=found.version,
        author=author,
    )
    _publish(POLICIES, found.version, record, only_print)
    if not only_print:
        click.echo(f"policy {found.name}, version {found.version}, is published")


@click.group()
def lists() -> None:
    """Change what a policy's lists hold."""


@lists.command("publish")
@click.argument("name")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--version", default="", help="Your own mark; stands in the record.")
@_AUTHOR
@_PRINT
@policy_option
def publish(
    name: str, file: Path, version: str, author: str, only_print: bool, policy_dir: Path
) -> None:
    """Have the list NAME hold the texts in FILE, one a line, in all running workers.

    It stands in place of what the policy's files say, until it is published again. Checked here
    against --policy, and again by each worker against the policy that it decides by.
    """
    lines = (line.strip() for line in read_text(file).splitlines())
    record = ListChange(
        ts_ms=time.time_ns() // 1_000_000,
        name=name,
        entries=tuple(line for line in lines if line),
        version=version,
        author=author,
    )
    fault = Reloads(read_policy(policy_dir)).fault(record)
    if fault is not None:
        raise MillraceError(f"{file}: {fault}" if fault.path != "$.name" else f"NAME: {fault}")
    _publish(LISTS, name, record, only_print)
    if not only_print:
        click.echo(f"list {name} with {len(record.entries or ()):,} texts is published")


def _publish(topic: str, key: str, record: Change, only_print: bool) -> None:
    assert isinstance(record, CONTROL_RECORDS[topic])
    value = ENCODER.encode(record)
    if only_print:
        click.echo(value)
    else:
        send(Settings.from_environment(), topic, key, value)
