"""Metrics against scikit-learn and against a slow version of the Handbook's card precision."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from online_models.evaluation import (
    average_precision,
    card_precision_at_k,
    card_precision_by_day,
    known_compromised_filter,
    roc_auc,
)

# Few distinct scores, so that ties are common.
scored = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6).map(lambda s: s / 6) | st.floats(0, 1)),
    min_size=2,
    max_size=60,
)
payments = st.lists(
    st.tuples(st.integers(0, 5), st.integers(-3, 8), st.integers(0, 4), st.booleans()), max_size=60
)


def columns(rows):
    day, card, score, fraud = zip(*rows, strict=True) if rows else ([], [], [], [])
    return (
        np.array(day, dtype=np.int64),
        np.array(card, dtype=np.int64),
        np.array(score, dtype=np.float64),
        np.array(fraud, dtype=np.bool_),
    )


@given(scored)
def test_roc_auc_and_average_precision_equal_scikit_learn(rows):
    fraud = np.array([r[0] for r in rows])
    score = np.array([r[1] for r in rows])
    if fraud.all() or not fraud.any():
        assert math.isnan(roc_auc(fraud, score))
    else:
        assert roc_auc(fraud, score) == pytest.approx(roc_auc_score(fraud, score), abs=1e-12)
    if fraud.any():
        expected = average_precision_score(fraud, score)
        assert average_precision(fraud, score) == pytest.approx(expected, abs=1e-12)
    else:
        assert math.isnan(average_precision(fraud, score))


def test_metrics_by_hand():
    fraud = np.array([True, False, True, False])
    score = np.array([0.9, 0.8, 0.8, 0.1])
    # Pairs: 0.9 wins both; 0.8 ties one (½) and wins one: 3½ of 4.
    assert roc_auc(fraud, score) == 3.5 / 4
    # Threshold 0.9: recall ½, precision 1; threshold 0.8: recall 1, precision 2/3.
    assert average_precision(fraud, score) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def slow_card_precision(rows, k, remove_detected):
    """The book's loop in plain Python: one dict a day, one sort."""
    detected = set()
    out = []
    for today in sorted({row[0] for row in rows}):
        highest, compromised = {}, {}
        for day, card, score, fraud in rows:
            if day == today and card not in detected:
                highest[card] = max(highest.get(card, -1), score)
                compromised[card] = compromised.get(card, False) or fraud
        top = sorted(highest, key=lambda card: (-highest[card], card))[:k]
        found = [card for card in top if compromised[card]]
        out.append(len(found) / k)
        if remove_detected:
            detected.update(found)
    return out


@given(rows=payments, k=st.integers(1, 6), remove_detected=st.booleans())
def test_card_precision_equals_the_slow_version(rows, k, remove_detected):
    expected = slow_card_precision(rows, k, remove_detected)
    day, card, score, fraud = columns(rows)
    days, precisions = card_precision_by_day(day, card, score, fraud, k, remove_detected)
    assert days.tolist() == sorted({row[0] for row in rows})
    assert precisions.tolist() == expected
    mean = card_precision_at_k(day, card, score, fraud, k, remove_detected)
    if expected:
        assert mean == pytest.approx(sum(expected) / len(expected))
    else:
        assert math.isnan(mean)


@given(rows=payments, seed=st.integers(0, 9))
def test_card_precision_does_not_depend_on_the_order_of_rows(rows, seed):
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    one = card_precision_by_day(*columns(rows), k=2)[1]
    assert one.tolist() == card_precision_by_day(*columns(shuffled), k=2)[1].tolist()


def test_card_precision_by_hand():
    rows = [
        (1, 7, 0.9, True), (1, 8, 0.8, False), (1, 9, 0.7, True),
        (2, 7, 0.9, True), (2, 9, 0.6, True), (2, 8, 0.5, False),
    ]  # fmt: skip
    # Day 1, top 2: cards 7 (found), 8. Day 2 without card 7: cards 9 (found), 8.
    assert card_precision_by_day(*columns(rows), k=2)[1].tolist() == [0.5, 0.5]
    # With card 7 left in, day 2's top 2 are 7 and 9.
    kept = card_precision_by_day(*columns(rows), k=2, remove_detected=False)[1]
    assert kept.tolist() == [0.5, 1.0]


def slow_filter(rows, train_from, train_days, delay, test_days):
    """`get_train_test_set` of the book, on lists: rows of the test set, by index."""
    known = {
        card for day, card, fraud in rows if fraud and train_from <= day < train_from + train_days
    }
    kept = []
    for step in range(test_days):
        new_day = train_from + train_days + step - 1
        known |= {card for day, card, fraud in rows if fraud and day == new_day}
        today = train_from + train_days + delay + step
        kept += [i for i, (day, card, _) in enumerate(rows) if day == today and card not in known]
    return sorted(kept)


@given(
    rows=st.lists(st.tuples(st.integers(0, 16), st.integers(0, 9), st.booleans()), max_size=80),
    train_from=st.integers(0, 3),
    train_days=st.integers(1, 4),
    delay=st.integers(0, 4),
    test_days=st.integers(1, 5),
)
def test_known_cards_are_left_out_as_in_the_book(rows, train_from, train_days, delay, test_days):
    day, card, fraud = (
        np.array([row[c] for row in rows], dtype=t)
        for c, t in enumerate((np.int64, np.int64, np.bool_))
    )
    test_from = train_from + train_days + delay
    kept = known_compromised_filter(
        day,
        card,
        fraud,
        train_from_day=train_from,
        test_from_day=test_from,
        test_to_day=test_from + test_days - 1,
        delay_days=delay,
    )
    assert np.flatnonzero(kept).tolist() == slow_filter(
        rows, train_from, train_days, delay, test_days
    )


def test_bad_arguments_are_refused():
    one = np.zeros(1, dtype=np.int64)
    yes = np.ones(1, dtype=np.bool_)
    with pytest.raises(ValueError, match="expected numbers, got NaN"):
        roc_auc(yes, np.array([math.nan]))
    with pytest.raises(ValueError, match="expected one shape"):
        average_precision(yes, np.zeros(2))
    with pytest.raises(ValueError, match="k: expected 1 or more, got 0"):
        card_precision_at_k(one, one, np.zeros(1), yes, k=0)
    with pytest.raises(ValueError, match="day, card"):
        card_precision_at_k(np.zeros(2, dtype=np.int64), one, np.zeros(1), yes)
    with pytest.raises(ValueError, match="train_from_day"):
        known_compromised_filter(
            one, one, yes, train_from_day=0, test_from_day=7, test_to_day=9, delay_days=7
        )
