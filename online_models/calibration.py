"""Calibrated scores: a rising map from what a model says to the share of fraud behind it.

It is learned from matured examples by what the newest version of the model says of them *before*
it learns them. Two methods: `sigmoid` (Platt 1999: two parameters, on log-odds) and `isotonic`
(Zadrozny and Elkan 2002: a rising line of steps, for many frauds). Both maps rise strictly, so a
calibration changes no ranking within a version.

**Sampling and base rate.** Legitimate examples are a sample and carry its inverse as weight, so
a change of the sampled share moves nothing. A change of the base rate itself moves the intercept
as the window passes over it: by the log of the ratio of odds, as Saerens, Latinne and Decaestecker
(2002) would correct it. Their estimate from unlabelled scores is not used: it takes any drift for
a change of the base rate, and the labels come anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.errors import RecordError
from online_models.calibrating.kernels import (
    calibrate_sigmoid,
    calibrate_steps,
    fill_log_odds,
    pool_adjacent_violators,
    sigmoid_sums,
)
from online_models.framing import FloatArray, checked_array
from online_models.ranking import Bools

Method = Literal["none", "sigmoid", "isotonic"]
METHODS: tuple[Method, ...] = ("none", "sigmoid", "isotonic")

SCORE_MIN = 1e-13  # log-odds of ±30: beyond, compiled scores are 0 and 1
SLOPE_MIN = 0.05  # where scores tell nothing, or the reverse, the map still rises
OWN_SHARE = 1e-3  # of the score itself in an isotonic map, which then rises on its level parts
RIDGE = 1.0  # belief in slope 1 and intercept 0, worth about one fraud
STEP_COUNT_MAX = 30
STEP_SIZE_MIN = 1e-6
STEP_MIN = 1e-9
FRAUD_COUNT_MIN = {"sigmoid": 30, "isotonic": 200}  # below, scores stay as they are
WINDOW_COUNT = 20_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted map; `knots` and `values` (k,) are empty for a sigmoid."""

    slope: float
    intercept: float
    knots: FloatArray
    values: FloatArray

    def apply(self, scores: FloatArray) -> FloatArray:
        """Return the calibrated probabilities, shape (n,), of a model's scores."""
        out = np.empty(len(scores))
        if len(self.knots):
            calibrate_steps(scores, self.knots, self.values, OWN_SHARE, out)
        else:
            calibrate_sigmoid(scores, self.slope, self.intercept, SCORE_MIN, out)
        return out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that `from_arrays` needs."""
        line = np.array([self.slope, self.intercept])
        return {"line": line, "knots": self.knots, "values": self.values}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Calibration":
        """Return the map of these arrays; raises RecordError where they are none that rises."""
        slope, intercept = checked_array(arrays, "line", (2,)).tolist()
        shape = np.shape(arrays.get("knots", ()))
        knots = checked_array(arrays, "knots", (shape[0] if shape else 0,))
        values = checked_array(arrays, "values", knots.shape, minimum=0.0)
        if slope < SLOPE_MIN or (np.diff(knots) <= 0).any() or (np.diff(values) < 0).any():
            raise RecordError("$.arrays", "a map that rises", "one that falls")
        return cls(slope, intercept, knots, values)


def fit_sigmoid(
    scores: FloatArray,
    fraud: Bools,
    weight: FloatArray,
    *,
    start: Calibration | None = None,
    ridge: float = RIDGE,
) -> Calibration:
    """Return the sigmoid of least weighted log loss over scores, fraud and weight (n,).

    Newton's method with halved steps, from `start`. `ridge` × ((slope - 1)² + intercept²) / 2 is
    added to the loss. A slope below SLOPE_MIN is held there.
    """
    x = log_odds(scores)
    start_slope, start_intercept = (start.slope, start.intercept) if start else (1.0, 0.0)
    loss = _Loss(x, fraud, weight, ridge)
    slope, intercept = _least(loss, start_slope, start_intercept, holds_slope=False)
    if slope < SLOPE_MIN:
        slope, intercept = _least(loss, SLOPE_MIN, intercept, holds_slope=True)
    return Calibration(slope, intercept, np.empty(0), np.empty(0))


def log_odds(scores: FloatArray) -> FloatArray:
    """Return the log-odds of probabilities, between -30 and 30, shape (n,)."""
    out = np.empty(len(scores))
    fill_log_odds(scores, SCORE_MIN, out)
    return out


@dataclass(frozen=True, slots=True)
class _Loss:
    """The penalised log loss of sigmoid(slope × x + intercept), with its derivatives."""

    x: FloatArray
    fraud: Bools
    weight: FloatArray
    ridge: float

    def at(self, slope: float, intercept: float) -> list[float]:
        """Return loss, gradient (slope, intercept), second derivatives (ss, si, ii)."""
        sums = np.empty(6)
        sigmoid_sums(self.x, self.fraud, self.weight, slope, intercept, sums)
        loss, by_slope, by_intercept, ss, si, ii = sums.tolist()
        return [
            loss + self.ridge * ((slope - 1.0) ** 2 + intercept**2) / 2,
            by_slope + self.ridge * (slope - 1.0),
            by_intercept + self.ridge * intercept,
            ss + self.ridge,
            si,
            ii + self.ridge,
        ]


def _least(
    loss: _Loss, slope: float, intercept: float, *, holds_slope: bool
) -> tuple[float, float]:
    """Return slope and intercept of the least loss, from the given ones on."""
    now = loss.at(slope, intercept)
    for _ in range(STEP_COUNT_MAX):
        _, by_slope, by_intercept, ss, si, ii = now
        determinant = ss * ii - si * si
        if ii <= 0.0 or (determinant <= 0.0 and not holds_slope):
            break
        if holds_slope:
            step_slope, step_intercept = 0.0, by_intercept / ii
        else:
            step_slope = (ii * by_slope - si * by_intercept) / determinant
            step_intercept = (ss * by_intercept - si * by_slope) / determinant
        size = 1.0
        found = loss.at(slope - step_slope, intercept - step_intercept)
        while found[0] > now[0] and size > STEP_SIZE_MIN:
            size /= 2
            found = loss.at(slope - size * step_slope, intercept - size * step_intercept)
        if found[0] > now[0]:
            break
        slope, intercept, now = slope - size * step_slope, intercept - size * step_intercept, found
        if size * max(abs(step_slope), abs(step_intercept)) < STEP_MIN:
            break
    return slope, intercept


def fit_isotonic(scores: FloatArray, fraud: Bools, weight: FloatArray) -> Calibration:
    """Return the rising line of least weighted squared error over scores, fraud, weight (n,).

    Equal scores count as one, with their mean; between the steps it is drawn straight, as
    scikit-learn's `IsotonicRegression` does.
    """
    knots, group = np.unique(scores, return_inverse=True)
    weights = np.bincount(group, weight).astype(np.float64)
    values = np.bincount(group, weight * fraud) / weights
    starts = np.empty(len(knots), dtype=np.int64)
    count = pool_adjacent_violators(values, weights, starts)
    firsts = starts[:count]
    lasts = np.append(firsts[1:], len(knots)) - 1
    ends = np.stack([firsts, lasts], axis=1).ravel()
    kept = np.append(True, np.diff(ends) > 0)
    return Calibration(1.0, 0.0, knots[ends][kept], np.repeat(values[:count], 2)[kept])


class Calibrator:
    """Learns one model's calibration over its last `window_count` matured examples."""

    def __init__(self, method: Method, window_count: int = WINDOW_COUNT) -> None:
        self._method = method
        self._window_count = window_count
        self._rows: FloatArray = np.empty((3, 0))  # score, fraud, weight
        self._fitted: Calibration | None = None

    def learn(self, scores: FloatArray, fraud: Bools, weight: FloatArray) -> None:
        """Take examples in order: what the model says of them (n,), what they are, their weight."""
        if self._method != "none" and len(scores):
            rows = np.stack([scores, fraud.astype(np.float64), weight])
            self._rows = np.hstack([self._rows, rows])[:, -self._window_count :]

    def fit(self) -> Calibration | None:
        """Return the calibration for the window as it stands, None while it holds too little."""
        scores, frauds, weight = np.ascontiguousarray(self._rows)
        fraud = frauds > 0.5
        if fraud.sum() < FRAUD_COUNT_MIN.get(self._method, 1) or fraud.all():
            self._fitted = None
        elif self._method == "isotonic":
            self._fitted = fit_isotonic(scores, fraud, weight)
        else:
            self._fitted = fit_sigmoid(scores, fraud, weight, start=self._fitted)
        return self._fitted

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that `restore` needs."""
        fitted = self._fitted.to_arrays() if self._fitted else {}
        return {"rows": self._rows, **fitted}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on where the calibrator of these arrays stood; raises RecordError for others."""
        shape = np.shape(arrays.get("rows", ()))
        self._rows = checked_array(arrays, "rows", (3, shape[1] if len(shape) == 2 else 0))
        self._fitted = Calibration.from_arrays(arrays) if "line" in arrays else None
