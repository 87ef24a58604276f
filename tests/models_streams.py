"""Streams that models learn from in tests, and River's own answer to a row."""

import math

import numpy as np

from features.records import TrainingExample
from online_models import catalog

INPUTS = ("amount", "hour", "terminal_risk", "count", "skewed")


def stream(seed, length):
    """Rows and labels: two signs that count together, and other signs from the middle on."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(length, len(INPUTS)))
    rows[:, 3] = rng.integers(0, 4, size=length)
    rows[:, 4] = np.exp(2.0 * rows[:, 4])
    signal = rows[:, 0] + rows[:, 1] * rows[:, 2] - 1.2
    after = length // 2
    signal[after:] = rows[after:, 3] - rows[after:, 0] - 2.0
    return rows, signal + 0.3 * rng.normal(size=length) > 0.0


def examples(rows, frauds, weights=(1.0, 10.0)):
    return [
        TrainingExample(
            model="fraud", event=i, ts_ms=i, matured_ms=i, fraud=bool(fraud),
            weight=weights[i % len(weights)], features=row,
        )
        for i, (row, fraud) in enumerate(zip(rows.tolist(), frauds, strict=True))
    ]  # fmt: skip


def as_river_sees(row, inputs=INPUTS):
    """The definition: what is no ordinary number counts as 0.0."""
    clean = [v if math.isfinite(v) and abs(v) <= 1e100 else 0.0 for v in row]
    return dict(zip(inputs, clean, strict=True))


def river_score(pipeline_name, river, values):
    """River's own answer; a class that it has not met has probability 0.0."""
    if not catalog.find(pipeline_name).is_supervised:
        return float(river.score_one(values))
    return river.predict_proba_one(values).get(True, 0.0)
