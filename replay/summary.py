"""The summary of a replay, and the metrics in it. Its keys are a contract."""

import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation import (
    NEVER_DAY,
    average_precision,
    card_precision_at_k,
    known_compromised,
    roc_auc,
)
from replay.encoding import FRAUD, UNKNOWN
from replay.evaluation_log import Evaluated

DAY_MS = 86_400_000
CARDS_PER_DAY = 100
SUMMARY_FILE = "summary.json"
_PERCENTILES = {"p50": 50.0, "p99": 99.0, "p999": 99.9}


@dataclass(frozen=True, slots=True)
class EvaluationWindow:
    """Which decided transactions the metrics look at: those of [from_ms, to_ms).

    A card that is known to be compromised would have been blocked, so by the protocol of the Fraud
    Detection Handbook (`get_train_test_set`) its transactions are left out from the day (UTC)
    before whose start the label of one of its frauds has arrived. The book only counts frauds
    since its training week; set `known_from_ms` to the start of that week to compare with its
    figures. Left at None, every fraud of the stream counts, as it does for a running engine.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    remove_known_cards: bool = True
    known_from_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """How well the scores separate frauds; None where that is not defined."""

    auc: float | None
    average_precision: float | None
    card_precision_at_100: float | None


@dataclass(frozen=True, slots=True)
class RunCounts:
    """How many records came in and what became of them."""

    records_in: int
    decided: int
    dead_lettered: int
    alerts: int
    offers: int
    tasks: int


def evaluated_rows(log: Evaluated, window: EvaluationWindow) -> NDArray[np.bool_]:
    """Return which rows of the log the metrics look at, shape (n,): labelled, in the window, and
    of a card not yet known to be compromised.
    """
    chosen = np.asarray(log.truth != UNKNOWN, dtype=np.bool_)
    if window.from_ms is not None:
        chosen &= log.ts_ms >= window.from_ms
    if window.to_ms is not None:
        chosen &= log.ts_ms < window.to_ms
    if window.remove_known_cards:
        chosen &= ~_known_compromised(log, window.known_from_ms)
    return chosen


def _known_compromised(log: Evaluated, known_from_ms: int | None) -> NDArray[np.bool_]:
    counted = (log.truth == FRAUD) & (log.known_ms >= 0)
    if known_from_ms is not None:
        counted &= log.ts_ms >= known_from_ms
    known_day = np.where(counted, log.known_ms // DAY_MS + 1, NEVER_DAY)
    return known_compromised(log.ts_ms // DAY_MS, log.card, known_day)


def evaluate(log: Evaluated, window: EvaluationWindow) -> Metrics:
    """Return the metrics of the evaluated rows; a row without a score ranks below all others."""
    rows = evaluated_rows(log, window)
    fraud = log.truth[rows] == FRAUD
    score = log.score[rows]
    unscored = np.isnan(score)
    if not fraud.any() or unscored.all():
        return Metrics(None, None, None)
    score = np.where(unscored, score[~unscored].min() - 1.0, score)
    day = log.ts_ms[rows] // DAY_MS
    card_precision = card_precision_at_k(day, log.card[rows], score, fraud, k=CARDS_PER_DAY)
    return Metrics(
        _finite(roc_auc(fraud, score)), _finite(average_precision(fraud, score)), card_precision
    )


def build_summary(
    counts: RunCounts,
    *,
    wall_s: float,
    latency_ns: Any,
    metrics: Metrics | None,
    off_policy: Mapping[str, Any] | None,
    decisions_sha256: str,
    versions: Mapping[str, Any],
    models: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the summary. `latency_ns` is an HdrHistogram of nanoseconds, or None."""
    measured = metrics or Metrics(None, None, None)
    return {
        "records": {
            "in": counts.records_in,
            "decided": counts.decided,
            "dead_lettered": counts.dead_lettered,
        },
        "alerts": counts.alerts,
        "offers": counts.offers,
        "tasks": counts.tasks,
        "wall_s": round(wall_s, 3),
        "throughput_per_s": round(counts.records_in / wall_s, 1) if wall_s > 0 else None,
        "memory_peak_mib": round(memory_peak_mib(), 1),
        "latency_us": latency_percentiles_us(latency_ns),
        "metrics": {
            "auc": measured.auc,
            "average_precision": measured.average_precision,
            "card_precision_at_100": measured.card_precision_at_100,
        },
        "off_policy": dict(off_policy) if off_policy is not None else None,
        "decisions_sha256": decisions_sha256,
        "versions": dict(versions),
        "models": dict(models or {}),
    }


def write_summary(directory: Path | str, summary: Mapping[str, Any]) -> Path:
    """Write summary.json into a directory and return its path."""
    path = Path(directory) / SUMMARY_FILE
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def latency_percentiles_us(latency_ns: Any) -> dict[str, float | None]:
    """Return p50, p99 and p999 in microseconds; None where nothing was recorded."""
    if latency_ns is None or latency_ns.get_total_count() == 0:
        return dict.fromkeys(_PERCENTILES)
    return {
        name: latency_ns.get_value_at_percentile(percentile) / 1_000
        for name, percentile in _PERCENTILES.items()
    }


def memory_peak_mib() -> float:
    """Return the most memory that this process has held at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, KiB elsewhere


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
