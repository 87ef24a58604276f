"""The trainer of one model: learns examples in order, publishes versions, survives a restart."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
from msgspec import Struct

from features.errors import RecordError
from features.records import TrainingExample
from online_models import catalog
from online_models.framing import (
    PackedArray,
    SealedArray,
    pack_arrays,
    seal,
    unpack_arrays,
    unseal,
    usable,
)
from online_models.options import NO_OPTIONS, ModelOptions
from online_models.versions import ModelVersion, make_version

STATE_KIND = "trainer"
STATE_SCHEMA_VERSION = 2


class _State(Struct, frozen=True, kw_only=True):
    name: str
    pipeline: str
    inputs: tuple[str, ...]
    version: int
    learned_count: int
    arrays: dict[str, PackedArray]
    learned_weight: float = 0.0
    fraud_weight: float = 0.0
    options: ModelOptions = NO_OPTIONS


class Trainer:
    """Learns one named pipeline of the catalogue.

    `version` is that of the newest publication, 0 before the first; `learned_count` counts the
    examples learned. Raises RecordError for an unknown pipeline, bad inputs or options.
    """

    def __init__(
        self,
        name: str,
        pipeline: str,
        inputs: Sequence[str],
        options: ModelOptions = NO_OPTIONS,
    ) -> None:
        self.name = name
        self.pipeline = pipeline
        self.inputs = tuple(inputs)
        self.version = 0
        self.learned_count = 0
        self.options = options
        self._missing = catalog.find(pipeline).missing
        self._learning = catalog.learning(pipeline, self.inputs, options)
        self._learned_weight = 0.0
        self._fraud_weight = 0.0
        self._published: Mapping[str, SealedArray] = {}

    def learn(self, examples: Iterable[TrainingExample]) -> None:
        """Learn the examples in the order given, each with its weight.

        Values that are NaN, infinite or beyond ±1e100 are missing, as the pipeline's entry has it.
        Raises RecordError for an example of another model, another number of features or a weight
        that is not a positive number; those before it are learned, it and the rest are not.
        """
        good: list[TrainingExample] = []
        refused: TrainingExample | None = None
        input_count = len(self.inputs)
        for example in examples:
            if (
                len(example.features) != input_count
                or example.model != self.name
                or not 0.0 < example.weight < math.inf
            ):
                refused = example
                break
            good.append(example)
        if good:
            rows = np.array([example.features for example in good], dtype=np.float64)
            frauds = np.array([example.fraud for example in good], dtype=np.bool_)
            weights = np.array([example.weight for example in good], dtype=np.float64)
            self._learning.learn(usable(rows, self._missing), frauds, weights)
            self.learned_count += len(good)
            self._learned_weight += sum(example.weight for example in good)
            self._fraud_weight += sum(example.weight for example in good if example.fraud)
        if refused is not None:
            raise self._refusal(refused)

    @property
    def fraud_share(self) -> float:
        """Return the share of fraud in the weight of the examples so far, 0.0 without any."""
        return self._fraud_weight / self._learned_weight if self._learned_weight else 0.0

    def refusal(self) -> RecordError | None:
        """Return why the pipeline can't learn fraud as rare as it was so far; None where it can."""
        return catalog.refusal(self.pipeline, self.inputs, self.options, self.fraud_share)

    def publish(self, ts_ms: int) -> ModelVersion:
        """Return the next version of the model as it stands; `ts_ms` is event time."""
        self.version += 1
        model = self._learning.compiled()
        found = make_version(
            name=self.name,
            pipeline=self.pipeline,
            version=self.version,
            ts_ms=ts_ms,
            inputs=self.inputs,
            arrays=model.to_arrays(),
            learned_count=self.learned_count,
            before=self._published,
        )
        self._published = found.arrays
        return found

    def state(self) -> bytes:
        """Return everything that is needed to go on, as a frame with a checksum."""
        body = _State(
            name=self.name,
            pipeline=self.pipeline,
            inputs=self.inputs,
            version=self.version,
            learned_count=self.learned_count,
            arrays=pack_arrays(self._learning.arrays()),
            options=self.options,
            learned_weight=self._learned_weight,
            fraud_weight=self._fraud_weight,
        )
        return seal(STATE_KIND, STATE_SCHEMA_VERSION, body)

    @classmethod
    def restore(cls, blob: bytes) -> Self:
        """Return the trainer of `state`; it goes on bit for bit as if it had never stopped.

        Raises RecordError for foreign or damaged bytes or a pipeline that is no longer known.
        """
        body = unseal(blob, STATE_KIND, STATE_SCHEMA_VERSION, _State, "trainer state")
        trainer = cls(body.name, body.pipeline, body.inputs, body.options)
        trainer.version = body.version
        trainer.learned_count = body.learned_count
        trainer._learned_weight, trainer._fraud_weight = body.learned_weight, body.fraud_weight
        trainer._learning.restore(unpack_arrays(body.arrays))
        return trainer

    def _refusal(self, example: TrainingExample) -> RecordError:
        if example.model != self.name:
            return RecordError("$.model", f"`{self.name}`", f"`{example.model}`")
        if len(example.features) != len(self.inputs):
            expected = f"{len(self.inputs)} values, one for each input"
            return RecordError("$.features", expected, f"{len(example.features)}")
        return RecordError("$.weight", "a positive finite number", f"{example.weight}")
