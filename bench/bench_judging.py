"""What judging a model costs: calibration and challengers of an event, reports of an example.

Beside the champion's own score of the same batch. A report is made once a day of event time; a
value of drift is one of a matured example's, of which a tenth of all payments become one.
"""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from actions.policy import Policy
from actions.policy_compiler import compile_policy
from bench.measure import Measure
from features.hashing import IdHasher
from online_models.calibration import WINDOW_COUNT, Calibration, Calibrator, Method
from online_models.detectors import DETECTORS
from online_models.drift import Stream
from online_models.judging import Contestant, DetectorName
from online_models.prequential import PrequentialWindow
from streams.scoring import Scorer

BATCH = 512
CHAMPION = f"Scorer.score, champion alone, batches of {BATCH}"


@pytest.fixture(scope="module")
def rows(policy: Policy) -> NDArray[np.float64]:
    return np.random.default_rng(1).normal(size=(BATCH, len(policy.models[0].inputs)))


def scorer_with(policy: Policy, challenger_count: int) -> Scorer:
    """The bank's model with challengers of the champion's own form and inputs."""
    model = policy.models[0]
    inputs = tuple(item.name for item in model.inputs)
    challengers = tuple(
        Contestant(f"challenger_{i}", model.pipeline, inputs) for i in range(challenger_count)
    )
    declared = dataclasses.replace(model, challengers=challengers)
    return Scorer(declared, compile_policy(policy, IdHasher().one))


def test_a_champion(measure: Measure, policy: Policy, rows: NDArray[np.float64]) -> None:
    scorer = scorer_with(policy, 0)
    measure.calls(CHAMPION, BATCH, lambda: scorer.score(rows))


@pytest.mark.parametrize("count", [1, 3])
def test_a_shadow(measure: Measure, policy: Policy, rows: NDArray[np.float64], count: int) -> None:
    scorer = scorer_with(policy, count)
    what = f"Scorer.score, champion and {count} in its shadow"
    measure.calls(what, BATCH, lambda: scorer.score(rows), baseline=CHAMPION)


def calibration(method: Method) -> Calibration:
    rng = np.random.default_rng(3)
    scores = rng.random(WINDOW_COUNT) ** 4
    calibrator = Calibrator(method)
    calibrator.learn(scores, rng.random(WINDOW_COUNT) < scores**1.5, np.ones(WINDOW_COUNT))
    found = calibrator.fit()
    assert found is not None
    return found


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(
    measure: Measure, policy: Policy, rows: NDArray[np.float64], method: Method
) -> None:
    scores = scorer_with(policy, 0).score(rows)[:, 0].copy()
    fitted = calibration(method)
    what = f"Calibration.apply, {method}, batches of {BATCH}"
    measure.calls(what, BATCH, lambda: fitted.apply(scores), baseline=CHAMPION)


def test_a_report(measure: Measure) -> None:
    rng = np.random.default_rng(4)
    window = PrequentialWindow(1, WINDOW_COUNT)
    scores = rng.random(WINDOW_COUNT) ** 4
    window.add(
        np.arange(WINDOW_COUNT) * 60_000,
        rng.random(WINDOW_COUNT) < scores,
        np.where(rng.random(WINDOW_COUNT) < 0.1, 1.0, 10.0),
        scores[None, :],
    )
    what = f"PrequentialWindow.measure, by example of {WINDOW_COUNT:,}"
    measure.calls(what, WINDOW_COUNT, lambda: window.measure(0, 100.0))


@pytest.mark.parametrize("detector", sorted(DETECTORS))
def test_drift(measure: Measure, detector: DetectorName) -> None:
    stream = Stream("input:x", detector)
    values = np.random.default_rng(5).normal(size=BATCH)
    for _ in range(20):
        stream.update(values)
    measure.calls(f"Stream.update, {detector}", BATCH, lambda: stream.update(values))
