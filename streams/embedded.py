"""The embedded runtime: an in-process log, a real Redis, and the same engine as everywhere."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hdrh.histogram import HdrHistogram

from actions.policy import Policy
from features.batches import Batch
from features.columns import Cell, Kind
from features.hashing import DEFAULT_KEY
from features.raw import RawRecord
from features.records import ENCODER
from streams.adopting import Change, first_change
from streams.emissions import Emission, Output, report_emission
from streams.engine import Engine, EngineSettings, Offsets, Owned, acquire_all
from streams.log import PartitionedLog
from streams.partition import Write
from streams.processor import Processor
from streams.reloads import POLICY_KEY, Reloads
from streams.residency import Resident
from streams.sinks import Sink
from streams.store import Store
from streams.training import TRAINER_OWNER, Training

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

    @property
    def engine(self) -> EngineSettings:
        """Those of them that are the engine's."""
        return EngineSettings(
            checkpoint_ms=self.checkpoint_ms,
            checkpoint_max_count=self.checkpoint_max_count,
            store_patience_ms=self.store_patience_ms,
            id_key=self.id_key,
            memory_mib_max=self.memory_mib_max,
        )


class EmbeddedRuntime:
    """Drives one engine over an in-process log; the models learn in the same process.

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
        self._sink = sink
        self._on_output = on_output
        self._now_ns = monotonic_ns
        self._store = store
        self._sleep = sleep
        partitions = range(self._settings.partition_count)
        self._owned = acquire_all(store, [*map(str, partitions), TRAINER_OWNER])
        self.checkpoint_count = self._owned[TRAINER_OWNER].offsets.get("checkpoints", 0)
        self._reloads = Reloads(policy)
        (published,) = store.load([(TRAINER_OWNER, POLICY_KEY)])
        if published is not None:
            policy = self._reloads.restore(published)
        self.log = PartitionedLog(self._settings.partition_count)
        self._clock_ms = 0
        self.latency_ns = HdrHistogram(1_000, LATENCY_MAX_NS, 3)
        self._start(policy)
        if not self._engine.is_fresh:
            self._go_to_stored()

    def _start(self, policy: Policy, sequence: int = 0) -> None:
        """Have an engine and trainers of this policy, which take up what is stored."""
        self._engine = Engine(
            policy,
            self._store,
            self._sink,
            self,
            range(self._settings.partition_count),
            self._owned,
            self._settings.engine,
            sequence=sequence,
            change_fault=self._reloads.fault,
            monotonic_ns=self._now_ns,
            sleep=self._sleep,
        )
        self.training = Training(policy.models)
        if not self._engine.is_fresh:
            versions = self.training.restore(
                lambda keys: self._engine.load([(TRAINER_OWNER, key) for key in keys])
            )
            for version in versions:
                self.processor.apply_model(version)

    def _go_to_stored(self) -> None:
        self._clock_ms = max(state.clock_ms for state in self.processor.partitions.values())
        self.log.seek(
            {
                (topic, partition): offset
                for partition in range(self._settings.partition_count)
                for topic, offset in self._engine.committed[str(partition)].items()
            }
        )

    @property
    def processor(self) -> Processor:
        """What decides now; a change of the policy may put another in its place."""
        return self._engine.processor

    @property
    def policy(self) -> Policy:
        """What it decides by now: the policy given, or as control records have changed it."""
        return self._reloads.policy

    @property
    def resident(self) -> Resident:
        """What state is in memory, and what went out and came in."""
        return self._engine.resident

    @property
    def over_bound_count(self) -> int:
        """How many batches had to be taken over the memory bound."""
        return self._engine.over_bound_count

    def submit(self, topics: Sequence[str], keys: Sequence[str], values: Sequence[bytes]) -> None:
        """Append records to the log and decide everything that is unread."""
        self.log.append(topics, keys, values)
        while raws := self._read():
            self._step(raws)
        # State in memory holds what was read; after a crash the source is read again, not the log.
        self.log.truncate_read()

    def _read(self) -> Sequence[RawRecord]:
        """Read the next batch, once there is room for it."""
        unread_count = self.log.max_unread - self.log.room_count
        if unread_count:
            self._engine.make_room(min(unread_count, self._settings.batch_max_count))
        return self.log.read(self._settings.batch_max_count)

    def _step(self, raws: Sequence[RawRecord]) -> None:
        started_ns = self._now_ns()
        batch = self._engine.read(raws)
        found = first_change(batch)
        count = len(raws) if found is None else found[0] + 1
        if count < len(raws):  # the rest is read again, under the policy as it is then
            self.log.give_back(len(raws) - count)
            self._engine.sequence -= len(raws) - count
        self._decide(batch.cut(0, count))
        if found is not None:
            self._change(found[1])
        latency_ns = min(self._now_ns() - started_ns, LATENCY_MAX_NS)
        self.latency_ns.record_value(latency_ns, count)
        self._engine.note_decided(count)

    def _change(self, change: Change) -> None:
        """Decide by the policy that a record leads to, from the record behind it on."""
        before = self._reloads.policy
        policy = self._reloads.take(change)
        if policy.version == before.version or self.processor.adopt(policy):
            return
        self._engine.checkpoint()
        self._owned = {
            owner: Owned(self._owned[owner].epoch, offsets)
            for owner, offsets in self._engine.committed.items()
        }
        self._engine.close()
        self._start(policy, self._engine.sequence)

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
        for version, reports in self.training.publish(clock_ms):
            self._deliver(Output(emissions=[report_emission(report) for report in reports]))
            if version is not None:
                self.processor.apply_model(version)

    def _deliver(self, output: Output) -> None:
        self.training.collect(output.training)
        for _, order in output.promotions:
            self.training.promote(order)
        if self._settings.emit_training:
            for example in output.training:
                output.emissions.append(Emission("training", "", ENCODER.encode(example)))
        if output.emissions:
            self._sink.write(output.emissions)
        if self._on_output is not None:
            self._on_output(output)

    def positions(self) -> Mapping[str, Offsets]:
        """Return the next offset of everything decided, and the number of this checkpoint."""
        positions: dict[str, Offsets] = {TRAINER_OWNER: {}}
        for (topic, partition), offset in self.log.position().items():
            positions.setdefault(str(partition), {})[topic] = offset
        self.checkpoint_count += 1
        positions[TRAINER_OWNER]["checkpoints"] = self.checkpoint_count
        return positions

    def writes(self) -> Mapping[str, Sequence[Write]]:
        """Return what the trainer stores."""
        writes = self.training.changes()
        published = self._reloads.changed_state()
        if published is not None:
            writes.append(Write(POLICY_KEY, 0, published))
        return {TRAINER_OWNER: writes}

    def checkpoint(self) -> None:
        """Store everything decided so far; returns once the store has it."""
        self._engine.checkpoint()

    def close(self) -> None:
        """Checkpoint what was decided; the store and the sink stay open, they are the caller's."""
        try:
            self.checkpoint()
        finally:
            self._engine.close()
