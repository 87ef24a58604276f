"""Which frauds happen on a day: incidents by scenario, at the wanted rate."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day
from replay.simulator.fraud_accounts import account_takeover, gang, mule, talked_into_paying
from replay.simulator.fraud_cards import CompromisedTerminals, card_testing, stolen_card
from replay.simulator.randomness import Purpose
from replay.simulator.rows import Rows, Scenario
from replay.simulator.scene import Scene

VICTIM_BALANCE_MINOR = 80_000
OTHER_TRANSACTION_RATE = 12.0 / 30  # transactions a customer and day besides purchases


class Incident(NamedTuple):
    """A scenario of separate incidents.

    `share` is its part of all frauds, `fraud_count` the fraudulent transactions it expects, and
    `play` returns the rows of one incident (also those of later days), none if nobody fits.
    """

    scenario: Scenario
    share: float
    fraud_count: float
    play: Callable[[Scene, Day, np.random.Generator, Rows, NDArray[np.int64]], Rows]


class Mix(NamedTuple):
    """Scenarios side by side; the rest of all frauds is at compromised terminals."""

    incidents: tuple[Incident, ...]

    @property
    def terminal_share(self) -> float:
        """The part of compromised terminals in all frauds."""
        return 1.0 - sum(incident.share for incident in self.incidents)


USUAL = Mix((
    Incident(Scenario.CARD_TESTING, 0.22, 11.0, card_testing),
    Incident(Scenario.ACCOUNT_TAKEOVER, 0.12, 1.5, account_takeover),
    Incident(Scenario.STOLEN_CARD, 0.18, 3.5, stolen_card),
    Incident(Scenario.MULE, 0.13, 6.0, mule),
    Incident(Scenario.GANG, 0.13, 15.0, gang),
))  # fmt: skip
# Around a day of change; without the gangs, who prepare for days what they then do at once.
WITH_CARDS = Mix((
    Incident(Scenario.CARD_TESTING, 0.35, 11.0, card_testing),
    Incident(Scenario.STOLEN_CARD, 0.3, 3.5, stolen_card),
))  # fmt: skip
WITH_ACCOUNTS = Mix((
    Incident(Scenario.ACCOUNT_TAKEOVER, 0.2, 1.5, account_takeover),
    Incident(Scenario.MULE, 0.4, 6.0, mule),
    Incident(Scenario.TALKED_INTO_PAYING, 0.4, 5.5, talked_into_paying),
))  # fmt: skip


class FraudPlanner:
    """Adds the day's frauds; keeps only the list of terminals that are compromised now."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        population = scene.population
        purchases = float((population.card_rate + population.online_rate).sum())
        transactions = purchases + OTHER_TRANSACTION_RATE * population.customer_count
        self._frauds_a_day = transactions * scene.settings.fraud_rate
        self._change_day = scene.settings.pattern_change_day
        self._first_mix = USUAL if self._change_day is None else WITH_CARDS
        frauds_a_day = self._frauds_a_day * self._first_mix.terminal_share
        self._terminals = CompromisedTerminals(scene, frauds_a_day)

    def plan(self, day: Day, today: Rows) -> list[Rows]:
        """Mark rows of `today` at compromised terminals in place; return further rows."""
        scene = self._scene
        if day.number < scene.settings.fraud_start_day:
            return []
        mix = self._first_mix
        if self._change_day is not None and day.number >= self._change_day:
            mix = WITH_ACCOUNTS
        else:
            self._terminals.strike(day, today)
        rng = scene.streams.of(Purpose.FRAUD_INCIDENTS, day.number)
        rich = scene.state.balance_minor > VICTIM_BALANCE_MINOR
        victims = np.flatnonzero(rich & ~scene.population.corporate)
        if not len(victims):
            return []
        parts: list[Rows] = []
        for incident in mix.incidents:
            count = rng.poisson(self._frauds_a_day * incident.share / incident.fraud_count)
            parts += [incident.play(scene, day, rng, today, victims) for _ in range(count)]
        return parts
