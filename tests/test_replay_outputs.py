"""Decisions: what is in the Parquet file, and a hash that sees every column but no batch cut."""

import hashlib
import itertools
import json
import math
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay.evaluation_log import BLOCK_ROWS, ROW_BYTES, EvaluationLog
from replay.outputs import DECISIONS_SCHEMA, DecisionsWriter, MessagesWriter

ACTIONS = ("allow", "step_up", "hold")
RULES = ("velocity", "geo", "a", "b", "c", "d", "e", "f", "new-payee")


class Row(NamedTuple):
    event_id: str
    ts_ms: int
    score: float
    action: int
    rules: tuple[int, ...]


rows_strategy = st.lists(
    st.builds(
        Row,
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.integers(0, 2),
        st.sets(st.integers(0, 8)).map(lambda found: tuple(sorted(found))),
    ),
    max_size=30,
)


def text(word: str) -> bytes:
    encoded = word.encode()
    return struct.pack("<I", len(encoded)) + encoded


def oracle_hash(rows: list[Row], policy: str = "p1", models: str = "m:1") -> str:
    """The documented layout of a row, one row at a time."""
    digest = hashlib.sha256()
    for row in rows:
        score = math.nan if math.isnan(row.score) else row.score or 0.0
        digest.update(struct.pack("<qd", row.ts_ms, score) + text(row.event_id))
        digest.update(text(ACTIONS[row.action]) + struct.pack("<I", len(row.rules)))
        digest.update(b"".join(text(RULES[rule]) for rule in row.rules))
        digest.update(text(policy) + text(models))
    return digest.hexdigest()


def write(
    writer: DecisionsWriter,
    rows: list[Row],
    *,
    named: bool = False,
    policy: str = "p1",
    models: str = "m:1",
) -> None:
    hits = np.zeros((len(rows), len(RULES)), dtype=np.bool_)
    for place, row in enumerate(rows):
        hits[place, list(row.rules)] = True
    writer.write(
        [row.event_id for row in rows],
        np.array([row.ts_ms for row in rows], dtype=np.int64),
        np.array([row.score for row in rows], dtype=np.float64),
        [ACTIONS[row.action] for row in rows] if named else np.array([r.action for r in rows]),
        hits,
        RULES,
        policy,
        models,
        None if named else ACTIONS,
    )


@settings(max_examples=50)  # each example writes and reads a file
@given(rows_strategy, st.lists(st.integers(0, 30)), st.booleans())
def test_the_hash_is_that_of_the_rows_for_any_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], cuts: list[int], named: bool
) -> None:
    folder = tmp_path_factory.mktemp("d")
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    with DecisionsWriter(folder) as writer:
        for start, end in itertools.pairwise(bounds):
            write(writer, rows[start:end], named=named)
    assert writer.sha256 == oracle_hash(rows)
    assert writer.row_count == len(rows)
    found = pq.read_table(folder / "decisions.parquet").to_pydict()
    assert found["event_id"] == [row.event_id for row in rows]
    assert found["ts_ms"] == [row.ts_ms for row in rows]
    assert repr(found["score"]) == repr([row.score for row in rows])
    assert found["action"] == [ACTIONS[row.action] for row in rows]
    assert found["rule_ids"] == [[RULES[rule] for rule in row.rules] for row in rows]
    assert set(found["policy_version"]) <= {"p1"} and set(found["model_versions"]) <= {"m:1"}


def test_versions_may_change_between_batches(tmp_path: Path) -> None:
    rows = [Row("a", 1, 0.5, 0, ()), Row("b", 2, 0.5, 1, (0, 8))]
    with DecisionsWriter(tmp_path) as writer:
        write(writer, rows[:1])
        write(writer, rows[1:], policy="p2", models="m:2")
    found = pq.read_table(tmp_path / "decisions.parquet")
    assert found.schema.names == DECISIONS_SCHEMA.names
    assert found["policy_version"].to_pylist() == ["p1", "p2"]
    assert found["model_versions"].to_pylist() == ["m:1", "m:2"]
    assert found["rule_ids"].to_pylist() == [[], ["velocity", "new-payee"]]


BASE = Row("a", 1, 0.5, 0, (1,))
CHANGED: list[tuple[Row, dict[str, Any]]] = [
    (BASE._replace(event_id="b"), {}),
    (BASE._replace(ts_ms=2), {}),
    (BASE._replace(score=math.nextafter(0.5, 1)), {}),
    (BASE._replace(action=1), {}),
    (BASE._replace(rules=(2,)), {}),
    (BASE._replace(rules=()), {}),
    (BASE, {"policy": "p2"}),
    (BASE, {"models": "m:2"}),
]


def test_the_hash_sees_every_column_and_the_order(tmp_path: Path) -> None:
    hashes = []
    for rows, options in [([BASE], {}), *(([row], options) for row, options in CHANGED)]:
        with DecisionsWriter(tmp_path) as writer:
            write(writer, rows, **options)
        hashes.append(writer.sha256)
    for rows in ([BASE, CHANGED[0][0]], [CHANGED[0][0], BASE]):
        with DecisionsWriter(tmp_path) as writer:
            write(writer, rows)
        hashes.append(writer.sha256)
    assert len(set(hashes)) == len(CHANGED) + 3


def test_many_rows_go_into_several_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replay.outputs.HASHED_ROWS", 10)
    monkeypatch.setattr("replay.outputs.ROW_GROUP_ROWS", 25)
    rows = [Row(str(n), n, n / 7, n % 3, (n % 9,)) for n in range(100)]
    with DecisionsWriter(tmp_path) as writer:
        for row in rows:
            write(writer, [row], named=True)
    assert writer.sha256 == oracle_hash(rows)
    found = pq.ParquetFile(tmp_path / "decisions.parquet")
    assert found.metadata.num_row_groups == 4
    assert found.read()["action"].to_pylist() == [ACTIONS[n % 3] for n in range(100)]


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    one = np.zeros(1)
    with DecisionsWriter(tmp_path) as writer:
        with pytest.raises(ValueError, match="2 rows and 1 rules"):
            writer.write(["a", "b"], one, one, ["allow"], np.zeros((2, 1)), ["r"], "p", "m")
        with pytest.raises(ValueError, match="codes below 3"):
            writer.write(["a"], one, one, np.array([3]), np.zeros((1, 0)), [], "p", "m", ACTIONS)


def test_messages_go_to_their_files_and_are_counted(tmp_path: Path) -> None:
    messages = [
        ("alerts", {"risk": "fraud", "action": "hold"}),
        ("offers.app_push", {"offer": "savings", "channel": "app_push"}),
        ("offers.sms", {"offer": "savings", "channel": "sms"}),
        ("offers.sms", {"offer": "savings", "channel": "sms"}),
        ("tasks", {"task": "call"}),
        ("dead-letters", {"path": "$.ts_ms"}),
        ("training", {"model": "m"}),
    ]
    with MessagesWriter(tmp_path) as writer:
        for topic, message in messages:
            writer.write(topic, json.dumps(message).encode())
    assert writer.counts == {"alerts": 1, "offers": 3, "tasks": 1, "dead-letters": 1}
    assert writer.tallies["offers"] == {("savings", "app_push"): 1, ("savings", "sms"): 2}
    assert writer.tallies["dead-letters"] == {("$.ts_ms",): 1}
    lines = (tmp_path / "offers.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [m for t, m in messages if "offers" in t]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["alerts.jsonl", "dead-letters.jsonl", "offers.jsonl", "tasks.jsonl"]


def test_the_evaluation_log_keeps_rows_in_order() -> None:
    log = EvaluationLog()
    count = BLOCK_ROWS + 1_000
    ts_ms = np.arange(count)
    truth = np.where(ts_ms % 7 == 0, 1, -(ts_ms % 2)).astype(np.int8)
    known_ms = np.where(ts_ms % 14 == 0, ts_ms + 5, -1)
    sizes = [0, 1, 999, 30_000, count - 31_000]
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        log.append(
            ts_ms[part], ts_ms[part] * 3, ts_ms[part] / 2, truth[part], known_ms[part],
            ts_ms[part] * 100, ts_ms[part] % 3 == 0,
        )  # fmt: skip
        start += size
    found = log.arrays()
    assert log.row_count == count
    assert np.array_equal(found.ts_ms, ts_ms) and np.array_equal(found.card, ts_ms * 3)
    assert np.array_equal(found.score, ts_ms / 2) and np.array_equal(found.truth, truth)
    assert np.array_equal(found.known_ms, np.where(truth == 1, known_ms, -1))
    assert np.array_equal(found.alerted, ts_ms % 3 == 0)
    assert np.array_equal(found.amount, (ts_ms * 100).astype(np.float32))
    assert ROW_BYTES <= 32


def test_the_evaluation_log_refuses_columns_of_different_lengths() -> None:
    two, one = np.zeros(2, dtype=np.int64), np.zeros(1, dtype=np.int64)
    with pytest.raises(ValueError, match="columns of 2 rows"):
        EvaluationLog().append(two, two, two, one, two, two, two)  # type: ignore[arg-type]
    assert len(EvaluationLog().arrays().ts_ms) == 0
