"""Simulated runs as files: complete, one to one, all or nothing."""

import json
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
from simulator_runs import Run

from features.records import INPUT_RECORDS
from replay.simulator import OutputDirectoryError, SimulatorSettings, write_files, writer

SETTINGS = SimulatorSettings(40, 8, seed=12, fraud_rate=0.02, offers=("a", "b"))
NAMES = {
    "transactions.parquet", "interactions.parquet", "profiles.parquet", "labels.parquet",
    "truth_fraud.parquet", "truth_responses.parquet", "simulation.json",
}  # fmt: skip


def test_tables_hold_the_stream_one_to_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "ROW_GROUP_ROWS", 500)
    seen: list[tuple[int, int]] = []
    counts = write_files(SETTINGS, tmp_path / "run", lambda *done: seen.append(done))
    assert {path.name for path in (tmp_path / "run").iterdir()} == NAMES
    run = Run(SETTINGS)
    for topic in writer.SCHEMAS:
        path = tmp_path / "run" / f"{topic}.parquet"
        table = pq.read_table(path)
        kind = INPUT_RECORDS[topic]
        assert table.column_names == [f.name for f in msgspec.structs.fields(kind)]
        assert [msgspec.convert(row, kind) for row in _rows(table)] == run.records[topic]
        assert counts[topic] == len(table)
    assert pq.ParquetFile(tmp_path / "run" / "transactions.parquet").num_row_groups > 1
    assert seen[-1] == (192, 192)
    assert seen == sorted(seen)


def _rows(table: object) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = table.to_pylist()  # type: ignore[attr-defined]
    kind = "transaction" if "amount_minor" in rows[0] else None
    if kind is None:
        kind = "label" if "verdict" in rows[0] else "profile" if "assets_minor" in rows[0] else ""
    return [{"kind": kind or "interaction", **row} for row in rows]


def test_the_truth_stands_beside_the_tables(tmp_path: Path) -> None:
    write_files(SETTINGS, tmp_path / "run")
    run = Run(SETTINGS)
    frauds = pq.read_table(tmp_path / "run" / "truth_fraud.parquet").to_pylist()
    assert {row["event_id"]: row["scenario"] for row in frauds} == run.fraud
    assert run.fraud
    responses = pq.read_table(tmp_path / "run" / "truth_responses.parquet").to_pylist()
    assert len(responses) == SETTINGS.customer_count * 2
    for row in responses:
        truth = run.simulator.truth.responses.response(row["customer_id"], row["offer"])
        assert row["p_without"] == pytest.approx(truth.p_without, abs=1e-12)
        assert row["p_with"] == pytest.approx(truth.p_with, abs=1e-12)
    about = json.loads((tmp_path / "run" / "simulation.json").read_text())
    assert msgspec.convert(about["settings"], SimulatorSettings) == SETTINGS


def test_same_settings_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_files(SETTINGS, tmp_path / name)
    for name in NAMES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    tiny = SimulatorSettings(3, 1)
    target = tmp_path / "run"
    target.mkdir()
    write_files(tiny, target)
    with pytest.raises(OutputDirectoryError, match="overwrite"):
        write_files(tiny, target)
    write_files(SimulatorSettings(4, 1), target, overwrite=True)
    about = json.loads((target / "simulation.json").read_text())
    assert about["settings"]["customer_count"] == 4
    (target / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputDirectoryError, match=r"thesis\.txt"):
        write_files(tiny, target, overwrite=True)
    assert (target / "thesis.txt").read_text() == "years of work"
    with pytest.raises(OutputDirectoryError, match="a file"):
        write_files(tiny, target / "thesis.txt")


def test_a_broken_run_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "run"
    write_files(SimulatorSettings(3, 1), target)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def stop(done: int, hours: int) -> None:
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_files(SimulatorSettings(9, 2), target, stop, overwrite=True)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
