"""Measures of scored events with weights: how well scores rank, and how true they are.

A legitimate event that stands for ten, because one in ten was kept, counts ten times everywhere.
All inputs have shape (n,): `fraud` booleans, `score` probabilities, `weight` positive numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from online_models.framing import FloatArray

Bools = NDArray[np.bool_]
BIN_COUNT = 20
_EPSILON = float(np.finfo(np.float64).eps)  # as scikit-learn's `log_loss`: none is infinite


class Ranking:
    """Events from the highest score down; equal scores are one threshold.

    `score` (thresholds), `fraud_weight` and `all_weight` of the events at or above each threshold.
    Without `weight` each event counts once. Raises ValueError for shapes that differ or a score
    that is NaN.
    """

    def __init__(self, fraud: Bools, score: FloatArray, weight: FloatArray | None = None) -> None:
        fraud, score, weight = checked(fraud, score, weight)
        order = np.argsort(-score, kind="stable")
        last_of_group = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)[: len(score)])
        self.score = score[order][last_of_group]
        self.fraud_weight = np.cumsum((weight * fraud)[order])[last_of_group]
        self.all_weight = np.cumsum(weight[order])[last_of_group]

    def auc(self) -> float:
        """Return the area under the ROC curve, NaN where one of the classes is absent.

        It is the probability that a fraud scores above a legitimate event, ties counting one half
        (Hanley and McNeil 1982).
        """
        legitimate_weight = self.all_weight - self.fraud_weight
        if not len(self.score) or self.fraud_weight[-1] == 0 or legitimate_weight[-1] == 0:
            return float("nan")
        fraud_step = np.diff(self.fraud_weight, prepend=0.0)
        won = np.diff(legitimate_weight, prepend=0.0) * (self.fraud_weight - fraud_step / 2)
        return float(won.sum() / (self.fraud_weight[-1] * legitimate_weight[-1]))

    def average_precision(self) -> float:
        """Return Σ (recall step × precision) over the thresholds, NaN where there is no fraud.

        No interpolation, as scikit-learn's `average_precision_score`.
        """
        if not len(self.score) or self.fraud_weight[-1] == 0:
            return float("nan")
        recall_step = np.diff(self.fraud_weight, prepend=0.0) / self.fraud_weight[-1]
        return float((recall_step * (self.fraud_weight / self.all_weight)).sum())

    def recall_of_top(self, top_weight: float) -> float:
        """Return the share of fraud among the `top_weight` highest, NaN where there is no fraud.

        Where the border falls into equal scores, a part of them counts: as if drawn by lot.
        """
        if not len(self.score) or self.fraud_weight[-1] == 0:
            return float("nan")
        edges, found = np.append(0.0, self.all_weight), np.append(0.0, self.fraud_weight)
        return float(np.interp(top_weight, edges, found) / self.fraud_weight[-1])


@dataclass(frozen=True, slots=True)
class CalibrationBins:
    """Bins of equal weight from the lowest scores to the highest; shape (bins,), none is empty.

    `predicted` is the mean score of a bin, `observed` its share of fraud.
    """

    weight: FloatArray
    predicted: FloatArray
    observed: FloatArray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean |predicted - observed|, weighted.

        The plain estimate (Naeini, Cooper and Hauskrecht 2015) over bins of equal mass (Nguyen
        and O'Connor 2015). It is never below 0, so chance alone makes it larger, by about
        sqrt(rate × bins / n) for a true model; compare it only over as many events.
        """
        total = float(self.weight.sum())
        gaps = np.abs(self.predicted - self.observed)
        return float((self.weight * gaps).sum() / total) if total else float("nan")


def calibration_bins(
    fraud: Bools,
    score: FloatArray,
    weight: FloatArray | None = None,
    bin_count: int = BIN_COUNT,
) -> CalibrationBins:
    """Return up to `bin_count` bins of equal weight; equal scores share a bin.

    Raises ValueError for shapes that differ or a score that is NaN.
    """
    fraud, score, weight = checked(fraud, score, weight)
    if not len(score):
        nothing = np.empty(0)
        return CalibrationBins(nothing, nothing, nothing)
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    of_group = np.bincount(group, weight, minlength=len(counts))
    middle = np.cumsum(of_group) - of_group / 2
    bins = np.minimum((middle * (bin_count / of_group.sum())).astype(np.int64), bin_count - 1)
    _, place = np.unique(bins[group], return_inverse=True)
    mass = np.bincount(place, weight).astype(np.float64)
    return CalibrationBins(
        mass,
        np.bincount(place, weight * score) / mass,
        np.bincount(place, weight * fraud) / mass,
    )


def log_loss(fraud: Bools, score: FloatArray, weight: FloatArray | None = None) -> float:
    """Return the mean -log of the probability given to what happened, NaN where n is 0.

    Probabilities are taken as at least 2.2e-16 from 0 and 1. Raises ValueError for shapes that
    differ or a score that is NaN.
    """
    fraud, score, weight = checked(fraud, score, weight)
    if not len(score):
        return float("nan")
    inner = np.clip(score, _EPSILON, 1.0 - _EPSILON)
    losses = -np.log(np.where(fraud, inner, 1.0 - inner))
    return float((weight * losses).sum() / weight.sum())


def checked(
    fraud: Bools, score: FloatArray, weight: FloatArray | None
) -> tuple[Bools, FloatArray, FloatArray]:
    """Return the three as arrays; raises ValueError for shapes that differ or a NaN score."""
    fraud = np.asarray(fraud, dtype=np.bool_)
    score = np.asarray(score, dtype=np.float64)
    weight = np.ones(score.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    if fraud.ndim != 1 or not fraud.shape == score.shape == weight.shape:
        got = f"{fraud.shape}, {score.shape}, {weight.shape}"
        raise ValueError(f"fraud, score, weight: expected one shape (n,), got {got}")
    if np.isnan(score).any():
        raise ValueError("score: expected numbers, got NaN")
    return fraud, score, weight
