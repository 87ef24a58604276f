"""The embedded runtime's log: Kafka's topics, partitions and offsets inside one process."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from threading import Lock
from typing import cast

import numpy as np
from numpy.typing import NDArray

from features.errors import MillraceError
from features.kernels.murmur2 import take_offsets
from features.raw import RawRecord
from streams.partitioner import checked_partition_count, partitions_of

UNREAD_MAX_COUNT = 100_000

TopicPartition = tuple[str, int]


class BackPressureError(MillraceError):
    """The reader is behind: nothing of this append was taken. Read, then append it again."""

    def __init__(self, unread_count: int, append_count: int, max_unread: int) -> None:
        self.unread_count = unread_count
        self.append_count = append_count
        self.max_unread = max_unread
        super().__init__(
            f"log is full: {unread_count} unread and {append_count} to append, "
            f"at most {max_unread} may wait; read some first"
        )


class OffsetGoneError(MillraceError):
    """A seek to records that `truncate_read` has freed."""

    def __init__(self, topic: str, partition: int, offset: int, first_kept: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.first_kept = first_kept
        super().__init__(
            f"{topic}/{partition}: expected an offset of {first_kept} or more "
            f"(what lay before was freed), got {offset}"
        )


class PartitionedLog:
    """Topics of `partition_count` partitions each, read in the order of appending.

    At most `max_unread` records wait to be read: an `append` that would go beyond is refused
    whole with BackPressureError, so that a caller never has to find out which part was taken;
    `room_count` says how many would fit. What was read stays until `truncate_read`, so that
    `seek` can go back to it. Safe to append and read from different threads.
    """

    def __init__(self, partition_count: int, max_unread: int = UNREAD_MAX_COUNT) -> None:
        if max_unread < 1:
            raise ValueError(f"max_unread: expected 1 or more, got {max_unread}")
        self.partition_count = checked_partition_count(partition_count)
        self.max_unread = max_unread
        self._lock = Lock()
        self._topic_starts: dict[str, int] = {}  # topic -> index of its partition 0 in ...
        self._next_offsets = np.empty(0, np.int64)  # ... the next offset of each (topic, partition)
        self._kept: list[RawRecord] = []  # every record since the last truncate_read
        self._queue: list[RawRecord] = []  # those of them that a read gives or gave
        self._cursor = 0  # index in _queue of the next record to read
        self._settled = 0  # _position covers _queue up to here
        self._position: dict[TopicPartition, int] = {}
        self._first_kept: dict[TopicPartition, int] = {}
        self._ahead: set[TopicPartition] = set()  # sought beyond the end: appends are skipped

    @property
    def room_count(self) -> int:
        """How many records can be appended now."""
        return self.max_unread - (len(self._queue) - self._cursor)

    def append(
        self, topics: str | Sequence[str], keys: Sequence[str], values: Sequence[bytes]
    ) -> None:
        """Append records, of one topic or with one topic each.

        The key gives the partition (as Kafka does), topic and partition give the offset.
        Raises BackPressureError when not all would fit; then nothing was taken.
        """
        count = len(values)
        if len(keys) != count or not (isinstance(topics, str) or len(topics) == count):
            topic_count = 1 if isinstance(topics, str) else len(topics)
            raise ValueError(
                f"expected a key and a topic (or one topic for all) per value, "
                f"got {len(keys)} keys, {topic_count} topics, {count} values"
            )
        if count > self.max_unread:
            raise ValueError(
                f"expected at most max_unread={self.max_unread} records in one append, got {count}"
            )
        partitions = partitions_of(keys, self.partition_count)
        with self._lock:
            if count > self.room_count:
                unread_count = len(self._queue) - self._cursor
                raise BackPressureError(unread_count, count, self.max_unread)
            offsets = take_offsets(partitions + self._rows_of(topics), self._next_offsets)
            names = repeat(topics) if isinstance(topics, str) else topics
            rows = zip(partitions.tolist(), names, offsets.tolist(), values, strict=False)
            # tuple.__new__ skips the Python frame of RawRecord.__new__: 0.18 against 0.42 us.
            records = cast(list[RawRecord], list(map(tuple.__new__, repeat(RawRecord), rows)))
            self._kept.extend(records)
            self._queue.extend(self._wanted(records) if self._ahead else records)
            if self._ahead:
                self._ahead = self._still_ahead(self._ahead)

    def read(self, limit: int) -> list[RawRecord]:
        """Return up to `limit` records in the order of appending, over all partitions."""
        with self._lock:
            records = self._queue[self._cursor : self._cursor + max(limit, 0)]
            self._cursor += len(records)
            return records

    def give_back(self, count: int) -> None:
        """Have the next read begin `count` records earlier; only those read last can be given back.

        Raises ValueError where the position behind them was told already.
        """
        with self._lock:
            if not 0 <= count <= self._cursor - self._settled:
                most = self._cursor - self._settled
                raise ValueError(f"expected at most {most} records to give back, got {count}")
            self._cursor -= count

    def seek(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the next offset to read of the partitions named; the others stay where they are.

        An offset beyond the end is allowed: records are then skipped as they are appended,
        until that offset is reached (a source that is fed again from its start).
        Raises OffsetGoneError for records that were freed; then nothing has moved.
        """
        with self._lock:
            for (topic, partition), offset in offsets.items():
                if not 0 <= partition < self.partition_count:
                    raise ValueError(
                        f"{topic}/{partition}: expected a partition below {self.partition_count}"
                    )
                first_kept = self._first_kept.get((topic, partition), 0)
                if offset < first_kept:
                    raise OffsetGoneError(topic, partition, offset, first_kept)
            self._settle()
            self._position.update(offsets)
            self._queue = self._wanted(self._kept)
            self._cursor = self._settled = 0
            self._ahead = self._still_ahead(self._position)

    def truncate_read(self) -> None:
        """Free what was read. Call it once a checkpoint covers all that was read."""
        with self._lock:
            self._settle()
            del self._queue[: self._cursor]
            self._kept = self._queue.copy()
            self._cursor = self._settled = 0
            self._first_kept = {
                place: min(offset, self._end(place)) for place, offset in self._position.items()
            }

    def position(self) -> dict[TopicPartition, int]:
        """Return the next offset to read of every partition that was read or sought, sorted."""
        with self._lock:
            self._settle()
            return dict(sorted(self._position.items()))

    def _rows_of(self, topics: str | Sequence[str]) -> int | NDArray[np.int64]:
        """Return where each topic's partitions begin in `_next_offsets`, a new topic included."""
        known = self._topic_starts
        for topic in (topics,) if isinstance(topics, str) else dict.fromkeys(topics):
            if topic not in known:
                known[topic] = len(self._next_offsets)
                fresh = np.zeros(self.partition_count, np.int64)
                self._next_offsets = np.concatenate([self._next_offsets, fresh])
        if isinstance(topics, str):
            return known[topics]
        return np.fromiter(map(known.__getitem__, topics), np.int64, len(topics))

    def _end(self, place: TopicPartition) -> int:
        topic, partition = place
        start = self._topic_starts.get(topic)
        return 0 if start is None else int(self._next_offsets[start + partition])

    def _settle(self) -> None:
        """Bring `_position` up to the cursor: done on asking, so that reading costs a slice."""
        for partition, topic, offset, _ in self._queue[self._settled : self._cursor]:
            self._position[topic, partition] = offset + 1
        self._settled = self._cursor

    def _wanted(self, records: Sequence[RawRecord]) -> list[RawRecord]:
        position = self._position
        return [r for r in records if r.offset >= position.get((r.topic, r.partition), 0)]

    def _still_ahead(self, places: Iterable[TopicPartition]) -> set[TopicPartition]:
        return {place for place in places if self._position[place] > self._end(place)}
