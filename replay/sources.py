"""Sources of traffic: a table, a file of records or a directory of tables as one ordered stream.

Tables are merged by their heads, on (event time, topic, order of the tables in the mapping), with
profiles before labels, outcomes, contacts, interactions and transactions of the same millisecond.
A table that is out of order inside keeps its own order: a late row waits for nothing and pulls
nothing forward. A record whose time can't be read stands directly behind the row before it. Only
a few blocks of each table are in memory at a time.

Labels derived from a column wait until their time and are emitted where it comes, never earlier;
those due after the last record come at the end.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.errors import MillraceError, SourceError, nearest_name
from features.records import TS_MS_MIN
from replay.encoding import FRAUD, LEGITIMATE, NEVER_MS, Rows
from replay.mapping import Mapping, Place, TableSpec, default_mapping
from replay.source_record import SourceRecord
from replay.tables import JsonLinesReader, TableReader, open_table, verdicts
from replay.truth import read_truth

TOPIC_RANKS = {
    "profiles": 0,
    "labels": 1,
    "outcomes": 2,
    "contacts": 3,
    "promotions": 4,
    "policies": 4,
    "lists": 4,
    "interactions": 4,
    "transactions": 5,
}
CHUNK_RECORDS = 4_096
_RANK_COUNT = 8  # order keys are ts_ms * 8 + rank
_NATIVE_SUFFIXES = (".jsonl", ".ndjson")


class SourceChunk(NamedTuple):
    """Consecutive records of a source, with what only the evaluation may know of them.

    `truth` (int8, one per record): 1 fraud, 0 legitimate, -1 unknown or not a transaction.
    `known_ms` (int64, one per record): when a fraud becomes known to the engine by a label, -1 if
    never.
    """

    records: list[SourceRecord]
    truth: NDArray[np.int8]
    known_ms: NDArray[np.int64]


class Source:
    """An ordered stream of records; `chunks` may be called again and starts from the beginning.

    `record_count` is exact for Parquet and estimated from the file's size for text; derived labels
    are not in it. `has_truth` tells whether anything is known of which transactions are frauds.
    """

    def __init__(self, readers: list[TableReader], frauds: dict[str, int] | None) -> None:
        self._readers = readers
        self._frauds = frauds
        self._fraud_ids = pa.array([event_id.encode() for event_id in frauds or ()], pa.binary())
        self.record_count = sum(reader.record_count for reader in readers)
        derived = any(reader.table.labels is not None for reader in readers)
        self.has_truth = derived or frauds is not None

    def chunks(self, chunk_records: int = CHUNK_RECORDS) -> Iterator[SourceChunk]:
        """Yield all records in order, `chunk_records` at a time; the last chunk may be shorter."""
        if chunk_records < 1:
            raise ValueError(f"chunk_records: expected at least 1, got {chunk_records}")
        records: list[SourceRecord] = []
        truth, known = bytearray(), bytearray()
        for block, start, end in self._runs():
            while start < end:
                stop = min(end, start + chunk_records - len(records))
                records += block.records[start:stop]
                truth += block.truth[start:stop]
                known += block.known[8 * start : 8 * stop]
                start = stop
                if len(records) == chunk_records:
                    yield _chunk(records, truth, known)
                    records, truth, known = [], bytearray(), bytearray()
        if records:
            yield _chunk(records, truth, known)

    def _runs(self) -> Iterator[tuple["_Block", int, int]]:
        """Yield the merged stream as runs [start, end) of one table's block each."""
        streams: list[_Stream] = []
        for reader in self._readers:
            # The labels of a table follow it, so that a tie leaves its transaction first.
            labels = _LabelStream(len(streams) + 1)
            streams += [_TableStream(len(streams), self._with_truth(reader), labels), labels]
        heads: list[tuple[int, int]] = []
        for stream in streams:
            if stream.advance():
                heapq.heappush(heads, (stream.head(), stream.index))
        while heads:
            stream = streams[heapq.heappop(heads)[1]]
            start, block = stream.position, stream.block
            end = stream.end_before(heads[0]) if heads else len(block.order)
            yield block, start, end
            stream.position = end
            if end < len(block.order) or stream.advance():
                heapq.heappush(heads, (stream.head(), stream.index))
            followers = stream.labels
            if followers is not None and followers.idle and followers.advance():
                heapq.heappush(heads, (followers.head(), followers.index))

    def _with_truth(self, reader: TableReader) -> Iterator[Rows]:
        for rows in reader.rows():
            if self._frauds is not None and reader.table.labels is None:
                self._judge(rows, self._frauds)
            yield rows

    def _judge(self, rows: Rows, frauds: dict[str, int]) -> None:
        """Give transactions their truth by event id; silence is legitimate, as in the engine."""
        if rows.event_ids is None or "transactions" not in rows.topics:
            return
        given = rows.event_ids.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
        is_fraud = pc.is_in(rows.event_ids, self._fraud_ids).to_numpy(zero_copy_only=False)
        rows.truth[given] = LEGITIMATE
        for row in np.flatnonzero(is_fraud & given):
            rows.truth[row] = FRAUD
            rows.known_ms[row] = frauds[rows.event_ids[int(row)].as_py().decode()]


class _Block:
    """Rows as records; `order` are their sort keys, which never fall."""

    __slots__ = ("known", "order", "records", "truth")

    def __init__(self, rows: Rows, order: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> None:
        make = partial(tuple.__new__, SourceRecord)
        self.records: list[SourceRecord] = list(
            map(make, zip(rows.topics, rows.keys, ts_ms.tolist(), rows.values, strict=True))
        )
        self.order = order
        self.truth = rows.truth.astype(np.int8, copy=False).tobytes()
        self.known = rows.known_ms.astype(np.int64, copy=False).tobytes()


class _Stream:
    """Blocks of one table and a position in the newest."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.position = 0
        self.labels: _LabelStream | None = None
        self.block: _Block

    def head(self) -> int:
        return int(self.block.order[self.position])

    def end_before(self, other: tuple[int, int]) -> int:
        """Return the end of the run that comes before another stream's (key, index)."""
        side = "right" if self.index < other[1] else "left"
        return int(np.searchsorted(self.block.order, other[0], side=side))  # type: ignore[call-overload]

    def advance(self) -> bool:
        """Take the next block; False where there is none (yet)."""
        raise NotImplementedError


class _LabelStream(_Stream):
    """Derived labels in the order in which they fall due; filled by their table's stream."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self._waiting: deque[_Block] = deque()
        self._order_last = 0
        self.idle = True

    def put(self, rows: Rows, not_before: NDArray[np.int64]) -> None:
        """Add labels; none comes before its time, its transaction or the label before it."""
        order = np.maximum(rows.ts_ms * _RANK_COUNT + TOPIC_RANKS["labels"], not_before)
        order = np.maximum(np.maximum.accumulate(order), self._order_last)
        self._order_last = int(order[-1])
        self._waiting.append(_Block(rows, order, rows.ts_ms))

    def advance(self) -> bool:
        self.idle = not self._waiting
        if self.idle:
            return False
        self.block, self.position = self._waiting.popleft(), 0
        return True


class _TableStream(_Stream):
    """The records of a table; reading a block hands its derived labels to `labels`."""

    def __init__(self, index: int, rows: Iterator[Rows], labels: _LabelStream) -> None:
        super().__init__(index)
        self._rows = rows
        self.labels = labels
        self._order_last = 0
        self._ts_ms_last: int | None = None

    def advance(self) -> bool:
        for rows in self._rows:
            if rows.values:
                self.block, self.position = self._ordered(rows), 0
                return True
        return False

    def _ordered(self, rows: Rows) -> _Block:
        ts_ms = self._times(rows)
        ranks = np.array([TOPIC_RANKS[topic] for topic in rows.topics], dtype=np.int64)
        # Merging by heads is sorting by the running maximum of the keys.
        order = np.maximum.accumulate(ts_ms * _RANK_COUNT + ranks)
        order = np.maximum(order, self._order_last)
        self._order_last = int(order[-1])
        if rows.due is not None and self.labels is not None:
            labels, row_numbers = rows.due
            self.labels.put(labels, order[row_numbers])
        return _Block(rows, order, ts_ms)

    def _times(self, rows: Rows) -> NDArray[np.int64]:
        """Return event times; an unreadable one is that of the row before (or the first after)."""
        timed = np.flatnonzero(rows.timed)
        if self._ts_ms_last is None:
            self._ts_ms_last = int(rows.ts_ms[timed[0]]) if len(timed) else TS_MS_MIN
        if len(timed) == len(rows.ts_ms):
            ts_ms = rows.ts_ms
        else:
            before = np.searchsorted(timed, np.arange(len(rows.ts_ms)), side="right")
            known = np.concatenate([[self._ts_ms_last], rows.ts_ms[timed]])
            ts_ms = known[before]
        if len(timed):
            self._ts_ms_last = int(rows.ts_ms[timed[-1]])
        return ts_ms


def _chunk(records: list[SourceRecord], truth: bytearray, known: bytearray) -> SourceChunk:
    return SourceChunk(
        records, np.frombuffer(truth, dtype=np.int8), np.frombuffer(known, dtype=np.int64)
    )


def open_source(path: Path | str, mapping: Mapping | None = None) -> Source:
    """Open a file or directory of traffic.

    Without a mapping, `path` is a file of native JSON lines or a directory of tables named by
    topic. Raises MillraceError where there is nothing to read and SourceError where the mapping
    doesn't fit the tables.
    """
    path = Path(path)
    if not path.exists():
        nearest = None
        if path.parent.is_dir():
            nearest = nearest_name(path.name, sorted(p.name for p in path.parent.iterdir()))
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        raise MillraceError(f"{path}: expected a file or a directory, got nothing there{hint}")
    if not path.is_dir():
        return _open_file(path, mapping)
    mapping = mapping or default_mapping()
    readers = [
        open_table(file, table, mapping)
        for table in mapping.tables
        if (file := _find(path, mapping, table.path, table.place, table.optional)) is not None
    ]
    if not readers:
        wanted = ", ".join(str(table.path) for table in mapping.tables)
        raise MillraceError(f"{path}: expected at least one of {wanted}, got none of them")
    return Source(readers, _frauds(path, mapping, readers))


def _open_file(path: Path, mapping: Mapping | None) -> Source:
    if mapping is None:
        if path.suffix.lower() not in _NATIVE_SUFFIXES:
            raise MillraceError(
                f"{path}: expected a mapping for a table (or a file of native records ending in "
                f"{' or '.join(_NATIVE_SUFFIXES)}), got none"
            )
        table = TableSpec(kind="transaction", place=Place(1, 1))
        reader: TableReader = JsonLinesReader(path, table, by_name=False)
        return Source([reader], _label_frauds([reader]))
    table = mapping.tables[0]
    if len(mapping.tables) > 1 or table.path is not None:
        line, column = table.place
        expected = "one table without a `path`, because the source is a file"
        got = f"{len(mapping.tables)} tables with paths" if table.path is not None else "several"
        raise SourceError(mapping.file, line, column, expected, got)
    readers = [open_table(path, table, mapping)]
    return Source(readers, _frauds(path.parent, mapping, readers))


def _find(
    directory: Path, mapping: Mapping, name: str | None, place: Place, optional: bool
) -> Path | None:
    if name is None:
        expected = "a `path`, because the source is a directory"
        raise SourceError(mapping.file, place.line, place.column, expected, "none")
    file = directory / name
    if file.is_file():
        return file
    if optional:
        return None
    nearest = nearest_name(name, sorted(p.name for p in directory.iterdir()))
    expected = f"a file in {directory}"
    raise SourceError(mapping.file, place.line, place.column, expected, f"`{name}`", nearest)


def _frauds(directory: Path, mapping: Mapping, readers: list[TableReader]) -> dict[str, int] | None:
    """Return the fraudulent event ids and when each becomes known; None where nothing says so."""
    labelled = _label_frauds(readers)
    truth = mapping.truth
    if truth is None:
        return labelled
    file = _find(directory, mapping, truth.path, truth.place, truth.optional)
    if file is None:
        return labelled
    known = labelled or {}
    return {
        event_id: known.get(event_id, NEVER_MS) for event_id in read_truth(file, truth, mapping)
    }


def _label_frauds(readers: list[TableReader]) -> dict[str, int] | None:
    """Read the label records ahead; the last verdict on an event counts."""
    frauds: dict[str, int] = {}
    verdict_count = 0
    for reader in readers:
        if not reader.may_hold_labels:
            continue
        for verdict in verdicts(reader):
            verdict_count += 1
            if verdict.verdict == "fraud":
                frauds.setdefault(verdict.event_id, verdict.ts_ms)
            else:
                frauds.pop(verdict.event_id, None)
    return frauds if verdict_count else None
