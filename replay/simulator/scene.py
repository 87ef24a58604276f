"""The stage that every part of the simulation plays on: fixed facts and what changes daily."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day
from replay.simulator.merchants import Merchants
from replay.simulator.population import LOAN_BIT, Population, build_population
from replay.simulator.randomness import Purpose, RandomStreams
from replay.simulator.settings import SimulatorSettings

Ints = NDArray[np.int64]
NEVER_MS = -1
CONSENT_CHANNELS = ("app_push", "sms", "email", "phone", "branch")
CONSENT_SHARE = {
    "marketing": (0.62, 0.52, 0.66, 0.28, 0.55),
    "service": (0.97, 0.97, 0.96, 0.92, 0.98),
}
CONSENTS = tuple(
    f"{purpose}:{channel}" for purpose in CONSENT_SHARE for channel in CONSENT_CHANNELS
)
FIRST_FREE_PERSON = 8  # numbers of private payees per customer; strangers come after them


@dataclass
class State:
    """What changes: columns over customers (n); ids of devices and payees are drawn in order.

    A trip is booked, then leave_ms <= arrive_ms <= back_leave_ms <= back_home_ms; all NEVER_MS
    without one. `consents` is a bit mask over CONSENTS.
    """

    balance_minor: Ints
    savings_minor: Ints
    device: Ints
    card_generation: NDArray[np.uint8]
    home_ip: Ints
    consents: Ints
    trip_city: Ints
    leave_ms: Ints
    arrive_ms: Ints
    back_leave_ms: Ints
    back_home_ms: Ints
    next_device: int
    next_payee: int

    def new_device(self) -> int:
        """A device number never seen before."""
        self.next_device += 1
        return self.next_device - 1

    def new_payee(self) -> int:
        """The number of a private payee never seen before."""
        self.next_payee += 1
        return self.next_payee - 1


@dataclass(frozen=True)
class Scene:
    """Settings, random streams, customers, merchants and the changing state."""

    settings: SimulatorSettings
    streams: RandomStreams
    population: Population
    merchants: Merchants
    state: State

    def liveliness(self, day: Day) -> NDArray[np.float64]:
        """Each customer's activity today (n): about 1, fading for those who are leaving."""
        days_after = np.maximum(day.number - self.population.leaving_day, 0)
        weekend = 1.15 if day.is_weekend else 0.94
        return np.asarray(weekend * np.exp(-days_after / 9.0))


def build_scene(settings: SimulatorSettings) -> Scene:
    """Draw the world of a run."""
    streams = RandomStreams(settings.seed)
    rng = streams.of(Purpose.POPULATION)
    population, merchants = build_population(rng, streams.of(Purpose.WORLD), settings)
    return Scene(settings, streams, population, merchants, _first_state(rng, population))


def _first_state(rng: np.random.Generator, population: Population) -> State:
    n = population.customer_count
    numbers = np.arange(n)
    share = np.concatenate([np.array(shares) for shares in CONSENT_SHARE.values()])
    granted = rng.random((n, len(CONSENTS))) < share
    # Cash in hand for one to four months, so that few are refused for want of funds.
    balance = population.salary_minor * (0.8 + rng.gamma(2.0, 0.7, n))
    never = [np.full(n, NEVER_MS, dtype=np.int64) for _ in range(4)]
    return State(
        balance_minor=np.rint(balance).astype(np.int64),
        savings_minor=population.assets_minor.copy(),
        device=np.column_stack([2 * numbers, 2 * numbers + 1]),
        card_generation=np.zeros((n, 2), dtype=np.uint8),
        home_ip=(78 << 24) + rng.integers(0, 1 << 24, n),
        consents=(granted << np.arange(len(CONSENTS))).sum(axis=1),
        trip_city=np.full(n, -1, dtype=np.int64),
        leave_ms=never[0],
        arrive_ms=never[1],
        back_leave_ms=never[2],
        back_home_ms=never[3],
        next_device=2 * n,
        next_payee=FIRST_FREE_PERSON * n,
    )


def borrowers(population: Population) -> NDArray[np.bool_]:
    """Customers with a personal loan."""
    return np.asarray((population.products & LOAN_BIT) > 0)
