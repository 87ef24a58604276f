"""Histories and expressions of the bank policy, with 5,000 customers of 60 events each.

Each transaction enters the histories of five or six entities, and every slot of the policy is
computed over exact windows of up to 90 days. `changes` is what a checkpoint after 4,096
transactions has to write. Beyond the cap, windows are answered with the help of tiles: one
customer has three times as many events within reach as a history keeps.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.measure import Measure
from bench.traffic import PARTITION_COUNT, CellTraffic, Rows
from features.histories import FeatureEngine
from features.kernels.walker import evaluate
from features.plan import Plan, Program

BATCH = 512
SINGLES = 64
CHECKPOINT_BATCHES = 8
WARM = f"FeatureEngine.update, batches of {BATCH}"


@dataclass
class Warm:
    """An engine with full histories, and the traffic that keeps them so."""

    engine: FeatureEngine
    traffic: CellTraffic

    def take(self, rows: Rows) -> NDArray[np.float64]:
        while keys := self.engine.missing(*rows):
            self.engine.load((key, None) for key in keys)
        return self.engine.update(*rows).values


@pytest.fixture(scope="module")
def warm(plan: Plan, is_smoke: bool) -> Warm:
    customer_count, event_count = (100, 5) if is_smoke else (5_000, 60)
    engine = FeatureEngine(plan, range(PARTITION_COUNT))
    warm = Warm(engine, CellTraffic(customer_count, event_count, plan.reach_ms))
    for _ in range(-(-customer_count * event_count // BATCH)):
        warm.take(warm.traffic.rows(BATCH))
    return warm


def test_update_batch(measure: Measure, warm: Warm) -> None:
    measure.steps(WARM, BATCH, warm.engine.update, lambda: warm.traffic.rows(BATCH))


def test_update_one(measure: Measure, warm: Warm) -> None:
    def prepare() -> tuple[list[Rows]]:
        return ([warm.traffic.rows(1) for _ in range(SINGLES)],)

    def update_all(singles: list[Rows]) -> None:
        for rows in singles:
            warm.engine.update(*rows)

    measure.steps("FeatureEngine.update, batches of 1", SINGLES, update_all, prepare, baseline=WARM)


def test_update_beyond_the_cap(measure: Measure, plan: Plan, is_smoke: bool) -> None:
    event_cap = 64 if is_smoke else plan.event_cap
    engine = FeatureEngine(replace(plan, event_cap=event_cap), range(PARTITION_COUNT), True)
    traffic = CellTraffic(1, 3 * event_cap, plan.reach_ms)
    for _ in range(-(-3 * event_cap // BATCH)):
        engine.update(*traffic.rows(BATCH))
    what = f"FeatureEngine.update, customer beyond the cap, batches of {BATCH}"
    measure.steps(what, BATCH, engine.update, lambda: traffic.rows(BATCH), baseline=WARM)


def test_missing(measure: Measure, warm: Warm) -> None:
    rows = warm.traffic.rows(BATCH)
    warm.take(rows)
    measure.calls(
        f"FeatureEngine.missing, all resident, batches of {BATCH}",
        BATCH,
        lambda: warm.engine.missing(*rows),
        baseline=WARM,
    )


def test_changes(measure: Measure, warm: Warm) -> None:
    def prepare() -> tuple[()]:
        warm.engine.changes()
        for _ in range(CHECKPOINT_BATCHES):
            warm.take(warm.traffic.rows(BATCH))
        return ()

    event_count = CHECKPOINT_BATCHES * BATCH
    what = f"FeatureEngine.changes after {event_count:,} transactions"
    measure.steps(what, event_count, warm.engine.changes, prepare, baseline=WARM)


@pytest.mark.parametrize("batch_count", [BATCH, 1])
@pytest.mark.parametrize("name", ["before_models", "after_models"])
def test_evaluate(measure: Measure, warm: Warm, plan: Plan, name: str, batch_count: int) -> None:
    rows = warm.traffic.rows(batch_count)
    slot_values = warm.take(rows)
    externals = np.zeros((len(plan.externals), batch_count))
    program: Program = getattr(plan, name)
    measure.calls(
        f"evaluate {name} ({len(program.code)} instructions), batches of {batch_count}",
        batch_count,
        lambda: evaluate(program, rows.cells, slot_values, externals),
        baseline=WARM,
    )
