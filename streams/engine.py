"""What every runtime does with a batch: load, decide, deliver, store.

A runtime brings records and their positions, and says what is to happen where event time passes
the publication of a model. The engine does all the rest, so that no two runtimes can differ.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from actions.policy import Policy
from features.batches import Batch
from features.errors import RecordError
from features.hashing import DEFAULT_KEY, IdHasher
from features.raw import RawRecord
from streams.adopting import NOT_AN_INPUT, Change
from streams.committer import Committer
from streams.foreign import ForeignReader, ForeignSettings
from streams.memory import MemoryBound
from streams.partition import Write
from streams.processor import PartitionWrites, Processor
from streams.residency import Resident
from streams.sinks import Sink
from streams.store import PartitionChange, Store

Offsets = dict[str, int]  # topic -> next offset


class Owned(NamedTuple):
    """An owner's name in the store is ours: the epoch that proves it, and what it has stored."""

    epoch: int
    offsets: Offsets


class Journal(Protocol):
    """What a runtime adds to a checkpoint; asked for when one is put together."""

    def positions(self) -> Mapping[str, Offsets]:
        """Return, by owner, the next offset of each topic after all that was decided."""

    def writes(self) -> Mapping[str, Sequence[Write]]:
        """Return, by owner, what the runtime itself has to store since the last call."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs; nothing here changes what it decides."""

    checkpoint_ms: int = 100
    checkpoint_max_count: int = 50_000  # records after which a checkpoint does not wait any longer
    store_patience_ms: int = 30_000  # how long to wait for a store that is away before giving up
    id_key: bytes = DEFAULT_KEY
    memory_mib_max: int | None = None  # of the process's resident set; idle state leaves memory
    partition_count: int = 0  # of all processes together; 0: there are none but ours
    foreign: ForeignSettings = field(default_factory=ForeignSettings)


def acquire_all(store: Store, owners: Sequence[str]) -> dict[str, Owned]:
    """Raise the epoch of every owner; whoever held one of them before is fenced off."""
    return {owner: Owned(*store.acquire(owner)) for owner in owners}


class Engine:
    """One processor over the partitions of one process, checkpointing to a store.

    `owned` are the partitions and whatever else the runtime stores, as `acquire_all` gave them.
    `sequence` counts the records before; `change_fault` judges records that change the policy.
    `on_stage` hears the name of each stage of a batch when it ends, `on_commit` the seconds and
    bytes of each checkpoint. Not for several threads at once. What the sink or the store raises
    leaves an engine that must not go on: make another, which starts from what is stored.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        sink: Sink,
        journal: Journal,
        partitions: Sequence[int],
        owned: Mapping[str, Owned],
        settings: EngineSettings,
        *,
        sequence: int = 0,
        change_fault: Callable[[Change], RecordError | None] = lambda _: NOT_AN_INPUT,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        on_stage: Callable[[str], None] = lambda _: None,
        on_commit: Callable[[float, int], None] = lambda _s, _bytes: None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._sink = sink
        self._journal = journal
        self._now_ns = monotonic_ns
        self._on_stage = on_stage
        self._owned = owned
        self._committed = {owner: dict(offsets) for owner, (_, offsets) in owned.items()}
        self._committer = Committer(
            store,
            settings.store_patience_ms,
            monotonic_ns=monotonic_ns,
            sleep=sleep,
            on_commit=on_commit,
        )
        self.is_fresh = not any(self._committed.values())
        hasher = IdHasher(settings.id_key)
        self.processor = Processor(
            policy,
            partitions,
            hasher,
            fresh=self.is_fresh,
            foreign_partitions=sorted(set(range(settings.partition_count)) - set(partitions)),
            on_stage=on_stage,
            change_fault=change_fault,
        )
        bound_mib = settings.memory_mib_max
        self._memory = MemoryBound(self.processor.residency, bound_mib) if bound_mib else None
        self.sequence = sequence  # of the next record in the whole input
        self.uncommitted_count = 0  # records decided since the last checkpoint was begun
        self._checkpointed_ns = self._now_ns()
        self._generation = 0  # of the changes whose commit was begun last
        if not self.is_fresh:
            self.processor.restore(
                lambda partition, keys: self.load([(str(partition), key) for key in keys])
            )
        self.others: ForeignReader | None = None  # reads what other processes store
        if self.processor.foreign is not None:
            self.others = ForeignReader(store, self.processor, settings.foreign)
            self.others.start()

    def renew(self, owned: Mapping[str, Owned], sink: Sink) -> None:
        """Go on under new epochs, where nobody else wrote in between; nothing may be under way."""
        self._owned = owned
        self._sink = sink

    @property
    def committed(self) -> Mapping[str, Offsets]:
        """The offsets of the checkpoint that was begun last, by owner and topic."""
        return self._committed

    @property
    def resident(self) -> Resident:
        """What state is in memory, and what went out and came in."""
        return self.processor.residency.now

    @property
    def over_bound_count(self) -> int:
        """How many batches had to be taken over the memory bound."""
        return self._memory.over_count if self._memory else 0

    def load(self, places: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Return the stored value of each (owner, key), waiting for a store that is away."""
        return self._committer.patiently(partial(self._store.load, places))

    def make_room(self, row_count: int) -> None:
        """Have idle state leave memory; wait for commits where it can't leave before them.

        To be called before a batch is read: a commit covers what was read, so all of that must be
        decided.
        """
        if self._memory is None or self._memory.make_room(row_count):
            return
        self.finish_commit()
        if self._memory.make_room(row_count):
            return
        self.checkpoint()
        if not self._memory.make_room(row_count):
            self._memory.note_over()

    def read(self, raws: Sequence[RawRecord]) -> Batch:
        """Decode the records, and take the state that they need into memory."""
        self.take_others()
        batch = self.processor.decode(raws)
        batch.first = self.sequence
        self.sequence += len(raws)
        self._on_stage("decode")
        self._load_missing(batch)
        self._on_stage("load")
        return batch

    def take_others(self) -> None:
        """Take in what was read of other processes; to be called where there is no batch, too."""
        if self.others is not None:
            self.others.apply()

    def note_decided(self, count: int) -> None:
        """Count records that were decided and delivered; store what is due to be stored."""
        self.uncommitted_count += count
        if self.is_checkpoint_due:
            self.begin_checkpoint()

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether it is time to store what was decided."""
        waited_ns = self._now_ns() - self._checkpointed_ns
        return (
            waited_ns >= self._settings.checkpoint_ms * 1_000_000
            or self.uncommitted_count >= self._settings.checkpoint_max_count
            or (self._memory is not None and self._memory.is_checkpoint_due())
        )

    def _load_missing(self, batch: Batch) -> None:
        has_room = self._memory is None
        while keys := self.processor.missing(batch):
            values = self.load([(str(key.partition), key.key) for key in keys])
            if not has_room:
                # Only once: what leaves now may be what this batch needs, and is asked for again.
                self._make_room_for(sum(len(value) for value in values if value), len(batch.raws))
                has_room = True
            self.processor.load(zip(keys, values, strict=True))

    def _make_room_for(self, stored_bytes: int, row_count: int) -> None:
        """Have idle state leave memory for state that comes; no commit may be begun now."""
        if self._memory is not None and not self._memory.make_room(row_count, stored_bytes):
            self.finish_commit()
            self._memory.make_room(row_count, stored_bytes)

    def checkpoint(self) -> None:
        """Store everything decided so far; returns once the store has it."""
        self.begin_checkpoint()
        self.finish_commit()

    def finish_commit(self) -> None:
        """Wait for the commit that is under way; raise what went wrong with it."""
        self._committer.finish()
        self.processor.residency.confirmed(self._generation)

    def begin_checkpoint(self) -> None:
        """Send state and offsets of all owners off in one commit, behind the sink's flush."""
        if self._memory is not None:
            self._memory.look()
        positions = {owner: dict(offsets) for owner, offsets in self._journal.positions().items()}
        with _without_collections():
            changes = self._changes(positions)
            self._committer.begin(changes, before=self._sink.flush)
        # The commit before this one has ended well, or `begin` had raised.
        self.processor.residency.confirmed(self._generation)
        self._generation = self.processor.residency.generation
        self._committed = {o: c | positions.get(o, {}) for o, c in self._committed.items()}
        self.uncommitted_count = 0
        self._checkpointed_ns = self._now_ns()

    def _changes(self, positions: Mapping[str, Offsets]) -> list[PartitionChange]:
        own = self._journal.writes()
        found = {str(partition): some for partition, some in self.processor.changes().items()}
        changes = []
        for owner in self._owned:
            some = found.get(owner, PartitionWrites([], [], []))
            some.writes.extend(own.get(owner, ()))
            changes.append(self._change(owner, positions.get(owner, {}), some))
        return changes

    def _change(self, owner: str, positions: Offsets, found: PartitionWrites) -> PartitionChange:
        committed = self._committed[owner]
        offsets = {topic: (committed.get(topic, 0), offset) for topic, offset in positions.items()}
        return PartitionChange(owner, self._owned[owner].epoch, offsets, *found)

    def close(self) -> None:
        """Let go of all threads, after the commit under way; what failed there is raised."""
        if self.others is not None:
            self.others.stop()
        self._committer.close()


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep the garbage collector from walking through a hundred thousand new tuples, none garbage.

    With Python's defaults it did so several times in one checkpoint, at 75 ms each.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
