"""Computed features as a Parquet file: a row for every transaction, a column for every expression.

`event_id` and `ts_ms` come first, then the columns in their order: float64, or bool where the
expression is a condition; null where a value is undefined. Of each column that is not exact
everywhere, `<name>_status` says row by row how far its value can be trusted, and of each that is
approximate anywhere, `<name>_bound` how far it may be from the truth, in its own unit: infinite
where nobody knows, 0 where it is exact. These columns stand at the end. Each column's field carries
its expression under the metadata key `expression`.

Which columns those are is known only at the end of the stream. So the statuses are written to a
file of their own, and joined to the values, a row group at a time, only where there is a need.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from features.expressions import Type
from features.status import Status

ROW_GROUP_ROWS = 65_536
STATUS_SUFFIX = "_status"
BOUND_SUFFIX = "_bound"
_WORDS = pa.dictionary(pa.int32(), pa.string())
_STATUS_NAMES = pa.array([status.name.lower() for status in Status], pa.string())
_VALUES_PART, _STATUSES_PART, _JOINED_PART = ".values.part", ".statuses.part", ".part"


class FeatureRows(NamedTuple):
    """Consecutive transactions: all but their ids and times are of shape (expressions, n).

    `statuses` are codes of Status, `bounds` how far the values may be off.
    """

    event_ids: list[str]
    ts_ms: NDArray[np.int64]
    values: NDArray[np.float64]
    statuses: NDArray[np.uint8]
    bounds: NDArray[np.float64]


class FeaturesWriter:
    """Streams rows to a Parquet file, which gets its name when it is complete.

    Use it as a context manager and call `finish` at the end; without it nothing is left behind.
    """

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        types: Mapping[str, Type],
        texts: Mapping[str, str],
    ) -> None:
        self.row_count = 0
        self._out = out
        self._names = tuple(names)
        self._is_condition = [types[name] is Type.BOOL for name in names]
        self._counts = np.zeros((len(names), len(Status)), dtype=np.int64)
        self._waiting: list[FeatureRows] = []
        self._waiting_count = 0
        fields = [pa.field("event_id", pa.string()), pa.field("ts_ms", pa.int64())]
        for name in names:
            kind = pa.bool_() if types[name] is Type.BOOL else pa.float64()
            text = " ".join(texts[name].split())
            fields.append(pa.field(name, kind, metadata={"expression": text}))
        self._schema = pa.schema(fields)
        words = [(name + STATUS_SUFFIX, _WORDS) for name in names]
        numbers = [(name + BOUND_SUFFIX, pa.float64()) for name in names]
        self._status_schema = pa.schema([*words, *numbers])
        self._values_path, self._statuses_path, self._joined_path = (
            out.with_name(out.name + part) for part in (_VALUES_PART, _STATUSES_PART, _JOINED_PART)
        )
        self._values = _writer(self._values_path, self._schema)
        self._statuses = _writer(self._statuses_path, self._status_schema)

    def write(self, rows: FeatureRows) -> None:
        """Append rows in their order."""
        for status in Status:
            self._counts[:, status] += (rows.statuses == status).sum(axis=1)
        while rows.event_ids:
            room_count = ROW_GROUP_ROWS - self._waiting_count
            head, rows = _cut(rows, room_count)
            self._waiting.append(head)
            self._waiting_count += len(head.event_ids)
            if self._waiting_count == ROW_GROUP_ROWS:
                self._write_row_group()

    def finish(self) -> NDArray[np.int64]:
        """Complete the file; return how many values have each status, (expressions, Status)."""
        self._write_row_group()
        self._values.close()
        self._statuses.close()
        exact, approximate = self._counts[:, Status.EXACT], self._counts[:, Status.APPROXIMATE]
        wanted = [
            *(name + STATUS_SUFFIX for name in self._named(exact < self.row_count)),
            *(name + BOUND_SUFFIX for name in self._named(approximate > 0)),
        ]
        if wanted:
            self._join(wanted)
            self._joined_path.replace(self._out)
        else:
            self._values_path.replace(self._out)
        return self._counts

    def _named(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [name for name, is_chosen in zip(self._names, chosen, strict=True) if is_chosen]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._values.close()
        self._statuses.close()
        for path in (self._values_path, self._statuses_path, self._joined_path):
            path.unlink(missing_ok=True)

    def _write_row_group(self) -> None:
        if not self._waiting:
            return
        parts, self._waiting, self._waiting_count = self._waiting, [], 0
        ids = [event_id for part in parts for event_id in part.event_ids]
        values = np.concatenate([part.values for part in parts], axis=1)
        codes = np.concatenate([part.statuses for part in parts], axis=1)
        bounds = np.concatenate([part.bounds for part in parts], axis=1)
        columns = [
            pa.array(ids, pa.string()),
            pa.array(np.concatenate([part.ts_ms for part in parts])),
            *map(_column, values, self._is_condition),
        ]
        words = [
            pa.DictionaryArray.from_arrays(pa.array(row.astype(np.int32)), _STATUS_NAMES)
            for row in codes
        ]
        self._values.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        statuses = [*words, *map(pa.array, bounds)]
        self._statuses.write_table(pa.Table.from_arrays(statuses, schema=self._status_schema))
        self.row_count += len(ids)

    def _join(self, status_columns: list[str]) -> None:
        """Put values and the wanted statuses side by side, a row group at a time."""
        schema = self._schema
        for column in status_columns:
            schema = schema.append(self._status_schema.field(column))
        with (
            pa.parquet.ParquetFile(self._values_path) as values,
            pa.parquet.ParquetFile(self._statuses_path) as statuses,
            _writer(self._joined_path, schema) as joined,
        ):
            for group in range(values.num_row_groups):
                table = values.read_row_group(group)
                words = statuses.read_row_group(group, columns=status_columns)
                columns = [*table.columns, *words.columns]
                joined.write_table(pa.Table.from_arrays(columns, schema=schema))


def _writer(path: Path, schema: Any) -> Any:
    return pa.parquet.ParquetWriter(path, schema, compression="zstd")


def _column(values: NDArray[np.float64], is_condition: bool) -> Any:
    """Return one expression's values; what is undefined becomes null."""
    absent = np.isnan(values)
    if is_condition:
        return pa.array(values != 0.0, mask=absent)
    return pa.array(values, mask=absent)


def _cut(rows: FeatureRows, count: int) -> tuple[FeatureRows, FeatureRows]:
    """Return the first `count` rows, and the others."""

    def part(first: int, last: int | None) -> FeatureRows:
        at = slice(first, last)
        columns = (rows.values[:, at], rows.statuses[:, at], rows.bounds[:, at])
        return FeatureRows(rows.event_ids[at], rows.ts_ms[at], *columns)

    return part(0, count), part(count, None)
