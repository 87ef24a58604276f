"""`millrace models`, and what a replay tells of its models."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import orjson
import pytest
from click.testing import CliRunner, Result
from policies_streams import CHALLENGERS, JUDGING, bank_files
from test_streams_contest import Run, payments

from actions.policy import Policy
from features.records import ENCODER, ModelReport, Promotion
from millrace.cli import main
from streams import training
from streams.model_reading import read_models
from streams.redis_store import RedisStore
from streams.store import MemoryStore

AT_MS = 1_751_328_000_000 + 16 * 86_400_000


@pytest.fixture(scope="module", autouse=True)
def first_version_at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FIRST_VERSION_FRAUD_COUNT", 0)
        patch.setattr(training, "FIRST_VERSION_COUNT", 1)
        yield


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    for name, text in bank_files(CHALLENGERS + JUDGING).items():
        (folder / name).write_text(text)
    return folder


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["models", *arguments])


def test_promote_prints_the_record_that_a_replay_takes(directory: Path):
    result = invoke("promote", "fraud", "lean", "--print", "--at", str(AT_MS),
                    "--policy", str(directory))  # fmt: skip
    assert result.exit_code == 0
    order = msgspec.json.decode(result.output, type=Promotion)
    assert order == Promotion(ts_ms=AT_MS, model="fraud", challenger="lean")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fraud", "leen"), "CHALLENGER: expected one of: scaled_logistic, lean, same, got `leen`"),
        (("froud", "lean"), "did you mean `fraud`"),
        (("fraud", "lean", "--at", "7"), "expected epoch milliseconds, got 7"),
    ],
)
def test_an_order_that_nobody_can_obey_is_refused(
    directory: Path, arguments: Sequence[str], message: str
):
    result = invoke("promote", *arguments, "--print", "--policy", str(directory))
    assert result.exit_code == 2
    assert message in result.output


def test_list_shows_what_was_stored(directory: Path, redis_url: str):
    policy = Policy.parse(bank_files(CHALLENGERS + JUDGING))
    store = RedisStore(redis_url, "test-models-list")
    run = Run(policy, store).play(payments(20))
    last = msgspec.json.decode(run.of("model-reports")[-1], type=ModelReport)
    result = invoke("list", "--redis", redis_url, "--prefix", "test-models-list", "--json",
                    "--policy", str(directory))  # fmt: skip
    [found] = orjson.loads(result.output)
    assert found["champion"] == "scaled_logistic"
    assert found["version"] >= last.version
    assert [c["contestant"] for c in found["contestants"]] == ["scaled_logistic", "lean", "same"]
    assert found["example_count"] >= last.example_count
    shown = invoke("list", "--redis", redis_url, "--prefix", "test-models-list",
                   "--policy", str(directory))  # fmt: skip
    assert "champion" in shown.output
    assert "lean" in shown.output


def test_a_model_of_which_nothing_is_stored_stands_as_declared():
    policy = Policy.parse(bank_files(CHALLENGERS))
    [found] = read_models(policy, MemoryStore())
    assert (found["version"], found["champion"]) == (0, "scaled_logistic")
    assert found["contestants"][1]["auc"] is None


def test_a_replay_tells_of_its_models(directory: Path, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    sent = payments(20)
    lines = {"transactions": [], "labels": []}
    for record in sent:
        lines[record.topic].append(record.value)
    order = Promotion(ts_ms=AT_MS, model="fraud", challenger="lean")
    lines["promotions"] = [ENCODER.encode(order)]
    for topic, values in lines.items():
        (source / f"{topic}.jsonl").write_bytes(b"\n".join(values) + b"\n")
    out = tmp_path / "out"
    result = CliRunner().invoke(
        main,
        ["replay", str(source), "--out", str(out), "--policy", str(directory), "--json"],
    )
    assert result.exit_code == 0, result.output
    summary = json.loads((out / "summary.json").read_text())
    model = summary["models"]["fraud"]
    assert (model["champion"], model["promotions"]) == ("lean", 1)
    assert set(model["contestants"]) == {"scaled_logistic", "lean", "same"}
    # What the scores said when deciding is what is measured: the twins measure the same.
    contestants = model["contestants"]
    assert contestants["same"] == contestants["scaled_logistic"]
    reports = (out / "model-reports.jsonl").read_text().splitlines()
    assert json.loads(reports[-1])["example_count"] == model["examples"]
    assert len((out / "model-promotions.jsonl").read_text().splitlines()) == 1
    page = (out / "report.html").read_text()
    for text in ("champion and challengers", "precision over time", "lean (champion)"):
        assert text in page
