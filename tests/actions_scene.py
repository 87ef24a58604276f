"""The shipped bank policy over a real decoder, engine and walker: scenarios as lists of records."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from actions.customers import CustomerState, profile_column
from actions.money import RateTable
from actions.outputs import Outputs
from actions.policy import Policy
from actions.policy_compiler import compile_policy
from actions.risk import RiskDecider, Verdicts
from features.columns import Cell, Kind
from features.decode import ONE_TOPIC, Decoder
from features.hashing import IdHasher
from features.histories import FeatureEngine, Features
from features.kernels.walker import evaluate
from features.plan import Plan
from features.raw import RawRecord
from features.records import Label, Record, Transaction, Versions

BANK = Path(__file__).parent.parent / "actions" / "policies" / "bank"
HASHER = IdHasher()
VERSIONS = Versions(policy="test", models={})
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
NOON_MS = 1_717_416_000_000  # Monday 2024-06-03 12:00 UTC


@cache
def bank_policy() -> Policy:
    return Policy.parse({path.name: path.read_text("utf-8") for path in BANK.glob("*.yaml")})


@cache
def bank_plan() -> Plan:
    return compile_policy(bank_policy(), HASHER.one)


_numbers = iter(range(10**9))


def payment(ts_ms: int, amount: float, **fields: Any) -> Transaction:
    """A purchase of customer c1 in EUR that carries nothing but what is required."""
    record: dict[str, Any] = {
        "event_id": f"e{next(_numbers)}",
        "ts_ms": ts_ms,
        "customer_id": "c1",
        "account_id": "a1",
        "type": "purchase",
        "amount_minor": round(amount * 100),
        "currency": "EUR",
        "direction": "out",
        "channel": "online",
    }
    return Transaction(**{**record, **fields})


def fraud_label(transaction: Transaction) -> Label:
    return Label(
        event_id=transaction.event_id,
        ts_ms=transaction.ts_ms + 6 * DAY_MS,
        customer_id=transaction.customer_id,
        verdict="fraud",
    )


def outputs_of(
    records: Sequence[Record], state: CustomerState | None = None
) -> tuple[Outputs, list[Transaction]]:
    """Run records in order; return the outputs of the transactions alone."""
    plan = bank_plan()
    raws = [
        RawRecord(0, ONE_TOPIC, i, msgspec.json.encode(record)) for i, record in enumerate(records)
    ]
    batch = Decoder(HASHER, RateTable(bank_policy()).convert).decode(raws)
    assert not batch.refused
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    features = engine.update(batch.kinds, batch.cells, batch.partitions)
    slots = features.values
    externals = np.full((len(plan.externals), len(records)), np.nan)
    for i, name in enumerate(plan.externals):
        column = name.removeprefix("profile.")
        states = [state] * len(records)
        externals[i] = profile_column(column, states, batch.cells[Cell.TS_MS])
    before = evaluate(plan.before_models, batch.cells, slots, externals)
    after = evaluate(plan.after_models, batch.cells, slots, externals)
    rows = np.flatnonzero(batch.kinds == Kind.TRANSACTION)
    transactions = [r for r in records if isinstance(r, Transaction)]
    said = Features(features.values[:, rows], features.errors[:, rows])
    return Outputs(plan, said, before[:, rows], after[:, rows]), transactions


def verdicts_of(outputs: Outputs) -> tuple[RiskDecider, Verdicts]:
    """Decide by the rules alone: no model has an opinion."""
    decider = RiskDecider(bank_policy(), outputs.plan)
    n = outputs.before.shape[1]
    unscored = np.full(n, np.nan)
    every = np.ones(n, dtype=np.bool_)
    return decider, decider.decide(outputs, unscored, unscored, every)


def fired_at(records: Sequence[Record], index: int = -1) -> set[str]:
    """Return the rules (shadow ones too) that fire at one transaction, by default the last."""
    outputs, _ = outputs_of(records)
    decider, verdicts = verdicts_of(outputs)
    live = [r.id for r, hit in zip(decider.live, verdicts.hits[index], strict=True) if hit]
    shadow = [
        r.id for r, hit in zip(decider.shadow, verdicts.shadow_hits[index], strict=True) if hit
    ]
    return {*live, *shadow}
