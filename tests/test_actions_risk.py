"""The cheapest action against a plain loop; rules on top; what an alert says."""

import numpy as np
import pytest
from actions_scene import (
    MINUTE_MS,
    NOON_MS,
    VERSIONS,
    bank_plan,
    bank_policy,
    outputs_of,
    payment,
    verdicts_of,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from actions.outputs import Outputs
from actions.policy_schema import ACTIONS, SEVERITIES, ActionCost, Costs
from actions.risk import RiskDecider, Verdicts, cheapest
from actions.templates import formatted
from features.histories import Features
from features.records import Reason

money = st.floats(0, 1e5, allow_nan=False)
share = st.floats(0, 1)
action_costs = st.builds(ActionCost, money, share, money, share)


def cheapest_by_loop(costs: Costs, p: float, amount: float) -> int:
    best, best_cost = -1, float("inf")
    for code, action in enumerate(costs.actions):
        loss = p * amount * (1.0 - action.prevented)
        trouble = (1.0 - p) * (action.friction + action.friction_share * amount)
        cost = loss + trouble + action.capacity
        if cost < best_cost:
            best, best_cost = code, cost
    return best


@given(
    st.lists(action_costs, min_size=5, max_size=5),
    st.lists(st.tuples(share, st.floats(0, 1e9)), min_size=1, max_size=30),
)
def test_cheapest_action_equals_the_loop(
    actions: list[ActionCost], events: list[tuple[float, float]]
) -> None:
    costs = Costs("m", tuple(actions), (1.0, 2.0, 3.0))
    p, amount = np.array(events).T
    wanted = [cheapest_by_loop(costs, *event) for event in events]
    assert cheapest(costs, p, amount).tolist() == wanted


def test_equal_costs_go_to_the_milder_action() -> None:
    same = Costs("m", (ActionCost(1.0, 0.0, 0.0, 0.5),) * 5, (1.0, 2.0, 3.0))
    assert cheapest(same, np.array([0.3]), np.array([100.0])).tolist() == [0]


def made_up(before: NDArray[np.float64]) -> Outputs:
    """Return outputs of the first program as if they came from slots that are all exact."""
    plan, n = bank_plan(), before.shape[1]
    nothing = np.zeros((len(plan.slot_texts), n))
    return Outputs(plan, Features(nothing, nothing), before, np.zeros((0, n)))


def decide(
    scores: list[float], amounts: list[float], fired: dict[str, list[int]] | None = None
) -> Verdicts:
    """Decide by made-up outputs: `fired` has the rows on which a rule is true."""
    plan = bank_plan()
    n = len(scores)
    before = np.full((len(plan.before_models.outputs), n), np.nan)
    for rule, rows in (fired or {}).items():
        before[plan.before_models.outputs[f"rule:{rule}"], rows] = 1.0
    decider = RiskDecider(bank_policy(), plan)
    every = np.ones(n, dtype=np.bool_)
    return decider.decide(made_up(before), np.array(scores), np.array(amounts), every)


def test_shipped_costs_by_hand() -> None:
    # 100 EUR: step_up saves 70 % of p * 100 and costs (1 - p) * (4 + 1), so it starts at
    # p = 5 / 75; review would need p * 15 > (1 - p) * 3 + 8; decline saves 5 more than hold.
    verdicts = decide([0.066, 0.067, 0.001, 1.0], [100.0] * 4)
    assert [ACTIONS[a] for a in verdicts.actions] == ["allow", "step_up", "allow", "decline"]
    # Expected losses 6.7 and 100 against severity_from 50, 500, 5000.
    assert [SEVERITIES[s] for s in verdicts.severities] == ["low", "low", "low", "medium"]


@pytest.mark.parametrize("amount", [1.0, 100.0, 10_000.0, 1_000_000.0])
def test_score_at_the_base_rate_stops_no_genuine_payment(amount: float) -> None:
    assert decide([0.01], [amount]).actions.tolist() == [0]


def test_nan_score_leaves_the_decision_to_rules_and_nan_amount_is_nothing_at_stake() -> None:
    verdicts = decide([np.nan, np.nan, 1.0], [1e6, 1e6, np.nan], {"gang_device": [1]})
    assert [ACTIONS[a] for a in verdicts.actions] == ["allow", "hold", "allow"]


def test_live_rules_raise_but_never_lower_and_shadow_rules_do_nothing() -> None:
    fired = {"new_country_spree": [0, 1, 2], "gang_device": [2], "structuring": [3]}
    verdicts = decide([0.0, 1.0, 0.0, 0.0], [100.0] * 4, fired)
    assert [ACTIONS[a] for a in verdicts.actions] == ["step_up", "decline", "hold", "allow"]
    assert [SEVERITIES[s] for s in verdicts.severities] == ["high", "high", "critical", "low"]
    assert verdicts.hits.sum(axis=1).tolist() == [1, 1, 2, 0]
    assert verdicts.shadow_hits[:, 0].tolist() == [False, False, False, True]


def test_rows_that_are_no_transactions_are_left_alone() -> None:
    plan = bank_plan()
    before = np.ones((len(plan.before_models.outputs), 2))
    decider = RiskDecider(bank_policy(), plan)
    ones = np.ones(2)
    verdicts = decider.decide(made_up(before), ones, ones * 1e6, np.array([False, True]))
    assert verdicts.actions.tolist() == [0, ACTIONS.index("decline")]
    assert not verdicts.hits[0].any() and not verdicts.shadow_hits[0].any()
    assert verdicts.severities[0] == 0


def test_alert_names_the_rule_with_its_numbers() -> None:
    records = [
        payment(NOON_MS + i * MINUTE_MS, 1.25 + i / 4, card_id="k1", event_id=f"x{i}")
        for i in range(6)
    ]
    outputs, transactions = outputs_of(records)
    decider, verdicts = verdicts_of(outputs)
    of_model = Reason(source="model:fraud:night", text="the hour of the night", weight=0.5)
    alert = decider.alert(5, transactions[5], verdicts, outputs, 0.25, [of_model], VERSIONS)
    assert (alert.risk, alert.action, alert.severity) == ("card_testing", "decline", "high")
    assert alert.reasons[0].source == "rule:card_testing_burst"
    assert alert.reasons[0].text == (
        "6 payments on this card within 10 minutes, none above 2.50 EUR: "
        "somebody is trying out whether the card works"
    )
    assert alert.reasons[1:] == (of_model,)
    assert (alert.event_id, alert.amount_minor, alert.score) == ("x5", 250, 0.25)
    again = decider.alert(5, transactions[5], verdicts, outputs, 0.25, [], VERSIONS)
    assert again.alert_id == alert.alert_id and len(alert.alert_id) == 32
    with pytest.raises(ValueError, match="row 0"):
        decider.alert(0, transactions[0], verdicts, outputs, 0.1, [], VERSIONS)


def test_risk_is_that_of_the_hardest_rule_and_else_of_the_model() -> None:
    plan = bank_plan()
    fired = {"new_country_spree": [0], "gang_device": [0], "mule_in_and_out": [0]}
    verdicts = decide([0.0, 1.0], [100.0, 100.0], fired)
    outputs = made_up(np.full((len(plan.before_models.outputs), 2), np.nan))
    decider = RiskDecider(bank_policy(), plan)
    alert = decider.alert(0, payment(NOON_MS, 1.0), verdicts, outputs, np.nan, [], VERSIONS)
    assert alert.risk == "gang"  # hold, as for the mule, but critical
    assert alert.score == 0.0
    assert alert.reasons[1].text.startswith("unknown left within a day of unknown")
    alert = decider.alert(1, payment(NOON_MS, 1.0), verdicts, outputs, 1.0, [], VERSIONS)
    assert alert.risk == "model"
    assert alert.reasons == (
        Reason(
            source="model:fraud",
            text="the model sees fraud with a probability of 100 %",
            weight=1.0,
        ),
    )


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (5.0, "", "5"),
        (2.5, "", "2.50"),
        (-3.0, "", "-3"),
        (1234.5, "money", "1234.50 EUR"),
        (7.0, "money", "7.00 EUR"),
        (0.125, "percent", "12.5 %"),
        (0.5, "percent", "50 %"),
        (90 * 60_000.0, "duration", "1.5 h"),
        (250.0, "duration", "250 ms"),
        (2 * 86_400_000.0, "duration", "2 d"),
        (float("nan"), "money", "unknown"),
    ],
)
def test_numbers_are_written_plainly(value: float, style: str, text: str) -> None:
    assert formatted(value, style, "EUR", 2) == text
