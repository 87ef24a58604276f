"""The bank policy's model and its delayed labels, beside River's own code for the same model.

River is given dicts made beforehand, and both have learned the same examples. Pending labels are
timed in their steady state: a week of decisions waits, as many mature as arrive, and one in a
hundred gets a label.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actions.policy import Policy
from bench.measure import Measure
from bench.traffic import START_MS
from features.records import TrainingExample
from online_models import catalog
from online_models.delayed import PendingLabels
from online_models.forms import compile_model
from online_models.trainer import Trainer

BATCH = 512
EXAMPLE_COUNT = 2_000
LABEL_EVERY = 100
HOUR_MS = 3_600_000
WEEK_MS = 7 * 24 * HOUR_MS
RIVER_SCORES = "River predict_proba_one"
RIVER_LEARNS = "River learn_one"


@dataclass
class Lesson:
    """A model that has learned, and more of what it learned from."""

    name: str
    pipeline: str
    inputs: tuple[str, ...]
    river: Any
    rows: NDArray[np.float64]
    frauds: list[bool]

    def dicts(self) -> list[dict[str, float]]:
        return [dict(zip(self.inputs, row, strict=True)) for row in self.rows[:BATCH].tolist()]


@pytest.fixture(scope="module")
def lesson(policy: Policy) -> Lesson:
    model = policy.models[0]
    inputs = tuple(item.name for item in model.inputs)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(EXAMPLE_COUNT, len(inputs)))
    frauds = (rows[:, 0] + rng.normal(size=EXAMPLE_COUNT) > 3.0).tolist()
    river = catalog.build(model.pipeline, inputs)
    for row, fraud in zip(rows.tolist(), frauds, strict=True):
        river.learn_one(dict(zip(inputs, row, strict=True)), fraud)
    return Lesson(model.name, model.pipeline, inputs, river, rows, frauds)


def test_river_scores(measure: Measure, lesson: Lesson) -> None:
    dicts, score = lesson.dicts(), lesson.river.predict_proba_one
    measure.calls(RIVER_SCORES, BATCH, lambda: [score(values) for values in dicts])


@pytest.mark.parametrize("batch_count", [BATCH, 1])
def test_compiled_scores(measure: Measure, lesson: Lesson, batch_count: int) -> None:
    compiled = compile_model(lesson.river, lesson.inputs)
    rows = lesson.rows[:batch_count]
    river = [lesson.river.predict_proba_one(values)[True] for values in lesson.dicts()]
    assert np.allclose(compiled.score(rows), river[:batch_count], rtol=1e-9)
    measure.calls(
        f"CompiledModel.score, batches of {batch_count}",
        batch_count,
        lambda: compiled.score(rows),
        baseline=RIVER_SCORES,
    )


def test_river_learns(measure: Measure, lesson: Lesson) -> None:
    river = catalog.build(lesson.pipeline, lesson.inputs)
    examples = list(zip(lesson.dicts(), lesson.frauds[:BATCH], strict=True))

    def learn() -> None:
        for values, fraud in examples:
            river.learn_one(values, fraud, w=10.0)

    measure.calls(RIVER_LEARNS, BATCH, learn)


def test_trainer_learns(measure: Measure, lesson: Lesson) -> None:
    trainer = Trainer(lesson.name, lesson.pipeline, lesson.inputs)
    examples = [
        TrainingExample(
            model=lesson.name,
            event=i,
            ts_ms=START_MS,
            matured_ms=START_MS,
            fraud=fraud,
            weight=10.0,
            features=features,
        )
        for i, (features, fraud) in enumerate(
            zip(lesson.rows[:BATCH].tolist(), lesson.frauds[:BATCH], strict=True)
        )
    ]
    measure.calls("Trainer.learn", BATCH, lambda: trainer.learn(examples), baseline=RIVER_LEARNS)


def test_pending_labels(measure: Measure, lesson: Lesson, is_smoke: bool) -> None:
    pending = PendingLabels(
        lesson.name, len(lesson.inputs), WEEK_MS, legitimate_sample=0.1, seed=0, cap_count=10**6
    )
    rng = np.random.default_rng(2)
    clock_ms = START_MS

    def prepare() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        nonlocal clock_ms
        clock_ms += HOUR_MS
        events = rng.integers(-(2**62), 2**62, size=BATCH, dtype=np.int64)
        return events, np.full(BATCH, clock_ms, dtype=np.int64)

    def step(events: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> None:
        now_ms = int(ts_ms[0])
        pending.append(events, ts_ms, lesson.rows[:BATCH])
        pending.mature(now_ms)
        for event in events[::LABEL_EVERY].tolist():
            pending.label(event, True)

    for _ in range(2 if is_smoke else WEEK_MS // HOUR_MS):
        step(*prepare())
    measure.steps(
        f"PendingLabels append, mature and label, batches of {BATCH}", BATCH, step, prepare
    )
