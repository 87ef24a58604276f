"""Profile records: one at the start for every customer, newer ones now and then."""

import numpy as np
from numpy.typing import NDArray

from features.records import ContactChannel, Profile, QuietHours
from replay.simulator.days import Day, draw_times
from replay.simulator.geography import UTC_OFFSET_MINUTES
from replay.simulator.population import PRODUCTS, customer_id
from replay.simulator.randomness import Purpose
from replay.simulator.rows import Rows, Via, What, make_rows
from replay.simulator.scene import CONSENTS, Scene
from replay.simulator.settings import DAY_MS, HOUR_MS

UPDATE_RATE = 0.5 / 30
CONSENT_FLIP_SHARE = 0.15
MANAGER_CLASS = 3  # customers of this income class have a relationship manager
CUSTOMERS_PER_MANAGER = 120
RISK_PREFERENCES = ("low", "medium", "high")
CONTACT_CHANNELS: tuple[ContactChannel, ...] = ("app_push", "sms", "email", "phone", "branch")
QUIET_HOURS = (
    None,
    QuietHours(start_hour=22, end_hour=7),
    QuietHours(start_hour=20, end_hour=8),
    QuietHours(start_hour=21, end_hour=10),
)


def profile_events(scene: Scene, day: Day, moved: Rows) -> Rows:
    """When profiles are (re)issued today; flips some consents as it goes.

    On day 0 every customer's profile comes, spread over the first hour. `moved` are the day's
    rows, of which each change of address or telephone is followed by a newer profile.
    """
    rng = scene.streams.of(Purpose.PROFILES, day.number)
    n = scene.population.customer_count
    if day.number == 0:
        ts_ms = day.start_ms + rng.integers(0, HOUR_MS, n)
        return _issued(scene, np.arange(n), ts_ms)
    who = np.flatnonzero(rng.random(n) < UPDATE_RATE)
    flips = who[rng.random(len(who)) < CONSENT_FLIP_SHARE]
    scene.state.consents[flips] ^= 1 << rng.integers(0, len(CONSENTS), len(flips))
    updates = _issued(scene, who, draw_times(rng, day, len(who)))
    changed = moved[np.isin(moved["what"], [What.ADDRESS_CHANGE, What.PHONE_CHANGE])]
    follow = _issued(scene, changed["customer"], changed["ts_ms"] + 60_000)
    return np.concatenate([updates, follow])


def _issued(scene: Scene, customer: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> Rows:
    """Rows of profiles whose `amount_minor` is what the customers owned this morning."""
    state = scene.state
    owned_minor = state.savings_minor[customer] + np.maximum(state.balance_minor[customer], 0)
    return make_rows(customer, ts_ms, What.PROFILE, Via.BRANCH, amount_minor=owned_minor)


class ProfileWriter:
    """Builds a customer's profile from what is true now."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        taste = scene.population.channel_taste
        self._preferred = np.argsort(-taste, axis=1)[:, :2].tolist()
        numbers = np.arange(scene.population.customer_count)
        self._quiet = ((numbers * 2_654_435_761 >> 7) % 10).tolist()

    def profile(self, customer: int, ts_ms: int, assets_minor: int) -> Profile:
        """The profile of customer number `customer`, known at `ts_ms`."""
        population, state = self._scene.population, self._scene.state
        products, consents = int(population.products[customer]), int(state.consents[customer])
        managed = int(population.income_class[customer]) == MANAGER_CLASS
        start_ms = self._scene.settings.start_ms
        quiet = self._quiet[customer]
        return Profile(
            customer_id=customer_id(customer),
            ts_ms=ts_ms,
            products=tuple(name for bit, name in enumerate(PRODUCTS) if products >> bit & 1),
            assets_minor=assets_minor,
            risk_preference=RISK_PREFERENCES[int(population.risk_appetite[customer])],  # type: ignore[arg-type]
            consents=tuple(name for bit, name in enumerate(CONSENTS) if consents >> bit & 1),
            preferred_channels=tuple(CONTACT_CHANNELS[k] for k in self._preferred[customer]),
            quiet_hours=QUIET_HOURS[0 if quiet < 4 else 1 + quiet % 3],
            utc_offset_minutes=UTC_OFFSET_MINUTES,
            relationship_manager=f"RM{customer // CUSTOMERS_PER_MANAGER:04d}" if managed else None,
            birth_year=int(population.birth_year[customer]),
            customer_since_ms=start_ms - int(population.customer_days[customer]) * DAY_MS,
            corporate=bool(population.corporate[customer]),
        )
