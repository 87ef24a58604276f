"""How good scores are: ROC AUC, average precision, card precision at k.

Card precision and the removal of known cards follow the Fraud Detection Handbook (Le Borgne,
Siblini, Lebichot and Bontempi 2022), chapters 3 to 5: `card_precision_top_k` and
`get_train_test_set` of its shared functions. Where the book leaves ties to an unstable sort, here
the smaller card id goes first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.framing import FloatArray
from online_models.ranking import Bools, Ranking, checked

Ints = NDArray[np.integer[Any]]
NEVER_DAY = np.iinfo(np.int64).max


def roc_auc(fraud: Bools, score: FloatArray) -> float:
    """Return the area under the ROC curve; `fraud` and `score` have shape (n,).

    It is the probability that a fraud scores above a legitimate event, ties counting one half
    (Hanley and McNeil 1982). NaN where one of the classes is absent. Raises ValueError for shapes
    that differ or a score that is NaN.
    """
    return Ranking(fraud, score).auc()


def average_precision(fraud: Bools, score: FloatArray) -> float:
    """Return Σ (recall step × precision) over the thresholds; `fraud`, `score` have shape (n,).

    No interpolation, equal scores are one threshold, as scikit-learn's `average_precision_score`.
    NaN where there is no fraud. Raises ValueError for shapes that differ or a score that is NaN.
    """
    return Ranking(fraud, score).average_precision()


def card_precision_by_day(
    day: Ints,
    card: Ints,
    score: FloatArray,
    fraud: Bools,
    k: int = 100,
    remove_detected: bool = True,
) -> tuple[Ints, FloatArray]:
    """Return the days, ascending, and the card precision at `k` of each.

    All inputs have shape (n,), one entry a transaction. On each day a card's score is the highest
    of its transactions, and it is compromised if one of them is fraudulent; the precision is the
    number of compromised cards among the `k` highest, divided by `k`, even if the day has fewer
    cards. With `remove_detected`, a compromised card found in the top `k` of a day is left out on
    all later days. Equal scores: the smaller card id goes first. Raises ValueError for shapes that
    differ, a score that is NaN, or `k` below 1.
    """
    fraud, score, _ = checked(fraud, score, None)
    if day.shape != score.shape or card.shape != score.shape:
        raise ValueError(f"day, card: expected shape {score.shape}, got {day.shape}, {card.shape}")
    if k < 1:
        raise ValueError(f"k: expected 1 or more, got {k}")
    days = np.unique(day)
    precisions = np.zeros(len(days))
    detected = np.empty(0, dtype=card.dtype)
    for i, today in enumerate(days):
        rows = np.flatnonzero(day == today)
        rows = rows[~np.isin(card[rows], detected)]
        cards, place = np.unique(card[rows], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, place, score[rows])
        compromised = np.zeros(len(cards), dtype=np.bool_)
        np.logical_or.at(compromised, place, fraud[rows])
        top = np.argsort(-highest, kind="stable")[:k]
        found = cards[top][compromised[top]]
        precisions[i] = len(found) / k
        if remove_detected:
            detected = np.concatenate([detected, found])
    return days, precisions


def card_precision_at_k(
    day: Ints,
    card: Ints,
    score: FloatArray,
    fraud: Bools,
    k: int = 100,
    remove_detected: bool = True,
) -> float:
    """Return the mean over the days of `card_precision_by_day`; NaN where there is no day."""
    _, precisions = card_precision_by_day(day, card, score, fraud, k, remove_detected)
    return float(precisions.mean()) if len(precisions) else float("nan")


def known_compromised_filter(
    day: Ints,
    card: Ints,
    fraud: Bools,
    *,
    train_from_day: int,
    test_from_day: int,
    test_to_day: int,
    delay_days: int,
) -> Bools:
    """Return which transactions the test keeps, shape (n,): those of cards not yet known.

    Kept are the transactions of days `test_from_day` to `test_to_day`, both included, except those
    of a card that is known to be compromised by then. A fraud of day f is known on day d if
    `train_from_day` <= f <= d - `delay_days` - 1: the book takes all frauds of the training period,
    and for each test day adds those of the day `delay_days` + 1 before it. Frauds before the
    training period are not looked at, as in the book. `day`, `card`, `fraud` have shape (n,) and
    must cover the training and the delay period too.

    In the book's protocol training is 7 days, delay 7, test 7: `test_from_day` is
    `train_from_day` + 14. Raises ValueError where the test would begin before the first label is
    known (`test_from_day` <= `train_from_day` + `delay_days`) or after it ends.
    """
    if not train_from_day + delay_days < test_from_day <= test_to_day:
        expected = "train_from_day + delay_days < test_from_day <= test_to_day"
        got = f"{train_from_day} + {delay_days}, {test_from_day}, {test_to_day}"
        raise ValueError(f"days: expected {expected}, got {got}")
    counted = np.asarray(fraud, dtype=np.bool_) & (day >= train_from_day)
    known_day = np.where(counted, day + delay_days + 1, NEVER_DAY)
    is_test = (day >= test_from_day) & (day <= test_to_day)
    return np.asarray(is_test & ~known_compromised(day, card, known_day), dtype=np.bool_)


def known_compromised(day: Ints, card: Ints, known_day: Ints) -> Bools:
    """Return which transactions are of a card that is known to be compromised by their day.

    `known_day` is the first day on which the transaction is known as a fraud, `NEVER_DAY` for one
    that is none or does not count. All have shape (n,), the result too.
    """
    cards, place = np.unique(card, return_inverse=True)
    first_known_day = np.full(len(cards), NEVER_DAY)
    np.minimum.at(first_known_day, place, known_day)
    return np.asarray(first_known_day[place] <= day, dtype=np.bool_)
