"""Every entry of the catalogue: River's own answer beside the compiled form, learning, publishing.

Each model has learned 6,000 examples of fifteen inputs, of which 2 % are fraud, half of the rest
with weight 10. River is given dicts made beforehand. Reading again is timed after 64 more examples
and divided by these, beside the cost of learning one.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.measure import Measure
from features.records import TrainingExample
from online_models import catalog
from online_models.trainer import Trainer

BATCH = 512
LEARNED_COUNT = 6_000
SMOKE_COUNT = 300
NEWS_COUNT = 64
INPUTS = tuple(f"input_{j}" for j in range(15))
PIPELINES = tuple(catalog.CATALOG)
# A module's parameter makes pytest go through all tests of one entry before the next: what is
# compared is measured within seconds, and not minutes apart, in which a core may change its speed.
every_entry = pytest.mark.parametrize("pipeline", PIPELINES, scope="module")


@dataclass
class Lesson:
    """A trainer that has learned, and examples for it."""

    trainer: Trainer
    rows: NDArray[np.float64]
    examples: list[TrainingExample]


@cache
def lesson(pipeline: str, learned_count: int) -> Lesson:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(learned_count, len(INPUTS)))
    signal = rows[:, 0] + rows[:, 1] * rows[:, 2] + rng.normal(size=learned_count)
    frauds = signal > np.quantile(signal, 0.98)
    examples = [
        TrainingExample(
            model="fraud", event=i, ts_ms=i, matured_ms=i, fraud=bool(fraud),
            weight=10.0 if i % 2 and not fraud else 1.0, features=row,
        )
        for i, (row, fraud) in enumerate(zip(rows.tolist(), frauds, strict=True))
    ]  # fmt: skip
    trainer = Trainer("fraud", pipeline, INPUTS)
    trainer.learn(examples)
    return Lesson(trainer, rows, examples)


@pytest.fixture
def learned_count(is_smoke: bool) -> int:
    return SMOKE_COUNT if is_smoke else LEARNED_COUNT


@every_entry
def test_river_scores(measure: Measure, pipeline: str, learned_count: int) -> None:
    given = lesson(pipeline, learned_count)
    river = catalog.build(pipeline, INPUTS)
    catalog.find(pipeline).restore(river, INPUTS, given.trainer._learning.arrays())
    dicts = [dict(zip(INPUTS, row, strict=True)) for row in given.rows[:BATCH].tolist()]
    score = river.predict_proba_one
    if not catalog.find(pipeline).is_supervised:
        score = river.score_one
    measure.calls(f"River scores, {pipeline}", len(dicts), lambda: [score(row) for row in dicts])


@every_entry
@pytest.mark.parametrize("batch_count", [BATCH, 1])
def test_compiled_scores(
    measure: Measure, pipeline: str, batch_count: int, learned_count: int
) -> None:
    given = lesson(pipeline, learned_count)
    model, rows = given.trainer.publish(0).to_compiled(), given.rows[:batch_count]
    measure.calls(
        f"CompiledModel.score, {pipeline}, batches of {batch_count}",
        len(rows),
        lambda: model.score(rows),
        baseline=f"River scores, {pipeline}",
    )


@every_entry
def test_contributions(measure: Measure, pipeline: str, learned_count: int) -> None:
    given = lesson(pipeline, learned_count)
    model, rows = given.trainer.publish(0).to_compiled(), given.rows[:BATCH]
    measure.calls(
        f"CompiledModel.contributions, {pipeline}, batches of {BATCH}",
        len(rows),
        lambda: model.contributions(rows),
        baseline=f"River scores, {pipeline}",
    )


@every_entry
def test_trainer_learns(measure: Measure, pipeline: str, learned_count: int) -> None:
    given = lesson(pipeline, learned_count)
    news = given.examples[:NEWS_COUNT]
    trainer = Trainer.restore(given.trainer.state())
    measure.calls(f"Trainer.learn, {pipeline}", NEWS_COUNT, lambda: trainer.learn(news))


@every_entry
@pytest.mark.parametrize("what", ["Trainer.publish", "Trainer.state"])
def test_reading_again(measure: Measure, pipeline: str, what: str, learned_count: int) -> None:
    given = lesson(pipeline, learned_count)
    trainer = Trainer.restore(given.trainer.state())
    places = iter(range(0, 10**9, NEWS_COUNT))

    def prepare() -> tuple[()]:
        first = next(places) % (learned_count - NEWS_COUNT)
        trainer.learn(given.examples[first : first + NEWS_COUNT])
        return ()

    target = trainer.state if what == "Trainer.state" else lambda: trainer.publish(0)
    measure.steps(
        f"{what} after {NEWS_COUNT} examples, {pipeline}",
        NEWS_COUNT,
        target,
        prepare,
        baseline=f"Trainer.learn, {pipeline}",
    )
