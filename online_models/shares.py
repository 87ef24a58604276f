"""Contributions on one scale: log-odds, whatever a model itself adds up."""

import math

import numpy as np

from online_models.framing import FloatArray

LOG_ODDS_MAX = 30.0  # beyond it River's sigmoid says exactly 0 or 1
NEAR = 1e-6  # distances below this share of the probability are taken by the slope


def log_odds(probabilities: FloatArray) -> FloatArray:
    """Return log(p / (1 - p)), held within ±`LOG_ODDS_MAX`."""
    with np.errstate(divide="ignore"):
        odds = np.log(probabilities) - np.log1p(-probabilities)
    held: FloatArray = np.clip(odds, -LOG_ODDS_MAX, LOG_ODDS_MAX)
    return held


def base_log_odds(probability: float) -> float:
    """Return the log-odds of one probability, held within ±`LOG_ODDS_MAX`."""
    return float(log_odds(np.array([probability]))[0])


def spread_rest(contributions: FloatArray, totals: FloatArray) -> FloatArray:
    """Return contributions (n, k) that add up to `totals` (n,): what is left over is shared out.

    All inputs get an equal part of it. It is rounding nearly always; a naive Bayes leaf that has
    met a class without any value of it may leave more.
    """
    rest = totals - contributions.sum(axis=1)
    full: FloatArray = contributions + rest[:, None] / contributions.shape[1]
    return full


def stretched(contributions: FloatArray, totals: FloatArray) -> FloatArray:
    """Return contributions (n, k) stretched row by row so that they add up to `totals` (n,)."""
    sums = contributions.sum(axis=1)
    is_some = np.abs(sums) > NEAR
    factors = np.divide(totals, sums, out=np.ones_like(sums), where=is_some)
    return spread_rest(contributions * factors[:, None], totals)


def to_log_odds(contributions: FloatArray, scores: FloatArray, base: float) -> FloatArray:
    """Return contributions (n, k) in log-odds, from those to `scores` (n,) minus `base`.

    Each row is stretched by one factor, so that its sum becomes the distance of the log-odds of
    score and base; signs and order stay. Where the two are (nearly) equal it is the slope there.
    """
    edge = 1.0 / (1.0 + math.exp(LOG_ODDS_MAX))
    held_base = min(max(base, edge), 1.0 - edge)
    distances = scores - base
    slopes = 1.0 / (held_base * (1.0 - held_base))
    is_near = np.abs(distances) <= NEAR * min(held_base, 1.0 - held_base)
    with np.errstate(divide="ignore", invalid="ignore"):
        stretched = (log_odds(scores) - base_log_odds(base)) / distances
    factors = np.where(is_near, slopes, stretched)
    return contributions * factors[:, None]
