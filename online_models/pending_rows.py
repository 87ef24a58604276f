"""Where pending labels wait: columns in chunks of rows, and the index from event to row.

A row's number counts up from 0 in order of arrival and is never used again. Chunk `c` holds the
rows from `c * CHUNK_ROWS` on. No Python object is kept per event.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import RecordError, nearest_name
from online_models.framing import FloatArray, seal, unseal
from online_models.kernels import index_get, index_put

CHUNK_ROWS = 256  # also the unit of writing: a checkpoint writes the filling chunk once more
SCHEMA_VERSION = 3
HEAD, ROWS_KIND, STATUS_KIND = "head", "rows", "status"
TABLE_SLOTS_MIN = 1024
TABLE_REACH = 2**31 - 1  # rows in the index's table are int32, counted from its first row

IntArray = NDArray[np.int64]
Flags = NDArray[np.bool_]
KnownRows = Callable[[], Iterable[tuple[IntArray, IntArray]]]


# What became of a row. Plain numbers: the attributes of an IntEnum cost a microsecond a look-up.
SILENT = 0  # waits, no verdict so far
FRAUD = 1  # waits, the last verdict was fraud
LEGITIMATE = 2  # waits, the last verdict was legitimate
WAITING_MAX = LEGITIMATE  # a status above is final
MATURED = 3
DROPPED = 4  # pushed out by the cap on rows
REPEATED = 5  # its event was already known: the first snapshot counts


class _Rows(Struct, frozen=True):
    input_count: int
    score_count: int
    events: bytes
    ts_ms: bytes
    clock_ms: bytes
    features: bytes
    scores: bytes


class _Statuses(Struct, frozen=True):
    statuses: bytes


class Chunk:
    """`count` rows of up to CHUNK_ROWS, as columns.

    `clock_ms` is the partition's clock just before a row arrived. `wake_ms` is the event time
    under which the chunk stands in its owner's heap, None if it does not.
    """

    __slots__ = (
        "clock_ms", "count", "events", "features", "number", "scores", "status", "ts_ms", "wake_ms",
    )  # fmt: skip

    def __init__(self, number: int, input_count: int, score_count: int = 0) -> None:
        self.number = number
        self.count = 0
        self.events: IntArray = np.empty(CHUNK_ROWS, dtype=np.int64)
        self.ts_ms: IntArray = np.empty(CHUNK_ROWS, dtype=np.int64)
        self.clock_ms: IntArray = np.empty(CHUNK_ROWS, dtype=np.int64)
        self.status: NDArray[np.uint8] = np.full(CHUNK_ROWS, SILENT, dtype=np.uint8)
        self.features: FloatArray = np.empty((CHUNK_ROWS, input_count))
        self.scores: FloatArray = np.empty((CHUNK_ROWS, score_count))
        self.wake_ms: int | None = None

    @property
    def first_row(self) -> int:
        """Return the number of the chunk's first row."""
        return self.number * CHUNK_ROWS

    @property
    def is_full(self) -> bool:
        """Return whether no more rows go in."""
        return self.count == CHUNK_ROWS

    def extend(
        self,
        events: IntArray,
        ts_ms: IntArray,
        clock_ms: IntArray,
        features: FloatArray,
        scores: FloatArray,
    ) -> None:
        """Add rows behind those that are there; they must fit."""
        end = self.count + len(events)
        self.events[self.count : end] = events
        self.ts_ms[self.count : end] = ts_ms
        self.clock_ms[self.count : end] = clock_ms
        self.features[self.count : end] = features
        self.scores[self.count : end] = scores
        self.count = end

    def waiting(self) -> Flags:
        """Return which of the `count` rows still wait, with a verdict or without."""
        return np.less_equal(self.status[: self.count], WAITING_MAX)

    def known(self) -> tuple[IntArray, IntArray]:
        """Return events and row numbers of the rows that a label or a repeat may still meet."""
        rows = np.flatnonzero(self.waiting())
        return self.events[rows], rows + self.first_row

    def encode_rows(self) -> bytes:
        """Return the columns as a frame with a checksum."""
        n = self.count
        body = _Rows(
            input_count=self.features.shape[1],
            score_count=self.scores.shape[1],
            events=self.events[:n].astype("<i8").tobytes(),
            ts_ms=self.ts_ms[:n].astype("<i8").tobytes(),
            clock_ms=self.clock_ms[:n].astype("<i8").tobytes(),
            features=self.features[:n].astype("<f8").tobytes(),
            scores=self.scores[:n].astype("<f8").tobytes(),
        )
        return seal(ROWS_KIND, SCHEMA_VERSION, body)

    def encode_status(self) -> bytes:
        """Return what became of the rows as a frame with a checksum."""
        return seal(STATUS_KIND, SCHEMA_VERSION, _Statuses(self.status[: self.count].tobytes()))

    @classmethod
    def decode(
        cls, number: int, rows: bytes, status: bytes, input_count: int, score_count: int = 0
    ) -> "Chunk":
        """Return the chunk of two frames; scores of another number of contestants become NaN.

        Raises RecordError for damaged frames, another number of inputs, or columns of different
        lengths.
        """
        where = f"pending labels, chunk {number}"
        columns = unseal(rows, ROWS_KIND, SCHEMA_VERSION, _Rows, where)
        statuses = unseal(status, STATUS_KIND, SCHEMA_VERSION, _Statuses, where).statuses
        if columns.input_count != input_count:
            raise RecordError(where, f"{input_count} inputs", f"{columns.input_count}")
        n = len(statuses)
        sizes_bytes = [len(column) for column in msgspec.structs.astuple(columns)[2:]]
        widths = [1, 1, 1, input_count, columns.score_count]
        if n > CHUNK_ROWS or sizes_bytes != [8 * n * width for width in widths]:
            raise RecordError(where, f"{n} rows in every column", f"bytes {sizes_bytes}")
        scores = np.frombuffer(columns.scores, dtype="<f8").reshape(n, columns.score_count)
        if columns.score_count != score_count:
            scores = np.full((n, score_count), np.nan)
        chunk = cls(number, input_count, score_count)
        chunk.extend(
            np.frombuffer(columns.events, dtype="<i8"),
            np.frombuffer(columns.ts_ms, dtype="<i8"),
            np.frombuffer(columns.clock_ms, dtype="<i8"),
            np.frombuffer(columns.features, dtype="<f8").reshape(n, input_count),
            scores,
        )
        chunk.status[:n] = np.frombuffer(statuses, dtype=np.uint8)
        return chunk


def rows_name(number: int) -> str:
    """Return the name of the blob that holds a chunk's columns."""
    return f"{ROWS_KIND}-{number:012d}"


def status_name(number: int) -> str:
    """Return the name of the blob that holds what became of a chunk's rows."""
    return f"{STATUS_KIND}-{number:012d}"


def decode_chunks(
    blobs: Mapping[str, bytes], next_row: int, input_count: int, score_count: int, where: str
) -> dict[int, Chunk]:
    """Return the chunks of the blobs, in order of arrival.

    Raises RecordError where a blob is damaged, unknown or missing, or has too few rows: every
    chunk is full but the last, which ends at `next_row`.
    """
    known = {HEAD}
    chunks: dict[int, Chunk] = {}
    for name in sorted(blobs):
        kind, _, digits = name.partition("-")
        if kind == ROWS_KIND and digits.isascii() and digits.isdigit():
            number = int(digits)
            known |= {rows_name(number), status_name(number)}
            if status_name(number) not in blobs:
                raise RecordError(where, f"a blob `{status_name(number)}`", "none")
            status = blobs[status_name(number)]
            chunk = Chunk.decode(number, blobs[name], status, input_count, score_count)
            chunks[number] = chunk
    unknown = sorted(blobs.keys() - known)
    if unknown:
        raise RecordError(where, "known blobs", f"`{unknown[0]}`", nearest_name(unknown[0], known))
    last, last_count = divmod(next_row, CHUNK_ROWS)
    if last_count and last not in chunks:
        raise RecordError(where, f"a blob `{rows_name(last)}`", "none")
    for number, chunk in chunks.items():
        expected = CHUNK_ROWS if number < last else last_count
        if number > last or chunk.count != expected:
            raise RecordError(where, f"{expected} rows in chunk {number}", f"{chunk.count}")
    return chunks


class EventIndex:
    """From an event to its newest row: an open-addressed table of 12 bytes a slot.

    Rows that have left stay in the table until it fills up and is rebuilt from the rows that are
    still known, so nothing is paid for removal; a caller checks that the row it gets is there.
    A dict would take eight times the memory and a Python step for each event.
    """

    def __init__(self) -> None:
        self._clear(TABLE_SLOTS_MIN, 0)

    def put(self, events: IntArray, first_row: int, known: KnownRows) -> IntArray:
        """Point `events` (n,) at the rows from `first_row` on, one after the other.

        Returns the rows they had before, -1 for none, shape (n,). `known` gives the rows to keep
        when the table is rebuilt, in order of arrival.
        """
        rows = np.arange(first_row, first_row + len(events))
        is_full = 3 * (self._used + len(events)) > 2 * len(self._rows)
        if is_full or first_row + len(events) - self._base > TABLE_REACH:
            self.rebuild(known(), len(events))
        return self._put(events, rows)

    def point(self, event: int, row: int) -> None:
        """Point one event at a row."""
        self._put(np.array([event]), np.array([row]))

    def get(self, event: int) -> int:
        """Return the event's newest row, which may have left since; -1 if it never had one."""
        found = int(index_get(self._keys, self._rows, event))
        return found if found < 0 else found + self._base

    def rebuild(self, known: Iterable[tuple[IntArray, IntArray]], coming_count: int = 0) -> None:
        """Begin anew with the known rows, and room for `coming_count` more."""
        parts = [part for part in known if len(part[0])]
        wanted = 2 * (sum(len(events) for events, _ in parts) + coming_count)
        base = int(parts[0][1][0]) if parts else 0
        self._clear(max(TABLE_SLOTS_MIN, 1 << (wanted - 1).bit_length()), base)
        for events, rows in parts:
            self._put(events, rows)

    def _clear(self, slot_count: int, base: int) -> None:
        # The old table goes before the new one comes, so that the two are never held at once.
        self._keys: IntArray = np.empty(0, dtype=np.int64)
        self._rows: NDArray[np.int32] = np.empty(0, dtype=np.int32)
        self._keys = np.empty(slot_count, dtype=np.int64)
        self._rows = np.full(slot_count, -1, dtype=np.int32)
        self._base = base
        self._used = 0

    def _put(self, events: IntArray, rows: IntArray) -> IntArray:
        previous = np.empty(len(events), dtype=np.int64)
        self._used += int(index_put(self._keys, self._rows, events, rows - self._base, previous))
        previous[previous >= 0] += self._base
        return previous
