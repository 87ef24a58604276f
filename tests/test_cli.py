"""The command line as a user meets it: what it writes, what it prints and how it ends.

Runs are children (`python -m millrace`); the many small mistakes go through the same commands in
this process, since a child would only repeat the imports.
"""

import gc
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import child_processes
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from millrace.cli import main
from replay.simulator import Simulator, SimulatorSettings
from streams.policy_files import BANK_POLICY
from streams.schemas import documents

CUSTOMERS, DAYS, SEED = "120", "20", "2"  # enough frauds for the model to be published
OUTPUT_FILES = {
    "decisions.parquet", "alerts.jsonl", "offers.jsonl", "tasks.jsonl", "dead-letters.jsonl",
    "summary.json", "report.html",
}  # fmt: skip
SUMMARY_KEYS: dict[str, set[str] | None] = {
    "records": {"in", "decided", "dead_lettered"}, "alerts": None, "offers": None, "tasks": None,
    "wall_s": None, "throughput_per_s": None, "memory_peak_mib": None,
    "latency_us": {"p50", "p99", "p999"},
    "metrics": {"auc", "average_precision", "card_precision_at_100"}, "models": None,
    "off_policy": None, "decisions_sha256": None, "versions": {"policy", "models"},
}  # fmt: skip
MAPPING = """\
tables:
  - kind: transaction
    columns:
      event_id: id
      ts_ms: {column: when, time: {format: datetime}}
      customer_id: who
      account_id: who
      type: {constant: purchase}
      amount_minor: {column: euros, minor_units: {decimals: 2}}
      currency: money
      direction: {constant: out}
      channel: {constant: pos}
"""
CSV_ROWS = """\
id,when,who,euros,money
1,2025-07-01 10:00:00,ada,12.50,EUR
2,2025-07-01 10:01:00,ada,much,EUR
3,soon,ben,1.00,EUR
4,2025-07-01 10:03:00,ben,9.99,USD
5,2025-07-01 10:04:00,ben,9.99,ZZZ
short
7,2025-07-01 10:06:00,cleo,0.01,EUR
"""
BAD_ROWS = {"2": "$.amount_minor", "3": "$.ts_ms", "5": "$.currency"}


class Ended(NamedTuple):
    """A finished command."""

    code: int
    out: str
    error: str


def millrace(bytecode: Path, *commands: Sequence[object]) -> list[Ended]:
    """Run commands side by side, each in a process of its own."""
    started = [
        child_processes.start(["-m", "millrace", *map(str, command)], bytecode)
        for command in commands
    ]
    ended = []
    for process in started:
        out, error = process.communicate()
        ended.append(Ended(process.returncode, out, error))
    return ended


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "bytecode"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "sim"
    command = ("simulate", "--customers", CUSTOMERS, "--days", DAYS, "--seed", SEED)
    (ended,) = millrace(bytecode, (*command, "--out", folder))
    assert (ended.code, ended.out) == (0, f"{folder}: 120 customers, 20 days, seed 2\n")
    return folder


class Replays(NamedTuple):
    """Folders and endings of three replays of one source."""

    folder: Path
    plain: Ended
    window: Ended
    partitions: Ended

    def summary(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "summary.json").read_text())
        return found


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory, bytecode: Path, simulated: Path) -> Replays:
    folder = tmp_path_factory.mktemp("replays")
    window = ("--evaluate-from", "2025-07-09", "--evaluate-to", "2025-07-16T12:00:00")
    return Replays(
        folder,
        *millrace(
            bytecode,
            ("replay", simulated, "--out", folder / "plain"),
            ("replay", simulated, "--out", folder / "window", *window, "--json"),
            ("replay", simulated, "--out", folder / "partitions", "--partitions", 7),
        ),
    )


def test_a_replay_of_a_simulated_folder_leaves_everything_behind(
    replays: Replays, simulated: Path
) -> None:
    assert replays.plain.code == 0, replays.plain.error
    assert {file.name for file in (replays.folder / "plain").iterdir()} == OUTPUT_FILES
    summary = replays.summary("plain")
    assert set(summary) == set(SUMMARY_KEYS)
    for name, keys in SUMMARY_KEYS.items():
        if keys is not None:
            assert set(summary[name]) == keys
    transactions = pq.read_table(simulated / "transactions.parquet")
    decisions = pq.read_table(replays.folder / "plain" / "decisions.parquet")
    assert decisions["event_id"].to_pylist() == transactions["event_id"].to_pylist()
    assert decisions["ts_ms"].to_pylist() == transactions["ts_ms"].to_pylist()
    tables = ("transactions", "profiles", "labels", "interactions")
    count = sum(pq.read_metadata(simulated / f"{name}.parquet").num_rows for name in tables)
    assert summary["records"] == {"in": count, "decided": count, "dead_lettered": 0}
    for name, key in (("alerts", "alerts"), ("offers", "offers"), ("tasks", "tasks")):
        lines = (replays.folder / "plain" / f"{name}.jsonl").read_text().splitlines()
        assert len([json.loads(line) for line in lines]) == summary[key]
    actions = Counter(decisions["action"].to_pylist())
    assert sum(actions.values()) - actions["allow"] == summary["alerts"] > 0
    assert all(value is not None for value in summary["metrics"].values())
    assert summary["versions"]["models"]["fraud"] > 1


def test_the_panel_names_what_was_written(replays: Replays) -> None:
    summary = replays.summary("plain")
    assert summary["decisions_sha256"] in replays.plain.out
    assert f"{summary['records']['in']:,} in" in replays.plain.out
    assert str(replays.folder / "plain" / "report.html") in replays.plain.out


def test_partitions_do_not_change_decisions(replays: Replays) -> None:
    assert replays.partitions.code == 0, replays.partitions.error
    plain, partitions = replays.summary("plain"), replays.summary("partitions")
    for key in ("decisions_sha256", "records", "alerts", "offers", "metrics", "versions"):
        assert partitions[key] == plain[key]
    for name in ("alerts", "offers"):
        files = [replays.folder / run / f"{name}.jsonl" for run in ("plain", "partitions")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_an_evaluation_window_changes_metrics_only(replays: Replays) -> None:
    """This is also the second run with the same settings: its decisions are the same."""
    assert replays.window.code == 0, replays.window.error
    plain, window = replays.summary("plain"), replays.summary("window")
    for key in ("decisions_sha256", "records", "alerts", "offers", "versions"):
        assert window[key] == plain[key]
    assert window["metrics"] != plain["metrics"]
    assert json.loads(replays.window.out) == window


def test_the_demo_counts_what_the_simulation_made(bytecode: Path) -> None:
    command = ("demo", "--json", "--customers", 150, "--days", 6, "--seconds", 2)
    (ended,) = millrace(bytecode, command)
    assert ended.code == 0, ended.error
    told = json.loads(ended.out)
    simulator = Simulator(SimulatorSettings(customer_count=150, day_count=6, seed=1))
    topics = Counter(record.topic for chunk in simulator.chunks() for record in chunk)
    assert told["records"]["transactions"] == topics["transactions"]
    assert told["records"]["in"] == topics.total() + sum(told["outcomes"].values())
    assert told["records"]["dead_lettered"] == 0
    stopped, missed = told["fraud_stopped"], told["fraud_missed"]
    assert stopped["count"] + missed["count"] == len(simulator.truth.fraud) > 0
    assert stopped["count"] + told["false_alarms"]["count"] == told["alerts"] > 0
    for tally in (stopped, missed, told["false_alarms"]):
        assert (tally["value_minor"] > 0) == (tally["count"] > 0)
    assert 0 < told["latency_us"]["p50"] <= told["latency_us"]["p99"] <= told["latency_us"]["p999"]
    assert told["model_versions"].startswith("fraud:")
    assert told["checkpoints"] > 0


def test_a_table_of_ones_own_with_bad_rows(tmp_path: Path, bytecode: Path) -> None:
    (tmp_path / "card.csv").write_text(CSV_ROWS)
    (tmp_path / "card.yaml").write_text(MAPPING)
    out = tmp_path / "out"
    mapped = ("--mapping", tmp_path / "card.yaml")
    ended, misspelt = millrace(
        bytecode,
        ("replay", tmp_path / "card.csv", *mapped, "--out", out),
        ("replay", tmp_path / "card.csv", "--mapping", "handbok", "--out", tmp_path / "no"),
    )
    assert ended.code == 0, ended.error
    assert json.loads((out / "summary.json").read_text())["records"] == {
        "in": 7, "decided": 3, "dead_lettered": 4,
    }  # fmt: skip
    letters = [json.loads(text) for text in (out / "dead-letters.jsonl").read_text().splitlines()]
    assert [letter["path"] for letter in letters] == [*BAD_ROWS.values(), "$"]
    decisions = pq.read_table(out / "decisions.parquet")
    assert decisions["event_id"].to_pylist() == ["1", "4", "7"]
    assert misspelt.code == 2
    assert misspelt.error.splitlines() == [misspelt.error.strip()]
    assert misspelt.error.startswith("millrace: handbok: ")
    assert misspelt.error.strip().endswith("did you mean `handbook`?")
    assert not (tmp_path / "no").exists()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a table, a file of records and a policy with a misspelt name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.csv").write_text(CSV_ROWS)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "no-policy").mkdir()
    shutil.copytree(BANK_POLICY, tmp_path / "broken")
    thresholds = gc.get_threshold()
    yield tmp_path
    gc.set_threshold(*thresholds)  # a command tunes it for its own process
    gc.unfreeze()


def failing(arguments: str) -> str:
    """Run a command that has to end with code 2; return what it printed, which is no traceback."""
    result = CliRunner().invoke(main, arguments.split())
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


MISTAKES = {
    "replay gone.csv --out o": "Invalid value for 'SOURCE': Path 'gone.csv' does not exist.",
    "replay card.csv --out o": "card.csv: expected a mapping for a table",
    "replay card.csv --mapping gone.yaml --out o": "gone.yaml: expected a mapping file",
    "replay card.csv --mapping card.csv --out o": "card.csv:1:1: expected a mapping",
    "replay empty.jsonl --out file": "file",
    "replay empty.jsonl --out file/deeper": "file/deeper: Not a directory",
    "replay broken --out broken": "expected another folder for the outputs",
    "replay empty.jsonl --speed nonsense --out o": "expected max or a factor such as 60x",
    "replay empty.jsonl --speed 0x --out o": "got '0x'",
    "replay empty.jsonl --speed nan --out o": "got 'nan'",
    "replay empty.jsonl --partitions 0 --out o": "0 is not in the range 1<=x<=65535",
    "replay empty.jsonl --memory-max 50 --out o": "memory bound: expected at least",
    "replay empty.jsonl --memory-max 0 --out o": "0 is not in the range x>=1",
    "replay empty.jsonl --redis nonsense --out o": "--redis: expected a URL such as redis://",
    "replay empty.jsonl --redis unix:///gone/sock --out o": "/gone/sock can't be reached",
    "replay empty.jsonl --policy no-policy --out o": "no-policy: expected a policy folder",
    "replay empty.jsonl --via kafak --out o": "'kafak' is not one of 'embedded', 'kafka'",
    "policy check no-policy": "no-policy: expected a policy folder",
    "policy check gone": "Directory 'gone' does not exist",
    "schemas file": "'file' is a file",
    "demo --json --customers 0": "customer_count: expected a whole number from 1",
    "demo --json --seconds 0": "expected a number of seconds above 0, got 0",
    "demo --json --seconds nan": "expected a number of seconds above 0, got nan",
    "simulate --customers 5 --days 1 --out file": "expected a directory, got a file",
    "simulate --customers 5 --days 1 --out broken": "expected an empty directory",
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_ends_with_one_clear_line(here: Path, arguments: str) -> None:
    lines = [line for line in failing(arguments).splitlines() if "-:--:--" not in line]  # no bars
    told = [line for line in lines if line.startswith(("millrace: ", "Error: "))]
    assert len(told) == 1
    assert MISTAKES[arguments] in told[0]
    assert lines[-1] == told[0]


def test_the_shipped_policy_is_good() -> None:
    result = CliRunner().invoke(main, ["policy", "check", str(BANK_POLICY), "--json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["policy"] == "bank"
    rules = (BANK_POLICY / "rules.yaml").read_text()
    assert facts["rules"] == rules.count("- id: ")


@pytest.mark.parametrize(
    ("file", "right", "wrong", "nearest"),
    [
        ("rules.yaml", "card.count(", "card.cuont(", "count"),
        ("rules.yaml", "severity:", "severty:", "severity"),
        ("models.yaml", "pipeline:", "pipline:", "pipeline"),
        ("policy.yaml", "scope: shared", "scope: shred", "shared"),
    ],
)
def test_a_broken_policy_is_pointed_at(
    here: Path, file: str, right: str, wrong: str, nearest: str
) -> None:
    text = (here / "broken" / file).read_text()
    place = text.index(right)
    (here / "broken" / file).write_text(text.replace(right, wrong, 1))
    line = text.count("\n", 0, place) + 1
    error = failing("policy check broken").strip()
    assert error.startswith(f"millrace: broken/{file}:{line}:")
    column = int(error.removeprefix(f"millrace: broken/{file}:{line}:").split(":")[0])
    start = place - (text.rfind("\n", 0, place) + 1) + 1  # columns count from 1
    assert start <= column < start + len(wrong)
    assert error.endswith(f"did you mean `{nearest}`?")
    assert "\n" not in error


def test_schemas_are_written_where_they_are_wanted(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["schemas", str(tmp_path / "new")])
    assert result.exit_code == 0
    files = [Path(line) for line in result.stdout.splitlines()]
    assert {file.name: file.read_bytes() for file in files} == documents()


def test_an_empty_source_is_decided_whole(here: Path) -> None:
    result = CliRunner().invoke(main, ["replay", "empty.jsonl", "--out", "o", "--json"])
    assert result.exit_code == 0, result.stderr
    records = json.loads(result.stdout)["records"]
    assert records == {"in": 0, "decided": 0, "dead_lettered": 0}
    assert {file.name for file in (here / "o").iterdir()} == OUTPUT_FILES
