"""An order to promote, sent by the command to a real broker, and what becomes of it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from click.testing import CliRunner
from policies_streams import CHALLENGERS, bank_files
from worker_runs import Bank, wait_until

from features.records import ModelPromoted
from millrace.cli import main
from replay.simulator import Simulator, SimulatorSettings


def test_a_promoted_challenger_decides_from_the_next_version_on(
    open_bank: Callable[..., Bank], tmp_path: Path
) -> None:
    directory = tmp_path / "policy"
    directory.mkdir()
    for name, text in bank_files(CHALLENGERS).items():  # labels are waited for shortly
        (directory / name).write_text(text.replace("horizon: 7d", "horizon: 2d"))
    simulation = SimulatorSettings(customer_count=100, day_count=15, seed=4, fraud_rate=0.05)
    records = [(r.topic, r.key, r.value) for c in Simulator(simulation).chunks() for r in c]
    part = 4 * len(records) // 5
    bank = open_bank(directory)
    worker = bank.start_worker()
    bank.produce(records[:part])
    wait_until(bank.is_decided, "most is decided")
    wait_until(lambda: worker.says("model fraud, version 1, is out"), "there is a version")

    environment = {
        "MILLRACE_KAFKA": bank.settings.kafka,
        "MILLRACE_TOPIC_PREFIX": bank.settings.topic_prefix,
    }
    order = ["models", "promote", "fraud", "lean", "--policy", str(directory)]
    result = CliRunner().invoke(main, order, env=environment)
    assert result.exit_code == 0, result.output
    events = f"{bank.settings.topic_prefix}events"
    assert f"{events}: lean becomes champion of fraud with its next version" in result.output
    bank.produce(records[part:])
    wait_until(lambda: bank.topic_end("model-promotions") > 0, "the order is obeyed")
    promotions = [
        msgspec.json.decode(value, type=ModelPromoted) for value in bank.lines()["model-promotions"]
    ]
    assert {(p.model, p.champion, p.before, p.by) for p in promotions} == {
        ("fraud", "lean", "scaled_logistic", "command")
    }
    assert "dead-letters" not in bank.lines()
