"""What all candidates are asked: card payments in a shop, decided by three rules and a model.

The payments are the same bytes for everybody. Customers take turns at random; terminals are
chosen by 1/rank^0.5. Time runs so that a customer pays about every two days. Now and then somebody
tests a card by a few small payments, and many cards pay at one terminal: all rules fire.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from bench.traffic import START_MS
from streams.partitioner import partitions_of

POLICY = Path(__file__).parent / "policy"
TERMINALS_PER_CUSTOMER = 0.2
STEP_MAX_MS = 90_000.0  # from a payment to the next, of whoever
CARD_TEST_SHARE, CARD_TEST_COUNT, CARD_TEST_AMOUNT_MINOR = 1 / 400, 4, 150
BUSY_SHARE, BUSY_COUNT = 1 / 2_000, 15
DAY_MS = 86_400_000
VALUE = (
    b'{"kind":"transaction","event_id":"TX%010d","ts_ms":%d,"customer_id":"CU%08d",'
    b'"account_id":"AC%08d","type":"purchase","amount_minor":%d,"currency":"EUR",'
    b'"direction":"out","channel":"pos","card_id":"CA%08d","merchant_id":"ME%06d","mcc":5411,'
    b'"terminal_id":"TE%06d","country":"DE","lat":%.5f,"lon":%.5f,"balance_minor":2500000}'
)
LABEL = b'{"kind":"label","event_id":"%s","ts_ms":%d,"customer_id":"%s","verdict":"fraud"}'


class Payments(NamedTuple):
    """Records in the order of their times: keys, JSON values and event times."""

    keys: list[str]
    values: list[bytes]
    times_ms: list[int]

    def partitions(self, partition_count: int) -> list[int]:
        """Return the partition of each record, as Kafka's default partitioner has it."""
        found: list[int] = partitions_of(self.keys, partition_count).tolist()
        return found


def payments(
    count: int, customer_count: int, seed: int = 1, first: int = 0, *, in_turn: bool = False
) -> Payments:
    """Return `count` payments, numbered from `first`, of about 360 bytes each.

    `in_turn`: customers pay one after the other, so that hardly one is left out.
    """
    rng = np.random.default_rng(seed)
    step_ms = min(2 * DAY_MS / customer_count, STEP_MAX_MS)
    terminal_count = max(1, int(TERMINALS_PER_CUSTOMER * customer_count))
    weights = 1.0 / np.sqrt(np.arange(1, terminal_count + 1))
    edges = np.cumsum(weights / weights.sum())[:-1]
    numbers = np.arange(first, first + count)
    drawn = numbers % customer_count if in_turn else rng.integers(customer_count, size=count)
    terminals = np.searchsorted(edges, rng.random(count))
    amounts_minor = np.maximum(1, np.exp(rng.normal(8.0, 1.0, count))).astype(np.int64)
    for start in np.flatnonzero(rng.random(count) < CARD_TEST_SHARE).tolist():
        drawn[start : start + CARD_TEST_COUNT] = drawn[start]
        amounts_minor[start : start + CARD_TEST_COUNT] = CARD_TEST_AMOUNT_MINOR
    for start in np.flatnonzero(rng.random(count) < BUSY_SHARE).tolist():
        terminals[start : start + BUSY_COUNT] = terminals[start]
    people, places, amounts = drawn.tolist(), terminals.tolist(), amounts_minor.tolist()
    times_ms = (START_MS + (numbers * step_ms).astype(np.int64)).tolist()
    keys = [f"CU{person:08d}" for person in people]
    values = [
        VALUE
        % (first + i, times_ms[i], people[i], people[i], amounts[i], people[i], places[i],
           places[i], 48.0 + places[i] / 100_000, 9.0 + places[i] / 100_000)
        for i in range(count)
    ]  # fmt: skip
    return Payments(keys, values, times_ms)


def labels(made: Payments, every_count: int) -> Payments:
    """Return records that tell, after the last of these payments, that each n-th was a fraud."""
    told_ms = made.times_ms[-1]
    keys = made.keys[::every_count]
    events = [orjson.loads(value)["event_id"] for value in made.values[::every_count]]
    values = [
        LABEL % (event.encode(), told_ms, k.encode()) for event, k in zip(events, keys, strict=True)
    ]
    return Payments(keys, values, [told_ms] * len(keys))
