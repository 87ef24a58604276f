"""Rows that can't be mapped or read: none is lost, none stops the run, each keeps its place."""

import json
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_tables import MAPPING, T0, decoded, everything, mapped, native, rows_of

from features.records import INPUT_RECORDS, Transaction
from replay.mapping_parser import parse_mapping
from replay.source_record import SourceRecord
from replay.sources import open_source
from replay.text_files import Utf8File, unmarked


def refused_path(record: SourceRecord) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(record.value, type=INPUT_RECORDS[record.topic])
    return str(caught.value)


@pytest.mark.parametrize("format_", ["parquet", "csv"])
def test_rows_that_cannot_be_mapped_are_passed_on(tmp_path: Path, format_: str) -> None:
    columns = rows_of([10, 20, 30, 40, 50, 60], frauds=[0, 1])
    columns["WHEN"] = ["2018-04-01T00:00:10", "soon", "2018-04-01T00:00:30", None] + [
        "2018-04-01T00:00:50"
    ] * 2
    columns["AMT"] = ["1.00", "1.00", "-3.50", "1.00", "much", None]
    path = tmp_path / f"t.{format_}"
    if format_ == "csv":
        pa.csv.write_csv(pa.table(columns), path)
    else:
        pq.write_table(pa.table(columns), path)
    records, truth, _ = everything(open_source(path, mapped()))
    payments = [record for record in records if record.topic == "transactions"]
    assert len(payments) == 6
    # An unreadable time stands where its row stands; it gives no label, for it would have no time.
    assert [record.ts_ms - T0 for record in payments] == [10_000] * 2 + [30_000] * 2 + [50_000] * 2
    assert [record.topic for record in records[6:]] == ["labels"]
    assert truth.tolist()[:2] == [1, 1]
    assert "$.ts_ms" in refused_path(payments[1]) and b'"ts_ms":"soon"' in payments[1].value
    assert "$.amount_minor" in refused_path(payments[2])
    assert json.loads(payments[2].value)["amount_minor"] == -350
    assert "missing required field `ts_ms`" in refused_path(payments[3])
    assert "$.amount_minor" in refused_path(payments[4])
    assert "missing required field `amount_minor`" in refused_path(payments[5])


def test_malformed_csv_rows_keep_their_place(tmp_path: Path) -> None:
    header = "ID,WHEN,CUST,AMT,MCC,SHOP,FRAUD"
    good = [f"{n},2018-04-01 00:00:{n:02},1,1.5,,x,{n % 2}" for n in range(10)]
    bad = ["short", "1,2,3,4,5,6,7,8,9"]
    lines = [header, bad[0], *good[:4], bad[1], *good[4:], bad[0]]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    records, truth, _ = everything(open_source(tmp_path / "t.csv", mapped("1s", "fraud")))
    payments = [record for record in records if record.topic == "transactions"]
    expected = [bad[0], *range(4), bad[1], *range(4, 10), bad[0]]
    found = [
        int(json.loads(r.value)["event_id"][1:]) if r.value.startswith(b"{") else r.value.decode()
        for r in payments
    ]
    assert found == expected
    own = [t for t, r in zip(truth.tolist(), records, strict=True) if r.topic == "transactions"]
    assert own == [-1 if isinstance(e, str) else e % 2 for e in expected]
    labels = [json.loads(r.value)["event_id"] for r in records if r.topic == "labels"]
    assert labels == [f"e{n}" for n in range(1, 10, 2)]


def test_bytes_that_are_not_utf8_stay_and_are_refused(tmp_path: Path) -> None:
    text = "ID,WHEN,CUST,AMT,MCC,SHOP,FRAUD\n1,2018-04-01,1,1.5,,sh\xffp,0\n2,2018-04-01,1\xff\n"
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    first, second = everything(open_source(tmp_path / "t.csv", mapped()))[0]
    for record in (first, second):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            msgspec.json.decode(record.value, type=Transaction)
    assert b"sh\xffp" in first.value


def test_a_csv_file_may_have_another_encoding(tmp_path: Path) -> None:
    text = "ID;WHEN;CUST;AMT;MCC;SHOP;FRAUD\n" + "1;2018-04-01;1;1.5;;Caf\xe9;0\n" * 3
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    options = "kind: transaction\n    delimiter: ;\n    encoding: latin-1"
    mapping = parse_mapping(
        MAPPING.replace("kind: transaction", options)
        .replace("DELAY", "1d")
        .replace("EMIT", "fraud"),
        "m",
    )
    values = decoded(everything(open_source(tmp_path / "t.csv", mapping))[0])
    assert [value.merchant_id for value in values] == ["Caf\xe9"] * 3  # type: ignore[attr-defined]


@given(st.binary(max_size=60), st.integers(1, 9))
def test_text_files_are_read_whole_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, size: int
) -> None:
    path = tmp_path_factory.mktemp("b") / "x"
    path.write_bytes(content)
    file = Utf8File(path)
    pieces = []
    while piece := file.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    file.close()
    found = unmarked(b"".join(pieces))
    assert found.replace(b"\xff", b"") == content.decode("utf-8", "ignore").encode()
    b"".join(pieces).decode()  # what Arrow sees is UTF-8


def test_json_lines_that_are_no_records_are_passed_on(tmp_path: Path) -> None:
    good = json.dumps(native("transactions", 1, T0 + 5)).encode()
    label = json.dumps({"kind": "label", **native("labels", 1, T0 + 9)}).encode()
    faulty = [b"{", b'"\xff"', b"[1]", b'{"ts_ms": 1e99, "customer_id": 7}']
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([faulty[0], good, *faulty[1:], label]))
    records, truth, _ = everything(open_source(tmp_path / "x.jsonl"))
    assert [record.value for record in records] == [faulty[0], good, *faulty[1:], label]
    assert [record.topic for record in records] == ["transactions"] * 5 + ["labels"]
    assert [record.ts_ms - T0 for record in records] == [5] * 5 + [9]
    assert truth.tolist() == [-1, 1, -1, -1, -1, -1]
