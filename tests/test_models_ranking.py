"""Weighted measures against scikit-learn, by hand, and against a copy of each event."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from online_models.ranking import Ranking, calibration_bins, log_loss

# Few distinct scores, so that ties are common.
rows = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 6).map(lambda s: s / 6) | st.floats(0, 1),
        st.sampled_from([1.0, 10.0, 2.5]),
    ),
    min_size=2,
    max_size=60,
)


def columns(found):
    fraud, score, weight = zip(*found, strict=True)
    return np.array(fraud), np.array(score), np.array(weight)


@given(rows)
def test_auc_average_precision_and_log_loss_equal_scikit_learn(found):
    fraud, score, weight = columns(found)
    ranking = Ranking(fraud, score, weight)
    if fraud.any() and not fraud.all():
        expected = roc_auc_score(fraud, score, sample_weight=weight)
        assert ranking.auc() == pytest.approx(expected, abs=1e-12)
        expected = sklearn_log_loss(fraud, score, sample_weight=weight)
        assert log_loss(fraud, score, weight) == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(ranking.auc())
    if fraud.any():
        expected = average_precision_score(fraud, score, sample_weight=weight)
        assert ranking.average_precision() == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(ranking.average_precision())


@given(rows)
def test_an_event_of_weight_ten_counts_as_ten_events(drawn):
    fraud, score, weight = columns([(f, s, 10.0 if w > 2 else 1.0) for f, s, w in drawn])
    copies = weight.astype(int)
    apart = np.repeat(fraud, copies), np.repeat(score, copies)
    for measure in (
        lambda *of: Ranking(*of).auc(),
        lambda *of: Ranking(*of).average_precision(),
        lambda *of: Ranking(*of).recall_of_top(7.0),
        log_loss,
        lambda *of: calibration_bins(*of).error,
    ):
        assert measure(fraud, score, weight) == pytest.approx(
            measure(*apart), abs=1e-12, nan_ok=True
        )


def test_recall_of_the_top_by_hand():
    fraud = np.array([True, False, True, True, False])
    score = np.array([0.9, 0.8, 0.5, 0.5, 0.5])
    weight = np.array([1.0, 2.0, 1.0, 1.0, 4.0])
    ranking = Ranking(fraud, score, weight)
    assert ranking.recall_of_top(1.0) == pytest.approx(1 / 3)
    assert ranking.recall_of_top(3.0) == pytest.approx(1 / 3)
    # Of the tie at 0.5 (weight 6, two frauds) half is drawn: one fraud of it is expected.
    assert ranking.recall_of_top(6.0) == pytest.approx(2 / 3)
    assert ranking.recall_of_top(100.0) == 1.0
    assert math.isnan(Ranking(~fraud[[0, 2, 3]], score[:3]).recall_of_top(1.0))


def test_bins_of_equal_mass_equal_scikit_learns_quantile_bins():
    rng = np.random.default_rng(5)
    score = rng.random(2_000)
    fraud = rng.random(2_000) < score**2
    bins = calibration_bins(fraud, score, bin_count=10)
    observed, predicted = calibration_curve(fraud, score, n_bins=10, strategy="quantile")
    assert bins.observed == pytest.approx(observed)
    assert bins.predicted == pytest.approx(predicted)
    assert bins.weight == pytest.approx(np.full(10, 200.0))
    assert bins.error == pytest.approx(np.abs(observed - predicted).mean())


def test_calibration_error_by_hand():
    # Two bins of weight 4: {0.1, 0.1 ×2, 0.2} with one fraud, and {0.6 ×4} with weight 3 of fraud.
    score = np.array([0.1, 0.1, 0.2, 0.6, 0.6])
    weight = np.array([1.0, 2.0, 1.0, 3.0, 1.0])
    fraud = np.array([False, False, True, True, False])
    bins = calibration_bins(fraud, score, weight, bin_count=2)
    assert bins.predicted == pytest.approx([0.125, 0.6])
    assert bins.observed == pytest.approx([0.25, 0.75])
    assert bins.error == pytest.approx((0.125 + 0.15) / 2)


def test_equal_scores_share_a_bin_and_no_bin_is_empty():
    bins = calibration_bins(np.array([True] + [False] * 9), np.full(10, 0.3))
    assert len(bins.weight) == 1
    assert bins.error == pytest.approx(0.2)


def test_nothing_measured_is_nan():
    nothing, scores = np.empty(0, dtype=bool), np.empty(0)
    ranking = Ranking(nothing, scores)
    values = [ranking.auc(), ranking.average_precision(), ranking.recall_of_top(5.0)]
    values += [log_loss(nothing, scores), calibration_bins(nothing, scores).error]
    assert all(math.isnan(value) for value in values)


def test_shapes_and_nan_are_refused():
    fraud = np.array([True, False])
    for measure in (Ranking, calibration_bins, log_loss):
        with pytest.raises(ValueError, match="one shape"):
            measure(fraud, np.array([0.1]))
        with pytest.raises(ValueError, match="one shape"):
            measure(fraud, np.array([0.1, 0.2]), np.ones(3))
        with pytest.raises(ValueError, match="got NaN"):
            measure(fraud, np.array([0.1, np.nan]))
