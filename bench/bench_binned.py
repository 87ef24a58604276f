"""The Handbook's model over bins: scoring, learning and publishing, beside River's own code.

River and the kernel learn the same examples: numbers drawn to fill the policy's seventeen inputs,
a tenth of them missing. Publishing and saving are timed as the bytes that go out and that a
checkpoint writes, each after other 400 or 4,000 examples (about an hour or ten of the book's
payments), beside learning these.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.measure import Measure
from features.records import TrainingExample
from online_models import catalog
from online_models.trainer import Trainer
from online_models.versions import encode_version
from streams.policy_files import BANK_POLICY, read_policy

BATCH = 512
COUNTS = (400, 4_000)
LEARNED_COUNT = 4_000
RIVER_SCORES = "River predict_proba_one"
RIVER_LEARNS = "River learn_one"
TRAINER_LEARNS = "Trainer.learn, {count} examples"


@dataclass
class Lesson:
    """A model over bins that has learned, and what it learned from."""

    river: Any
    trainer: Trainer
    rows: NDArray[np.float64]
    frauds: NDArray[np.bool_]

    def dicts(self) -> list[dict[str, float]]:
        names = self.trainer.inputs
        return [dict(zip(names, row, strict=True)) for row in self.rows[:BATCH].tolist()]

    def examples(self, count: int) -> list[TrainingExample]:
        return [
            TrainingExample(
                model="fraud", event=i, ts_ms=i, matured_ms=i, fraud=bool(self.frauds[i]),
                weight=1.0, features=row,
            )
            for i, row in enumerate(self.rows[:count].tolist())
        ]  # fmt: skip


@pytest.fixture(scope="module")
def lesson() -> Lesson:
    model = read_policy(BANK_POLICY.parent / "handbook").models[0]
    inputs = [item.name for item in model.inputs]
    options = replace(model.options, warm_up_count=1_000)
    rng = np.random.default_rng(3)
    rows = rng.lognormal(size=(LEARNED_COUNT, len(inputs)))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    frauds = rng.random(LEARNED_COUNT) < 0.01
    river = catalog.build(model.pipeline, inputs, options)
    trainer = Trainer("fraud", model.pipeline, inputs, options)
    lesson = Lesson(river, trainer, rows, frauds)
    for row, fraud in zip(rows.tolist(), frauds.tolist(), strict=True):
        river.learn_one(dict(zip(inputs, row, strict=True)), fraud)
    trainer._learning.learn(rows, frauds, np.ones(LEARNED_COUNT))
    return lesson


def test_river_scores(measure: Measure, lesson: Lesson) -> None:
    dicts, score = lesson.dicts(), lesson.river.predict_proba_one
    measure.calls(RIVER_SCORES, BATCH, lambda: [score(values) for values in dicts])


@pytest.mark.parametrize("batch_count", [BATCH, 1])
def test_compiled_scores(measure: Measure, lesson: Lesson, batch_count: int) -> None:
    compiled = lesson.trainer.publish(0).to_compiled()
    rows = lesson.rows[:batch_count]
    river = [lesson.river.predict_proba_one(values)[True] for values in lesson.dicts()]
    assert np.allclose(compiled.score(rows), river[:batch_count], rtol=1e-9)
    measure.calls(
        f"CompiledBinned.score, batches of {batch_count}",
        batch_count,
        lambda: compiled.score(rows),
        baseline=RIVER_SCORES,
    )


def test_river_learns(measure: Measure, lesson: Lesson) -> None:
    examples = list(zip(lesson.dicts(), lesson.frauds[:BATCH].tolist(), strict=True))

    def learn() -> None:
        for values, fraud in examples:
            lesson.river.learn_one(values, fraud)

    measure.calls(RIVER_LEARNS, BATCH, learn)


def test_the_kernel_learns(measure: Measure, lesson: Lesson) -> None:
    learning = lesson.trainer._learning
    rows, frauds, weights = lesson.rows[:BATCH], lesson.frauds[:BATCH], np.ones(BATCH)
    measure.calls(
        "BinnedLearning.learn, batches of 512",
        BATCH,
        lambda: learning.learn(rows, frauds, weights),
        baseline=RIVER_LEARNS,
    )


@pytest.mark.parametrize("count", COUNTS)
def test_the_trainer_learns(measure: Measure, lesson: Lesson, count: int) -> None:
    examples = lesson.examples(count)
    what = TRAINER_LEARNS.format(count=count)
    measure.calls(what, count, lambda: lesson.trainer.learn(examples), baseline=RIVER_LEARNS)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("what", ["publish", "state"])
def test_the_trainer_tells(measure: Measure, lesson: Lesson, what: str, count: int) -> None:
    examples, trainer = lesson.examples(count), lesson.trainer

    def prepare() -> tuple[()]:
        trainer.learn(examples)
        return ()

    tell = trainer.state if what == "state" else lambda: encode_version(trainer.publish(0))
    learns = TRAINER_LEARNS.format(count=count)
    name = f"Trainer.{what} after {count} examples"
    measure.steps(name, count, tell, prepare, baseline=learns)
