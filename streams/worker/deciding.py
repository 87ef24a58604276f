"""The engine of a worker: what runs on its thread, and lives from one assignment to the next."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from actions.policy import Policy
from features.errors import MillraceError
from features.raw import RawRecord
from online_models.versions import ModelVersion
from streams.emissions import Output
from streams.engine import Engine, EngineSettings, Offsets, Owned, acquire_all
from streams.foreign import ForeignState
from streams.metrics import Metrics, StageClock
from streams.partition import Write
from streams.residency import Resident
from streams.sinks import Sink
from streams.store import FencedError, Store, StoreError, StoreUnavailableError
from streams.worker import decisions
from streams.worker.learning import SEQUENCE_KEY, Outbox, Point
from streams.worker.status import Phase, Status
from streams.worker.waiting import Grid, Holding, running_clocks_ms

RETRY_S = 0.2
HELD_BATCH_COUNT = 512  # held records that are looked at together
logger = logging.getLogger(__name__)


class WorkerError(MillraceError):
    """Something that a restart would not mend: the worker ends with this message."""


class AbandonedError(StoreError):
    """The store is away, and partitions have to be let go of: what was not stored is repeated."""


class Patience:
    """Waits for a store that is away, until somebody is in a hurry."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._hurry = threading.Event()

    def hurry(self) -> None:
        """Have whoever waits, and whoever begins to, give up."""
        self._hurry.set()

    def reset(self) -> None:
        """Be patient again."""
        self._hurry.clear()

    def sleep(self, seconds: float) -> None:
        """Wait a little; raise AbandonedError when in a hurry."""
        self._status.enter(Phase.STORE_AWAY)
        self._status.progress()
        if self._hurry.wait(seconds):
            raise AbandonedError("the store is away and partitions have to be let go of")


class Deciding:
    """One engine at a time over the partitions that are ours; every method on one thread.

    After an error from `decide` or `idle` the engine is gone: `take` makes another one, from what
    is stored.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        settings: EngineSettings,
        status: Status,
        metrics: Metrics,
        *,
        emits_decisions: bool = False,
        waits_for_models: bool = False,
    ) -> None:
        self._policy = policy
        self._store = store
        self._settings = settings
        self._status = status
        self._metrics = metrics
        self._stage = StageClock(metrics)
        self._emits_decisions = emits_decisions
        self._outbox = Outbox(policy.models)
        self._grid = Grid(policy.models) if waits_for_models else None
        self._holding = Holding()
        self._ends: dict[tuple[str, int], int] = {}  # of what is held, next offset behind it
        self._versions: dict[str, ModelVersion] = {}
        self.patience = Patience(status)
        self.stored_count = 0  # checkpoints that the store has taken
        self._owned: dict[str, Owned] = {}
        self._positions: dict[str, Offsets] = {}  # partition -> topic -> next offset to decide
        self._sink: Sink | None = None
        self.engine: Engine | None = None
        self._kept: Engine | None = None  # of partitions that were let go of in good order

    def take(self, partitions: Sequence[int], sink: Sink) -> Mapping[str, Offsets]:
        """Own these partitions and no others; return, by partition, the stored offsets.

        Waits for a store that is away. An engine that was let go of is used again where nobody
        else has owned any of its partitions since.
        """
        self._drop()
        owned = self._acquire([str(partition) for partition in partitions])
        before, self._owned = self._owned, owned
        self._positions = {owner: dict(mine.offsets) for owner, mine in owned.items()}
        self._holding, self._ends = Holding(), {}
        self._sink = sink
        kept, self._kept = self._kept, None
        if kept is not None and _untouched(before, kept.committed, owned):
            kept.renew(owned, sink)
            self.engine = kept
        else:
            if kept is not None:
                kept.close()
            self.engine = self._new_engine(partitions, owned, sink) if partitions else None
        self._status.partitions = tuple(partitions)
        return self._positions

    def _acquire(self, owners: Sequence[str]) -> dict[str, Owned]:
        while True:
            try:
                return acquire_all(self._store, owners)
            except StoreUnavailableError as error:
                logger.warning("the store is away, partitions wait: %s", error)
                self.patience.sleep(RETRY_S)

    def _new_engine(
        self, partitions: Sequence[int], owned: Mapping[str, Owned], sink: Sink
    ) -> Engine:
        engine = Engine(
            self._policy,
            self._store,
            sink,
            self,
            partitions,
            owned,
            self._settings,
            sleep=self.patience.sleep,
            on_stage=self._stage,
            on_commit=self._note_commit,
        )
        for version in self._versions.values():
            engine.processor.apply_model(version)
        numbers = engine.load([(str(partition), SEQUENCE_KEY) for partition in partitions])
        for partition, blob in zip(partitions, numbers, strict=True):
            clock_ms = engine.processor.partitions[partition].clock_ms
            self._outbox.restore(partition, blob, clock_ms)
        return engine

    def decide(
        self,
        raws: Sequence[RawRecord],
        ends: Mapping[tuple[str, int], int],
        arrived_ns: int | None = None,
    ) -> None:
        """Decide records; `ends` is the next offset after them by (topic, partition).

        `arrived_ns` is when they came from Kafka, on the clock of `time.monotonic_ns`.
        """
        self._stage.start(arrived_ns)
        self._stage("fetch")
        if self._grid is not None:
            self._holding.add(raws)
            self._ends |= ends
            self._go_on(self._grid)
            return
        engine = self._ready()
        engine.make_room(len(raws))
        batch = engine.read(raws)
        self._deliver(engine.processor.process(batch), np.unique(batch.partitions).tolist())
        for (topic, partition), offset in ends.items():
            self._positions[str(partition)][topic] = offset
        self._note(len(raws), len(batch.refused))

    def _note(self, count: int, refused_count: int) -> None:
        """Count what was decided; store what is due to be stored."""
        self._ready().note_decided(count)
        self._stage("emit")
        self._metrics.records.inc(count)
        self._metrics.batch.observe(count)
        self._metrics.dead_letters.inc(refused_count)

    def _go_on(self, grid: Grid) -> None:
        """Decide held records up to where versions of models are lacking."""
        for partition in self._holding.partitions():
            while raws := self._holding.first(partition, HELD_BATCH_COUNT):
                if self._decide_held(partition, raws, grid.open_until_ms()) < len(raws):
                    break
            else:
                self._positions[str(partition)] |= {
                    topic: offset for (topic, p), offset in self._ends.items() if p == partition
                }

    def _decide_held(self, partition: int, raws: Sequence[RawRecord], open_until_ms: int) -> int:
        """Decide the first of a partition's records; return how many were."""
        engine = self._ready()
        engine.make_room(len(raws))
        batch = engine.read(raws)
        clocks_ms = running_clocks_ms(batch, engine.processor.partitions[partition].clock_ms)
        count = int(np.searchsorted(clocks_ms, open_until_ms))
        if count:
            self._deliver(engine.processor.process(batch.cut(0, count)), [partition])
            for raw in raws[:count]:
                self._positions[str(partition)][raw.topic] = raw.offset + 1
            self._holding.let_go(partition, count)
            self._note(count, sum(row < count for row, _ in batch.refused))
        if count < len(raws):
            self._pass_time(self._outbox.point_ms(int(clocks_ms[count])), [partition])
        return count

    def _pass_time(self, point_ms: int, partitions: Sequence[int]) -> None:
        """Let event time pass up to a grid point, and tell the trainer."""
        processor = self._ready().processor
        behind = [p for p in partitions if processor.partitions[p].clock_ms < point_ms]
        if behind:
            self._deliver(processor.heartbeat(point_ms, behind), behind)

    def pass_points(self, points: Sequence[Point]) -> None:
        """Go on where records waited for the versions of these points."""
        if self._grid is not None:
            for point in points:
                self._grid.pass_point(point)
            if self.engine is not None:
                self._go_on(self._grid)

    def reach(self, point_ms: int, idle: Iterable[int]) -> None:
        """Let event time pass on partitions without records, for others that wait for them."""
        if self._grid is not None and self.engine is not None:
            held = self._holding.partitions()
            self._pass_time(point_ms, [p for p in idle if p not in held])

    def full(self) -> set[int]:
        """Return the partitions of which so many records wait that no more should come."""
        return self._holding.full()

    def _deliver(self, output: Output, partitions: Iterable[int]) -> None:
        """Send off all that was said about records of these partitions."""
        processor = self._ready().processor
        emissions = output.emissions
        if self._emits_decisions:
            emissions += decisions.emissions(output.decisions)
        emissions += self._outbox.examples(output)
        emissions += self._outbox.clocks((p, processor.partitions[p].clock_ms) for p in partitions)
        if emissions and self._sink is not None:
            self._sink.write(emissions)
            self._metrics.note_emissions(emissions)

    def _note_commit(self, seconds: float, stored_bytes: int) -> None:
        self.stored_count += 1
        self._metrics.checkpoint_s.observe(seconds)
        self._metrics.checkpoint_bytes.observe(stored_bytes)

    def resident(self) -> Resident | None:
        """Return what is in memory."""
        return None if self.engine is None else self.engine.resident

    def shared(self) -> ForeignState | None:
        """Return how it stands with our copies of other workers' shared histories."""
        engine = self.engine
        return None if engine is None or engine.others is None else engine.others.now

    def apply_models(self, versions: Sequence[ModelVersion]) -> None:
        """Score with these versions from the next record on, where they are newer than ours."""
        for version in versions:
            known = self._versions.get(version.name)
            if known is not None and known.version >= version.version:
                continue
            if not self._fits(version):
                continue
            self._versions[version.name] = version
            if self.engine is not None:
                self.engine.processor.apply_model(version)

    def change_policy(self, policy: Policy) -> None:
        """Decide by another policy from the next record on; to be called between batches.

        Where histories or models change, what was decided is stored, and the engine makes way for
        another that takes it up. What the store raises leaves no engine: `take` makes one.
        """
        self._policy = policy
        self._outbox.change(policy.models)
        if self._grid is not None:
            self._grid.change(policy.models)
        self._versions = {n: found for n, found in self._versions.items() if self._fits(found)}
        if self._kept is not None:
            _close(self._kept)
            self._kept = None
        engine = self.engine
        if engine is None or engine.processor.adopt(policy) or self._sink is None:
            return
        if engine.uncommitted_count:
            engine.begin_checkpoint()
        engine.finish_commit()
        self._owned = {
            owner: Owned(mine.epoch, dict(engine.committed[owner]))
            for owner, mine in self._owned.items()
        }
        self._drop()
        self.engine = self._new_engine(self._status.partitions, self._owned, self._sink)

    def _fits(self, version: ModelVersion) -> bool:
        """Whether this policy has that model, with the same inputs."""
        model = next((m for m in self._policy.models if m.name == version.name), None)
        found = (version, *version.challengers)
        if model is None or not all(
            set(own.inputs) <= {item.name for item in model.inputs} for own in found
        ):
            logger.warning(
                "version %d of model %s has not the inputs of this policy: not used",
                version.version,
                version.name,
            )
            return False
        return True

    def idle(self) -> None:
        """Store what is due to be stored; take in what other workers have stored."""
        engine = self.engine
        if engine is not None:
            engine.take_others()
        if engine is not None and engine.uncommitted_count and engine.is_checkpoint_due:
            engine.begin_checkpoint()

    def release(self) -> None:
        """Store everything decided; keep the engine in case the same partitions come back."""
        engine, self.engine = self.engine, None
        if engine is None:
            return
        try:
            if engine.uncommitted_count:
                engine.begin_checkpoint()
            engine.finish_commit()
        except FencedError as error:
            logger.warning("what was decided last is not stored: %s", error)
            _close(engine)
        except (MillraceError, OSError) as error:
            logger.warning("let go of partitions without storing what was decided last: %s", error)
            _close(engine)
        else:
            self._kept = engine
        self._status.partitions = ()

    def lose(self) -> None:
        """Drop what is in memory, without storing anything."""
        self._drop()
        self._status.partitions = ()

    def close(self) -> None:
        """Let go of everything."""
        self._drop()
        if self._kept is not None:
            _close(self._kept)
            self._kept = None

    def positions(self) -> Mapping[str, Offsets]:
        """Return, by partition, the next offset of each topic to be decided."""
        return self._positions

    def writes(self) -> Mapping[str, Sequence[Write]]:
        """Return what is stored besides the processor's state: the numbers of the examples."""
        return self._outbox.writes()

    def _ready(self) -> Engine:
        if self.engine is None:
            raise RuntimeError("records came before partitions were taken")
        return self.engine

    def _drop(self) -> None:
        if self.engine is not None:
            _close(self.engine)
            self.engine = None


def _untouched(
    before: Mapping[str, Owned], committed: Mapping[str, Offsets], now: Mapping[str, Owned]
) -> bool:
    """Whether nobody else has owned these partitions since we let go of them."""
    return before.keys() == now.keys() and all(
        now[owner].epoch == before[owner].epoch + 1 and now[owner].offsets == committed[owner]
        for owner in now
    )


def _close(engine: Engine) -> None:
    """Let go of an engine whose state is not to be stored."""
    try:
        engine.close()
    except (MillraceError, OSError) as error:
        logger.warning("a checkpoint under way was lost: %s", error)
