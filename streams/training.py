"""The trainers' place in a runtime: when they learn, and when a version goes out.

Versions are published on a fixed grid of event time. Everything that matured before a grid point
is learned in one canonical order, so a model is the same for any cut of the input into batches
and for any number of partitions.

Until a model has learned enough for a first version, its version is 0: the untrained prior.
"""

from collections.abc import Callable, Sequence

import msgspec

from actions.policy_schema import ModelDeclaration
from features.records import TrainingExample
from online_models.trainer import Trainer
from online_models.versions import ModelVersion, decode_version, encode_version
from streams.partition import Write

NEVER_MS = 2**62

# A model that has learned from a handful of examples is wilder than the prior: with AdaGrad each
# weight's first step is as large as the learning rate, whatever the example, and the scaler's
# variances come from a few rows. Twenty frauds are about one for each input of the bank's model.
FIRST_VERSION_FRAUD_COUNT = 20
FIRST_VERSION_COUNT = 200


class _Waiting(msgspec.Struct):
    next_due_ms: int | None
    examples: list[TrainingExample]
    learned_fraud_count: int


class TrainingDesk:
    """Collects matured examples of one model and publishes its versions on time.

    `learned_count` counts the examples learned, `learned_fraud_count` the frauds among them.
    """

    def __init__(self, model: ModelDeclaration) -> None:
        self.every_ms = model.publish_every_ms
        self.learned_count = 0
        self.learned_fraud_count = 0
        inputs = [item.name for item in model.inputs]
        self._trainer = Trainer(model.name, model.pipeline, inputs, model.options)
        self._examples: list[TrainingExample] = []
        self._next_due_ms: int | None = None
        self._version: ModelVersion | None = None
        self._waiting_dirty = False
        self._trainer_dirty = False
        self._version_dirty = False

    def next_due_ms(self, ts_ms: int) -> int:
        """Return the grid point at which the next version is due; the first call sets the grid."""
        if self._next_due_ms is None:
            self._next_due_ms = (ts_ms // self.every_ms + 1) * self.every_ms
            self._waiting_dirty = True
        return self._next_due_ms

    def collect(self, example: TrainingExample) -> None:
        """Keep a matured example until the next version."""
        self._examples.append(example)
        self._waiting_dirty = True

    def grid_point_ms(self, clock_ms: int) -> int:
        """Return the newest grid point that is not after `clock_ms`."""
        return clock_ms // self.every_ms * self.every_ms

    def publish(self, clock_ms: int) -> ModelVersion | None:
        """Learn what matured by the newest grid point; return its version, if it changed.

        None also while the model has learned too little for a first version.
        """
        point_ms = self.grid_point_ms(clock_ms)
        self._next_due_ms = point_ms + self.every_ms
        self._waiting_dirty = True
        ripe = [example for example in self._examples if example.matured_ms <= point_ms]
        if not ripe:
            return None
        self._examples = [example for example in self._examples if example.matured_ms > point_ms]
        ripe.sort(key=lambda example: (example.matured_ms, example.event))
        self._trainer.learn(ripe)
        self.learned_count += len(ripe)
        self.learned_fraud_count += sum(example.fraud for example in ripe)
        self._trainer_dirty = True
        if not self._is_ready:
            return None
        self._version = self._trainer.publish(point_ms)
        self._version_dirty = True
        return self._version

    @property
    def last_point_ms(self) -> int | None:
        """The newest grid point that was got past, None before there is a grid."""
        return None if self._next_due_ms is None else self._next_due_ms - self.every_ms

    @property
    def version(self) -> int:
        """The number of the version that was published last, 0 before the first."""
        return 0 if self._version is None else self._version.version

    @property
    def _is_ready(self) -> bool:
        """Whether enough was learned for a first version."""
        return (
            self.learned_fraud_count >= FIRST_VERSION_FRAUD_COUNT
            and self.learned_count >= FIRST_VERSION_COUNT
        )

    def changes(self, prefix: bytes) -> list[Write]:
        """Return what changed since the last call."""
        writes = []
        if self._trainer_dirty:
            writes.append(Write(prefix + b"trainer", 0, self._trainer.state()))
        if self._version_dirty and self._version is not None:
            writes.append(Write(prefix + b"version", 0, encode_version(self._version)))
        if self._waiting_dirty:
            waiting = _Waiting(self._next_due_ms, self._examples, self.learned_fraud_count)
            writes.append(Write(prefix + b"waiting", 0, msgspec.msgpack.encode(waiting)))
        self._waiting_dirty = self._trainer_dirty = self._version_dirty = False
        return writes

    def restore(
        self, prefix: bytes, load: Callable[[list[bytes]], list[bytes | None]]
    ) -> ModelVersion | None:
        """Take up the stored state; return the newest version, to be applied first."""
        keys = [prefix + name for name in (b"trainer", b"version", b"waiting")]
        trainer, version, waiting = load(keys)
        if trainer is not None:
            self._trainer = Trainer.restore(trainer)
            self.learned_count = self._trainer.learned_count
        if waiting is not None:
            stored = msgspec.msgpack.decode(waiting, type=_Waiting)
            self._next_due_ms, self._examples = stored.next_due_ms, stored.examples
            self.learned_fraud_count = stored.learned_fraud_count
        if version is not None:
            self._version = decode_version(version)
        return self._version


class Training:
    """The desks of all of a policy's models."""

    def __init__(self, models: Sequence[ModelDeclaration]) -> None:
        self.desks = {model.name: TrainingDesk(model) for model in models}

    def collect(self, examples: Sequence[TrainingExample]) -> None:
        """Give each example to its model's desk."""
        for example in examples:
            self.desks[example.model].collect(example)

    def next_due_ms(self, ts_ms: int) -> int:
        """Return when the next version of any model is due."""
        return min((desk.next_due_ms(ts_ms) for desk in self.desks.values()), default=NEVER_MS)

    def heartbeat_ms(self, clock_ms: int) -> int:
        """Return the time that has to pass on every partition before what is due is published."""
        return max(desk.grid_point_ms(clock_ms) for desk in self.due(clock_ms).values())

    def due(self, clock_ms: int) -> dict[str, TrainingDesk]:
        """Return the desks, by model, that have something to publish."""
        return {n: d for n, d in self.desks.items() if d.next_due_ms(clock_ms) <= clock_ms}

    def publish(self, clock_ms: int) -> list[ModelVersion]:
        """Publish every model that is due and has learned something."""
        versions = [desk.publish(clock_ms) for desk in self.due(clock_ms).values()]
        return [version for version in versions if version is not None]

    def changes(self) -> list[Write]:
        """Return what changed since the last call, over all models."""
        return [w for name, desk in self.desks.items() for w in desk.changes(_prefix(name))]

    def restore(self, load: Callable[[list[bytes]], list[bytes | None]]) -> list[ModelVersion]:
        """Take up every desk's stored state; return the versions to be applied first."""
        found = [desk.restore(_prefix(name), load) for name, desk in self.desks.items()]
        return [version for version in found if version is not None]


def _prefix(model: str) -> bytes:
    return model.encode() + b":"
