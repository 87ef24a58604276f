"""The rivals of `bench.handbook_models`: batch models retrained every week, and online models that
learn outside the engine, on the same features and under the same delay of labels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from online_models.evaluation import (
    average_precision,
    card_precision_at_k,
    known_compromised_filter,
    roc_auc,
)
from online_models.framing import usable
from online_models.learning import Learning

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
WEEK_DAYS = 7
DELAY_DAYS = 7
FIRST_FRAUD_COUNT, FIRST_COUNT = 20, 200  # as in streams/training.py
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Payments(NamedTuple):
    """What the evaluation knows of every transaction, in order of time."""

    events: Ints  # keyed hashes of the ids
    ts_ms: Ints
    card: Ints
    fraud: NDArray[np.bool_]

    @property
    def day(self) -> Ints:
        """Days since the epoch."""
        return self.ts_ms // DAY_MS


class Scored(NamedTuple):
    """One model's figures in each of the test weeks, and their means."""

    weeks: list[tuple[float, float, float]]

    @property
    def means(self) -> list[float]:
        """Area under the curve, average precision, card precision at 100."""
        return np.array(self.weeks).mean(axis=0).tolist()


class Week(NamedTuple):
    """One turn of the book's protocol: seven days of training, seven of delay, seven of test."""

    train_from_day: int

    @property
    def test_from_day(self) -> int:
        """The first day of the test."""
        return self.train_from_day + WEEK_DAYS + DELAY_DAYS

    def trained(self, payments: Payments) -> NDArray[np.bool_]:
        """Return the rows of the training week."""
        day = payments.day
        return (day >= self.train_from_day) & (day < self.train_from_day + WEEK_DAYS)

    def tested(self, payments: Payments) -> NDArray[np.bool_]:
        """Return the rows of the test week whose cards are not known to be compromised."""
        return known_compromised_filter(
            payments.day,
            payments.card,
            payments.fraud,
            train_from_day=self.train_from_day,
            test_from_day=self.test_from_day,
            test_to_day=self.test_from_day + WEEK_DAYS - 1,
            delay_days=DELAY_DAYS,
        )


def judge(payments: Payments, rows: NDArray[np.bool_], score: Floats) -> tuple[float, float, float]:
    """Return the three metrics of `rows`; `score` has one value for each of them."""
    fraud = payments.fraud[rows]
    return (
        float(roc_auc(fraud, score)),
        float(average_precision(fraud, score)),
        float(card_precision_at_k(payments.day[rows], payments.card[rows], score, fraud)),
    )


def judge_scores(payments: Payments, weeks: list[Week], score: Floats) -> Scored:
    """Return the figures of scores that were given to every transaction, shape (n,)."""
    tests = [week.tested(payments) for week in weeks]
    return Scored([judge(payments, rows, score[rows]) for rows in tests])


def judge_batch(
    payments: Payments, weeks: list[Week], features: Floats, build: Callable[[], Any]
) -> Scored:
    """Return the figures of a model that `build` makes anew for each week; features (n, k)."""
    figures = []
    for week in weeks:
        train, test = week.trained(payments), week.tested(payments)
        model = build().fit(features[train], payments.fraud[train])
        figures.append(judge(payments, test, model.predict_proba(features[test])[:, 1]))
    return Scored(figures)


def xgboost() -> Any:
    """Return XGBoost with the parameters that the book's validation chose.

    3.x bins values and starts from the base rate where the book's version did neither; these two
    settings give the book's figures back.
    """
    from xgboost import XGBClassifier

    return XGBClassifier(
        n_estimators=50, learning_rate=0.3, max_depth=3, tree_method="exact", base_score=0.5,
        random_state=0, n_jobs=1,
    )  # fmt: skip


def random_forest() -> Any:
    """Return a random forest with the parameters that the book's validation chose."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=100, max_depth=20, random_state=0, n_jobs=1)


def online_scores(payments: Payments, features: Floats, model: Learning, missing: float) -> Floats:
    """Return the scores (n,) of a model that learns each hour what has matured, and only that.

    Features (n, k). It is what trainer, labels and versions do together in the engine, written
    down once more in a dozen lines.
    """
    rows = usable(features, missing)
    learn_order = np.lexsort((payments.events, payments.ts_ms))
    learn_ms = payments.ts_ms[learn_order] + DELAY_DAYS * DAY_MS
    score = np.empty(len(rows))
    hour = payments.ts_ms // HOUR_MS
    starts = np.flatnonzero(np.diff(hour, prepend=-1))
    learned, compiled = 0, model.compiled()
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        due = int(np.searchsorted(learn_ms, hour[start] * HOUR_MS))
        if due > learned:
            batch = learn_order[learned:due]
            fraud = payments.fraud[batch]
            model.learn(rows[batch], fraud, np.ones(len(batch)))
            learned = due
            known = payments.fraud[learn_order[:learned]].sum() if learned < 10**5 else 10**5
            if known >= FIRST_FRAUD_COUNT and learned >= FIRST_COUNT:
                compiled = model.compiled()
        score[start:stop] = compiled.score(rows[start:stop])
    return score
