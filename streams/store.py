"""Where a partition's state lives: values, input offsets and the owner's epoch change together.

Semantics shared by every store, checked by one suite of tests:

- `acquire` raises a partition's epoch; whoever holds an older one is fenced off from then on.
- `commit` first checks every partition's epoch and offsets, then writes all or nothing. Values
  are absolute, so that a commit whose outcome is unknown can be sent again unchanged: where the
  stored offsets already are its new ones, it counts as done.
- A topic that was never committed is at offset 0.
- A commit that names shared keys raises the partition's generation and notes it beside them, so
  that other processes find what changed without looking at everything.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple, Protocol

from features.errors import MillraceError

RESERVED_KEY = b"meta"  # holds a partition's epoch, offsets and generation
SHARED_KEY = b"shared"  # holds which shared keys changed in the last generations
SHARED_KEPT_COUNT = 128  # generations; whoever is further behind reads everything again
VALUE_MAX_BYTES = 512 * 1024 * 1024  # the longest string that Redis takes
COMMIT_MAX_COUNT = 1_000_000  # keys of one commit: Redis takes 1,048,576 arguments in a command
_PARTITION_NAME = re.compile(r"[^{}\s]{1,128}")


class PartitionChange(NamedTuple):
    """What a commit changes in one partition; keys are relative to the partition.

    `offsets`: topic -> (next offset expected in the store, new next offset).
    `writes`: (key, byte offset, value). Offset 0 replaces the whole value; any other overwrites
    from that byte on, an absent or shorter value being filled up with zero bytes.
    `deletes` happen before `writes`, so that a key in both holds what was written.
    `shared` names those of the written keys that other processes keep copies of.

    Let every commit move an offset (a counter will do where there is no topic): a request that
    was given up as lost may still arrive late, and only moved offsets keep it from being applied
    over newer values.
    """

    partition: str
    epoch: int
    offsets: dict[str, tuple[int, int]]
    writes: Sequence[tuple[bytes, int, bytes | memoryview]]
    deletes: Sequence[bytes]
    shared: Sequence[bytes] = ()


class SharedMark(NamedTuple):
    """Up to where a reader knows the shared keys of a partition."""

    epoch: int
    generation: int


class SharedChanges(NamedTuple):
    """What changed of a partition's shared keys since some mark, in no particular order.

    `keys` is None where that can't be told: too much has happened since, or another owner, whose
    store may have lost what was seen before, took the partition over. Everything may have changed.
    """

    mark: SharedMark
    keys: list[bytes] | None


class StoreError(MillraceError):
    """Base class of what a store can answer instead of doing what was asked."""


class FencedError(StoreError):
    """Someone else owns the partition now: drop its state, nothing of the commit was written."""

    def __init__(self, partition: str, epoch: int, stored_epoch: int) -> None:
        self.partition = partition
        self.epoch = epoch
        self.stored_epoch = stored_epoch
        super().__init__(
            f"partition {partition}: our epoch is {epoch}, the stored one {stored_epoch}; "
            "another worker owns it (or the store was emptied): acquire it again"
        )


class OffsetGapError(StoreError):
    """A commit does not continue where the stored offsets stand; nothing was written."""

    def __init__(self, partition: str, topic: str, expected: int, stored: int) -> None:
        self.partition = partition
        self.topic = topic
        self.expected = expected
        self.stored = stored
        super().__init__(
            f"partition {partition}, topic {topic}: expected the stored next offset to be "
            f"{expected}, got {stored}"
        )


class StoreUnavailableError(StoreError):
    """The store can't be reached: wait and try the same call again.

    The outcome of a `commit` is then unknown; sending the same changes again is safe.
    """


class StoreRefusedError(StoreUnavailableError):
    """The store answers but takes no writes now (full, read-only, loading); nothing was written."""


class Store(Protocol):
    """State of partitions; the runtime owns those that it has acquired."""

    def acquire(self, partition: str) -> tuple[int, dict[str, int]]:
        """Raise the epoch by one; return it with topic -> next offset."""

    def commit(self, changes: Sequence[PartitionChange]) -> None:
        """Write all changes or none; raise FencedError, OffsetGapError, StoreUnavailableError."""

    def load(self, keys: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Return the value of each (partition, key), None where there is none."""

    def shared_changes(self, partition: str, since: SharedMark | None) -> SharedChanges:
        """Return which shared keys changed since `since` was returned; None: nothing is known."""

    def scan(self, partition: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value) of a partition in order of keys: for tests and tools."""

    def close(self) -> None:
        """Let go of connections; the store can't be used afterwards."""


def checked_partition(partition: str) -> str:
    """Return `partition` if it can be part of a key, else raise ValueError."""
    if not _PARTITION_NAME.fullmatch(partition):
        raise ValueError(
            f"expected a partition name of 1 to 128 characters without braces and blanks, "
            f"got {partition!r}"
        )
    return partition


def check_changes(changes: Sequence[PartitionChange]) -> None:
    """Raise ValueError for changes that no store may take; called by every store's `commit`.

    Everything a store could stumble over halfway is refused here: Redis does not undo the part
    of a script that ran before an error.
    """
    if len({change.partition for change in changes}) != len(changes):
        raise ValueError(f"a partition twice in one commit: {[c.partition for c in changes]}")
    count = sum(len(c.writes) + len(c.deletes) + len(c.shared) for c in changes)
    if count > COMMIT_MAX_COUNT:
        raise ValueError(f"expected at most {COMMIT_MAX_COUNT} keys in a commit, got {count}")
    for change in changes:
        checked_partition(change.partition)
        if change.epoch < 1:  # an emptied store stands at 0, and must fence everyone off
            raise ValueError(f"partition {change.partition}: acquire it first, epochs begin at 1")
        for topic, (expected, new) in change.offsets.items():
            if not 0 <= expected <= new:
                raise ValueError(
                    f"partition {change.partition}, topic {topic}: expected offsets that go on "
                    f"from 0, got {expected} to {new}"
                )
        if change.writes:
            _check_writes(change)
        _refuse_reserved(change.partition, change.deletes)


def _refuse_reserved(partition: str, keys: Sequence[bytes]) -> None:
    for reserved in (RESERVED_KEY, SHARED_KEY):
        if reserved in keys:
            raise ValueError(f"partition {partition}: the key {reserved!r} is reserved")


def _check_writes(change: PartitionChange) -> None:
    keys, starts, values = zip(*change.writes, strict=True)
    _refuse_reserved(change.partition, keys)
    # One pass in C each over the common case; the row at fault is looked for only if there is one.
    if min(starts) >= 0 and max(starts) + max(map(len, values)) <= VALUE_MAX_BYTES:
        return
    for key, start, value in change.writes:
        if start < 0 or start + len(value) > VALUE_MAX_BYTES:
            raise ValueError(
                f"partition {change.partition}, key {key!r}: expected bytes within 0 to "
                f"{VALUE_MAX_BYTES}, got {start} to {start + len(value)}"
            )


class MemoryStore:
    """A store without a server: for tests and for replays that nobody continues."""

    def __init__(self) -> None:
        self._epochs: dict[str, int] = {}
        self._offsets: dict[str, dict[str, int]] = {}
        self._values: dict[str, dict[bytes, bytes]] = {}
        self._generations: dict[str, int] = {}
        self._shared: dict[str, deque[Sequence[bytes]]] = {}  # of the last generations

    def acquire(self, partition: str) -> tuple[int, dict[str, int]]:
        """Raise the epoch by one; return it with topic -> next offset."""
        checked_partition(partition)
        self._epochs[partition] = self._epochs.get(partition, 0) + 1
        return self._epochs[partition], dict(self._offsets.get(partition, {}))

    def commit(self, changes: Sequence[PartitionChange]) -> None:
        """Write all changes or none."""
        check_changes(changes)
        for change in changes:
            stored_epoch = self._epochs.get(change.partition, 0)
            if stored_epoch != change.epoch:
                raise FencedError(change.partition, change.epoch, stored_epoch)
        if self._check_offsets(changes):
            for change in changes:
                self._apply(change)

    def load(self, keys: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Return the value of each (partition, key), None where there is none."""
        return [self._values.get(partition, {}).get(key) for partition, key in keys]

    def shared_changes(self, partition: str, since: SharedMark | None) -> SharedChanges:
        """Return which shared keys changed since `since` was returned."""
        mark = SharedMark(self._epochs.get(partition, 0), self._generations.get(partition, 0))
        if since is None or since.epoch != mark.epoch:
            return SharedChanges(mark, None)
        noted, behind = self._shared.get(partition, ()), mark.generation - since.generation
        if not 0 <= behind <= len(noted):
            return SharedChanges(mark, None)
        newest = islice(reversed(noted), behind)
        return SharedChanges(mark, list(dict.fromkeys(chain.from_iterable(newest))))

    def scan(self, partition: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value) of a partition in order of keys."""
        yield from sorted(self._values.get(partition, {}).items())

    def close(self) -> None:
        """Nothing to let go of."""

    def _check_offsets(self, changes: Sequence[PartitionChange]) -> bool:
        """Return True to apply, False where it is done already; raise OffsetGapError."""
        gap: OffsetGapError | None = None
        done = True
        for change in changes:
            stored_offsets = self._offsets.get(change.partition, {})
            for topic, (expected, new) in change.offsets.items():
                stored = stored_offsets.get(topic, 0)
                if stored != expected and gap is None:
                    gap = OffsetGapError(change.partition, topic, expected, stored)
                done = done and stored == new
        if gap is not None and not done:
            raise gap
        return gap is None

    def _apply(self, change: PartitionChange) -> None:
        values = self._values.setdefault(change.partition, {})
        for key in change.deletes:
            values.pop(key, None)
        for key, start, value in change.writes:
            if start == 0:
                values[key] = bytes(value)
            elif value:
                old = values.get(key, b"").ljust(start, b"\0")
                values[key] = old[:start] + bytes(value) + old[start + len(value) :]
        offsets = self._offsets.setdefault(change.partition, {})
        offsets.update({topic: new for topic, (_, new) in change.offsets.items()})
        if change.shared:
            self._generations[change.partition] = self._generations.get(change.partition, 0) + 1
            noted = self._shared.setdefault(change.partition, deque(maxlen=SHARED_KEPT_COUNT))
            noted.append(list(change.shared))
