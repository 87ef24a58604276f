"""Verdicts: which transactions get one, and when it becomes known."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day
from replay.simulator.geography import HOME_CITY_COUNT
from replay.simulator.merchants import Merchants
from replay.simulator.randomness import Purpose
from replay.simulator.rows import SIGN, Rows, Scenario, Via, What, is_transaction, make_rows
from replay.simulator.scene import Scene
from replay.simulator.settings import DAY_MS, HOUR_MS

NO_LABEL = 0
FRAUD_LABEL = 1
LEGITIMATE_LABEL = 2
REPORTED_SHARE = 0.95
CLEARED_SHARE = 0.30  # of the genuine transactions that look suspicious
DELAY_MEDIAN_DAYS = 2.0
DELAY_SIGMA = 0.8
DELAY_MS_MIN = 2 * HOUR_MS
DELAY_MS_MAX = int(6.5 * DAY_MS)
DRAW_COUNT = 8  # tries to fall within the bounds; the median where all fail (once in 10**9)
SUSPICIOUS_TRANSFER_MINOR = 100_000
SUSPICIOUS_ABROAD_MINOR = 10_000
SUSPICIOUS_ONLINE_MINOR = 30_000
REFUND_SHARE = 0.012
REFUND_DAYS = (1, 10)
CARD_SCENARIOS = (Scenario.CARD_TESTING, Scenario.STOLEN_CARD, Scenario.COMPROMISED_TERMINAL)
REPAID_SCENARIOS = (*CARD_SCENARIOS, Scenario.ACCOUNT_TAKEOVER)


def assign_labels(scene: Scene, day: Day, rows: Rows) -> None:
    """Set `label` and `label_ts_ms` of the rows that will get a verdict, in place."""
    rng = scene.streams.of(Purpose.LABELS, day.number)
    fraud = rows["scenario"] != Scenario.NONE
    suspicious = looks_suspicious(scene.merchants, rows) & ~fraud
    share = np.where(fraud, REPORTED_SHARE, np.where(suspicious, CLEARED_SHARE, 0.0))
    chosen = np.flatnonzero(rng.random(len(rows)) < share)
    rows["label"][chosen] = np.where(fraud[chosen], FRAUD_LABEL, LEGITIMATE_LABEL)
    rows["label_ts_ms"][chosen] = rows["ts_ms"][chosen] + draw_delays_ms(rng, len(chosen))


def draw_delays_ms(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Log-normal delays (n), cut to [DELAY_MS_MIN, DELAY_MS_MAX] by drawing again."""
    noise = rng.normal(size=(count, DRAW_COUNT)) * DELAY_SIGMA
    delays = (np.exp(noise) * DELAY_MEDIAN_DAYS * DAY_MS).astype(np.int64)
    good = (delays >= DELAY_MS_MIN) & (delays <= DELAY_MS_MAX)
    first = delays[np.arange(count), good.argmax(axis=1)]
    return np.where(good.any(axis=1), first, int(DELAY_MEDIAN_DAYS * DAY_MS))


def looks_suspicious(merchants: Merchants, rows: Rows) -> NDArray[np.bool_]:
    """Transactions that an analyst would look at: large, and away from the usual."""
    what, via, amount = rows["what"], rows["via"], rows["amount_minor"]
    purchase = what == What.PURCHASE
    abroad = (rows["terminal"] >= 0) & (
        merchants.terminal_city[rows["terminal"]] >= HOME_CITY_COUNT
    )
    transfer = (what == What.TRANSFER_OUT) & (via == Via.APP)
    return np.asarray(
        (transfer & (amount > SUSPICIOUS_TRANSFER_MINOR))
        | (purchase & abroad & (amount > SUSPICIOUS_ABROAD_MINOR))
        | (purchase & (via == Via.ONLINE) & (amount > SUSPICIOUS_ONLINE_MINOR))
    )


def refunds(scene: Scene, day: Day, rows: Rows) -> Rows:
    """Goods sent back within days, and reported frauds that the bank makes good."""
    rng = scene.streams.of(Purpose.REFUNDS, day.number)
    bought = (rows["what"] == What.PURCHASE) & (rows["scenario"] == Scenario.NONE)
    back = rows[bought & (rng.random(len(rows)) < REFUND_SHARE)]
    first, last = (days * DAY_MS for days in REFUND_DAYS)
    returned = make_rows(
        back["customer"], back["ts_ms"] + rng.integers(first, last, len(back)), What.REFUND,
        back["via"], merchant=back["merchant"], card=back["card"],
        amount_minor=back["amount_minor"],
    )  # fmt: skip
    lost = rows[is_transaction(rows) & (rows["label"] == FRAUD_LABEL)]
    lost = lost[np.isin(lost["scenario"], REPAID_SCENARIOS) & (SIGN[lost["what"]] < 0)]
    repaid = make_rows(
        lost["customer"], lost["label_ts_ms"] + rng.integers(DAY_MS, 3 * DAY_MS, len(lost)),
        What.REFUND, Via.BRANCH, amount_minor=lost["amount_minor"],
    )  # fmt: skip
    return np.concatenate([returned, repaid])
