"""What a rule does where a value that it looks at is not exact, and what a reason says of it.

A window that reaches beyond what is kept of an entity is approximate, a value whose parts come from
other processes may be stale, a mean of nothing is absent (`features.status`). For each of them a
rule says whether it takes the value as it is, stays silent, or fires: the worst one decides.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actions.policy_schema import AS_IS, FIRE, Rule
from features.histories import Features
from features.plan import Plan
from features.records import ReasonStatus
from features.status import Status, worst_statuses


class RuleTrust:
    """How far the values behind rules can be trusted, and what follows; immutable.

    Only the slots that a rule's own expressions read count, not those behind a model's score.
    """

    def __init__(self, plan: Plan, rules: Sequence[Rule]) -> None:
        self._conditions = [slots_behind(plan, f"rule:{rule.id}") for rule in rules]
        self._reasons = [
            sorted({*slots, *(s for k in _fields(rule) for s in slots_behind(plan, k))})
            for rule, slots in zip(rules, self._conditions, strict=True)
        ]
        choices = ((i, _choices(rule)) for i, rule in enumerate(rules))
        self._careful = [(i, own) for i, own in choices if own]

    def settle(
        self, hits: NDArray[np.bool_], features: Features, transactions: NDArray[np.bool_]
    ) -> None:
        """Change bool[n, rules] in place to what the rules make of values that are not exact.

        `features` are those of the same n rows; `transactions` bool[n] says which may fire at all.
        """
        for column, choices in self._careful:
            statuses = worst_statuses(self._conditions[column], features)
            for status, fires in choices.items():
                hits[(statuses == status) & transactions, column] = fires

    def of_reason(self, number: int, features: Features, row: int) -> ReasonStatus:
        """Return the worst status of what rule `number` looks at and quotes."""
        return reason_status(self._reasons[number], features, row)


def slots_behind(plan: Plan, output: str) -> list[int]:
    """Return the slots that an output of either program reads. Raises KeyError for no output."""
    before, after = plan.before_models.reads, plan.after_models.reads
    return list(before[output] if output in before else after[output])


def reason_status(slots: Sequence[int], features: Features, row: int) -> ReasonStatus:
    """Return the worst status of some slots at a row; what is rightly undefined is exact."""
    if features.errors[slots, row].any():
        return "approximate"
    if features.ages_ms is not None and features.ages_ms[slots, row].any():
        return "stale"
    return "exact"


def _fields(rule: Rule) -> list[str]:
    return [f"reason:{rule.id}:{k}" for k in range(len(rule.reason.fields))]


def _choices(rule: Rule) -> dict[Status, bool]:
    """Return whether the rule fires at a status, where it does not take the value as it is."""
    chosen = {
        Status.ABSENT: rule.if_absent,
        Status.STALE: rule.if_stale,
        Status.APPROXIMATE: rule.if_approximate,
    }
    return {status: choice == FIRE for status, choice in chosen.items() if choice != AS_IS}
