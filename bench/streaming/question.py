"""What all candidates are asked: card payments in a shop, decided by three rules and a model.

The payments are the same bytes for everybody. Customers take turns at random; terminals are
chosen by 1/rank^0.5. Time runs so that a customer pays about every two days.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from bench.traffic import START_MS
from streams.partitioner import partitions_of

POLICY = Path(__file__).parent / "policy"
TERMINALS_PER_CUSTOMER = 0.2
DAY_MS = 86_400_000


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
    count: int, customer_count: int, seed: int = 1, first: int = 0, step_ms: float | None = None
) -> Payments:
    """Return `count` payments, numbered from `first`, of about 330 bytes each."""
    rng = np.random.default_rng(seed)
    step_ms = 2 * DAY_MS / customer_count if step_ms is None else step_ms
    terminal_count = max(1, int(TERMINALS_PER_CUSTOMER * customer_count))
    weights = 1.0 / np.sqrt(np.arange(1, terminal_count + 1))
    edges = np.cumsum(weights / weights.sum())[:-1]
    people = rng.integers(customer_count, size=count).tolist()
    places = np.searchsorted(edges, rng.random(count)).tolist()
    amounts = np.maximum(1, np.exp(rng.normal(8.0, 1.0, count))).astype(np.int64).tolist()
    times_ms = (START_MS + ((first + np.arange(count)) * step_ms).astype(np.int64)).tolist()
    keys = [f"CU{person:08d}" for person in people]
    values = [
        orjson.dumps({
            "kind": "transaction",
            "event_id": f"TX{first + i:010d}",
            "ts_ms": times_ms[i],
            "customer_id": keys[i],
            "account_id": f"AC{people[i]:08d}",
            "type": "purchase",
            "amount_minor": amounts[i],
            "currency": "EUR",
            "direction": "out",
            "channel": "pos",
            "card_id": f"CA{people[i]:08d}",
            "merchant_id": f"ME{places[i]:06d}",
            "mcc": 5411,
            "terminal_id": f"TE{places[i]:06d}",
            "country": "DE",
            "lat": 48.0 + places[i] / 100_000,
            "lon": 9.0 + places[i] / 100_000,
            "balance_minor": 2_500_000,
        })
        for i in range(count)
    ]  # fmt: skip
    return Payments(keys, values, times_ms)
