"""Readers of tables: Parquet, CSV and JSON lines to rows of native records, block by block."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from features.errors import MillraceError
from features.records import TS_MS_MAX, TS_MS_MIN
from replay.columns_check import needed_columns, resolve_fields
from replay.encoding import Rows, TableEncoder, unlabelled
from replay.mapping import TOPICS_BY_KIND, Mapping, TableSpec
from replay.text_files import Utf8File, unmarked, unmarked_batch

_T = TypeVar("_T")
BLOCK_ROWS = 16_384
_CSV_BLOCK_BYTES = 1 << 20
_SAMPLE_BYTES = 1 << 18


class Verdict(msgspec.Struct, gc=False):
    """What a label record says, as far as the evaluation needs it."""

    event_id: str
    ts_ms: int
    verdict: str


class TableReader(Protocol):
    """A table of a source; `rows` may be called again and starts from the beginning."""

    table: TableSpec
    record_count: int
    may_hold_labels: bool

    def rows(self) -> Iterator[Rows]:
        """Yield the table's records in blocks."""
        ...


def open_table(path: Path, table: TableSpec, mapping: Mapping) -> TableReader:
    """Open a table by its suffix; raises MillraceError or SourceError where it can't be read."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        if table.columns is not None or table.labels is not None:
            raise MillraceError(
                f"{path.name}: expected no `columns` and no `labels` for a file of native JSON "
                f"records, got a mapping for it in {mapping.file}"
            )
        return JsonLinesReader(path, table, by_name=True)
    if suffix == ".parquet":
        return _guarded(lambda: ParquetReader(path, table, mapping), path, "a Parquet file")
    if suffix in (".csv", ".tsv", ".txt"):
        return _guarded(lambda: CsvReader(path, table, mapping), path, "a CSV file")
    raise MillraceError(
        f"{path.name}: expected a file ending in .parquet, .csv, .jsonl or .ndjson, got `{suffix}`"
    )


def _guarded(make: Callable[[], _T], path: Path, expected: str) -> _T:
    try:
        return make()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise MillraceError(f"{path.name}: expected {expected}, got a fault: {reason}") from error


class ParquetReader:
    """A mapped Parquet file; only the mapped columns are read, a row group's pages at a time."""

    may_hold_labels: bool

    def __init__(self, path: Path, table: TableSpec, mapping: Mapping) -> None:
        self._path, self.table = path, table
        with pa.parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            self.record_count = int(file.metadata.num_rows)
        self._fields = resolve_fields(mapping, table, schema, path.name)
        self.may_hold_labels = table.kind == "label"

    def rows(self) -> Iterator[Rows]:
        """Yield the table's records in blocks."""
        encoder = TableEncoder(self.table, self._fields)
        columns = needed_columns(self.table, self._fields)
        with pa.parquet.ParquetFile(self._path) as file:
            batches = file.iter_batches(batch_size=BLOCK_ROWS, columns=columns)
            while (batch := self._next(batches)) is not None:
                yield encoder.encode(batch)

    def _next(self, batches: Iterator[Any]) -> Any:
        return _guarded(lambda: next(batches, None), self._path, "whole pages")


class CsvReader:
    """A mapped CSV file with a header line; all columns are read as text, "" is null.

    A row with too few or too many cells is passed on as its raw text, in its place.
    """

    may_hold_labels: bool

    def __init__(self, path: Path, table: TableSpec, mapping: Mapping) -> None:
        self._path, self.table, self._encoding = path, table, table.encoding
        delimiter = "\t" if path.suffix.lower() == ".tsv" else table.delimiter
        self._parse = {"delimiter": delimiter, "newlines_in_values": True}
        self._names = self._header()
        schema = pa.schema([(name, pa.binary()) for name in self._names])
        self._fields = resolve_fields(mapping, table, schema, path.name)
        self.record_count = _line_estimate(path) - 1
        self.may_hold_labels = table.kind == "label"

    def _header(self) -> list[str]:
        options = pa.csv.ParseOptions(**self._parse, invalid_row_handler=lambda row: "skip")
        with pa.csv.open_csv(Utf8File(self._path, self._encoding), parse_options=options) as reader:
            names: list[str] = reader.schema.names
            return names

    def rows(self) -> Iterator[Rows]:
        """Yield the table's records in blocks."""
        encoder = TableEncoder(self.table, self._fields)
        malformed: deque[tuple[int, bytes]] = deque()

        def keep(row: Any) -> str:
            malformed.append((row.number, unmarked(row.text.encode())))
            return "skip"

        columns = needed_columns(self.table, self._fields)
        reader = _guarded(lambda: self._open(columns, keep), self._path, "a CSV file")
        row_number = 2  # of the next row; the header is row 1
        with reader:
            while (batch := self._next(reader)) is not None:
                rows = encoder.encode(unmarked_batch(batch))
                placed: list[tuple[int, bytes]] = []
                while malformed and malformed[0][0] - row_number - len(placed) < batch.num_rows:
                    number, text = malformed.popleft()
                    placed.append((number - row_number - len(placed), text))
                row_number += batch.num_rows + len(placed)
                yield _with_malformed(rows, placed, self.table.topic)
        if malformed:
            texts = [text for _, text in malformed]
            yield _raw_rows(texts, self.table.topic)

    def _next(self, reader: Any) -> Any:
        return _guarded(lambda: _next_batch(reader), self._path, "CSV rows")

    def _open(self, columns: list[str], keep: Any) -> Any:
        return pa.csv.open_csv(
            Utf8File(self._path, self._encoding),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(**self._parse, invalid_row_handler=keep),
            convert_options=pa.csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(columns, pa.binary()),
                include_columns=columns,
                null_values=[""],
                strings_can_be_null=True,
            ),
        )


def _next_batch(reader: Any) -> Any:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def _raw_rows(texts: list[bytes], topic: str) -> Rows:
    count = len(texts)
    untimed = np.zeros(count, dtype=np.bool_)
    return unlabelled([topic] * count, [""] * count, np.zeros(count, np.int64), untimed, texts)


def _with_malformed(rows: Rows, placed: list[tuple[int, bytes]], topic: str) -> Rows:
    """Put raw texts in front of the given rows, at their places."""
    if not placed:
        return rows
    raw = _raw_rows([text for _, text in placed], topic)
    before = np.array([place for place, _ in placed], dtype=np.int64)
    own = np.arange(len(rows.values))
    order = np.argsort(np.concatenate([own, before - 0.5]), kind="stable")
    values, keys = rows.values + raw.values, rows.keys + raw.keys
    event_ids = rows.event_ids
    if event_ids is not None:
        nulls = pa.nulls(len(placed), pa.binary())
        event_ids = pa.concat_arrays([event_ids, nulls]).take(pa.array(order))
    due = rows.due
    if due is not None:
        due = (due[0], due[1] + np.searchsorted(before, due[1], side="right"))
    return Rows(
        [topic] * len(order),
        [keys[i] for i in order],
        np.concatenate([rows.ts_ms, raw.ts_ms])[order],
        np.concatenate([rows.timed, raw.timed])[order],
        [values[i] for i in order],
        np.concatenate([rows.truth, raw.truth])[order],
        np.concatenate([rows.known_ms, raw.known_ms])[order],
        event_ids,
        due,
    )


class _Head(msgspec.Struct, gc=False):
    """What ordering needs of a native record; the engine validates the rest."""

    ts_ms: int
    customer_id: str = ""  # a control record is nobody's
    kind: str = ""
    event_id: str | None = None


class JsonLinesReader:
    """Native records, one JSON object a line, passed on byte for byte; empty lines are skipped.

    The topic is that of the record's `kind`; without one that of the file's name or mapping, and
    else `transactions`.
    """

    def __init__(self, path: Path, table: TableSpec, *, by_name: bool) -> None:
        self._path, self.table = path, table
        self._topic = table.topic if by_name else "transactions"
        self.may_hold_labels = not by_name or table.kind == "label"
        self.record_count = _line_estimate(path)
        self._heads = msgspec.json.Decoder(_Head)

    def rows(self) -> Iterator[Rows]:
        """Yield the file's records in blocks."""
        with self._path.open("rb") as file:
            while lines := [line for _, line in zip(range(BLOCK_ROWS), file, strict=False)]:
                yield self._block(lines)

    def _block(self, lines: list[bytes]) -> Rows:
        values = [value for line in lines if (value := line.strip())]
        heads = [self._head(value) for value in values]
        topics = [TOPICS_BY_KIND.get(head.kind, self._topic) for head in heads]
        ts_ms = np.array([head.ts_ms for head in heads], dtype=np.int64)
        timed = (ts_ms >= TS_MS_MIN) & (ts_ms <= TS_MS_MAX)
        rows = unlabelled(topics, [head.customer_id for head in heads], ts_ms, timed, values)
        ids = [
            head.event_id.encode()
            if head.event_id is not None and topic == "transactions"
            else None
            for head, topic in zip(heads, topics, strict=True)
        ]
        rows.event_ids = pa.array(ids, type=pa.binary())
        return rows

    def _head(self, value: bytes) -> _Head:
        try:
            head = self._heads.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            head = _salvaged_head(value)
        if not TS_MS_MIN <= head.ts_ms <= TS_MS_MAX:
            head.ts_ms = 0  # not a time; and it might not fit the column
        return head


def _salvaged_head(value: bytes) -> _Head:
    """Return what can be known of a record that is not right, so that it goes on in its place."""
    head = _Head(ts_ms=0, customer_id="")
    try:
        record = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return head
    if isinstance(record, dict):
        for name, of in (("ts_ms", int), ("customer_id", str), ("kind", str), ("event_id", str)):
            found = record.get(name)
            if isinstance(found, of) and not isinstance(found, bool):
                setattr(head, name, found)
    return head


def _line_estimate(path: Path) -> int:
    """Return about how many lines a file has, from the lines at its beginning."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") + (0 if sample.endswith(b"\n") or not sample else 1)
    if len(sample) < _SAMPLE_BYTES:
        return lines
    return round(path.stat().st_size * lines / len(sample))


def verdicts(reader: TableReader) -> Iterator[Verdict]:
    """Yield what the label records of a table say, in their order; faulty ones are passed over."""
    decoder = msgspec.json.Decoder(Verdict)
    for rows in reader.rows():
        for topic, value in zip(rows.topics, rows.values, strict=True):
            if topic == "labels":
                try:
                    yield decoder.decode(value)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
