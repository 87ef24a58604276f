"""`millrace models`: champion and challengers as last stored, and orders to promote."""

import time
from contextlib import closing
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.table import Table

from features.errors import unknown
from features.records import ENCODER, ONE_TOPIC, TS_MS_MAX, TS_MS_MIN, Promotion
from millrace.options import policy_option
from millrace.replaying import open_store
from millrace.sending import send
from streams.policy_files import read_policy
from streams.settings import Settings

_HEADS = ("model", "version", "contestant", "role", "learned", "AUC", "AP", "recall",
          "calibration error")  # fmt: skip


@click.group()
def models() -> None:
    """Look at models, and choose the one that decides."""


@models.command("list")
@click.option("--redis", "redis_url", help="The engine's Redis; else MILLRACE_REDIS.")
@click.option("--prefix", help="Of its keys; else MILLRACE_REDIS_PREFIX.")
@click.option("--json", "as_json", is_flag=True, help="Print the models as JSON.")
@policy_option
def list_models(redis_url: str | None, prefix: str | None, as_json: bool, policy_dir: Path) -> None:
    """Show each model's champion and challengers, and how good they are, as last stored."""
    from streams.model_reading import read_models
    from streams.redis_store import RedisStore

    policy = read_policy(policy_dir)
    given = Settings.from_environment()
    store = (
        RedisStore.from_settings(given)
        if redis_url is None and prefix is None
        else open_store(redis_url or given.redis, prefix or given.redis_prefix)
    )
    with closing(store):
        found = read_models(policy, store)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    faults = []
    table = Table(*_HEADS, box=None, pad_edge=False)
    for model in found:
        for own in model["contestants"]:
            name = own["contestant"]
            numbers = (own["auc"], own["average_precision"], own["recall_at_budget"],
                       own["calibration_error"])  # fmt: skip
            table.add_row(
                model["model"],
                str(model["version"]),
                name,
                "champion" if name == model["champion"] else "challenger",
                f"{own['learned_count']:,}",
                *("–" if number is None else f"{number:.4f}" for number in numbers),
            )
        for name, why in model["out"].items():
            table.add_row(model["model"], str(model["version"]), name, "out")
            faults.append(f"{name} is out: expected {why['expected']}, got {why['got']}")
    Console().print(table)
    for fault in faults:
        click.echo(fault)


def _at_ms(ctx: click.Context, parameter: click.Parameter, at_ms: int | None) -> int:
    now_ms = time.time_ns() // 1_000_000
    if at_ms is not None and not TS_MS_MIN <= at_ms <= TS_MS_MAX:
        raise click.BadParameter(f"expected epoch milliseconds, got {at_ms}")
    return now_ms if at_ms is None else at_ms


@models.command()
@click.argument("model")
@click.argument("challenger")
@click.option("--at", "at_ms", type=int, callback=_at_ms, help="Epoch milliseconds; else now.")
@click.option(
    "--print", "only_print", is_flag=True, help="Print the record, for a file that is replayed."
)
@policy_option
def promote(model: str, challenger: str, at_ms: int, only_print: bool, policy_dir: Path) -> None:
    """Make CHALLENGER the champion of MODEL, from the model's next version on.

    The order is a record among the inputs in the Kafka of MILLRACE_KAFKA, so a replay of them
    repeats it.
    """
    policy = read_policy(policy_dir)
    declared = {found.name: found for found in policy.models}
    if model not in declared:
        raise unknown("MODEL", model, list(declared))
    names = [contestant.name for contestant in declared[model].contestants]
    if challenger not in names:
        raise unknown("CHALLENGER", challenger, names)
    order = Promotion(ts_ms=at_ms, model=model, challenger=challenger)
    if only_print:
        click.echo(ENCODER.encode(order))
        return
    settings = Settings.from_environment()
    among = ONE_TOPIC if settings.inputs == "one" else "promotions"
    topic = send(settings, among, order.model, ENCODER.encode(order))
    click.echo(f"{topic}: {challenger} becomes champion of {model} with its next version")
