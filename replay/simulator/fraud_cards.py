"""Frauds with cards: testing of stolen numbers, a stolen card abroad, compromised terminals."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day, draw_between
from replay.simulator.geography import CITY_DISTANCE_KM
from replay.simulator.randomness import Purpose
from replay.simulator.rows import Rows, Scenario, Via, What, make_rows, no_rows
from replay.simulator.scene import Scene
from replay.simulator.settings import DAY_MS
from replay.simulator.spending import FAVOURITE_SHARE

MINUTE_MS = 60_000
FAR_KM = 1_500.0
STOLEN_AFTER_MINUTES = (10, 80)  # 1,500 km in 80 minutes is 1,125 km/h: nobody travels so
COMPROMISE_DAYS = (7, 28)
COMPROMISED_FRAUD_SHARE = 0.5
INFLATION = (2.0, 5.0)


def card_testing(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> Rows:
    """6 to 14 tiny online purchases within minutes, then a large one, from a strange device."""
    customer = int(rng.choice(victims))
    tiny_count = int(rng.integers(6, 15))
    gaps = rng.integers(15_000, 75_000, tiny_count + 1)
    gaps[-1] = rng.integers(2 * MINUTE_MS, 20 * MINUTE_MS)
    start_ms = int(draw_between(rng, day, 0, 23, 1)[0])
    merchants = scene.merchants.draw_online(rng, 3)
    merchant = np.append(rng.choice(merchants[:2], tiny_count), merchants[2])
    balance = float(scene.state.balance_minor[customer])
    large = min(0.6 * balance, 55_000 * float(np.exp(rng.normal() * 0.5)))
    amount = np.append(rng.integers(50, 300, tiny_count), int(large))
    return make_rows(
        np.full(tiny_count + 1, customer), start_ms + np.cumsum(gaps), What.PURCHASE, Via.ONLINE,
        merchant=merchant, amount_minor=amount, card=_card(scene, rng, customer),
        device=scene.state.new_device(), ip=_strange_address(rng),
        scenario=Scenario.CARD_TESTING,
    )  # fmt: skip


def stolen_card(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> Rows:
    """2 to 5 card-present purchases far away, minutes after a genuine one at home."""
    base = _purchase_at_home(scene, day, rng, today, victims)
    if base is None:
        return no_rows()
    home = int(scene.population.city[base["customer"]])
    far = np.flatnonzero(CITY_DISTANCE_KM[home] > FAR_KM)
    count = int(rng.integers(2, 6))
    low, high = (minutes * MINUTE_MS for minutes in STOLEN_AFTER_MINUTES)
    gaps = rng.integers(8 * MINUTE_MS, 25 * MINUTE_MS, count)
    gaps[0] = rng.integers(low, high)
    merchant = scene.merchants.draw_shops(rng, np.full(count, rng.choice(far)))
    each = 0.5 * float(scene.state.balance_minor[base["customer"]]) / count
    amount = np.minimum(each, 24_000 * np.exp(rng.normal(size=count) * 0.6))
    return make_rows(
        np.full(count, base["customer"]), int(base["ts_ms"]) + np.cumsum(gaps), What.PURCHASE,
        Via.POS, merchant=merchant, terminal=scene.merchants.draw_terminals(rng, merchant),
        amount_minor=np.rint(amount), card=base["card"], scenario=Scenario.STOLEN_CARD,
    )  # fmt: skip


def _purchase_at_home(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> np.void | None:
    """A genuine purchase in a shop by a customer who has no journey within a day of it."""
    state = scene.state
    at_home = (state.leave_ms > day.end_ms + DAY_MS) | (state.back_home_ms < day.start_ms - DAY_MS)
    fits = np.zeros(scene.population.customer_count, dtype=bool)
    fits[victims] = at_home[victims]
    genuine = (today["scenario"] == Scenario.NONE) & (today["what"] == What.PURCHASE)
    chosen = np.flatnonzero(genuine & (today["via"] == Via.POS) & fits[today["customer"]])
    if not len(chosen):
        return None
    base: np.void = today[int(rng.choice(chosen))]
    return base


class CompromisedTerminals:
    """Terminals that are compromised for one to four weeks.

    As in scenario 2 of the Fraud Detection Handbook (Le Borgne et al. 2022), but only some of a
    terminal's payments are fraudulent, and their amounts are inflated.
    """

    def __init__(self, scene: Scene, frauds_a_day: float) -> None:
        self._scene = scene
        traffic = _terminal_traffic(scene)
        low, high = np.quantile(traffic[traffic > 0], [0.5, 0.97])
        self._candidates = np.flatnonzero((traffic >= low) & (traffic <= high))
        mean_traffic = float(traffic[self._candidates].mean())
        self._active_mean = frauds_a_day / (mean_traffic * COMPROMISED_FRAUD_SHARE)
        self._until_day: dict[int, int] = {}

    def strike(self, day: Day, today: Rows) -> None:
        """Turn half of the day's genuine purchases at compromised terminals into frauds."""
        rng = self._scene.streams.of(Purpose.FRAUD_TERMINALS, day.number)
        self._until_day = {t: last for t, last in self._until_day.items() if last >= day.number}
        self._compromise(rng, day)
        active = np.array(sorted(self._until_day), dtype=np.int64)
        here = np.isin(today["terminal"], active) & (today["what"] == What.PURCHASE)
        rows = np.flatnonzero(here & (today["scenario"] == Scenario.NONE))
        rows = rows[rng.random(len(rows)) < COMPROMISED_FRAUD_SHARE]
        inflated = today["amount_minor"][rows] * rng.uniform(*INFLATION, len(rows))
        today["amount_minor"][rows] = np.rint(inflated)
        today["scenario"][rows] = Scenario.COMPROMISED_TERMINAL

    def _compromise(self, rng: np.random.Generator, day: Day) -> None:
        mean_days = (COMPROMISE_DAYS[0] + COMPROMISE_DAYS[1]) / 2
        if day.number == self._scene.settings.fraud_start_day:
            # Begin as if it had gone on for long, so that the rate is level from the first day.
            residual = rng.integers(1, COMPROMISE_DAYS[1], rng.poisson(self._active_mean))
            lasts = residual.tolist()
        else:
            started = rng.poisson(self._active_mean / mean_days)
            lasts = rng.integers(*COMPROMISE_DAYS, started, endpoint=True).tolist()
        terminals = rng.choice(self._candidates, len(lasts)).tolist()
        for terminal, days in zip(terminals, lasts, strict=True):
            self._until_day[terminal] = day.number + days - 1


def _terminal_traffic(scene: Scene) -> NDArray[np.float64]:
    """Expected purchases a day at each terminal by those who love its merchant."""
    population, merchants = scene.population, scene.merchants
    rank_share = 1.0 / np.arange(1, population.favourites.shape[1] + 1)
    rank_share *= FAVOURITE_SHARE / rank_share.sum()
    weights = population.card_rate[:, None] * rank_share[None, :]
    by_merchant = np.bincount(
        population.favourites.ravel(), weights=weights.ravel(), minlength=merchants.shop_count
    )
    shops = merchants.terminal_merchant
    each = by_merchant / merchants.terminal_count
    return np.where(shops >= 0, each[shops], 0.0)


def _card(scene: Scene, rng: np.random.Generator, customer: int) -> int:
    return int(rng.integers(0, 2)) if scene.population.two_cards[customer] else 0


def _strange_address(rng: np.random.Generator) -> int:
    return (92 << 24) + int(rng.integers(0, 1 << 24))
