"""The trainers' place in a runtime: when they learn, and when a version goes out.

Versions are published on a fixed grid of event time. Everything that matured before a grid point
is learned in one canonical order, so a model is the same for any cut of the input into batches
and for any number of partitions.

Until a model has learned enough for a first version, its version is 0: the untrained prior.
"""

from collections.abc import Callable, Sequence

import msgspec

from actions.policy_schema import ModelDeclaration
from features.errors import unknown
from features.records import Promotion, TrainingExample
from online_models.contest import Contest, Published
from online_models.contestants import Evidence
from online_models.versions import ModelVersion, decode_version, encode_version
from streams.partition import Write

NEVER_MS = 2**62
TRAINER_OWNER = "trainer"  # whose state it is in the store

FIRST_VERSION_FRAUD_COUNT, FIRST_VERSION_COUNT = Evidence()


class _Waiting(msgspec.Struct):
    next_due_ms: int | None
    examples: list[TrainingExample]


class TrainingDesk:
    """Collects matured examples of one model and publishes its versions on time."""

    def __init__(self, model: ModelDeclaration) -> None:
        self.every_ms = model.publish_every_ms
        self.contest = Contest(
            model.name, [item.name for item in model.inputs], model.contestants, model.judging
        )
        self._examples: list[TrainingExample] = []
        self._next_due_ms: int | None = None
        self._version: ModelVersion | None = None
        self._waiting_dirty = False
        self._contest_dirty = False
        self._version_dirty = False

    @property
    def learned_count(self) -> int:
        """How many examples the champion has learned."""
        return self.contest.learned_count

    @property
    def learned_fraud_count(self) -> int:
        """How many of them were frauds."""
        return self.contest.learned_fraud_count

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

    def promote(self, challenger: str) -> None:
        """Let a challenger decide from the next version on; RecordError for an unknown one."""
        self.contest.promote(challenger)
        self._contest_dirty = True

    def grid_point_ms(self, clock_ms: int) -> int:
        """Return the newest grid point that is not after `clock_ms`."""
        return clock_ms // self.every_ms * self.every_ms

    def publish(self, clock_ms: int) -> Published:
        """Learn what matured by the newest grid point; return its version, if it changed.

        No version comes while the model has learned too little for a first one.
        """
        point_ms = self.grid_point_ms(clock_ms)
        self._next_due_ms = point_ms + self.every_ms
        self._waiting_dirty = True
        ripe = [example for example in self._examples if example.matured_ms <= point_ms]
        self._examples = [example for example in self._examples if example.matured_ms > point_ms]
        ripe.sort(key=lambda example: (example.matured_ms, example.event))
        evidence = Evidence(FIRST_VERSION_FRAUD_COUNT, FIRST_VERSION_COUNT)
        published = self.contest.publish(point_ms, ripe, evidence)
        self._contest_dirty |= bool(ripe or published.reports) or published.version is not None
        if published.version is not None:
            self._version = published.version
            self._version_dirty = True
        return published

    @property
    def last_point_ms(self) -> int | None:
        """The newest grid point that was got past, None before there is a grid."""
        return None if self._next_due_ms is None else self._next_due_ms - self.every_ms

    @property
    def version(self) -> int:
        """The number of the version that was published last, 0 before the first."""
        return 0 if self._version is None else self._version.version

    def changes(self, prefix: bytes) -> list[Write]:
        """Return what changed since the last call."""
        writes = []
        if self._contest_dirty:
            writes.append(Write(prefix + b"trainer", 0, self.contest.state()))
        if self._version_dirty and self._version is not None:
            writes.append(Write(prefix + b"version", 0, encode_version(self._version)))
        if self._waiting_dirty:
            waiting = _Waiting(self._next_due_ms, self._examples)
            writes.append(Write(prefix + b"waiting", 0, msgspec.msgpack.encode(waiting)))
        self._waiting_dirty = self._contest_dirty = self._version_dirty = False
        return writes

    def restore(
        self, prefix: bytes, load: Callable[[list[bytes]], list[bytes | None]]
    ) -> ModelVersion | None:
        """Take up the stored state; return the newest version, to be applied first."""
        keys = [prefix + name for name in (b"trainer", b"version", b"waiting")]
        contest, version, waiting = load(keys)
        if version is not None:
            self._version = decode_version(version)
        if contest is not None:
            self.contest.restore(contest, self._version)
        if waiting is not None:
            stored = msgspec.msgpack.decode(waiting, type=_Waiting)
            self._next_due_ms, self._examples = stored.next_due_ms, stored.examples
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

    def publish(self, clock_ms: int) -> list[Published]:
        """Publish every model that is due; the versions and reports of each, in their order."""
        return [desk.publish(clock_ms) for desk in self.due(clock_ms).values()]

    def promote(self, order: Promotion) -> None:
        """Obey a control record; raises RecordError for an unknown model or challenger."""
        if order.model not in self.desks:
            raise unknown("$.model", order.model, list(self.desks))
        self.desks[order.model].promote(order.challenger)

    @property
    def drift_count(self) -> int:
        """How many alarms of drift there were, over all models."""
        return sum(desk.contest.drift_count for desk in self.desks.values())

    def changes(self) -> list[Write]:
        """Return what changed since the last call, over all models."""
        return [w for name, desk in self.desks.items() for w in desk.changes(_prefix(name))]

    def restore(self, load: Callable[[list[bytes]], list[bytes | None]]) -> list[ModelVersion]:
        """Take up every desk's stored state; return the versions to be applied first."""
        found = [desk.restore(_prefix(name), load) for name, desk in self.desks.items()]
        return [version for version in found if version is not None]


def contest_key(model: str) -> bytes:
    """Return under which key the trainer keeps a model's contest."""
    return _prefix(model) + b"trainer"


def version_key(model: str) -> bytes:
    """Return under which key the trainer keeps a model's newest version."""
    return _prefix(model) + b"version"


def _prefix(model: str) -> bytes:
    return model.encode() + b":"
