"""The hidden response model: how likely each customer takes an offer, with and without contact.

As in uplift modelling (Radcliffe and Surry 1999) some customers would buy anyway, some only if
asked, some never, and some less if asked. Nothing of it is told in the stream.
"""

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import MillraceError
from replay.simulator.population import Population, customer_number
from replay.simulator.profiles import CONTACT_CHANNELS
from replay.simulator.randomness import mixed_uniform

Floats = NDArray[np.float64]
DELIVERED = 0.97
SEEN_LOGIT = np.array([0.6, 1.3, -0.3, 0.2, -0.6])  # as CONTACT_CHANNELS
BASE_LOGIT = -3.2
LIFT_MAX = 0.30
LIFT_SHIFT = -0.05  # a little is lost on everybody: contact annoys
PROBABILITY_MIN, PROBABILITY_MAX = 0.001, 0.95
OWN_MIND = 0.5  # weight of what no trait explains
# What drives a need: income, age, travel, online, risk appetite, assets (Population.traits).
FAMILIES: dict[str, tuple[float, ...]] = {
    "sav": (0.5, 0.0, 0.0, 0.0, -0.5, 0.6),
    "invest": (0.4, 0.1, 0.0, 0.2, 0.8, 0.7),
    "fund": (0.3, 0.1, 0.0, 0.1, 0.7, 0.6),
    "loan": (-0.4, -0.3, 0.0, 0.2, 0.3, -0.7),
    "card": (0.2, -0.4, 0.4, 0.4, 0.2, 0.0),
    "insur": (0.2, 0.6, 0.0, 0.0, -0.5, 0.2),
    "border": (0.2, 0.0, 1.0, 0.3, 0.1, 0.1),
    "fx": (0.2, 0.0, 1.0, 0.3, 0.1, 0.1),
    "travel": (0.2, -0.1, 1.0, 0.3, 0.1, 0.1),
    "retention": (0.3, 0.2, 0.0, 0.3, 0.0, 0.4),
}


class UnknownChannelError(MillraceError):
    """A contact channel that doesn't exist."""


class Response(NamedTuple):
    """Probabilities of a conversion: left alone, contacted, and having seen the offer."""

    p_without: float
    p_with: float
    p_seen: float


class ResponseModel:
    """A pure function of (seed, customer, offer name, channel); knows any offer's name."""

    def __init__(self, seed: int, population: Population) -> None:
        self._seed = seed
        self._population = population
        self._favourite = population.channel_taste.argmax(axis=1)

    def response(self, customer_id: str, offer: str, channel: str | None = None) -> Response:
        """The true probabilities of one customer; `channel` None is the one liked best.

        Raises UnknownCustomerError for a customer that the run doesn't have, and
        UnknownChannelError.
        """
        number = customer_number(customer_id, self._population.customer_count)
        chosen = None if channel is None else _channel_index(channel)
        columns = self.table(offer, number, number + 1, chosen)
        return Response(*(float(column[0]) for column in columns))

    def reach(self, number: int, channel: str) -> float:
        """The probability that customer `number` looks at a delivered message."""
        index = _channel_index(channel)
        return float(_sigmoid(SEEN_LOGIT[index] + self._population.channel_taste[number, index]))

    def table(
        self, offer: str, first: int, after: int, channel: int | None = None
    ) -> tuple[Floats, Floats, Floats]:
        """(p_without, p_with, p_seen) of the customers first … after-1, each (n,)."""
        numbers = np.arange(first, after, dtype=np.uint64)
        traits = self._population.traits[first:after]
        need, pull = _weights(offer)
        own_need, own_pull = self._own_mind(numbers, offer)
        p_without = _sigmoid(BASE_LOGIT + 0.8 * (traits @ need) + OWN_MIND * own_need)
        p_without = np.clip(p_without, PROBABILITY_MIN, 0.6)
        pulled = _sigmoid(-0.8 + 1.2 * (traits @ pull) + 2 * OWN_MIND * own_pull)
        lift = (LIFT_MAX * pulled + LIFT_SHIFT) * (1.0 - p_without)
        p_seen = np.clip(p_without + lift, PROBABILITY_MIN, PROBABILITY_MAX)
        index = self._favourite[first:after] if channel is None else np.full(len(numbers), channel)
        taste = self._population.channel_taste[np.arange(first, after), index]
        reached = DELIVERED * _sigmoid(SEEN_LOGIT[index] + taste)
        return p_without, p_without + reached * (p_seen - p_without), p_seen

    def value_minor(self, number: int, offer: str, noise: float) -> int:
        """What a conversion is worth; `noise` is a standard normal draw."""
        median = 4_000 + 400 * (_digest(offer)[24] % 200)
        wealth = float(np.exp(0.3 * self._population.traits[number, 0]))
        return round(median * wealth * float(np.exp(0.4 * noise)))

    def rows(self, offers: tuple[str, ...], block: int = 50_000) -> Iterator[dict[str, Any]]:
        """The truth about `offers`, customer by customer, as blocks of columns."""
        for first in range(0, self._population.customer_count, block):
            after = min(first + block, self._population.customer_count)
            for offer in offers:
                p_without, p_with, _ = self.table(offer, first, after)
                yield {"first": first, "offer": offer, "p_without": p_without, "p_with": p_with}

    def _own_mind(self, numbers: NDArray[np.uint64], offer: str) -> tuple[Floats, Floats]:
        """Two standard normal numbers a customer (Box and Muller 1958)."""
        salts = hashlib.blake2b(f"{self._seed}:{offer}".encode(), digest_size=16).digest()
        first = mixed_uniform(numbers, int.from_bytes(salts[:8], "little"))
        second = mixed_uniform(numbers, int.from_bytes(salts[8:], "little"))
        radius = np.sqrt(-2.0 * np.log(first))
        return radius * np.cos(2 * np.pi * second), radius * np.sin(2 * np.pi * second)


def _channel_index(channel: str) -> int:
    for index, name in enumerate(CONTACT_CHANNELS):
        if name == channel:
            return index
    raise UnknownChannelError(
        f"channel: expected one of {', '.join(CONTACT_CHANNELS)}, got {channel!r}"
    )


def _weights(offer: str) -> tuple[Floats, Floats]:
    """What need and pull depend on: the family that the name tells, and a part of its own."""
    raw = np.frombuffer(_digest(offer)[:24], dtype=np.uint16)[:12] / 65_535.0 * 2.0 - 1.0
    family = np.zeros(6)
    for part, weights in FAMILIES.items():
        if part in offer.lower():
            family = np.array(weights)
            break
    return family + 0.3 * raw[:6], 0.6 * family + 0.5 * raw[6:]


def _digest(offer: str) -> bytes:
    return hashlib.blake2b(offer.encode(), digest_size=32).digest()


def _sigmoid(logit: Any) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
