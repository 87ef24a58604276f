"""The embedded runtime: an in-process log, a real Redis, and the same processor as everywhere."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from hdrh.histogram import HdrHistogram

from actions.policy import Policy
from features.batches import Batch
from features.columns import Cell, Kind
from features.hashing import DEFAULT_KEY, IdHasher
from features.raw import RawRecord
from features.records import ENCODER
from streams.committer import Committer
from streams.emissions import Emission, Output
from streams.log import PartitionedLog
from streams.memory import MemoryBound
from streams.partition import Write
from streams.processor import Processor
from streams.residency import Resident
from streams.sinks import Sink
from streams.store import PartitionChange, Store
from streams.training import Training

TRAINER_PARTITION = "trainer"
LATENCY_MAX_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """How an embedded engine runs; nothing here changes what it decides."""

    partition_count: int = 4
    batch_max_count: int = 512
    checkpoint_ms: int = 100
    checkpoint_max_count: int = 50_000  # records after which a checkpoint does not wait any longer
    store_patience_ms: int = 30_000  # how long to wait for a store that is away before giving up
    id_key: bytes = DEFAULT_KEY
    emit_training: bool = True  # also write matured examples to the topic `training`
    memory_mib_max: int | None = None  # of the process's resident set; idle state leaves memory


class EmbeddedRuntime:
    """Drives one processor over an in-process log, checkpointing to a store.

    `on_output` sees every output before its batch counts as done; `monotonic_ns` is the clock of
    checkpoints and latency, never of decisions.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        sink: Sink,
        settings: EmbeddedSettings | None = None,
        *,
        on_output: Callable[[Output], None] | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings or EmbeddedSettings()
        self._store = store
        self._sink = sink
        self._on_output = on_output
        self._now_ns = monotonic_ns
        self._committer = Committer(
            store, self._settings.store_patience_ms, monotonic_ns=monotonic_ns, sleep=sleep
        )
        self._partitions = range(self._settings.partition_count)
        owners = [str(p) for p in self._partitions] + [TRAINER_PARTITION]
        self._owned = {owner: store.acquire(owner) for owner in owners}
        stored = {owner: offsets for owner, (_, offsets) in self._owned.items()}
        fresh = not any(stored.values())
        hasher = IdHasher(self._settings.id_key)
        self.processor = Processor(policy, self._partitions, hasher, fresh=fresh)
        self.training = Training(policy.models)
        self.log = PartitionedLog(self._settings.partition_count)
        self._committed = {owner: dict(offsets) for owner, offsets in stored.items()}
        self._clock_ms = 0
        self._sequence = 0
        self._uncommitted_count = 0
        self._checkpointed_ns = self._now_ns()
        self._generation = 0  # of the changes whose commit was begun last
        bound_mib = self._settings.memory_mib_max
        self._memory = MemoryBound(self.processor.residency, bound_mib) if bound_mib else None
        self.latency_ns = HdrHistogram(1_000, LATENCY_MAX_NS, 3)
        self.checkpoint_count = self._committed[TRAINER_PARTITION].get("checkpoints", 0)
        if not fresh:
            self._restore()

    def _restore(self) -> None:
        self.processor.restore(
            lambda partition, keys: self._store.load([(str(partition), key) for key in keys])
        )
        versions = self.training.restore(
            lambda keys: self._store.load([(TRAINER_PARTITION, key) for key in keys])
        )
        for version in versions:
            self.processor.apply_model(version)
        self._clock_ms = max(state.clock_ms for state in self.processor.partitions.values())
        self.log.seek(
            {
                (topic, partition): offset
                for partition in self._partitions
                for topic, offset in self._committed[str(partition)].items()
            }
        )

    @property
    def resident(self) -> Resident:
        """What state is in memory, and what went out and came in."""
        return self.processor.residency.now

    @property
    def over_bound_count(self) -> int:
        """How many batches had to be taken over the memory bound."""
        return self._memory.over_count if self._memory else 0

    def submit(self, topics: Sequence[str], keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Append records to the log and decide everything that is unread."""
        self.log.append(topics, keys, values)
        while raws := self._read():
            self._step(raws)
        # State in memory holds what was read; after a crash the source is read again, not the log.
        self.log.truncate_read()

    def _read(self) -> Sequence[RawRecord]:
        """Read the next batch, once there is room for it.

        Not the other way round: a commit covers what was read, so all of that must be decided.
        """
        unread_count = self.log.max_unread - self.log.room_count
        if unread_count:
            self._make_room(min(unread_count, self._settings.batch_max_count))
        return self.log.read(self._settings.batch_max_count)

    def _step(self, raws: Sequence[RawRecord]) -> None:
        started_ns = self._now_ns()
        batch = self.processor.decode(raws)
        batch.first = self._sequence
        self._sequence += len(raws)
        self._load_missing(batch)
        self._decide(batch)
        now_ns = self._now_ns()
        self.latency_ns.record_value(min(now_ns - started_ns, LATENCY_MAX_NS), len(raws))
        self._uncommitted_count += len(raws)
        waited_ns = now_ns - self._checkpointed_ns
        if (
            waited_ns >= self._settings.checkpoint_ms * 1_000_000
            or self._uncommitted_count >= self._settings.checkpoint_max_count
            or (self._memory is not None and self._memory.is_checkpoint_due())
        ):
            self._begin_checkpoint()

    def _make_room(self, row_count: int) -> None:
        """Have idle state leave memory; wait for commits where it can't leave before them."""
        if self._memory is None or self._memory.make_room(row_count):
            return
        self._finish_commit()
        if self._memory.make_room(row_count):
            return
        self.checkpoint()
        if not self._memory.make_room(row_count):
            self._memory.note_over()

    def _load_missing(self, batch: Batch) -> None:
        has_room = self._memory is None
        while keys := self.processor.missing(batch):
            places = [(str(key.partition), key.key) for key in keys]
            values = self._committer.patiently(partial(self._store.load, places))
            if not has_room:
                # Only once: what leaves now may be what this batch needs, and is asked for again.
                self._make_room_for(sum(len(value) for value in values if value), len(batch.raws))
                has_room = True
            self.processor.load(zip(keys, values, strict=True))

    def _make_room_for(self, stored_bytes: int, row_count: int) -> None:
        """Have idle state leave memory for state that comes; no commit may be begun now."""
        if self._memory is not None and not self._memory.make_room(row_count, stored_bytes):
            self._finish_commit()
            self._memory.make_room(row_count, stored_bytes)

    def _decide(self, batch: Batch) -> None:
        """Decide a batch, cut where event time passes the publication of a model."""
        times_ms = np.where(batch.kinds == Kind.REFUSED, self._clock_ms, batch.cells[Cell.TS_MS])
        clocks_ms = np.maximum.accumulate(np.maximum(times_ms, self._clock_ms))
        start = 0
        while start < len(clocks_ms):
            due_ms = self.training.next_due_ms(int(clocks_ms[start]))
            stop = int(np.searchsorted(clocks_ms, due_ms))
            if stop > start:
                self._deliver(self.processor.process(batch.cut(start, stop)))
                start = stop
            else:
                self._publish(int(clocks_ms[start]))
        self._clock_ms = int(clocks_ms[-1])

    def _publish(self, clock_ms: int) -> None:
        self._deliver(self.processor.heartbeat(self.training.heartbeat_ms(clock_ms)))
        for version in self.training.publish(clock_ms):
            self.processor.apply_model(version)

    def _deliver(self, output: Output) -> None:
        self.training.collect(output.training)
        if self._settings.emit_training:
            for example in output.training:
                output.emissions.append(Emission("training", "", ENCODER.encode(example)))
        if output.emissions:
            self._sink.write(output.emissions)
        if self._on_output is not None:
            self._on_output(output)

    def checkpoint(self) -> None:
        """Store everything decided so far; returns once the store has it."""
        self._begin_checkpoint()
        self._finish_commit()

    def _finish_commit(self) -> None:
        self._committer.finish()
        self.processor.residency.confirmed(self._generation)

    def _begin_checkpoint(self) -> None:
        """Flush the sink, then send state and offsets of all partitions off in one script call."""
        self._sink.flush()
        if self._memory is not None:
            self._memory.look()
        positions: dict[str, dict[str, int]] = {owner: {} for owner in self._owned}
        for (topic, partition), offset in self.log.position().items():
            positions[str(partition)][topic] = offset
        self.checkpoint_count += 1
        positions[TRAINER_PARTITION]["checkpoints"] = self.checkpoint_count
        with _without_collections():
            changes = [
                self._change(str(partition), positions, found.writes, found.deletes)
                for partition, found in self.processor.changes().items()
            ]
            training_writes = self.training.changes()
            changes.append(self._change(TRAINER_PARTITION, positions, training_writes, []))
            self._committer.begin(changes)
        # The commit before this one has ended well, or `begin` had raised.
        self.processor.residency.confirmed(self._generation)
        self._generation = self.processor.residency.generation
        self._committed = positions
        self._uncommitted_count = 0
        self._checkpointed_ns = self._now_ns()

    def _change(
        self,
        owner: str,
        positions: dict[str, dict[str, int]],
        writes: Sequence[Write],
        deletes: list[bytes],
    ) -> PartitionChange:
        committed = self._committed[owner]
        offsets = {
            topic: (committed.get(topic, 0), offset) for topic, offset in positions[owner].items()
        }
        return PartitionChange(owner, self._owned[owner][0], offsets, list(writes), deletes)

    def close(self) -> None:
        """Checkpoint what was decided; the store and the sink stay open, they are the caller's."""
        try:
            self.checkpoint()
        finally:
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
