"""The trainer of one model: learns examples in order, publishes versions, survives a restart."""

import math
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from msgspec import Struct

from features.errors import RecordError
from features.records import TrainingExample
from online_models import catalog
from online_models.framing import (
    INPUT_MAX,
    PackedArray,
    pack_arrays,
    seal,
    unpack_arrays,
    unseal,
    usable,
)
from online_models.versions import ModelVersion, make_version

STATE_KIND = "trainer"
STATE_SCHEMA_VERSION = 1


class _State(Struct, frozen=True, kw_only=True):
    name: str
    pipeline: str
    inputs: tuple[str, ...]
    version: int
    learned_count: int
    arrays: dict[str, PackedArray]
    learned_weight: float = 0.0
    fraud_weight: float = 0.0


class Trainer:
    """Learns one named pipeline of the catalogue with River.

    `version` is that of the newest publication, 0 before the first; `learned_count` counts the
    examples learned. Raises RecordError for an unknown pipeline or bad inputs.
    """

    def __init__(self, name: str, pipeline: str, inputs: Sequence[str]) -> None:
        self.name = name
        self.pipeline = pipeline
        self.inputs = tuple(inputs)
        self.version = 0
        self.learned_count = 0
        self._entry = catalog.find(pipeline)
        self._river = catalog.build(pipeline, self.inputs)
        self._learn = self._entry.learner(self._river, self.inputs)
        self._reader = self._entry.reader_of(self._river, self.inputs)
        self._learned_weight = 0.0
        self._fraud_weight = 0.0

    def learn(self, examples: Iterable[TrainingExample]) -> None:
        """Learn the examples in the order given, each with its weight.

        Values that are NaN, infinite or beyond ±1e100 are taken as 0.0. Raises RecordError for an
        example of another model, another number of features or a weight that is not a positive
        number; those before it are learned, it and the rest are not.
        """
        learn, input_count = self._learn, len(self.inputs)
        for example in examples:
            values = example.features
            if (
                len(values) != input_count
                or example.model != self.name
                or not 0.0 < example.weight < math.inf
            ):
                raise self._refusal(example)
            # The sum is NaN, infinite or large if one of its terms is: one test for all of them.
            if not sum(map(abs, values)) <= INPUT_MAX:
                values = usable(np.array(values, dtype=np.float64)).tolist()
            learn(values, example.fraud, example.weight)
            self.learned_count += 1
            self._learned_weight += example.weight
            self._fraud_weight += example.weight if example.fraud else 0.0

    def publish(self, ts_ms: int) -> ModelVersion:
        """Return the next version of the model as it stands; `ts_ms` is event time.

        Raises RecordError before the first version if the pipeline can't learn from fraud that is
        as rare as in the examples so far.
        """
        if self.version == 0 and self._fraud_weight > 0.0:
            self._entry.refuse_share(self._river, self._fraud_weight / self._learned_weight)
        self.version += 1
        model = self._reader.compiled()
        return make_version(
            name=self.name,
            pipeline=self.pipeline,
            version=self.version,
            ts_ms=ts_ms,
            inputs=self.inputs,
            arrays=model.to_arrays(),
            learned_count=self.learned_count,
        )

    def state(self) -> bytes:
        """Return everything that is needed to go on, as a frame with a checksum."""
        body = _State(
            name=self.name,
            pipeline=self.pipeline,
            inputs=self.inputs,
            version=self.version,
            learned_count=self.learned_count,
            arrays=pack_arrays(self._reader.arrays()),
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
        trainer = cls(body.name, body.pipeline, body.inputs)
        trainer.version = body.version
        trainer.learned_count = body.learned_count
        trainer._learned_weight, trainer._fraud_weight = body.learned_weight, body.fraud_weight
        trainer._entry.restore(trainer._river, trainer.inputs, unpack_arrays(body.arrays))
        return trainer

    def _refusal(self, example: TrainingExample) -> RecordError:
        if example.model != self.name:
            return RecordError("$.model", f"`{self.name}`", f"`{example.model}`")
        if len(example.features) != len(self.inputs):
            expected = f"{len(self.inputs)} values, one for each input"
            return RecordError("$.features", expected, f"{len(example.features)}")
        return RecordError("$.weight", "a positive finite number", f"{example.weight}")
