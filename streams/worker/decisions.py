"""The optional topic `decisions`: what was decided on every transaction, for audits."""

import math
from collections.abc import Sequence

import msgspec

from actions.policy_schema import ACTIONS
from features.columns import MISSING
from features.records import ENCODER
from streams.emissions import Decisions, Emission
from streams.partition import hex_key

TOPIC = "decisions"


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="decision"):
    """The verdict on one transaction; `customer` and `card` are keyed hashes in hexadecimal.

    `rules` that fired, live ones first, then those in shadow; `score` is null without a model.
    """

    event_id: str
    ts_ms: int
    customer: str
    card: str | None
    amount_minor: int
    score: float | None
    action: str
    rules: tuple[str, ...]
    policy: str
    models: str  # such as `fraud:12,other:3`


def emissions(decided: Sequence[Decisions]) -> list[Emission]:
    """Return a record of `decisions` for each transaction."""
    found = []
    for run in decided:
        hits = run.rule_hits.tolist()
        rows = zip(
            run.event_ids,
            run.ts_ms.tolist(),
            run.customers.tolist(),
            run.cards.tolist(),
            run.amounts_minor.tolist(),
            run.scores.tolist(),
            run.actions.tolist(),
            hits,
            strict=True,
        )
        for event_id, ts_ms, customer, card, amount_minor, score, action, fired in rows:
            decision = Decision(
                event_id=event_id,
                ts_ms=ts_ms,
                customer=hex_key(customer).decode(),
                card=None if card == MISSING else hex_key(card).decode(),
                amount_minor=amount_minor,
                score=None if math.isnan(score) else score,
                action=ACTIONS[action],
                rules=_fired(run.rule_ids, fired) if any(fired) else (),
                policy=run.policy_version,
                models=run.model_versions,
            )
            found.append(Emission(TOPIC, decision.customer, ENCODER.encode(decision)))
    return found


def _fired(rule_ids: Sequence[str], hits: Sequence[bool]) -> tuple[str, ...]:
    return tuple(rule for rule, hit in zip(rule_ids, hits, strict=True) if hit)
