"""Frauds change their pattern on a day: how long models take to recover, online and in batch.

    python -m bench.pattern_change --out bench/results/pattern_change.json
    python -m bench.pattern_change_page bench/results/pattern_change.json docs

A simulated bank goes through the whole engine once for each seed, with the bank policy's inputs:
every contestant's scores are those given when deciding, and the batch models learn from the very
examples that the engine learns from, with the same delay of labels. Truth is the simulator's.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from actions.policy import Policy
from bench.handbook_batch import DELAY_DAYS, WEEK_DAYS, random_forest, xgboost
from bench.machine import machine_facts
from features.hashing import IdHasher
from features.records import TrainingExample
from online_models.ranking import Ranking
from replay.simulator import Simulator, SimulatorSettings
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Emission, Output
from streams.policy_files import BANK_POLICY
from streams.store import MemoryStore

DAY_MS = 86_400_000
PACKAGES = ("millrace", "river", "numba", "numpy", "scikit-learn", "xgboost")
TRAILING_DAYS = 7
BEFORE_DAYS = 14
RECOVERED_WITHIN = 0.02
MEASURES = ("auc", "average_precision")
Floats = NDArray[np.float64]

# A model of the policy for each response to drift: contestants share their model's. The forest and
# the tree replace what errs by themselves, so they stand in one model only.
MODELS = """
  - id: fraud
    pipeline: scaled_logistic
    publish_every: 6h
    challengers: [{{pipeline: binned_logistic}}, {{pipeline: adaptive_forest}}]
{inputs}
  - id: fraud_reset
    pipeline: scaled_logistic
    publish_every: 6h
    challengers: [{{pipeline: binned_logistic}}]
    drift: {{watch: [error], every: 1d, response: reset}}
{inputs}
  - id: fraud_faster
    pipeline: scaled_logistic
    publish_every: 6h
    challengers: [{{pipeline: binned_logistic}}]
    drift: {{watch: [error], every: 1d, response: faster, faster: {{factor: 3, over: 5000}}}}
{inputs}
"""
NAMES = {"fraud": "", "fraud_reset": ", reset on drift", "fraud_faster": ", faster on drift"}


@dataclass(frozen=True)
class Size:
    """What is simulated; days count from the first."""

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    customer_count: int = 500
    fraud_rate: float = 0.01
    change_day: int = 56
    day_count: int = 105  # that are evaluated; as many more are simulated as labels take
    legitimate_sample: float = 0.25


SMOKE = Size(seeds=(1,), customer_count=60, change_day=21, day_count=35, fraud_rate=0.05)


class Examples(NamedTuple):
    """Matured examples in order of time: columns (n,), features (n, k), scores by name (n,)."""

    day: NDArray[np.int64]
    fraud: NDArray[np.bool_]  # the truth
    known: NDArray[np.bool_]  # what was known when they matured
    weight: Floats
    features: Floats
    scores: dict[str, Floats]


def policy_of(size: Size) -> Policy:
    """Return the bank's policy with the models of this experiment, each with the bank's inputs."""
    files = {path.name: path.read_text("utf-8") for path in BANK_POLICY.glob("*.yaml")}
    text = files["models.yaml"]
    start, end = text.index("  - id: fraud"), text.index("# What each action is expected to cost")
    inputs = text[text.index("    inputs:\n") : end].rstrip()
    files["models.yaml"] = text[:start] + MODELS.format(inputs=inputs) + "\n" + text[end:]
    sample = "legitimate_sample: 0.1"
    assert sample in files["policy.yaml"]
    wanted = f"legitimate_sample: {size.legitimate_sample}"
    files["policy.yaml"] = files["policy.yaml"].replace(sample, wanted)
    return Policy.parse(files)


class _Listener:
    """A sink that counts the engine's alarms of drift, and takes every matured example."""

    def __init__(self) -> None:
        self.examples: dict[str, list[TrainingExample]] = {name: [] for name in NAMES}
        self.drift_count = 0

    def take(self, output: Output) -> None:
        for example in output.training:
            self.examples[example.model].append(example)

    def write(self, emissions: Sequence[Emission]) -> None:
        """Count alarms."""
        self.drift_count += sum(emission.topic == "drift" for emission in emissions)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def live(size: Size, seed: int) -> tuple[Examples, int]:
    """Let the engine decide a simulated bank; return its examples and how many alarms it gave."""
    policy, listener = policy_of(size), _Listener()
    settings = SimulatorSettings(
        size.customer_count,
        size.day_count + DELAY_DAYS + 1,
        seed=seed,
        fraud_rate=size.fraud_rate,
        pattern_change_day=size.change_day,
    )
    simulator = Simulator(settings)
    embedded = EmbeddedSettings(checkpoint_ms=10**9, checkpoint_max_count=10**9)
    runtime = EmbeddedRuntime(policy, MemoryStore(), listener, embedded, on_output=listener.take)
    with closing(runtime):
        for chunk in simulator.chunks():
            topics, keys, _, values = zip(*chunk, strict=True)
            runtime.submit(topics, keys, values)
    frauds = np.array(IdHasher().many(list(simulator.truth.fraud)), dtype=np.int64)
    found = _columns(policy, listener.examples, frauds, settings.start_ms)
    return _until(found, size.day_count), listener.drift_count


def _columns(
    policy: Policy,
    examples: Mapping[str, list[TrainingExample]],
    frauds: NDArray[np.int64],
    start_ms: int,
) -> Examples:
    scores: dict[str, Floats] = {}
    for model in policy.models:
        ordered = sorted(examples[model.name], key=lambda e: (e.ts_ms, e.event))
        said = np.array([e.scores for e in ordered])
        for contestant, column in zip(model.contestants, said.T, strict=True):
            scores[contestant.pipeline + NAMES[model.name]] = column
    first = sorted(examples["fraud"], key=lambda e: (e.ts_ms, e.event))
    events = np.array([e.event for e in first], dtype=np.int64)
    return Examples(
        (np.array([e.ts_ms for e in first], dtype=np.int64) - start_ms) // DAY_MS,
        np.isin(events, frauds),
        np.array([e.fraud for e in first]),
        np.array([e.weight for e in first]),
        np.array([e.features for e in first], dtype=np.float64),
        scores,
    )


def _until(found: Examples, day_count: int) -> Examples:
    """Return the examples of the days that are evaluated."""
    rows = found.day < day_count
    columns = [column[rows] for column in found[:-1]]
    return Examples(*columns, {name: score[rows] for name, score in found.scores.items()})


def batch_scores(
    found: Examples, build: Callable[[], Any], first_day: int, week_count: int, last_day: int
) -> Floats:
    """Return the scores (n,) of a model that is trained anew every week, 0.0 before the first.

    It learns the last `week_count` weeks whose labels are known, as they are known; the first
    training is on `first_day`, the last no later than `last_day`.
    """
    score = np.zeros(len(found.day))
    model = None
    for start in range(first_day, int(found.day.max()) + 1, WEEK_DAYS):
        known_day = start - DELAY_DAYS  # every label of the days before is known
        train = (found.day < known_day) & (found.day >= known_day - week_count * WEEK_DAYS)
        if start <= last_day and found.known[train].any():
            model = build().fit(found.features[train], found.known[train])
        test = (found.day >= start) & (found.day < start + WEEK_DAYS)
        if model is not None and test.any():
            score[test] = model.predict_proba(found.features[test])[:, 1]
    return score


class Rival(NamedTuple):
    """A batch model: how it is made, from how many weeks it learns, and whether it ever stops."""

    build: Callable[[], Any]
    week_count: int
    stops_at_change: bool = False


RIVALS = {
    "XGBoost, each week from the last": Rival(xgboost, 1),
    "XGBoost, each week from the last four": Rival(xgboost, 4),
    "random forest, each week from the last four": Rival(random_forest, 4),
    "XGBoost, not trained after the change": Rival(xgboost, 4, stops_at_change=True),
}


def measures_by_day(found: Examples, score: Floats, size: Size, over_days: int) -> Floats:
    """Return AUC and average precision (2, days), each over the `over_days` days that end with it.

    NaN where there is no fraud in them.
    """
    out = np.full((len(MEASURES), size.day_count), np.nan)
    ends = np.searchsorted(found.day, np.arange(size.day_count), side="right")
    for day in range(size.day_count):
        first = np.searchsorted(found.day, day - over_days + 1)
        rows = slice(first, ends[day])
        if found.fraud[rows].any():
            ranking = Ranking(found.fraud[rows], score[rows], found.weight[rows])
            out[:, day] = ranking.auc(), ranking.average_precision()
    return out


def days_until_recovery(trailing: Floats, change_day: int) -> int | None:
    """Return after how many days a trailing measure (days,) is as before, None if it never is.

    As before: within RECOVERED_WITHIN of its mean over the two weeks before the change. Only days
    whose window begins after the change count, so that 7 is the least: not hurt at all.
    """
    before = trailing[change_day - BEFORE_DAYS : change_day].mean()
    return days_until(trailing, change_day, before - RECOVERED_WITHIN)


def days_until(trailing: Floats, change_day: int, level: float) -> int | None:
    """Return after how many days a trailing measure (days,) reaches a level, None if never."""
    after = trailing[change_day + TRAILING_DAYS - 1 :]
    reached = np.flatnonzero(after >= level)
    return int(reached[0]) + TRAILING_DAYS if len(reached) else None


def all_scores(
    found: Examples, size: Size, rivals: Mapping[str, Rival], phase: int
) -> dict[str, Floats]:
    """Return everybody's scores; `phase` is the day of the week on which batch models train."""
    first_day = WEEK_DAYS + DELAY_DAYS + phase
    batch = {
        name: batch_scores(
            found,
            rival.build,
            first_day,
            rival.week_count,
            size.change_day if rival.stops_at_change else size.day_count,
        )
        for name, rival in rivals.items()
    }
    return found.scores | batch


def measure(size: Size, rivals: Mapping[str, Rival] = RIVALS) -> dict[str, Any]:
    """Return, by model, each measure by day as the mean of the seeds, and days until recovery."""
    daily: dict[str, list[Floats]] = {}
    trailing: dict[str, list[Floats]] = {}
    recovery: dict[str, list[int | None]] = {}
    drift_counts, example_counts, fraud_counts = [], [], []
    for place, seed in enumerate(size.seeds):
        found, drift_count = live(size, seed)
        drift_counts.append(drift_count)
        example_counts.append(len(found.day))
        fraud_counts.append(int(found.fraud.sum()))
        for name, score in all_scores(found, size, rivals, place % WEEK_DAYS).items():
            by_day = measures_by_day(found, score, size, 1)
            by_week = measures_by_day(found, score, size, TRAILING_DAYS)
            daily.setdefault(name, []).append(by_day)
            trailing.setdefault(name, []).append(by_week)
            until = days_until_recovery(by_week[0], size.change_day)
            recovery.setdefault(name, []).append(until)
        print(f"seed {seed}: {len(found.day)} examples", file=sys.stderr, flush=True)
    return {
        "size": asdict(size),
        "drift_counts": drift_counts,
        "example_counts": example_counts,
        "fraud_counts": fraud_counts,
        "models": {
            name: {
                "daily": _means(daily[name]),
                "trailing": _means(trailing[name]),
                "recovery_days": recovery[name],
            }
            for name in daily
        },
    }


def _means(found: Sequence[Floats]) -> dict[str, list[float | None]]:
    """Return each measure by day as the mean over the seeds that have it, None where none has."""
    stacked = np.stack(found)
    known = ~np.isnan(stacked)
    counts = known.sum(axis=0)
    sums = np.where(known, stacked, 0.0).sum(axis=0)
    return {
        name: [round(s / c, 4) if c else None for s, c in zip(*pair, strict=True)]
        for name, *pair in zip(MEASURES, sums.tolist(), counts.tolist(), strict=True)
    }


def main(arguments: Sequence[str]) -> int:
    """Measure and write the results; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.pattern_change", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one small bank: does it run?")
    parser.add_argument("--out", required=True, metavar="JSON")
    options = parser.parse_args(arguments)
    results = {**machine_facts(PACKAGES), **measure(SMOKE if options.smoke else Size())}
    Path(options.out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
