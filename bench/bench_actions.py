"""From values to decisions, and what a policy costs to read.

A decision on a batch is arithmetic on arrays; its floor is the expected cost alone, without any
rule. The next best action walks one customer's event in Python, and only where a trigger fires.
Reading and compiling a policy happens once, at the start; their "event" is one policy.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from actions.customers import CustomerState
from actions.next_best import NextBestAction
from actions.outputs import OutputRow, Outputs
from actions.policy import Policy
from actions.policy_compiler import compile_policy
from actions.risk import RiskDecider, cheapest
from bench.measure import Measure
from bench.traffic import HASHER, START_MS
from features.histories import Features
from features.plan import Plan
from features.records import Profile, Transaction, Versions
from streams.policy_files import BANK_POLICY

BATCH = 512
HIT_SHARE = 0.005  # of the values that are conditions
EVENT_COUNT = 64
NOON_MS = START_MS + 12 * 3_600_000
FLOOR = f"expected cost alone, batches of {BATCH}"
VERSIONS = Versions(policy="bench", models={"fraud": 1})


@pytest.fixture(scope="module")
def scores() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    return rng.beta(0.2, 20.0, BATCH), np.exp(rng.normal(4.0, 1.0, BATCH))


def test_expected_cost(
    measure: Measure, policy: Policy, scores: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> None:
    assert policy.costs is not None
    costs = policy.costs
    measure.calls(FLOOR, BATCH, lambda: cheapest(costs, *scores))


def test_risk(
    measure: Measure,
    policy: Policy,
    plan: Plan,
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> None:
    decider = RiskDecider(policy, plan)
    rng = np.random.default_rng(2)
    before, after = (
        (rng.random((len(program.outputs), BATCH)) < HIT_SHARE).astype(np.float64)
        for program in (plan.before_models, plan.after_models)
    )
    transactions = np.ones(BATCH, dtype=np.bool_)
    exact = np.zeros((len(plan.slot_texts), BATCH))
    outputs = Outputs(plan, Features(exact, exact), before, after)
    measure.calls(
        f"RiskDecider.decide, batches of {BATCH}",
        BATCH,
        lambda: decider.decide(outputs, *scores, transactions),
        baseline=FLOOR,
    )


def salary() -> Transaction:
    return Transaction(
        event_id="TX1",
        ts_ms=NOON_MS,
        customer_id="CU1",
        account_id="AC1",
        type="salary",
        amount_minor=280_000,
        currency="EUR",
        direction="in",
        channel="branch",
        balance_minor=900_000,
    )


def reachable_customer() -> CustomerState:
    """Return a customer who may be contacted and to whom both offers of the policy apply."""
    profile = Profile(
        customer_id="CU1",
        ts_ms=START_MS,
        products=("current_account",),
        assets_minor=3_000_000,
        risk_preference="medium",
        consents=("marketing:sms", "marketing:app_push", "marketing:email"),
        preferred_channels=("app_push",),
    )
    return CustomerState(profile=profile)


def salary_values(plan: Plan) -> OutputRow:
    """Return the values of a salary that makes every offer eligible."""
    before, after = (
        np.array([[1.0 if _is_condition(name) else 280.0] for name in program.outputs])
        if program.outputs
        else np.empty((0, 1))
        for program in (plan.before_models, plan.after_models)
    )
    exact = np.zeros((len(plan.slot_texts), 1))
    return Outputs(plan, Features(exact, exact), before, after).row(0)


def _is_condition(name: str) -> bool:
    return name.startswith("trigger:") or name.endswith(":eligible")


def test_next_best_action(measure: Measure, policy: Policy, plan: Plan) -> None:
    next_best = NextBestAction(policy, plan)
    transaction, values = salary(), salary_values(plan)
    assert next_best.decide(reachable_customer(), transaction, values, VERSIONS)

    def decide(states: list[CustomerState]) -> None:
        for state in states:
            next_best.decide(state, transaction, values, VERSIONS)

    measure.steps(
        "NextBestAction.decide, one event of which an offer comes",
        EVENT_COUNT,
        decide,
        lambda: ([reachable_customer() for _ in range(EVENT_COUNT)],),
    )


def test_parse(measure: Measure) -> None:
    files = {file.name: file.read_text("utf-8") for file in sorted(BANK_POLICY.glob("*.yaml"))}
    measure.calls("Policy.parse, per policy", 1, lambda: Policy.parse(files))


def test_compile(measure: Measure, policy: Policy) -> None:
    measure.calls("compile_policy, per policy", 1, lambda: compile_policy(policy, HASHER.one))
