"""Exact windows: six of them, up to 30 days, with five aggregates each and a distinct count.

Of one customer's payments: count, sum, mean, std and max of the amounts over 1h, 6h, 1d, 7d, 14d
and 30d, and how many different merchants within 1d. 100,000 customers take turns at random, each
with ten payments in 30 days. "Cells in" is the feature engine alone, from decoded records to the
values of its slots; "bytes in" begins with JSON records of 340 bytes: decoding, hashing of ids,
windows.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from actions.money import RateTable
from actions.policy import Policy
from bench.measure import Measure
from bench.peers.question import DAY_MS, DISTINCT_WINDOW, WINDOWS_MS
from bench.six_windows import PaymentTraffic, compile_texts, texts
from bench.traffic import HASHER, Rows
from features.decode import Decoder
from features.histories import FeatureEngine
from features.raw import RawRecord

BATCH = 512
SINGLES = 64
FILL_BATCH = 8_192
EVENTS_PER_CUSTOMER = 10
REACH_MS = 30 * DAY_MS
CELLS = f"Cells in, values out, batches of {BATCH}"


@dataclass
class Warm:
    """An engine with full histories, a decoder before it, and the traffic that keeps them so."""

    engine: FeatureEngine
    traffic: PaymentTraffic
    decoder: Decoder

    def values_of(self, raws: list[RawRecord]) -> NDArray[np.float64]:
        batch = self.decoder.decode(raws)
        return self.engine.update(batch.kinds, batch.cells, batch.partitions).values


@pytest.fixture(scope="module")
def warm(policy: Policy, is_smoke: bool) -> Warm:
    customer_count = 100 if is_smoke else 100_000
    plan, _ = compile_texts(texts(list(WINDOWS_MS.values()), WINDOWS_MS[DISTINCT_WINDOW]), REACH_MS)
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    traffic = PaymentTraffic(customer_count, EVENTS_PER_CUSTOMER, REACH_MS)
    for _ in range(-(-customer_count * EVENTS_PER_CUSTOMER // FILL_BATCH)):
        engine.update(*traffic.rows(FILL_BATCH))
    return Warm(engine, traffic, Decoder(HASHER, RateTable(policy).convert))


def test_cells_in(measure: Measure, warm: Warm) -> None:
    measure.steps(CELLS, BATCH, warm.engine.update, lambda: warm.traffic.rows(BATCH))


def test_cells_in_one(measure: Measure, warm: Warm) -> None:
    def update_all(singles: list[Rows]) -> None:
        for rows in singles:
            warm.engine.update(*rows)

    measure.steps(
        "Cells in, values out, batches of 1",
        SINGLES,
        update_all,
        lambda: ([warm.traffic.rows(1) for _ in range(SINGLES)],),
        baseline=CELLS,
    )


def test_bytes_in(measure: Measure, warm: Warm) -> None:
    measure.steps(
        f"Bytes in, values out, batches of {BATCH}",
        BATCH,
        warm.values_of,
        lambda: (warm.traffic.raws(BATCH),),
        baseline=CELLS,
    )


def test_bytes_in_one(measure: Measure, warm: Warm) -> None:
    def value_all(singles: list[list[RawRecord]]) -> None:
        for raws in singles:
            warm.values_of(raws)

    measure.steps(
        "Bytes in, values out, batches of 1",
        SINGLES,
        value_all,
        lambda: ([warm.traffic.raws(1) for _ in range(SINGLES)],),
        baseline=CELLS,
    )
