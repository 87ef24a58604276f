"""Policies: what is read, where faults are reported, what the version depends on."""

import re

import pytest
from actions_scene import BANK, HASHER, bank_plan, bank_policy

from actions.policy import Policy
from actions.policy_compiler import compile_policy
from actions.policy_schema import ACTIONS
from features.errors import SourceError

BASE = """\
name: small
currency: EUR
entities:
  customer: {key: customer_id, scope: local}
"""
RULE = """\
rules:
  - id: big
    risk: size
    when: amount > 500
    action: review
    reason: "an amount of {amount:money}"
"""
MODEL = """\
models:
  - id: fraud
    pipeline: scaled_logistic
    publish_every: 1h
    inputs:
      size: {value: log1p(amount), reason: the size}
"""


def parse(text: str, file: str = "p.yaml") -> Policy:
    return Policy.parse({file: text})


def fault(text: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        parse(text)
    return caught.value


def place_of(text: str, needle: str) -> tuple[int, int]:
    """Line and column of the first `needle`, both from 1."""
    before = text[: text.index(needle)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def test_shipped_policy_is_whole() -> None:
    policy = bank_policy()
    assert (policy.name, policy.currency, policy.currency_exponent) == ("bank", "EUR", 2)
    assert re.fullmatch("[0-9a-f]{12}", policy.version)
    scopes = {entity.name: entity.shared for entity in policy.entities}
    shared = {"merchant", "terminal", "device", "ip"}
    assert {name for name, is_shared in scopes.items() if is_shared} == shared
    assert set(scopes) - shared == {"customer", "account", "card", "payee"}
    kinds = {rule.risk for rule in policy.rules if not rule.shadow}
    assert kinds >= {
        "card_testing", "account_takeover", "stolen_card", "compromised_terminal", "mule", "gang",
    }  # fmt: skip
    outputs = {**bank_plan().before_models.outputs, **bank_plan().after_models.outputs}
    assert outputs.keys() == policy.outputs().keys()


def test_output_names_follow_the_convention() -> None:
    offers = """\
triggers:
  - {id: paid, when: amount > 1, why: paid}
offers:
  - id: plan
    triggers: [paid]
    product: plan
    channels: [sms]
    eligible: amount > 2
    value: 5
    parameters: {sum: amount / 10}
    valid_for: 1d
    why: saving
"""
    policy = parse(BASE + RULE + MODEL + offers)
    assert {name: text.text for name, text in policy.outputs().items()} == {
        "rule:big": "amount > 500",
        "reason:big:0": "amount",
        "model:fraud:size": "log1p(amount)",
        "trigger:paid": "amount > 1",
        "offer:plan:eligible": "amount > 2",
        "offer:plan:value": "5",
        "offer:plan:parameter:sum": "amount / 10",
    }
    declarations = policy.declarations(HASHER.one)
    assert declarations.models == ("fraud",)
    assert declarations.history_reach_ms == 90 * 86_400_000


@pytest.mark.parametrize(
    "written",
    [
        "amount > 500",
        "'amount > 500'",
        '"amount > 500"',
        "   amount > 500   # a comment",
        "\n      amount\n        > 500",
        ">\n      amount > 500",
        "|\n\n        amount > 500\n",
        ">-   # a comment\n      amount\n      > 500",
    ],
)
def test_expression_is_placed_at_its_first_character(written: str) -> None:
    text = BASE + RULE.replace("amount > 500", written)
    expression = parse(text).outputs()["rule:big"]
    assert " ".join(expression.text.split()) == "amount > 500"
    assert (expression.line, expression.column) == place_of(text, "amount")
    assert expression.file == "p.yaml"


def test_fault_in_a_later_line_of_a_block_keeps_its_place() -> None:
    text = BASE + RULE.replace("amount > 500", ">\n      amount > 500\n        and amuont < 900")
    with pytest.raises(SourceError) as caught:
        compile_policy(parse(text), HASHER.one)
    assert (caught.value.line, caught.value.column) == place_of(text, "amuont")
    assert caught.value.nearest == "amount"


@pytest.mark.parametrize(
    "written",
    [
        '"the amount {{amount}} of {amount:money}, {balance} left"',
        "the amount is {amount:money} with {balance} left",
        ">\n      the amount is\n      { amount:money }, so {balance}",
        "'it''s {amount:money} of {balance}'",
    ],
)
def test_reason_expressions_are_placed_where_they_stand(written: str) -> None:
    text = BASE + RULE.replace('"an amount of {amount:money}"', written)
    outputs = parse(text).outputs()
    first, second = outputs["reason:big:0"], outputs["reason:big:1"]
    assert (first.text, second.text) == ("amount", "balance")
    assert (first.line, first.column) == place_of(text, "amount:")
    assert (second.line, second.column) == place_of(text, "balance")


@pytest.mark.parametrize(
    ("old", "new", "needle", "nearest"),
    [
        ("action: review", "acton: review", "acton", "action"),
        ("action: review", "action: reviw", "reviw", "review"),
        ("action: review", "action: allow", "allow", None),
        ("risk: size", "risk: Size!", "Size!", None),
        ("when: amount > 500", "when:", "when", None),
        ("{amount:money}", "{amount:monney}", "an amount", "money"),
        ("{amount:money}", "{amount", "an amount", None),
        ("{amount:money}", "{}", "an amount", None),
        ("{amount:money}", "amount}", "an amount", None),
        ("rules:", "rulez:", "rulez", "rules"),
        ("currency: EUR", "currency: EUP", "EUP", "EUR"),
        ("scope: local", "scope: locale", "locale", "local"),
        ("key: customer_id", "key: customer", "customer,", "customer_id"),
        ("  - id: big", "  - risk: size\n    id: big\n  - id: big", "risk", None),
    ],
)
def test_fault_has_its_place_and_the_nearest_name(
    old: str, new: str, needle: str, nearest: str | None
) -> None:
    text = (BASE + RULE).replace(old, new)
    error = fault(text)
    line, column = place_of(text, needle)
    assert error.line == line
    if new != "when:":  # an empty value stands after its key
        assert error.column == column
    assert error.nearest == nearest


def test_repeated_keys_and_ids_are_refused_at_the_second_place() -> None:
    text = BASE + RULE.replace("    risk: size\n", "    risk: size\n    risk: other\n")
    error = fault(text)
    assert (error.line, error.column) == place_of(text, "risk: other")
    two = BASE + RULE + RULE.removeprefix("rules:\n").replace("amount > 500", "amount > 600")
    error = fault(two)
    assert error.line == place_of(two, "amount > 600")[0] - 2
    assert "`big` again, first in p.yaml:6" in error.got


def test_sections_stand_once_over_all_files_but_rules_add_up() -> None:
    more = RULE.replace("id: big", "id: bigger")
    policy = Policy.parse({"b.yaml": more, "a.yaml": BASE + RULE})
    assert [rule.id for rule in policy.rules] == ["big", "bigger"]
    with pytest.raises(SourceError, match=r"b\.yaml:1:1: expected each section once"):
        Policy.parse({"b.yaml": "name: other", "a.yaml": BASE})
    with pytest.raises(SourceError, match="section `currency`"):
        Policy.parse({"a.yaml": "name: x"})
    with pytest.raises(SourceError, match="section `name`"):
        Policy.parse({})


@pytest.mark.parametrize(
    "text", ["a: [1", "a: b: c", "\tx: 1", "- 1", "a: 1\n---\nb: 2", "[" * 5000, "a: \x00"]
)
def test_what_is_no_policy_is_a_source_error(text: str) -> None:
    assert fault(text).file == "p.yaml"


@pytest.mark.parametrize(
    ("section", "needle"),
    [
        ("rates: {USD: {2024-13-01: 1}}", "2024-13-01"),
        ("rates: {USD: {2024-01-01: 0}}", "0}}"),
        ("rates: {USD: {2024-01-01: 1.00000000001}}", "1.00000000001"),
        ("rates: {EUR: {2024-01-01: 1}}", "EUR"),
        ("history: {reach: 90, cap: 10}", "90,"),
        ("history: {reach: 90d, cap: 0}", "0}"),
        ("history: {reach: 90d, cap: 9, repeats: 0s}", "0s"),
        ("let: {amount: 1}", "amount"),
        ("let: {customer: 1}", "customer"),
        ("let: {Ratio: 1}", "Ratio"),
        ("let: {ratio: []}", "[]"),
        ("lists: {watched: [M1, M1]}", "M1]"),
        ("lists: {watched: M1}", "M1"),
        ("labels: {horizon: 7d, legitimate_sample: 1.5, pending_cap: 1}", "1.5"),
        ("labels: {horizon: 7d, legitimate_sample: nan, pending_cap: 1}", "nan"),
        ("contacts: {caps: [{at_most: 1, within: 0d}]}", "0d"),
        ("contacts: {caps: [{at_most: 1, within: 1d, offer: none}]}", "none"),
        ("contacts: {caps: [], control_share: -0.1}", "-0.1"),
        ("contacts: {caps: [], quiet_hours: {start_hour: 24, end_hour: 1}}", "24"),
    ],
)
def test_wrong_settings_are_refused_where_they_stand(section: str, needle: str) -> None:
    error = fault(BASE + section)
    assert (error.line, error.column) == (5, section.index(needle) + 1)


def test_pipeline_and_types_are_checked_with_places() -> None:
    policy = parse(BASE + MODEL)
    policy.check_pipelines(["scaled_logistic"])
    with pytest.raises(SourceError, match=r"p\.yaml:7:15.*did you mean `scaled_logistics`"):
        policy.check_pipelines(["scaled_logistics"])
    for text, needle in (
        (RULE.replace("amount > 500", "amount + 500"), "amount + 500"),
        (MODEL.replace("log1p(amount)", "amount > 5"), "amount > 5"),
        (MODEL.replace("log1p(amount)", "model.fraud"), "model.fraud"),
    ):
        with pytest.raises(SourceError) as caught:
            compile_policy(parse(BASE + text), HASHER.one)
        assert (caught.value.line, caught.value.column) == place_of(BASE + text, needle)


def test_version_ignores_comments_layout_and_files() -> None:
    version = parse(BASE + RULE).version
    assert parse("# first\n" + BASE + RULE, "other.yaml").version == version
    assert Policy.parse({"a.yaml": RULE, "b.yaml": BASE}).version == version
    assert parse("# first\n" + BASE + MODEL, "other.yaml").version == parse(BASE + MODEL).version
    assert (
        parse(BASE + RULE.replace("amount > 500", ">\n      amount   >\n      500")).version
        == version
    )
    assert (
        parse(BASE + RULE.replace("    risk: size\n", "") + "    risk: size\n").version == version
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("500", "501"),
        ("review", "hold"),
        ("an amount", "the amount"),
        (":money", ""),
        ("id: big", "id: large"),
        ("scope: local", "scope: shared"),
        ("name: small", "name: little"),
    ],
)
def test_version_follows_the_content(old: str, new: str) -> None:
    assert parse((BASE + RULE).replace(old, new)).version != parse(BASE + RULE).version


def test_costs_name_each_action() -> None:
    costs = (BANK / "models.yaml").read_text("utf-8")
    text = BASE + costs[costs.index("costs:") :].replace("    hold:", "    holt:") + MODEL
    error = fault(text)
    assert (error.line, error.column) == place_of(text, "holt")
    assert error.nearest == "hold"
    parsed = bank_policy().costs
    assert parsed is not None
    assert len(parsed.actions) == len(ACTIONS)
    with pytest.raises(SourceError, match="at least 50"):
        parse((BASE + costs).replace("high: 500", "high: 49"))
