"""Rules over values that are not exact: what they do with them, and what their reasons say."""

import itertools

import msgspec
import numpy as np
import pytest
from actions_scene import HASHER, NOON_MS, fraud_label, payment
from msgspec import structs
from test_actions_policy import BASE, fault, parse, place_of

from actions.outputs import Outputs
from actions.policy import Policy
from actions.policy_compiler import compile_policy
from actions.policy_schema import CERTAINTY_CHOICES
from actions.risk import RiskDecider, Verdicts
from features.columns import empty_cells
from features.histories import Features
from features.kernels.walker import evaluate
from features.records import ENCODER, ONE_TOPIC, Alert, Label, Transaction, Versions
from features.status import Status
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.sinks import MemorySink
from streams.store import MemoryStore

INF, NAN = np.inf, np.nan
RULE = """\
rules:
  - id: often
    risk: burst
    when: customer.count("1d") >= 5 and customer.mean(amount, "1d") < 300
    action: review
    reason: "{customer.count('1d')} payments, up to {customer.max(amount, '1d'):money}"
"""
SLOTS = ("count", "mean", "max")  # of which the condition reads the first two
# What a slot says, how far it may be off, and how old its foreign parts are.
KNOWN = {
    Status.EXACT: (100.0, 0.0, 0.0),
    Status.ABSENT: (NAN, 0.0, 0.0),
    Status.STALE: (100.0, 0.0, 7.0),
    Status.APPROXIMATE: (100.0, 20.0, 0.0),
}


def rule_with(**choices: str) -> Policy:
    return parse(BASE + RULE + "".join(f"    {name}: {word}\n" for name, word in choices.items()))


def decided(policy: Policy, **statuses: Status) -> tuple[RiskDecider, Outputs, Verdicts]:
    """Decide on one row whose slots are as certain as told, else exact."""
    plan = compile_policy(policy, HASHER.one)
    known = [
        KNOWN[statuses.get(next(name for name in SLOTS if name in text), Status.EXACT)]
        for text in plan.slot_texts
    ]
    values, errors, ages_ms = (np.array([[k[i]] for k in known]) for i in range(3))
    features = Features(values, errors, ages_ms)
    outputs = Outputs(
        plan,
        features,
        evaluate(plan.before_models, empty_cells(1), values, np.zeros((0, 1))),
        np.zeros((0, 1)),
    )
    decider = RiskDecider(policy, plan)
    unscored, every = np.array([NAN]), np.ones(1, dtype=np.bool_)
    return decider, outputs, decider.decide(outputs, unscored, unscored, every)


CASES = list(itertools.product(Status, Status, CERTAINTY_CHOICES, CERTAINTY_CHOICES))


@pytest.mark.parametrize(("count", "mean", "if_stale", "if_approximate"), CASES)
def test_the_worst_of_what_the_condition_reads_decides(
    count: Status, mean: Status, if_stale: str, if_approximate: str
) -> None:
    policy = rule_with(if_stale=if_stale, if_approximate=if_approximate)
    _, _, verdicts = decided(policy, count=count, mean=mean, max=Status.APPROXIMATE)
    # 100 payments of 100.00 on average hold; where one of the two is absent, nothing does.
    as_it_is = Status.ABSENT not in (count, mean)
    statuses = {count, mean}
    if Status.APPROXIMATE in statuses:
        choice = if_approximate
    elif Status.STALE in statuses:
        choice = if_stale
    else:
        choice = "use"
    expected = {"use": as_it_is, "ignore": False, "fire": True}[choice]
    assert verdicts.hits.tolist() == [[expected]]
    assert (verdicts.actions[0] > 0) == expected


@pytest.mark.parametrize(("choice", "fires"), [("use", False), ("ignore", False), ("fire", True)])
def test_absent_is_no_number_unless_the_rule_says_otherwise(choice: str, fires: bool) -> None:
    _, _, verdicts = decided(rule_with(if_absent=choice), mean=Status.ABSENT)
    assert verdicts.hits.tolist() == [[fires]]
    _, _, verdicts = decided(rule_with(if_absent=choice))
    assert verdicts.hits.tolist() == [[True]]


@pytest.mark.parametrize(
    ("largest", "said"),
    [
        (Status.EXACT, "exact"),
        (Status.ABSENT, "exact"),
        (Status.STALE, "stale"),
        (Status.APPROXIMATE, "approximate"),
    ],
)
def test_a_reason_says_how_certain_the_values_are_that_it_quotes(
    largest: Status, said: str
) -> None:
    decider, outputs, verdicts = decided(rule_with(), max=largest)
    versions = Versions(policy="p", models={})
    alert = decider.alert(0, payment(NOON_MS, 1.0), verdicts, outputs, NAN, [], versions)
    assert [reason.status for reason in alert.reasons] == [said]


def test_rows_that_are_no_transactions_never_fire() -> None:
    decider, outputs, _ = decided(rule_with(if_approximate="fire"), count=Status.APPROXIMATE)
    unscored, none = np.array([NAN]), np.zeros(1, dtype=np.bool_)
    assert not decider.decide(outputs, unscored, unscored, none).hits.any()


@pytest.mark.parametrize("choice", CERTAINTY_CHOICES)
def test_beyond_what_is_kept_of_a_customer_a_rule_does_what_it_says(choice: str) -> None:
    # 16 events are kept, of the 120 of the last ten minutes; those before are in tiles of half a
    # minute, of which the beginning of the window cuts one.
    often = RULE.replace('"1d") >= 5', '"10m") >= 999')
    text = BASE + often + f"    if_approximate: {choice}\nhistory: {{reach: 1d, cap: 16}}\n"
    sink = MemorySink()
    runtime = EmbeddedRuntime(parse(text), MemoryStore(), sink, EmbeddedSettings(1))
    records = [payment(NOON_MS + i * 5_000, 1.0, event_id=f"x{i}") for i in range(300)]
    lines = [msgspec.json.encode(record) for record in records]
    runtime.submit([ONE_TOPIC] * len(lines), ["c1"] * len(lines), lines)
    runtime.close()
    alerts = [msgspec.json.decode(e.value, type=Alert) for e in sink.by_topic.get("alerts", [])]
    assert all(reason.status == "approximate" for a in alerts for reason in a.reasons)
    assert bool(alerts) == (choice == "fire")


def test_a_choice_that_there_is_not_is_pointed_at() -> None:
    text = BASE + RULE + "    if_stale: ignored\n"
    error = fault(text)
    assert (error.line, error.column) == place_of(text, "ignored")
    assert "use, ignore, fire" in str(error) and "ignore" in str(error)


LEARNING = """\
history: {reach: 1d, cap: 16}
labels: {horizon: 10m, legitimate_sample: 1, pending_cap: 100000}
costs:
  model: fraud
  severity_from: {medium: 1e6, high: 2e6, critical: 3e6}
  actions:
    allow: {friction: 0, prevented: 0}
    step_up: {friction: 1, prevented: 1}
    review: {friction: 1e9, prevented: 1}
    hold: {friction: 1e9, prevented: 1}
    decline: {friction: 1e9, prevented: 1}
models:
  - id: fraud
    pipeline: scaled_logistic
    publish_every: 1h
    inputs:
      size: {value: log1p(amount), reason: the size}
      often: {value: 'amount * log1p(customer.count("10m"))', reason: how often}
"""


def test_a_models_reasons_say_so_too() -> None:
    # Three hours of payments every five seconds; each tenth is large and known as fraud at once.
    sink = MemorySink()
    lines: list[Transaction | Label] = []
    for i in range(2_160):
        large = i % 10 == 0
        paid = payment(NOON_MS + i * 5_000, 900.0 if large else 1.0 + i % 3, event_id=f"x{i}")
        known = structs.replace(fraud_label(paid), ts_ms=paid.ts_ms + 1)
        lines += [paid, known] if large else [paid]
    runtime = EmbeddedRuntime(parse(BASE + LEARNING), MemoryStore(), sink, EmbeddedSettings(1))
    values = [ENCODER.encode(line) for line in lines]
    runtime.submit([ONE_TOPIC] * len(lines), ["c1"] * len(lines), values)
    runtime.close()
    said: dict[str, set[str]] = {}
    for emission in sink.by_topic["alerts"]:
        for reason in msgspec.json.decode(emission.value, type=Alert).reasons:
            said.setdefault(reason.source, set()).add(reason.status)
    assert said["model:fraud:size"] == {"exact"}
    assert "approximate" in said["model:fraud:often"]
