"""Independent random streams by purpose and day, so that no draw depends on another's order."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Purpose(IntEnum):
    """What a stream of random numbers is for; the numbers are part of a run's identity."""

    WORLD = 1
    POPULATION = 2
    CARD_SPENDING = 3
    ONLINE_SPENDING = 4
    TRAVEL = 5
    SALARY = 6
    CASHFLOW = 7
    INTERACTIONS = 8
    PROFILES = 9
    FRAUD_INCIDENTS = 10
    FRAUD_TERMINALS = 11
    LABELS = 12
    REFUNDS = 13
    RESPONSE_TRAITS = 14
    ANSWER = 15


class RandomStreams:
    """Generators from one seed: `of(purpose, day)` is always the same stream."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def of(self, purpose: Purpose, *keys: int) -> np.random.Generator:
        """A fresh generator for (seed, purpose, keys)."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(int(purpose), *keys))
        return np.random.Generator(np.random.PCG64(sequence))


def mixed_uniform(values: NDArray[np.uint64], salt: int) -> NDArray[np.float64]:
    """Turn integers into uniform numbers in (0, 1), one by one (SplitMix64, Steele et al. 2014).

    A function of each value and the salt alone: usable for one customer or all, in any order.
    """
    start = (salt * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64
    z = (values + np.uint64(start)) * np.uint64(0xD1342543DE82EF95)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    uniform: NDArray[np.float64] = ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return uniform
