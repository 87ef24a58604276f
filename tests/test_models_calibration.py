"""Calibration against scikit-learn, and against synthetic streams whose posterior is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from features.errors import RecordError
from online_models import calibration
from online_models.calibration import (
    OWN_SHARE,
    SLOPE_MIN,
    Calibration,
    Calibrator,
    fit_isotonic,
    fit_sigmoid,
)
from online_models.framing import pack_arrays, unpack_arrays
from online_models.ranking import calibration_bins

UNIT = np.linspace(0.001, 0.999, 999)


def logit(p):
    return np.log(p / (1 - p))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sample(seed, count, slope=0.6, intercept=-1.5, spread=2.0, weights=(1.0,)):
    """Scores whose true share of fraud is sigmoid(slope × log-odds + intercept)."""
    rng = np.random.default_rng(seed)
    score = sigmoid(rng.normal(-1.0, spread, count))
    fraud = rng.random(count) < sigmoid(slope * logit(score) + intercept)
    return score, fraud, rng.choice(weights, count)


@pytest.mark.parametrize("seed", range(5))
def test_the_sigmoid_is_scikit_learns_logistic_regression_on_log_odds(seed):
    score, fraud, weight = sample(seed, 2_000, weights=(1.0, 10.0))
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000)
    peer.fit(logit(score)[:, None], fraud, sample_weight=weight)
    found = fit_sigmoid(score, fraud, weight, ridge=0.0)
    assert found.slope == pytest.approx(peer.coef_[0, 0], rel=1e-5)
    assert found.intercept == pytest.approx(peer.intercept_[0], rel=1e-5)
    assert found.apply(score) == pytest.approx(
        peer.predict_proba(logit(score)[:, None])[:, 1], rel=1e-4
    )


@pytest.mark.parametrize("seed", range(5))
def test_where_newton_starts_makes_no_difference(seed):
    score, fraud, weight = sample(seed, 500)
    cold = fit_sigmoid(score, fraud, weight)
    far = Calibration(8.0, -20.0, np.empty(0), np.empty(0))
    warm = fit_sigmoid(score, fraud, weight, start=far)
    assert (warm.slope, warm.intercept) == pytest.approx((cold.slope, cold.intercept), abs=1e-6)


def test_without_evidence_the_sigmoid_stays_at_home_and_with_some_it_leaves():
    score, fraud = np.array([0.01, 0.01]), np.array([True, False])
    found = fit_sigmoid(score, fraud, np.array([1e-9, 1e-9]))
    assert (found.slope, found.intercept) == pytest.approx((1.0, 0.0), abs=1e-6)
    found = fit_sigmoid(*sample(3, 20_000))
    assert found.slope == pytest.approx(0.6, abs=0.05)
    assert found.intercept == pytest.approx(-1.5, abs=0.05)


def test_scores_that_mean_the_reverse_still_rise():
    score, fraud, weight = sample(2, 3_000, slope=-0.8)
    found = fit_sigmoid(score, fraud, weight)
    assert found.slope == SLOPE_MIN
    # The mean is right all the same: the intercept goes on alone.
    assert found.apply(score).mean() == pytest.approx(fraud.mean(), rel=0.01)


scored = st.lists(
    st.tuples(
        # Few distinct ones, so that ties are common; scikit-learn takes neighbours for equal.
        st.integers(0, 8).map(lambda s: s / 8) | st.integers(0, 10**6).map(lambda s: s / 10**6),
        st.booleans(),
        st.sampled_from([1.0, 10.0, 0.5]),
    ),
    min_size=1,
    max_size=40,
)


@given(scored)
def test_isotonic_is_scikit_learns(rows):
    score, fraud, weight = (np.array(column) for column in zip(*rows, strict=True))
    found = fit_isotonic(score, fraud, weight)
    peer = IsotonicRegression(out_of_bounds="clip").fit(score, fraud, sample_weight=weight)
    at = np.concatenate([score, UNIT])
    expected = (1 - OWN_SHARE) * peer.predict(at) + OWN_SHARE * at
    assert found.apply(at) == pytest.approx(expected, abs=1e-9)


@given(scored)
def test_a_calibration_changes_no_ranking(rows):
    score, fraud, weight = (np.array(column) for column in zip(*rows, strict=True))
    for found in (fit_isotonic(score, fraud, weight), fit_sigmoid(score, fraud, weight)):
        calibrated = found.apply(UNIT)
        assert (np.diff(calibrated) > 0).all()
        assert calibrated.min() >= 0.0
        assert calibrated.max() <= 1.0


@given(scored, st.sets(st.integers(0, 40)))
def test_a_score_has_the_same_bits_in_any_batch(rows, cuts):
    score, fraud, weight = (np.array(column) for column in zip(*rows, strict=True))
    for found in (fit_isotonic(score, fraud, weight), fit_sigmoid(score, fraud, weight)):
        whole = found.apply(score)
        parts = [found.apply(part) for part in np.split(score, sorted(cuts))]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_scores_of_exactly_0_and_1_stay_probabilities():
    found = fit_sigmoid(*sample(1, 1_000))
    ends = found.apply(np.array([0.0, 1.0]))
    assert 0.0 < ends[0] < ends[1] < 1.0


def fed(method, score, fraud, weight, window_count=20_000):
    calibrator = Calibrator(method, window_count)
    calibrator.learn(score, fraud, weight)
    return calibrator


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_nothing_changes_before_there_are_enough_frauds(method):
    enough = calibration.FRAUD_COUNT_MIN[method]
    score = np.linspace(0.01, 0.5, 3 * enough)
    fraud = np.arange(3 * enough) < enough - 1
    calibrator = fed(method, score, fraud, np.ones(3 * enough))
    assert calibrator.fit() is None
    calibrator.learn(np.array([0.4]), np.array([True]), np.ones(1))
    assert calibrator.fit() is not None


def test_none_is_none():
    calibrator = fed("none", *sample(1, 5_000))
    assert calibrator.fit() is None


# A line of steps comes closer with the cube root of n only, two parameters with the square root.
@pytest.mark.parametrize(("method", "gap_max"), [("sigmoid", 0.01), ("isotonic", 0.02)])
def test_a_calibrated_score_is_the_known_posterior(method, gap_max):
    calibrated = fed(method, *sample(7, 20_000)).fit()
    score, fraud, _ = sample(8, 50_000)
    posterior = sigmoid(0.6 * logit(score) - 1.5)
    assert np.abs(calibrated.apply(score) - posterior).mean() < gap_max
    before = calibration_bins(fraud, score).error
    assert calibration_bins(fraud, calibrated.apply(score)).error < before / 5


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_the_share_that_is_sampled_moves_nothing(method):
    """Legitimate events kept at 100 %, 10 % and 2 %, with the inverse as weight: one posterior."""
    score, fraud, _ = sample(9, 60_000)
    posterior = sigmoid(0.6 * logit(UNIT) - 1.5)
    rng = np.random.default_rng(1)
    for share in (1.0, 0.1, 0.02):
        kept = fraud | (rng.random(len(fraud)) < share)
        weight = np.where(fraud, 1.0, 1.0 / share)[kept]
        found = fed(method, score[kept], fraud[kept], weight, 100_000).fit()
        inner = (UNIT > 0.01) & (UNIT < 0.9)
        assert np.abs(found.apply(UNIT) - posterior)[inner].mean() < 0.025


def test_a_moved_base_rate_moves_the_intercept_by_the_ratio_of_odds():
    """Prior shift: P(score | class) stays, the share of fraud goes from 20 % to 2 %.

    By Saerens et al. the posterior's log-odds move by log(odds after / odds before).
    """
    rng = np.random.default_rng(4)

    def stream(share, count):
        fraud = rng.random(count) < share
        # Two normals of one spread: the posterior is a sigmoid of x, and x is told as a score.
        x = rng.normal(np.where(fraud, 1.0, -1.0), 1.0)
        return sigmoid(2.0 * x), fraud, np.ones(count)

    calibrator = fed("sigmoid", *stream(0.2, 40_000), window_count=40_000)
    before = calibrator.fit()
    assert before.intercept == pytest.approx(logit(0.2), abs=0.1)
    calibrator.learn(*stream(0.02, 40_000))  # the window has passed over the shift
    after = calibrator.fit()
    assert after.slope == pytest.approx(before.slope, abs=0.1)
    moved = after.intercept - before.intercept
    assert moved == pytest.approx(logit(0.02) - logit(0.2), abs=0.15)


@pytest.mark.parametrize("method", ["none", "sigmoid", "isotonic"])
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_restart_leaves_no_trace(method, stop):
    steady, stopped = Calibrator(method, 700), Calibrator(method, 700)
    for number in range(5):
        if number == stop:
            arrays = unpack_arrays(pack_arrays(stopped.to_arrays()))
            stopped = Calibrator(method, 700)
            stopped.restore(arrays)
        block = sample(number, 300, intercept=0.5)
        steady.learn(*block)
        stopped.learn(*block)
        expected, found = steady.fit(), stopped.fit()
        assert (expected is None) == (found is None)
        if expected is not None:
            assert found.apply(UNIT).tobytes() == expected.apply(UNIT).tobytes()
            again = Calibration.from_arrays(found.to_arrays())
            assert again.apply(UNIT).tobytes() == expected.apply(UNIT).tobytes()
    assert (expected is None) == (method == "none")  # else the blocks had too few frauds
    assert {k: v.tobytes() for k, v in steady.to_arrays().items()} == {
        k: v.tobytes() for k, v in stopped.to_arrays().items()
    }


def test_the_window_is_bounded_and_how_examples_arrive_does_not_show():
    score, fraud, weight = sample(3, 2_500, intercept=0.5)
    whole = fed("isotonic", score, fraud, weight, window_count=1_000)
    bit = Calibrator("isotonic", 1_000)
    for start in range(0, 2_500, 7):
        rows = slice(start, start + 7)
        bit.learn(score[rows], fraud[rows], weight[rows])
    assert whole.to_arrays()["rows"].shape == (3, 1_000)
    assert whole.fit().apply(UNIT).tobytes() == bit.fit().apply(UNIT).tobytes()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"line": np.array([-1.0, 0.0])}, "a map that rises"),
        ({"knots": np.array([0.2, 0.1]), "values": np.array([0.1, 0.2])}, "a map that rises"),
        ({"knots": np.array([0.1, 0.2]), "values": np.array([0.2, 0.1])}, "a map that rises"),
        ({"values": np.array([0.2])}, r"\$\.arrays\.values: expected shape"),
        ({"line": np.array([np.nan, 0.0])}, r"\$\.arrays\.line: expected finite"),
    ],
)
def test_arrays_that_are_no_map_are_refused(arrays, message):
    good = {"line": np.array([1.0, 0.0]), "knots": np.empty(0), "values": np.empty(0)}
    with pytest.raises(RecordError, match=message):
        Calibration.from_arrays({**good, **arrays})
