"""The trainer of a group: runs where `training` is assigned, on a thread of its own.

State first, then publication: what goes out on `models` is stored before, so that another trainer
that takes over can only repeat it.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial

from actions.policy_schema import ModelDeclaration, canonical
from features.records import ENCODER
from online_models.contest import Report
from online_models.versions import ModelVersion, encode_version
from streams.committer import Committer
from streams.emissions import Emission, report_emission
from streams.engine import Owned, acquire_all
from streams.sinks import Sink
from streams.store import PartitionChange, Store
from streams.training import TRAINER_OWNER
from streams.worker.learning import Learner, Point

TOPIC = "training"
MODELS = "models"
VERSION_KEY, POINT_KEY, REACH_KEY = "version", "point", "reach"
CHECKPOINT_S = 1.0
logger = logging.getLogger(__name__)


class TrainerPart:
    """Learns from `training` and publishes on `models`; every method on one thread."""

    def __init__(
        self,
        models: Sequence[ModelDeclaration],
        store: Store,
        *,
        patience_s: float,
        store_patience_ms: int,
        note_reports: Callable[[Sequence[Report]], None],
        sleep: Callable[[float], None] = time.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._store = store
        self._patience_s = patience_s
        self._note_reports = note_reports
        self._now_s = monotonic_s
        self._committer = Committer(store, store_patience_ms, sleep=sleep)
        self._learner: Learner | None = None
        self._sink: Sink | None = None
        self._owned = Owned(0, {})
        self._partition_count = 0
        self.offset = 0  # of `training`, the next to learn from
        self._checkpoints_count = 0
        self._committed: dict[str, int] = {}
        self._checkpointed_s = 0.0
        self._is_dirty = False

    @property
    def is_ours(self) -> bool:
        """Whether this worker is the trainer."""
        return self._learner is not None

    @property
    def stored_count(self) -> int:
        """How many checkpoints the store has taken, those of earlier trainers too."""
        return self._committed.get("checkpoints", 0)

    def take(self, partition_count: int, sink: Sink) -> int | None:
        """Become the trainer; return the stored offset of `training`, None where there is none."""
        owned = self._committer.patiently(partial(acquire_all, self._store, [TRAINER_OWNER]))
        self._owned, self._sink = owned[TRAINER_OWNER], sink
        self._committed = dict(self._owned.offsets)
        self.offset = self._committed.get(TOPIC, 0)
        self._checkpoints_count = self._committed.get("checkpoints", 0)
        self._partition_count = partition_count
        self._begin()
        self._is_dirty = False
        logger.info("this worker trains the models of the group")
        return self._committed.get(TOPIC)

    def _load(self, keys: list[bytes]) -> list[bytes | None]:
        return self._committer.patiently(
            partial(self._store.load, [(TRAINER_OWNER, key) for key in keys])
        )

    def learn(self, records: Sequence[tuple[str, bytes]], end_offset: int | None) -> None:
        """Take records, learn what is due, store, publish; `end_offset` is the next to read."""
        learner = self._learner
        if learner is None:
            return
        for key, value in records:
            learner.take(key, value)
        if end_offset is not None:
            self.offset = end_offset
            self._is_dirty = True
        published, points = learner.learn()
        for found in published:
            self._note_reports(found.reports)
        reports = [report_emission(report) for found in published for report in found.reports]
        if reports and self._sink is not None:
            # Before the state: what is lost on the way is told once more, byte for byte.
            self._sink.write(reports)
            self._sink.flush()
        if points or (self._is_dirty and self._now_s() - self._checkpointed_s > CHECKPOINT_S):
            self._commit(learner)
        self._publish([found.version for found in published if found.version], points)
        reach = learner.reach()
        if reach is not None:
            self._emit([Emission(MODELS, REACH_KEY, ENCODER.encode(reach))])

    def change(self, models: Sequence[ModelDeclaration]) -> None:
        """Train these models from now on; those that stay go on from what is stored."""
        if canonical(models) == canonical(self._models):
            return
        self._models = models
        learner = self._learner
        if learner is not None:
            self._commit(learner)
            self._begin()

    def _begin(self) -> None:
        learner = Learner(self._models, self._partition_count, self._patience_s)
        versions = learner.restore(self._load)
        self._publish(versions, learner.points())
        self._learner = learner

    def release(self) -> None:
        """Store what was taken, and be no trainer any more."""
        learner, self._learner = self._learner, None
        if learner is not None and self._is_dirty:
            self._commit(learner)

    def lose(self) -> None:
        """Drop what is in memory, without storing anything."""
        self._learner = None

    def close(self) -> None:
        """Let go of the commit thread."""
        self._committer.close()

    def _commit(self, learner: Learner) -> None:
        self._checkpoints_count += 1
        offsets = {TOPIC: self.offset, "checkpoints": self._checkpoints_count}
        moved = {name: (self._committed.get(name, 0), new) for name, new in offsets.items()}
        change = PartitionChange(TRAINER_OWNER, self._owned.epoch, moved, learner.writes(), [])
        self._committer.begin([change])
        self._committer.finish()
        self._committed = offsets
        self._checkpointed_s = self._now_s()
        self._is_dirty = False

    def _publish(self, versions: Sequence[ModelVersion], points: Sequence[Point]) -> None:
        emissions = [
            Emission(MODELS, f"{VERSION_KEY}:{v.name}", encode_version(v)) for v in versions
        ]
        emissions += [Emission(MODELS, f"{POINT_KEY}:{p.model}", ENCODER.encode(p)) for p in points]
        for version in versions:
            logger.info("model %s, version %d, is out", version.name, version.version)
        self._emit(emissions)

    def _emit(self, emissions: list[Emission]) -> None:
        if emissions and self._sink is not None:
            self._sink.write(emissions)
