"""Prequential measures: each example is first a test, by the score given when deciding.

The last matured examples of one model, with what each of its contestants said of them, are kept
as columns; every measure weighs a legitimate example by the inverse of the sampled share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import RecordError
from online_models.framing import FloatArray
from online_models.ranking import Bools, CalibrationBins, Ranking, calibration_bins, log_loss

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Measures:
    """How good one contestant is over a window; NaN where a measure is not defined."""

    auc: float
    average_precision: float
    recall_at_budget: float
    log_loss: float
    bins: CalibrationBins


class PrequentialWindow:
    """The last `capacity_count` judged examples of a model with `contestant_count` scores each."""

    def __init__(self, contestant_count: int, capacity_count: int) -> None:
        self._capacity_count = capacity_count
        self.ts_ms: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.fraud: Bools = np.empty(0, dtype=np.bool_)
        self.weight: FloatArray = np.empty(0)
        self.scores: FloatArray = np.empty((contestant_count, 0))

    @property
    def count(self) -> int:
        """How many examples the window holds."""
        return len(self.ts_ms)

    def add(
        self, ts_ms: NDArray[np.int64], fraud: Bools, weight: FloatArray, scores: FloatArray
    ) -> None:
        """Take examples in order: times, truth and weight (n,), scores (contestants, n)."""
        keep = slice(-self._capacity_count, None)
        self.ts_ms = np.append(self.ts_ms, ts_ms)[keep]
        self.fraud = np.append(self.fraud, fraud)[keep]
        self.weight = np.append(self.weight, weight)[keep]
        self.scores = np.hstack([self.scores, scores])[:, keep]

    def measure(
        self, contestant: int, alerts_per_day: float, last_count: int | None = None
    ) -> Measures:
        """Return the measures of one contestant over the window, or its `last_count` examples.

        The budget is spent over the whole span of the examples: one threshold, as many alerts as
        `alerts_per_day` times the days between the first and the last of them, at least one day's.
        """
        rows = slice(-last_count if last_count else None, None)
        fraud, weight = self.fraud[rows], self.weight[rows]
        score, ts_ms = self.scores[contestant, rows], self.ts_ms[rows]
        ranking = Ranking(fraud, score, weight)
        span_ms = int(ts_ms.max() - ts_ms.min()) if len(ts_ms) else 0
        return Measures(
            auc=ranking.auc(),
            average_precision=ranking.average_precision(),
            recall_at_budget=ranking.recall_of_top(alerts_per_day * max(1.0, span_ms / DAY_MS)),
            log_loss=log_loss(fraud, score, weight),
            bins=calibration_bins(fraud, score, weight),
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that `restore` needs."""
        return {
            "ts_ms": self.ts_ms,
            "fraud": self.fraud.astype(np.int64),
            "weight": self.weight,
            "scores": self.scores,
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]], kept: list[int | None]) -> None:
        """Take up a window; `kept` says which of its rows of scores each contestant has.

        A contestant that had none is judged by no earlier example, and with it nobody: the window
        begins anew. Raises RecordError for arrays that do not fit together.
        """
        shapes = [np.shape(arrays.get(name, ())) for name in ("ts_ms", "fraud", "weight", "scores")]
        count = shapes[0][0] if shapes[0] else 0
        if shapes[:3] != [(count,)] * 3 or len(shapes[3]) != 2 or shapes[3][1] != count:
            raise RecordError("$.window", f"columns of {count} rows", f"shapes {shapes}")
        if any(row is None or row >= shapes[3][0] for row in kept):
            return
        self.add(
            arrays["ts_ms"],
            arrays["fraud"] != 0,
            arrays["weight"],
            arrays["scores"][np.array(kept)],
        )
