"""Rows of a mapped table to the JSON bytes of native records, a whole batch at a time.

The JSON is put together column by column in Arrow; no Python object is made per field. A row that
can't be mapped is neither lost nor a reason to stop: what can't be converted is passed on as it is
(as the nearest JSON value) and what is null is left out, so that the engine's own validation
refuses the record with the right path and it lands in the dead letters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.records import TS_MS_MAX, TS_MS_MIN
from replay.conversions import Converted, plain_column
from replay.field_json import (
    Piece,
    constant,
    decimal_text,
    field_piece,
    field_text,
    integers,
    is_absent,
    joined,
    mask_of,
    numbers,
    plain_text,
    quoted,
    scalar,
    strings,
    with_default,
)
from replay.fields import field_types
from replay.mapping import FieldSpec, LabelSpec, TableSpec

FRAUD, LEGITIMATE, UNKNOWN = 1, 0, -1  # values of truth
NEVER_MS = -1  # `known_ms` of what never becomes known


@dataclass(slots=True)
class Rows:
    """Records of a table, in its order; the arrays have one entry per record.

    `timed` is False where `ts_ms` could not be read. `truth` is 1 fraud, 0 legitimate, -1 unknown;
    `known_ms` the time at which a fraud becomes known, or NEVER_MS. `due` holds derived labels and
    for each the number of its transaction's row.
    """

    topics: list[str]
    keys: list[str]
    ts_ms: NDArray[np.int64]
    timed: NDArray[np.bool_]
    values: list[bytes]
    truth: NDArray[np.int8]
    known_ms: NDArray[np.int64]
    event_ids: Any = None  # binary array, where the table has them
    due: "tuple[Rows, NDArray[np.int64]] | None" = None


def unlabelled(
    topics: list[str],
    keys: list[str],
    ts_ms: NDArray[np.int64],
    timed: NDArray[np.bool_],
    values: list[bytes],
) -> Rows:
    """Return rows of which nothing is known."""
    count = len(values)
    truth = np.full(count, UNKNOWN, dtype=np.int8)
    known_ms = np.full(count, NEVER_MS, dtype=np.int64)
    return Rows(topics, keys, ts_ms, timed, values, truth, known_ms)


class TableEncoder:
    """Encodes batches of one mapped table."""

    def __init__(self, table: TableSpec, fields: tuple[FieldSpec, ...]) -> None:
        types = field_types(table.kind)
        self._table = table
        self._fields = [(spec, types[spec.field]) for spec in fields]
        by_name = {spec.field: spec for spec in fields}
        self._identity = "action_id" if table.kind == "outcome" else "event_id"
        self._ids = {
            name: by_name[name] for name in ("customer_id", self._identity) if name in by_name
        }
        self._time = by_name["ts_ms"]

    def encode(self, batch: Any) -> Rows:
        """Return the records of an Arrow record batch that has the mapped columns."""
        columns = _Columns(batch)
        count = batch.num_rows
        texts = {
            name: field_text(spec, columns.of(spec), count) for name, spec in self._ids.items()
        }
        ts = _moments(self._time, columns, count)
        timed = ts.good & (ts.values >= TS_MS_MIN) & (ts.values <= TS_MS_MAX)
        pieces: list[tuple[str, Piece]] = []
        for spec, field in self._fields:
            if field.name in texts:
                piece = quoted(texts[field.name])
            elif field.name == "ts_ms" and spec.column is not None:
                piece = with_default(numbers(ts, columns.of(spec)), spec)
            else:
                piece = field_piece(spec, field, columns.of(spec), count)
            pieces.append((field.name, piece))
        keys = strings(texts.get("customer_id", pa.nulls(count, pa.binary())))
        values = assemble(self._table.kind, pieces, count)
        rows = unlabelled([self._table.topic] * count, keys, ts.values, timed, values)
        rows.event_ids = texts.get(self._identity)
        if self._table.labels is not None:
            self._label(rows, texts, columns, self._table.labels)
        return rows

    def _label(
        self, rows: Rows, texts: dict[str, Any], columns: "_Columns", spec: LabelSpec
    ) -> None:
        """Fill the truth of the rows and derive their label records."""
        marks = plain_text(columns.by_name(spec.column))
        given = mask_of(marks.is_valid())
        is_fraud = mask_of(pc.is_in(marks, pa.array(sorted(spec.fraud_when)).cast(pa.binary())))
        rows.truth = np.where(given, is_fraud, UNKNOWN).astype(np.int8)
        known = is_fraud & given & rows.timed
        rows.known_ms = np.where(known, rows.ts_ms + spec.delay_ms, NEVER_MS)
        sent = rows.timed & (given if spec.emit_all else known)
        for text in texts.values():
            sent &= mask_of(text.is_valid())
        chosen = np.flatnonzero(sent)
        if len(chosen) == 0:
            return
        taken = {name: text.take(pa.array(chosen)) for name, text in texts.items()}
        due_ms = rows.ts_ms[chosen] + spec.delay_ms
        verdicts = np.where(rows.truth[chosen] == FRAUD, b"fraud", b"legitimate")
        pieces = [
            ("event_id", quoted(taken["event_id"])),
            ("ts_ms", Piece(b"", decimal_text(due_ms), b"")),
            ("customer_id", quoted(taken["customer_id"])),
            ("verdict", quoted(pa.array(verdicts.tolist(), type=pa.binary()))),
            ("source", constant(spec.source)),
        ]
        labels = unlabelled(
            ["labels"] * len(chosen),
            [rows.keys[row] for row in chosen],
            due_ms,
            np.ones(len(chosen), dtype=np.bool_),
            assemble("label", pieces, len(chosen)),
        )
        rows.due = (labels, chosen)


class _Columns:
    """The columns of a batch, each made plain once."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch
        self._plain: dict[str, Any] = {}

    def by_name(self, name: str) -> Any:
        if name not in self._plain:
            self._plain[name] = plain_column(self._batch.column(name))
        return self._plain[name]

    def of(self, spec: FieldSpec) -> Any:
        return None if spec.column is None else self.by_name(spec.column)


def assemble(kind: str, pieces: list[tuple[str, Piece]], count: int) -> list[bytes]:
    """Join the fields of each row into the bytes of one JSON object."""
    parts: list[Any] = []
    literal = b'{"kind":"%s"' % kind.encode()
    for name, (prefix, body, suffix) in pieces:
        start = b',"%s":' % name.encode() + prefix
        if isinstance(body, bytes):
            literal += start + body + suffix
        elif body.null_count:
            parts += [scalar(literal), joined(scalar(start), body, scalar(suffix))]
            literal = b""
        else:
            parts += [scalar(literal + start), body]
            literal = suffix
    parts.append(scalar(literal + b"}"))
    if all(isinstance(part, pa.Scalar) for part in parts):
        return [b"".join(part.as_py() for part in parts)] * count
    whole = pc.binary_join_element_wise(
        *parts, scalar(b""), null_handling="replace", null_replacement=b""
    )
    values: list[bytes] = whole.to_pylist()
    return values


def _moments(spec: FieldSpec, columns: _Columns, count: int) -> Converted:
    """Return the event times, for ordering and for the labels."""
    column = columns.of(spec)
    if column is None:
        ones = np.ones(count, dtype=np.bool_)
        return Converted(np.full(count, spec.constant, dtype=np.int64), ones)
    found = integers(spec, column)
    if spec.default is None:
        return found
    missing = mask_of(is_absent(column))
    values = np.where(missing, spec.default, found.values)
    return Converted(values, found.good | missing)
