"""Mapping files: what they say, and faults with file, line, column and nearest name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import MillraceError, SourceError
from replay.mapping import MinorUnits, TimeFormat, TimeSpec
from replay.mapping_parser import load_mapping, parse_mapping
from replay.sources import open_source

GOOD = """\
tables:
  - kind: transaction
    columns:
      event_id: ID
      ts_ms: {column: WHEN, time: {format: iso, timezone: Europe/Brussels}}
      customer_id: {column: CUST, template: "C{}"}
      account_id: {column: CUST, template: "A{}"}
      type: {column: T, map: {B: purchase, C: cash}, default: fee}
      amount_minor: {column: AMT, minor_units: {decimals: 2, strip: "$,", absolute: true}}
      currency: {constant: EUR}
      direction: {column: AMT, sign: {negative: in, otherwise: out}}
      channel: {constant: pos}
      country: {constant: NO}
    labels: {column: BAD, fraud_when: [1, Yes], delay: 7d, emit: all, source: chargeback}
"""


def fault(text: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        parse_mapping(text, "m.yaml")
    return caught.value


def changed(old: str, new: str) -> SourceError:
    assert GOOD.count(old) == 1
    return fault(GOOD.replace(old, new))


def place_of(text: str) -> tuple[int, int]:
    """Return line and column, from 1, of the only place of a text in GOOD."""
    before = GOOD[: GOOD.index(text)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def test_a_mapping_is_read() -> None:
    (table,) = parse_mapping(GOOD, "m.yaml").tables
    assert table.columns is not None and table.labels is not None
    fields = {spec.field: spec for spec in table.columns}
    assert fields["ts_ms"].time == TimeSpec(TimeFormat.ISO, "Europe/Brussels")
    assert fields["customer_id"].template == ("C", "")
    assert fields["amount_minor"].minor_units == MinorUnits(2, "$,", absolute=True)
    assert fields["type"].values == {"B": "purchase", "C": "cash"}
    assert fields["country"].constant == "NO"  # not YAML's "false"
    assert (fields["event_id"].place.line, fields["event_id"].place.column) == place_of("ID\n")
    assert table.labels.delay_ms == 7 * 24 * 3600 * 1000
    assert table.labels.fraud_when == {"1", "Yes"} and table.labels.emit_all


@pytest.mark.parametrize(
    ("old", "new", "at", "nearest"),
    [
        ("kind: transaction", "kind: transactoin", "transaction", "transaction"),
        ("account_id:", "acount_id:", "account_id", "account_id"),
        ("template: \"A{}\"", "tmplate: \"A{}\"", "template: \"A", "template"),
        ("Europe/Brussels", "Europe/Brussel", "Europe/Brussels", "Europe/Brussels"),
        ("format: iso", "format: epoch", "iso", "epoch_s"),
        ("\"C{}\"", "\"C\"", "\"C{}\"", None),
        ("C: cash", "C: csh", "cash", "cash"),
        ("constant: EUR", "constant: EURO", "EUR", None),
        ("decimals: 2", "decimals: two", "2, strip", None),
        ("7d", "seven days", "7d", None),
        ("emit: all", "emit: alll", "all, source", "all"),
    ],
)  # fmt: skip
def test_faults_name_place_and_nearest(old: str, new: str, at: str, nearest: str | None) -> None:
    error = changed(old, new)
    assert (error.file, error.line, error.column) == ("m.yaml", *place_of(at))
    assert error.nearest == nearest


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("      currency: {constant: EUR}\n", "", "required field `currency`"),
        ("      event_id: ID\n", "      event_id: ID\n      event_id: ID\n", "each key once"),
        ("{constant: pos}", "{constant: pos, column: X}", "nothing beside `constant`"),
        ("event_id: ID", "event_id: {column: ID, time: iso}", "`time` on fields in ms only"),
        ("event_id: ID", "event_id: {column: ID, minor_units: 2}", "`minor_units` on amounts"),
        ("delay: 7d, ", "", "the key `delay`"),
        ("kind: transaction", "kind: profile", "a key of the fields of a profile"),
        ("tables:\n", "tables: []\nx:\n", "a key of a mapping file"),
        ("  - kind", "  - path: ../x\n    kind", "a path inside the source directory"),
    ],
)
def test_faults_say_what_was_expected(old: str, new: str, expected: str) -> None:
    assert expected in changed(old, new).expected


def test_yaml_faults_have_a_place() -> None:
    error = fault("tables:\n  - {kind: transaction\n")
    assert (error.file, error.expected) == ("m.yaml", "valid YAML")
    assert error.line == 3
    assert fault("").got == "nothing"


def test_several_tables_need_paths() -> None:
    assert "path" in fault("tables:\n  - {kind: label}\n  - {kind: profile}\n").expected


def test_labels_are_derived_from_transactions_only() -> None:
    text = "tables:\n  - kind: profile\n    labels: {column: A, fraud_when: 1, delay: 1d}\n"
    assert "transactions only" in fault(text).expected


@pytest.mark.parametrize("name", ["handbook", "simulator"])
def test_shipped_mappings_can_be_read(name: str) -> None:
    assert load_mapping(name).tables


def test_an_unknown_mapping_names_the_nearest() -> None:
    with pytest.raises(MillraceError, match="did you mean `handbook`"):
        load_mapping("handbok")


def parquet(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_missing_column_names_place_and_nearest(tmp_path: Path) -> None:
    columns = {name: [1] for name in ("ID", "CUSTOMER", "T", "AMT", "BAD")}
    file = parquet(tmp_path / "t.parquet", **columns, WHEN=["2020-01-01"])
    with pytest.raises(SourceError) as caught:
        open_source(file, parse_mapping(GOOD.replace("CUST,", "CUSTOMR,"), "m.yaml"))
    assert (caught.value.line, caught.value.column) == place_of('CUST, template: "C')
    assert caught.value.nearest == "CUSTOMER"


def test_a_column_of_the_wrong_type_is_refused_at_its_place(tmp_path: Path) -> None:
    columns = {name: [1] for name in ("ID", "CUST", "T", "AMT", "BAD", "WHEN")}
    with pytest.raises(SourceError) as caught:
        open_source(parquet(tmp_path / "t.parquet", **columns), parse_mapping(GOOD, "m.yaml"))
    assert (caught.value.line, caught.value.column) == place_of("WHEN")
    assert "timestamps" in caught.value.expected and "int64" in caught.value.got


def test_sources_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    (tmp_path / "transactions.parquet").write_bytes(b"no parquet")
    (tmp_path / "x.doc").touch()
    with pytest.raises(MillraceError, match="expected a Parquet file"):
        open_source(tmp_path)
    with pytest.raises(MillraceError, match=r"did you mean `transactions\.parquet`"):
        open_source(tmp_path / "transaction.parquet")
    with pytest.raises(MillraceError, match="expected a mapping"):
        open_source(tmp_path / "transactions.parquet")
    with pytest.raises(MillraceError, match=r"ending in \.parquet"):
        open_source(tmp_path / "x.doc", parse_mapping(GOOD, "m.yaml"))
    with pytest.raises(SourceError, match="because the source is a directory"):
        open_source(tmp_path, parse_mapping(GOOD, "m.yaml"))
    with pytest.raises(SourceError, match="because the source is a file"):
        open_source(tmp_path / "x.doc", load_mapping("simulator"))
