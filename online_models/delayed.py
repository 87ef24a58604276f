"""Labels that come late: what was seen when deciding waits until its event's horizon has passed.

**Frauds wait too.** A verdict only marks its row; the example comes out when its turn has come,
like that of an event on which there was silence. Frauds become known within days, silence counts
only after the horizon: examples that came out as soon as they were known would be nearly all
frauds at first, and a model that learned them in that order would alert on everything. In the
order of events the share of frauds among the examples is right at any time.

**Order and cuts.** Every example comes out at a moment that follows from event times alone, and
the examples of one moment come in order of arrival. So the sequence of examples is the same for
any cut of the stream into batches, if the caller keeps to this: it calls `mature(clock)` before
each label and at the end of each batch, where clock is the greatest event time so far. A row that
arrives out of order never holds back another one.

**The cap** counts rows from the newest back, whatever became of them: a row is dropped when
`cap_count` more have arrived and it still waits, with its verdict if it has one. **A repeat** of
an event whose horizon has not passed is refused: the first snapshot counts.
"""

import math
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

import numpy as np
from msgspec import Struct

from features.errors import RecordError
from features.records import TrainingExample
from online_models.framing import FloatArray, seal, unseal, usable
from online_models.kernels import sample_mask
from online_models.pending_rows import (
    CHUNK_ROWS,
    DROPPED,
    FRAUD,
    HEAD,
    LEGITIMATE,
    MATURED,
    REPEATED,
    SCHEMA_VERSION,
    WAITING_MAX,
    Chunk,
    EventIndex,
    Flags,
    IntArray,
    decode_chunks,
    rows_name,
    status_name,
)

CLOCK_START_MS = -(2**62)  # before any event


class _Head(Struct, frozen=True, kw_only=True):
    model: str
    input_count: int
    next_row: int
    clock_ms: int
    dropped_count: int
    unmatched_count: int
    repeated_count: int


class PendingLabels:
    """The decisions of one model in one partition that have not become examples yet.

    Parameters: `horizon_ms`, how long every event waits, after which silence counts as legitimate;
    `legitimate_sample`, the share of legitimate examples to keep, in (0, 1]: a kept one weighs
    1 / `legitimate_sample`; `seed` of that sample; `cap_count` of rows held; `score_count`, how
    many scores were given to each event, which its example tells again. Which events are in
    the sample depends on the event and the seed only. Raises RecordError for a value out of range.

    `dropped_count` counts rows lost to the cap, `unmatched_count` labels for an event that is not
    waiting (unknown, matured or dropped), `repeated_count` refused repeats.
    """

    def __init__(
        self,
        model: str,
        input_count: int,
        horizon_ms: int,
        legitimate_sample: float,
        seed: int,
        cap_count: int,
        score_count: int = 0,
    ) -> None:
        if not 0.0 < legitimate_sample <= 1.0:
            raise RecordError("$.legitimate_sample", "a share in (0, 1]", f"{legitimate_sample}")
        for name, value in (("input_count", input_count), ("cap_count", cap_count)):
            if value < 1:
                raise RecordError(f"$.{name}", "1 or more", f"{value}")
        if horizon_ms < 0:
            raise RecordError("$.horizon_ms", "0 or more", f"{horizon_ms}")
        self.model = model
        self.dropped_count = 0
        self.unmatched_count = 0
        self.repeated_count = 0
        self._input_count = input_count
        self._score_count = score_count
        self._horizon_ms = horizon_ms
        self._sample = legitimate_sample
        self._seed = seed & (2**63 - 1)
        self._cap_count = cap_count
        self._next_row = 0
        self._clock_ms = CLOCK_START_MS
        self._chunks: dict[int, Chunk] = {}
        self._index = EventIndex()
        self._heap: list[tuple[int, int]] = []  # (wake_ms, chunk number); stale entries are skipped
        self._written: set[int] = set()
        self._rows_changed: set[int] = set()
        self._status_changed: set[int] = set()
        self._head_written = b""

    @property
    def pending_count(self) -> int:
        """Return how many rows wait, with a verdict or without."""
        return sum(int(chunk.waiting().sum()) for chunk in self._chunks.values())

    def append(
        self,
        events: IntArray,
        ts_ms: IntArray,
        features: FloatArray,
        clocks_ms: IntArray | None = None,
        scores: FloatArray | None = None,
    ) -> None:
        """Keep what was seen and said: `events`, `ts_ms` (n,), `features` (n, k), `scores` (n, s).

        Features that are NaN, infinite or beyond ±1e100 are kept as NaN. `clocks_ms` (n,) is the
        partition's clock before each row, where records of other kinds move it too; without it,
        the clock is the greatest `ts_ms` so far. Raises ValueError for shapes that do not fit.
        """
        n = len(events)
        if scores is None:
            scores = np.empty((n, 0))
        shapes = (events.shape, ts_ms.shape, features.shape, scores.shape)
        if shapes != ((n,), (n,), (n, self._input_count), (n, self._score_count)):
            expected = f"(n,), (n,), (n, {self._input_count}), (n, {self._score_count})"
            raise ValueError(
                f"events, ts_ms, features, scores: expected shapes {expected}, got {shapes}"
            )
        if n == 0:
            return
        before_ms = self._clocks_before(ts_ms, clocks_ms)
        first_row = self._next_row
        previous = self._index.put(events, first_row, self._known)
        self._write(events, ts_ms, before_ms, usable(features, math.nan), scores)
        self._refuse_repeats(events, first_row, previous, before_ms)
        self._drop_oldest(first_row, before_ms)
        self._clock_ms = max(int(before_ms[-1]), int(ts_ms.max()))

    def label(self, event: int, fraud: bool) -> None:
        """Take a verdict on an event that waits; the last one before its horizon passes counts.

        If the event does not wait, the verdict is counted in `unmatched_count` and lost.
        """
        row = self._index.get(event)
        chunk = self._chunks.get(row // CHUNK_ROWS)
        place = row % CHUNK_ROWS
        if row < 0 or chunk is None or chunk.status[place] > WAITING_MAX:
            self.unmatched_count += 1
            return
        chunk.status[place] = FRAUD if fraud else LEGITIMATE
        self._status_changed.add(chunk.number)

    def mature(self, now_ms: int) -> list[TrainingExample]:
        """Return the examples of events with ts_ms + horizon_ms < `now_ms`.

        All that were labelled fraud, with weight 1; of the others, those in the sample, weighted.
        Their `matured_ms` is ts_ms + horizon_ms; they come in the order of coming due, then of
        arrival.
        """
        self._clock_ms = max(self._clock_ms, now_ms)
        before_ms = now_ms - self._horizon_ms
        due: list[tuple[Chunk, IntArray, Flags]] = []
        while self._heap and self._heap[0][0] < before_ms:
            wake_ms, number = heappop(self._heap)
            chunk = self._chunks.get(number)
            if chunk is None or chunk.wake_ms != wake_ms:
                continue
            chunk.wake_ms = None
            is_due = chunk.waiting() & (chunk.ts_ms[: chunk.count] < before_ms)
            places = np.flatnonzero(is_due)
            if len(places):
                due.append((chunk, *self._kept(chunk, places)))
                chunk.status[places] = MATURED
                self._status_changed.add(number)
            self._settle(chunk)
        return self._examples(due) if due else []

    def changes(self) -> list[tuple[str, bytes | None]]:
        """Return the named blobs to write since the last call, None for one to delete."""
        out: list[tuple[str, bytes | None]] = []
        for number in sorted(self._written - self._chunks.keys()):
            out += [(rows_name(number), None), (status_name(number), None)]
            self._written.remove(number)
        for number in sorted(self._rows_changed & self._chunks.keys()):
            out.append((rows_name(number), self._chunks[number].encode_rows()))
            self._written.add(number)
        for number in sorted((self._rows_changed | self._status_changed) & self._chunks.keys()):
            out.append((status_name(number), self._chunks[number].encode_status()))
        self._rows_changed.clear()
        self._status_changed.clear()
        head = self._encode_head()
        if head != self._head_written:
            out.append((HEAD, head))
            self._head_written = head
        return out

    def load(self, blobs: Mapping[str, bytes]) -> None:
        """Take the place of the object whose `changes` left these blobs; call it on a new object.

        Horizon, sample, seed and cap may differ from before and then apply from now on. An empty
        mapping is a partition that has no state yet. Raises RecordError for a blob that is
        damaged, missing or unknown, or that belongs to another model or number of inputs.
        """
        if not blobs:
            return
        where = f"pending labels of `{self.model}`"
        if HEAD not in blobs:
            raise RecordError(where, f"a blob `{HEAD}`", f"only {', '.join(sorted(blobs))}")
        head = unseal(blobs[HEAD], HEAD, SCHEMA_VERSION, _Head, where)
        if (head.model, head.input_count) != (self.model, self._input_count):
            expected = f"model `{self.model}` with {self._input_count} inputs"
            raise RecordError(where, expected, f"`{head.model}` with {head.input_count}")
        self._chunks = decode_chunks(
            blobs, head.next_row, self._input_count, self._score_count, where
        )
        self._next_row = head.next_row
        self._clock_ms = head.clock_ms
        self.dropped_count = head.dropped_count
        self.unmatched_count = head.unmatched_count
        self.repeated_count = head.repeated_count
        self._written = set(self._chunks)
        self._head_written = self._encode_head()
        self._index.rebuild(self._known())
        for chunk in list(self._chunks.values()):
            self._settle(chunk)

    def _clocks_before(self, ts_ms: IntArray, clocks_ms: IntArray | None) -> IntArray:
        seen = np.empty(len(ts_ms), dtype=np.int64)
        seen[0] = self._clock_ms
        np.maximum(ts_ms[:-1], self._clock_ms, out=seen[1:])
        if clocks_ms is not None:
            seen = np.maximum(seen, clocks_ms)
        return np.maximum.accumulate(seen)

    def _write(
        self,
        events: IntArray,
        ts_ms: IntArray,
        before_ms: IntArray,
        features: FloatArray,
        scores: FloatArray,
    ) -> None:
        start = 0
        while start < len(events):
            number, place = divmod(self._next_row, CHUNK_ROWS)
            if number not in self._chunks:
                self._chunks[number] = Chunk(number, self._input_count, self._score_count)
            chunk = self._chunks[number]
            rows = slice(start, start + CHUNK_ROWS - place)
            chunk.extend(events[rows], ts_ms[rows], before_ms[rows], features[rows], scores[rows])
            self._rows_changed.add(number)
            self._wake(chunk, int(ts_ms[rows].min()))
            written_count = len(events[rows])
            start += written_count
            self._next_row += written_count

    def _refuse_repeats(
        self, events: IntArray, first_row: int, previous: IntArray, before_ms: IntArray
    ) -> None:
        """Mark rows whose event was known when they arrived, and point the index back.

        Whether it was is asked of the clock before the row, not of what has matured so far, which
        depends on the cut of batches.
        """
        newest: dict[int, int] = {}
        for i in np.flatnonzero(previous >= 0).tolist():
            event, row = int(events[i]), first_row + i
            earlier = newest.get(event, int(previous[i]))
            newest[event] = row
            chunk, place = self._chunks.get(earlier // CHUNK_ROWS), earlier % CHUNK_ROWS
            if chunk is None or row - earlier >= self._cap_count:
                continue
            if chunk.ts_ms[place] + self._horizon_ms >= before_ms[i]:
                self._chunks[row // CHUNK_ROWS].status[row % CHUNK_ROWS] = REPEATED
                self.repeated_count += 1
                newest[event] = earlier
        for event, row in newest.items():
            self._index.point(event, row)

    def _drop_oldest(self, first_row: int, before_ms: IntArray) -> None:
        """Drop the rows that the new ones pushed over the cap while they still waited.

        The row `cap_count` before a new one goes unless it was due by the clock before the new
        one: then it has matured, or will at the next call of `mature`, whatever the cut.
        """
        row = max(first_row - self._cap_count, 0)
        end = self._next_row - self._cap_count
        while row < end:
            number, place = divmod(row, CHUNK_ROWS)
            count = min(CHUNK_ROWS - place, end - row)
            chunk = self._chunks.get(number)
            if chunk is not None:
                pushed_by = row + self._cap_count - first_row
                due_ms = chunk.ts_ms[place : place + count] + self._horizon_ms
                waits = chunk.waiting()[place : place + count]
                waits &= due_ms >= before_ms[pushed_by : pushed_by + count]
                chunk.status[place : place + count][waits] = DROPPED
                self.dropped_count += int(waits.sum())
                self._status_changed.add(number)
                self._settle(chunk)
            row += count

    def _settle(self, chunk: Chunk) -> None:
        """Say when to look at the chunk next, or let it go when no row can matter any more.

        It goes at a time that does not depend on the cut: when every row's horizon has passed,
        that of a refused or dropped row too, or when all are over the cap.
        """
        waiting = chunk.waiting()
        ts_ms = chunk.ts_ms[: chunk.count]
        if waiting.any():
            self._wake(chunk, int(ts_ms[waiting].min()))
        elif chunk.is_full:
            last_ms = int(ts_ms.max())
            is_over_cap = chunk.first_row + CHUNK_ROWS <= self._next_row - self._cap_count
            if is_over_cap or last_ms + self._horizon_ms < self._clock_ms:
                del self._chunks[chunk.number]
            else:
                self._wake(chunk, last_ms)

    def _wake(self, chunk: Chunk, ts_ms: int) -> None:
        if chunk.wake_ms is None or ts_ms < chunk.wake_ms:
            chunk.wake_ms = ts_ms
            heappush(self._heap, (ts_ms, chunk.number))

    def _known(self) -> Iterable[tuple[IntArray, IntArray]]:
        return [chunk.known() for chunk in self._chunks.values()]

    def _kept(self, chunk: Chunk, places: IntArray) -> tuple[IntArray, Flags]:
        """Return which of the places become examples, and which of those are frauds."""
        is_fraud = np.equal(chunk.status[places], FRAUD)
        is_kept = np.empty(len(places), dtype=np.bool_)
        sample_mask(chunk.events[places], self._seed, self._sample, is_kept)
        is_kept |= is_fraud
        return places[is_kept], is_fraud[is_kept]

    def _examples(self, due: list[tuple[Chunk, IntArray, Flags]]) -> list[TrainingExample]:
        """Return the examples of places in chunks, with which of them are frauds, in order."""
        events = np.concatenate([chunk.events[places] for chunk, places, _ in due])
        ts_ms = np.concatenate([chunk.ts_ms[places] for chunk, places, _ in due])
        clock_ms = np.concatenate([chunk.clock_ms[places] for chunk, places, _ in due])
        rows = np.concatenate([places + chunk.first_row for chunk, places, _ in due])
        features = np.concatenate([chunk.features[places] for chunk, places, _ in due])
        scores = np.concatenate([chunk.scores[places] for chunk, places, _ in due])
        frauds = np.concatenate([is_fraud for _, _, is_fraud in due])
        # The first clock that releases a row is one past its horizon, or the clock it came at.
        order = np.lexsort((rows, np.maximum(ts_ms + self._horizon_ms + 1, clock_ms)))
        weights = np.where(frauds, 1.0, 1.0 / self._sample)
        found = (events, ts_ms, frauds, weights, features, scores)
        columns = (column[order].tolist() for column in found)
        return [
            TrainingExample(
                model=self.model,
                event=event,
                ts_ms=at_ms,
                matured_ms=at_ms + self._horizon_ms,
                fraud=fraud,
                weight=weight,
                features=values,
                scores=[] if said and said[0] != said[0] else said,  # NaN: none were given
            )
            for event, at_ms, fraud, weight, values, said in zip(*columns, strict=True)
        ]

    def _encode_head(self) -> bytes:
        head = _Head(
            model=self.model,
            input_count=self._input_count,
            next_row=self._next_row,
            clock_ms=self._clock_ms,
            dropped_count=self.dropped_count,
            unmatched_count=self.unmatched_count,
            repeated_count=self.repeated_count,
        )
        return seal(HEAD, SCHEMA_VERSION, head)
