"""`millrace policy push` and `millrace lists publish`: what they print, and what they refuse."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from reload_policies import FILES, VARIANTS, policy
from strategies_streams import HOUR_MS, START_MS, transaction

from features.records import ENCODER, ListChange, PolicyChange
from millrace.cli import main

NOWHERE = {"MILLRACE_KAFKA": "127.0.0.1:1", "MILLRACE_KAFKA_TIMEOUT_MS": "300"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("t2\n\n  t3 \n")
    return file


def invoke(*arguments: object, **environment: str) -> Result:
    given = {"USER": "ann", **environment}
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=given)


def test_push_prints_the_record_that_a_replay_takes(directory: Path) -> None:
    result = invoke("policy", "push", directory, "--print")
    assert result.exit_code == 0, result.output
    record = msgspec.json.decode(result.output, type=PolicyChange)
    assert record.files == FILES
    assert (record.version, record.author) == (policy("plain").version, "ann")


def test_publish_prints_the_record_that_a_replay_takes(directory: Path, texts: Path) -> None:
    result = invoke("lists", "publish", "watched", texts, "--policy", directory, "--print",
                    "--version", "7")  # fmt: skip
    assert result.exit_code == 0, result.output
    record = msgspec.json.decode(result.output, type=ListChange)
    assert (record.name, record.entries) == ("watched", ("t2", "t3"))
    assert (record.version, record.author) == ("7", "ann")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wached", "t2", "NAME: $.name: expected one of: watched, near, got `wached`; did you"),
        ("watched", "t2\nt2", "$.entries[1]: expected each text once, got `t2` again"),
    ],
)
def test_a_list_that_nobody_can_take_is_refused(
    directory: Path, texts: Path, name: str, content: str, message: str
) -> None:
    texts.write_text(content)
    result = invoke("lists", "publish", name, texts, "--policy", directory, "--print")
    assert result.exit_code == 2
    assert message in result.output


def test_a_wrong_policy_is_not_pushed(directory: Path) -> None:
    (directory / "rules.yaml").write_text("rules: 7")
    result = invoke("policy", "push", directory)
    assert result.exit_code == 2
    assert "rules.yaml:1:8: expected a list of rules" in result.output


def test_a_kafka_that_is_away_is_told(directory: Path) -> None:
    result = invoke("policy", "push", directory, **NOWHERE)
    assert result.exit_code == 2
    assert "Kafka at 127.0.0.1:1 did not take the record for policies" in result.output


def test_a_replay_takes_what_was_printed(directory: Path, texts: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    payments = [transaction(n, START_MS + n * HOUR_MS, "ada", terminal_id="t2") for n in range(4)]
    (source / "transactions.jsonl").write_bytes(b"\n".join(map(ENCODER.encode, payments)))
    listed = invoke("lists", "publish", "watched", texts, "--policy", directory, "--print").output
    changed = PolicyChange(ts_ms=START_MS + 3 * HOUR_MS, files=VARIANTS["counted"])
    (source / "lists.jsonl").write_bytes(
        ENCODER.encode({**json.loads(listed), "ts_ms": START_MS + HOUR_MS})
    )
    (source / "policies.jsonl").write_bytes(ENCODER.encode(changed))
    result = invoke("replay", source, "--out", out, "--policy", directory)
    assert result.exit_code == 0, result.output
    alerts = [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]
    # The list stands before the second payment, the policy before the fourth.
    versions = [
        policy("plain").with_lists({"watched": ("t2", "t3")}).version,
        policy("counted").with_lists({"watched": ("t2", "t3")}).version,
    ]
    assert [(a["event_id"], a["versions"]["policy"]) for a in alerts] == [
        ("e1", versions[0]), ("e2", versions[0]), ("e3", versions[1]),
    ]  # fmt: skip
    summary = json.loads((out / "summary.json").read_text())
    assert summary["records"] == {"in": 6, "decided": 6, "dead_lettered": 0}
    assert summary["versions"]["policies"] == [policy("plain").version, *versions]
    assert summary["versions"]["policy"] == versions[-1]
