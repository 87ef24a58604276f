"""The Fraud Detection Handbook's transactions through the engine: repeatable, and no look-ahead."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from actions.policy import Policy
from replay.mapping_parser import load_mapping
from replay.player import ReplaySettings, play
from replay.sources import open_source
from streams.embedded import EmbeddedSettings
from streams.policy_files import BANK_POLICY, read_policy
from streams.store import MemoryStore

ROW_COUNT = 100_000  # ten and a half days
DAY_MS = 86_400_000

pytestmark = pytest.mark.data("handbook")


@pytest.fixture(scope="module")
def table(data_dir: Path) -> Any:
    file = pq.ParquetFile(data_dir / "handbook" / "transactions.parquet")
    return next(file.iter_batches(ROW_COUNT))


@pytest.fixture(scope="module", params=["bank", "handbook"])
def policy(request: pytest.FixtureRequest) -> Policy:
    """Both policies; the second with bins that are learned within these few days."""
    read = read_policy(BANK_POLICY.parent / request.param)
    models = [
        replace(model, options=replace(model.options, warm_up_count=5_000))
        if model.options.crosses
        else model
        for model in read.models
    ]
    return replace(read, models=tuple(models))


def run(
    table: Any, directory: Path, policy: Policy, partitions: int = 1, batch: int = 1024
) -> dict[str, Any]:
    directory.mkdir()
    path = directory / "transactions.parquet"
    pq.write_table(pa.Table.from_batches([table]), path)
    settings = ReplaySettings(
        runtime=EmbeddedSettings(partitions, batch, checkpoint_ms=10**9, emit_training=False)
    )
    source = open_source(path, load_mapping("handbook"))
    return play(source, policy, MemoryStore(), directory / "out", settings)


@pytest.fixture(scope="module")
def plain(
    table: Any, policy: Policy, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    directory = tmp_path_factory.mktemp("handbook") / "plain"
    return run(table, directory, policy), directory


def test_partitions_and_batches_do_not_change_a_decision(
    table: Any, policy: Policy, plain: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    other = run(table, tmp_path / "other", policy, partitions=3, batch=301)
    assert other["decisions_sha256"] == plain[0]["decisions_sha256"]
    assert other["alerts"] == plain[0]["alerts"] > 0


def test_everything_is_decided(plain: tuple[dict[str, Any], Path], table: Any) -> None:
    records = plain[0]["records"]
    decided = pq.read_table(plain[1] / "out" / "decisions.parquet")
    assert decided.num_rows == ROW_COUNT
    # Each fraud sends a label record of its own, seven days later.
    assert records["in"] == records["decided"] == ROW_COUNT + pc.sum(table["TX_FRAUD"]).as_py()


def test_a_label_changes_nothing_before_its_time(
    table: Any, policy: Policy, plain: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    """Turn every label of day 3 upside down: no decision before day 10 may differ, then some do."""
    names = table.schema.names
    times_ms = table["TX_DATETIME"].cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy()
    first_ms = int(times_ms[0]) // DAY_MS * DAY_MS
    changed = (times_ms >= first_ms + 3 * DAY_MS) & (times_ms < first_ms + 4 * DAY_MS)
    fraud = np.where(changed, 1 - table["TX_FRAUD"].to_numpy(), table["TX_FRAUD"].to_numpy())
    columns = [pa.array(fraud) if name == "TX_FRAUD" else table[name] for name in names]
    run(pa.RecordBatch.from_arrays(columns, names=names), tmp_path / "lies", policy)
    truth = pq.read_table(plain[1] / "out" / "decisions.parquet")
    lies = pq.read_table(tmp_path / "lies" / "out" / "decisions.parquet")
    assert truth["event_id"].equals(lies["event_id"])
    early = truth["ts_ms"].to_numpy() < first_ms + 10 * DAY_MS
    same = truth["score"].to_numpy() == lies["score"].to_numpy()
    assert early.sum() > 90_000
    assert same[early].all()
    assert not same[~early].all()
