"""Sources: one ordered stream from tables of any format; labels in time; nothing lost."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_tables import (
    DAY_MS,
    NATIVE_KINDS,
    T0,
    decoded,
    everything,
    mapped,
    native,
    parquet,
    rows_of,
)

from features.records import Label, Transaction
from replay import tables
from replay.mapping_parser import load_mapping
from replay.sources import TOPIC_RANKS, open_source


def test_rows_become_records(tmp_path: Path) -> None:
    source = open_source(parquet(tmp_path / "t.parquet", rows_of([0, 60], frauds=[1])), mapped())
    records, truth, known_ms = everything(source)
    assert [(r.topic, r.key, r.ts_ms) for r in records] == [
        ("transactions", "C0", T0),
        ("transactions", "C1", T0 + 60_000),
        ("labels", "C1", T0 + 60_000 + 7 * DAY_MS),
    ]
    assert decoded(records)[1:] == [
        Transaction(
            event_id="e1", ts_ms=T0 + 60_000, customer_id="C1", account_id="A1", type="purchase",
            amount_minor=129, currency="EUR", direction="out", channel="pos", mcc=5411,
            merchant_id='a"b',
        ),
        Label(
            event_id="e1", ts_ms=T0 + 60_000 + 7 * DAY_MS, customer_id="C1", verdict="fraud",
            source="book",
        ),
    ]  # fmt: skip
    assert "merchant_id" not in json.loads(records[0].value)
    assert truth.tolist() == [0, 1, -1]
    assert known_ms.tolist() == [-1, T0 + 60_000 + 7 * DAY_MS, -1]
    assert source.record_count == 2 and source.has_truth


seconds = st.lists(st.integers(0, 40), min_size=1, max_size=60)


@settings(max_examples=40)  # each example writes and reads files
@given(
    seconds | seconds.map(sorted),
    st.sets(st.integers(0, 59)),
    st.sampled_from([0, 1, 17, 1_000]),
    st.booleans(),
)
def test_labels_are_never_early_and_never_lost(
    tmp_path_factory: pytest.TempPathFactory,
    times: list[int],
    frauds: set[int],
    delay_s: int,
    emit_all: bool,
) -> None:
    path = parquet(tmp_path_factory.mktemp("t") / "t.parquet", rows_of(times, frauds))
    source = open_source(path, mapped(f"{delay_s}s", "all" if emit_all else "fraud"))
    records = everything(source, 7)[0]
    waiting: set[str] = set()
    for record, value in zip(records, decoded(records), strict=True):
        if isinstance(value, Label):
            due_ms = T0 + 1_000 * (times[int(value.event_id[1:])] + delay_s)
            assert record.ts_ms == value.ts_ms == due_ms
            waiting.remove(value.event_id)  # its transaction was there before, and only once
        else:
            assert isinstance(value, Transaction)
            if emit_all or int(value.event_id[1:]) in frauds:
                waiting.add(value.event_id)
    assert not waiting
    if times == sorted(times) and delay_s:
        keys = [(record.ts_ms, TOPIC_RANKS[record.topic]) for record in records]
        assert keys == sorted(keys)


def head_merge(streams: dict[str, list[tuple[int, str]]], order: list[str]) -> list[str]:
    """The oracle: again and again take the head with the least (time, topic rank, table)."""
    heads = {name: list(items) for name, items in streams.items()}
    merged = []
    while any(heads.values()):
        name = min(
            (name for name in order if heads[name]),
            key=lambda name: (heads[name][0][0], TOPIC_RANKS[name], order.index(name)),
        )
        merged.append(heads[name].pop(0)[1])
    return merged


streams_of_times = st.fixed_dictionaries(
    {name: st.lists(st.integers(0, 12), max_size=25) for name in NATIVE_KINDS}
)


@settings(max_examples=40)
@given(streams_of_times, st.integers(1, 9), st.booleans())
def test_tables_are_merged_by_their_heads(
    tmp_path_factory: pytest.TempPathFactory,
    times: dict[str, list[int]],
    chunk_size: int,
    in_order: bool,
) -> None:
    folder = tmp_path_factory.mktemp("s")
    streams: dict[str, list[tuple[int, str]]] = {}
    for topic, given_times in times.items():
        ordered = sorted(given_times) if in_order else given_times
        rows = [native(topic, n, T0 + time) for n, time in enumerate(ordered)]
        lines = [json.dumps(row) for row in rows]
        (folder / f"{topic}.jsonl").write_text("\n".join(lines))
        streams[topic] = list(zip([row["ts_ms"] for row in rows], lines, strict=True))
    records = everything(open_source(folder), chunk_size)[0]
    found = [record.value.decode() for record in records]
    assert found == head_merge(streams, ["transactions", "interactions", "profiles", "labels"])
    if in_order:
        keys = [(record.ts_ms, TOPIC_RANKS[record.topic]) for record in records]
        assert keys == sorted(keys)


def test_order_does_not_depend_on_the_size_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = np.random.default_rng(3).integers(0, 100, 60).tolist()
    path = parquet(tmp_path / "t.parquet", rows_of(times, frauds=range(0, 60, 4)))
    expected = everything(open_source(path, mapped("30s")))
    for block_rows in (1, 7, 64):
        monkeypatch.setattr(tables, "BLOCK_ROWS", block_rows)
        found = everything(open_source(path, mapped("30s")))
        assert found[0] == expected[0]
        assert found[1].tolist() == expected[1].tolist()


def test_csv_and_parquet_and_json_lines_give_the_same_records(tmp_path: Path) -> None:
    columns = rows_of(list(range(40)), frauds=[3, 5])
    columns["SHOP"] = ["a,b", 'say "x"', "NA", None, "zwei\nlines"] * 8
    expected, truth, _ = everything(open_source(parquet(tmp_path / "t.parquet", columns), mapped()))
    pa.csv.write_csv(pa.table(columns), tmp_path / "t.csv")
    from_csv, csv_truth, _ = everything(open_source(tmp_path / "t.csv", mapped()))
    assert from_csv == expected
    assert csv_truth.tolist() == truth.tolist()
    lines = b"\n\n".join(record.value for record in expected)
    (tmp_path / "t.jsonl").write_bytes(lines)
    from_lines, lines_truth, known_ms = everything(open_source(tmp_path / "t.jsonl"))
    assert from_lines == expected
    assert lines_truth.tolist() == truth.tolist()
    assert (known_ms > 0).sum() == 2


def test_tables_named_by_topic_need_no_mapping(tmp_path: Path) -> None:
    profile = native("profiles", 1, T0) | {"quiet_hours": {"start_hour": 22, "end_hour": 7}}
    pq.write_table(pa.Table.from_pylist([profile]), tmp_path / "profiles.parquet")
    payments = [native("transactions", n, T0 + n) for n in range(2)]
    pa.csv.write_csv(pa.Table.from_pylist(payments), tmp_path / "transactions.csv")
    frauds = pa.table({"event_id": ["transactions1"], "scenario": ["mule"]})
    pq.write_table(frauds, tmp_path / "truth_fraud.parquet")
    records, truth, known_ms = everything(open_source(tmp_path))
    assert [json.loads(r.value) for r in records] == [
        {"kind": "profile", **profile},
        *({"kind": "transaction", **payment} for payment in payments),
    ]
    assert truth.tolist() == [-1, 0, 1] and known_ms.tolist() == [-1, -1, -1]


def test_the_last_verdict_counts(tmp_path: Path) -> None:
    payments = [native("transactions", n, T0 + n) for n in range(3)]
    labels = [native("labels", n, T0 + 9) for n in (0, 1)]
    labels.append({**native("labels", 1, T0 + 10), "verdict": "legitimate"})
    for name, rows in (("transactions", payments), ("labels", labels)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _, truth, known_ms = everything(open_source(tmp_path))
    assert truth.tolist()[:3] == [1, 0, 0]
    assert known_ms.tolist()[:3] == [T0 + 9, -1, -1]


def test_without_labels_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps(native("transactions", 1, T0)))
    source = open_source(tmp_path / "x.jsonl")
    assert not source.has_truth
    assert everything(source)[1].tolist() == [-1]


def test_memory_does_not_grow_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BLOCK_ROWS", 1_024)

    def peak_bytes(count: int) -> int:
        path = tmp_path / f"{count}.parquet"
        pq.write_table(pa.table(rows_of(list(range(count)), frauds=[1])), path)
        source = open_source(path, mapped("60s"))
        before = pa.total_allocated_bytes()
        highest = 0
        tracemalloc.start()
        for chunk in source.chunks(100):
            highest = max(highest, pa.total_allocated_bytes() - before + len(chunk.records))
        highest += tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    few, many = peak_bytes(tables.BLOCK_ROWS * 2), peak_bytes(tables.BLOCK_ROWS * 8)
    assert many < 1.5 * few


@pytest.mark.data("handbook")
def test_the_handbook_replays(data_dir: Path) -> None:
    source = open_source(data_dir / "handbook" / "transactions.parquet", load_mapping("handbook"))
    assert source.record_count == 1_504_628
    first = next(source.chunks(1_000))
    values = decoded(first.records)
    frauds = [r.event_id for r, t in zip(values, first.truth, strict=True) if t == 1]  # type: ignore[attr-defined]
    table = pq.read_table(data_dir / "handbook" / "transactions.parquet").slice(0, 1_000)
    assert frauds == [
        str(i) for i, f in zip(table["TRANSACTION_ID"].to_pylist(), table["TX_FRAUD"].to_pylist(),
                               strict=True) if f
    ]  # fmt: skip
    amounts = [round(amount * 100) for amount in table["TX_AMOUNT"].to_pylist()]
    assert [record.amount_minor for record in values] == amounts  # type: ignore[attr-defined]
    assert not any(b"SCENARIO" in record.value for record in first.records)
