"""Rules and a score become an action by expected cost, for a whole batch at once.

For each action the bank expects to pay

    p * amount * (1 - prevented) + (1 - p) * (friction + friction_share * amount) + capacity

and takes the cheapest (Elkan 2001, "The foundations of cost-sensitive learning"), the milder one
of two equals. A live rule that fires raises the action at least to its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from actions.ids import deterministic_id
from actions.outputs import Conditions, Outputs
from actions.policy import Policy
from actions.policy_schema import ACTIONS, SEVERITIES, Costs, Rule
from actions.templates import formatted
from actions.trust import RuleTrust
from features.plan import Plan
from features.records import Alert, Reason, RiskAction, Severity, Transaction, Versions

MODEL_RISK = "model"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Decisions on a batch of n rows; rows that are no transactions are allow, low, no hits.

    `actions` and `severities` are uint8[n], indices into ACTIONS and SEVERITIES; `hits` is
    bool[n, live rules] and `shadow_hits` bool[n, shadow rules], in the order of the policy.
    """

    actions: NDArray[np.uint8]
    severities: NDArray[np.uint8]
    hits: NDArray[np.bool_]
    shadow_hits: NDArray[np.bool_]


class RiskDecider:
    """Decides batches under one policy; immutable."""

    def __init__(self, policy: Policy, plan: Plan) -> None:
        self.policy = policy
        self.live = tuple(rule for rule in policy.rules if not rule.shadow)
        self.shadow = tuple(rule for rule in policy.rules if rule.shadow)
        self._live_conditions = Conditions(plan, [f"rule:{rule.id}" for rule in self.live])
        self._shadow_conditions = Conditions(plan, [f"rule:{rule.id}" for rule in self.shadow])
        self._live_trust = RuleTrust(plan, self.live)
        self._shadow_trust = RuleTrust(plan, self.shadow)
        self._live_actions = _codes([rule.action for rule in self.live], ACTIONS)
        self._live_severities = _codes([rule.severity for rule in self.live], SEVERITIES)

    def decide(
        self,
        outputs: Outputs,
        score: NDArray[np.float64],
        amount_major: NDArray[np.float64],
        transactions: NDArray[np.bool_],
    ) -> Verdicts:
        """Decide n rows.

        `score` float64[n] is the probability of fraud, NaN where no model has an opinion yet (then
        only rules decide); `amount_major` float64[n] is in the policy's currency, NaN counting as
        nothing at stake; `transactions` bool[n] says which rows are decided at all.
        """
        hits = self._live_conditions.hold(outputs.before, outputs.after, transactions)
        shadow_hits = self._shadow_conditions.hold(outputs.before, outputs.after, transactions)
        self._live_trust.settle(hits, outputs.features, transactions)
        self._shadow_trust.settle(shadow_hits, outputs.features, transactions)
        actions = np.zeros(score.size, dtype=np.uint8)
        severities = np.zeros(score.size, dtype=np.uint8)
        costs = self.policy.costs
        if costs is not None:
            scored = transactions & ~np.isnan(score)
            p = np.where(scored, np.clip(score, 0.0, 1.0), 0.0)
            amount = np.where(amount_major > 0.0, amount_major, 0.0)
            actions = np.where(scored, cheapest(costs, p, amount), 0).astype(np.uint8)
            steps = np.searchsorted(costs.severity_from, p * amount, side="right")
            severities = np.where(actions > 0, steps, 0).astype(np.uint8)
        if hits.any():
            actions = np.maximum(actions, np.where(hits, self._live_actions, 0).max(axis=1))
            severe = np.where(hits, self._live_severities, 0).max(axis=1)
            severities = np.maximum(severities, severe)
        return Verdicts(actions, severities, hits, shadow_hits)

    def alert(
        self,
        row: int,
        transaction: Transaction,
        verdicts: Verdicts,
        outputs: Outputs,
        score: float,
        model_reasons: Sequence[Reason],
        versions: Versions,
    ) -> Alert:
        """Return the alert for a row whose action is not allow.

        Reasons are the live rules that fired, with their sentences filled, then the model's.
        `risk` is that of the hardest rule that fired, or `model`. Raises ValueError on allow.
        """
        action = ACTIONS[verdicts.actions[row]]
        if action == ACTIONS[0]:
            raise ValueError(f"alert of row {row}: expected an action beyond allow, got allow")
        numbers = np.flatnonzero(verdicts.hits[row]).tolist()
        fired = [self.live[number] for number in numbers]
        of_rules = (self._reason(number, outputs, row) for number in numbers)
        reasons = (*of_rules, *model_reasons)
        score = 0.0 if score != score else float(score)
        return Alert(
            alert_id=deterministic_id(transaction.event_id, "alert"),
            event_id=transaction.event_id,
            ts_ms=transaction.ts_ms,
            customer_id=transaction.customer_id,
            risk=max(fired, key=_hardness).risk if fired else MODEL_RISK,
            severity=cast(Severity, SEVERITIES[verdicts.severities[row]]),
            action=cast(RiskAction, action),
            score=score,
            amount_minor=transaction.amount_minor,
            currency=transaction.currency,
            reasons=reasons or (self._score_reason(score),),
            versions=versions,
        )

    def _reason(self, number: int, outputs: Outputs, row: int) -> Reason:
        rule = self.live[number]
        value = outputs.row(row)
        values = [value(f"reason:{rule.id}:{k}") for k in range(len(rule.reason.fields))]
        text = rule.reason.fill(values, self.policy.currency, self.policy.currency_exponent)
        status = self._live_trust.of_reason(number, outputs.features, row)
        return Reason(source=f"rule:{rule.id}", text=text, weight=1.0, status=status)

    def _score_reason(self, score: float) -> Reason:
        model = self.policy.costs.model if self.policy.costs else MODEL_RISK
        percent = formatted(score, "percent", "", 0)
        text = f"the model sees fraud with a probability of {percent}"
        return Reason(source=f"model:{model}", text=text, weight=score)


def cheapest(
    costs: Costs, p: NDArray[np.float64], amount_major: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Return the code of the action with the least expected cost, the milder of equals, intp[n]."""
    table = np.array(
        [(c.friction, c.friction_share, c.capacity, 1.0 - c.prevented) for c in costs.actions]
    )
    friction, friction_share, capacity, lost = table.T[:, :, None]
    loss = p * amount_major * lost
    trouble = (1.0 - p) * (friction + friction_share * amount_major)
    expected: NDArray[np.float64] = loss + trouble + capacity
    codes: NDArray[np.intp] = np.argmin(expected, axis=0)
    return codes


def _hardness(rule: Rule) -> tuple[int, int]:
    return ACTIONS.index(rule.action), SEVERITIES.index(rule.severity)


def _codes(words: Sequence[str], known: Sequence[str]) -> NDArray[np.uint8]:
    return np.array([known.index(word) for word in words], dtype=np.uint8)
