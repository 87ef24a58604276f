"""One contestant for a model: its trainer, its calibration, and what drift makes of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.records import TrainingExample
from online_models import catalog
from online_models.calibration import Calibrator
from online_models.compiled import CompiledModel
from online_models.framing import FloatArray, PackedArray, pack_arrays, unpack_arrays
from online_models.judging import Contestant, DriftSettings, JudgingSettings
from online_models.ranking import Bools
from online_models.trainer import Trainer
from online_models.versions import ModelVersion, with_calibration


class Evidence(NamedTuple):
    """From how much a model has to learn before it decides.

    One that has learned from a handful of examples is wilder than the prior: with AdaGrad each
    weight's first step is as large as the learning rate, whatever the example, and the scaler's
    variances come from a few rows. Twenty frauds are about one for each input of the bank's model.
    """

    fraud_count: int = 20
    example_count: int = 200


class Lesson(NamedTuple):
    """Matured examples in their canonical order, and their columns: (n,) and (n, inputs)."""

    examples: Sequence[TrainingExample]
    events: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    fraud: Bools
    weight: FloatArray
    features: FloatArray
    scores: FloatArray  # (contestants, n), given when deciding

    @classmethod
    def of(cls, examples: Sequence[TrainingExample], contestant_count: int) -> "Lesson":
        """Return the columns; an example without scores (an old one) has NaN."""
        unknown = [np.nan] * contestant_count
        scores = [e.scores if len(e.scores) == contestant_count else unknown for e in examples]
        return cls(
            examples,
            np.array([e.event for e in examples], dtype=np.int64),
            np.array([e.ts_ms for e in examples], dtype=np.int64),
            np.array([e.fraud for e in examples], dtype=np.bool_),
            np.array([e.weight for e in examples], dtype=np.float64),
            np.array([e.features for e in examples], dtype=np.float64),
            np.array(scores, dtype=np.float64).T,
        )


class _Trained(Struct, frozen=True):
    """A trainer's state and how many frauds it has learned."""

    state: bytes
    fraud_count: int


class Refusal(Struct, frozen=True):
    """Why a pipeline can't learn: the share of fraud, the setting it would take, the one it has."""

    fraud_share: float
    expected: str
    got: str


class ContestantState(Struct, frozen=True):
    """What a contestant of this name needs to go on."""

    name: str
    trained: _Trained
    successor: _Trained | None
    calibrator: dict[str, PackedArray]
    faster_left_count: int
    is_admitted: bool = False
    refusal: Refusal | None = None


class _Learner:
    """A trainer, and how many frauds it has learned."""

    def __init__(self, model: str, contestant: Contestant) -> None:
        options = catalog.options_of(contestant.pipeline, contestant.options)
        self.trainer = Trainer(model, contestant.pipeline, contestant.inputs, options)
        self.fraud_count = 0

    def learn(self, examples: Sequence[TrainingExample], fraud_count: int) -> None:
        self.trainer.learn(examples)
        self.fraud_count += fraud_count

    def has(self, evidence: Evidence) -> bool:
        return (
            self.fraud_count >= evidence.fraud_count
            and self.trainer.learned_count >= evidence.example_count
        )

    def refusal(self) -> Refusal | None:
        found = self.trainer.refusal()
        if found is None:
            return None
        return Refusal(self.trainer.fraud_share, f"{found.path}: {found.expected}", found.got)

    def state(self) -> _Trained:
        return _Trained(self.trainer.state(), self.fraud_count)

    def restore(self, trained: _Trained) -> None:
        self.trainer = Trainer.restore(trained.state)
        self.fraud_count = trained.fraud_count


class ContestantDesk:
    """Teaches and calibrates one contestant for the model `model` with the inputs `inputs`.

    `refusal` says why it is out of the contest, None while it is in: a preset that can't learn
    fraud as rare as it is learns no more, and stays what it was before its first example.
    """

    def __init__(
        self, model: str, inputs: Sequence[str], contestant: Contestant, settings: JudgingSettings
    ) -> None:
        self.declared = contestant
        self._model = model
        self._columns = [tuple(inputs).index(name) for name in contestant.inputs]
        self._sees_all = contestant.inputs == tuple(inputs)
        self._settings = settings
        self._begin()

    def _begin(self) -> None:
        self.refusal: Refusal | None = None
        self._is_admitted = False  # its pipeline was asked whether it can learn
        self._learner = _Learner(self._model, self.declared)
        self._successor: _Learner | None = None
        self._calibrator = self._new_calibrator()
        self._faster_left_count = 0
        self._scoring: CompiledModel | None = None  # the newest version

    def _new_calibrator(self) -> Calibrator:
        method = self._settings.calibration
        if method is None:
            is_probability = catalog.find(self.declared.pipeline).is_probability
            method = "none" if is_probability else "sigmoid"
        return Calibrator(method)

    @property
    def learned_count(self) -> int:
        """How many examples the deciding state has learned."""
        return self._learner.trainer.learned_count

    @property
    def fraud_count(self) -> int:
        """How many of them were frauds."""
        return self._learner.fraud_count

    def has(self, evidence: Evidence) -> bool:
        """Return whether it is in the contest and has learned from that much."""
        return self.refusal is None and self._learner.has(evidence)

    def admit(self, evidence: Evidence) -> Refusal | None:
        """Ask the pipeline, once there is evidence, whether it can learn fraud as rare as it is.

        If it can't, it is out and begins anew, untrained; why is returned then, and only then.
        """
        if self._is_admitted or not self.has(evidence):
            return None
        refusal = self._learner.refusal()
        if refusal is not None:
            self._begin()
        self._is_admitted, self.refusal = True, refusal
        return refusal

    def succeed(self, evidence: Evidence) -> Refusal | None:
        """Let a successor that has learned enough take over, or drop it and return why it can't."""
        successor = self._successor
        if successor is None or not successor.has(evidence):
            return None
        self._successor, refusal = None, successor.refusal()
        if refusal is None:
            self._learner, self._calibrator = successor, self._new_calibrator()
        return refusal

    def learn(self, lesson: Lesson) -> None:
        """Learn examples, once the calibration has seen what the newest version says of them."""
        if self.refusal is not None:
            return
        if self._scoring is not None:
            scores = self._scoring.score(np.ascontiguousarray(lesson.features[:, self._columns]))
            self._calibrator.learn(scores, lesson.fraud, lesson.weight)
        examples, fraud_count = self._own(lesson.examples), int(lesson.fraud.sum())
        self._learner.learn(self._weighted(examples), fraud_count)
        if self._successor is not None:
            self._successor.learn(examples, fraud_count)

    def _own(self, examples: Sequence[TrainingExample]) -> Sequence[TrainingExample]:
        """Return the examples with the inputs that this contestant sees."""
        if self._sees_all:
            return examples
        return [
            msgspec.structs.replace(e, features=[e.features[column] for column in self._columns])
            for e in examples
        ]

    def _weighted(self, examples: Sequence[TrainingExample]) -> Sequence[TrainingExample]:
        """Let the first `faster_left_count` examples count several times each."""
        count = min(self._faster_left_count, len(examples))
        if not count or self._settings.drift is None:
            return examples
        self._faster_left_count -= count
        factor = self._settings.drift.faster_factor
        raised = [msgspec.structs.replace(e, weight=factor * e.weight) for e in examples[:count]]
        return [*raised, *examples[count:]]

    def publish(self, version: int, ts_ms: int) -> ModelVersion:
        """Return what it has learned as this version of the model."""
        trainer = self._learner.trainer
        trainer.version = version - 1
        found = with_calibration(trainer.publish(ts_ms), self.declared.name, self._calibrator.fit())
        self._scoring = found.to_compiled()
        return found

    def respond(self, drift: DriftSettings) -> None:
        """Do what the policy says of an error that rose."""
        if drift.response == "faster":
            self._faster_left_count = drift.faster_over_count
        elif drift.response == "reset" and self._successor is None:
            self._successor = _Learner(self._model, self.declared)

    def state(self) -> ContestantState:
        """Return everything that `restore` needs, beside the newest version."""
        return ContestantState(
            self.declared.name,
            self._learner.state(),
            self._successor.state() if self._successor else None,
            pack_arrays(self._calibrator.to_arrays()),
            self._faster_left_count,
            self._is_admitted,
            self.refusal,
        )

    def restore(self, state: ContestantState, version: ModelVersion | None) -> None:
        """Go on where the contestant of this state stood; raises RecordError for damaged state.

        A state of another pipeline, other inputs or options is not taken up: it is another model.
        """
        trainer = Trainer.restore(state.trained.state)
        own = self._learner.trainer
        declared = (own.pipeline, own.inputs, own.options)
        if (trainer.pipeline, trainer.inputs, trainer.options) != declared:
            return
        if state.refusal is not None:
            share = state.refusal.fraud_share
            if catalog.refusal(*declared, share) is None:
                return  # the pipeline of this name is another one by now
        self._is_admitted, self.refusal = state.is_admitted, state.refusal
        self._learner.restore(state.trained)
        if state.successor is not None:
            self._successor = _Learner(self._model, self.declared)
            self._successor.restore(state.successor)
        self._calibrator.restore(unpack_arrays(state.calibrator))
        self._faster_left_count = state.faster_left_count
        self._scoring = version.to_compiled() if version is not None else None


def by_contestant(version: ModelVersion | None) -> Mapping[str, ModelVersion]:
    """Return the versions of all contestants that a published version holds."""
    if version is None:
        return {}
    return {found.contestant: found for found in (version, *version.challengers)}
