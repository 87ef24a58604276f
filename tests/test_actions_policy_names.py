"""Policies: named values, lists and what histories take for a repeat."""

import pytest
from actions_scene import HASHER
from test_actions_policy import BASE, RULE, parse, place_of

from actions.policy_compiler import compile_policy
from features.columns import Cell
from features.errors import SourceError

NAMES = """\
let:
  ratio: amount / customer.median(amount, "90d")
  high: >
    ratio > 3
    and merchant_id in lists.watched
lists:
  watched: [M1, "02"]
"""
DAY_MS = 86_400_000


def test_named_values_and_lists_are_known_everywhere() -> None:
    used = RULE.replace("amount > 500", "high and customer.max(ratio, '14d') > 5")
    policy = parse(BASE + NAMES + used.replace("{amount:money}", "{ratio}"))
    assert list(policy.lets) == ["ratio", "high"]
    assert policy.lists == {"watched": ("M1", "02")}
    plan = compile_policy(policy, HASHER.one)
    assert [(kept.name, kept.cell) for kept in plan.values] == [("ratio", len(Cell))]
    listed = [HASHER.one("M1"), HASHER.one("02")]
    assert set(listed) <= set(plan.before_models.ints.tolist())


@pytest.mark.parametrize(
    ("old", "new", "needle"),
    [
        ("ratio > 3", "ration > 3", "ration"),
        ("lists.watched", "lists.wached", "wached"),
        ("ratio > 3", "ratio > high", "high\n"),
        ("amount / customer", "profile.assets / customer", "profile.assets"),
    ],
)
def test_a_wrong_named_value_is_refused_where_it_stands(old: str, new: str, needle: str) -> None:
    text = BASE + NAMES.replace(old, new)
    with pytest.raises(SourceError) as caught:
        compile_policy(parse(text), HASHER.one)
    assert (caught.value.line, caught.value.column) == place_of(text, needle)


def test_names_and_lists_are_content() -> None:
    version = parse(BASE + NAMES).version
    assert parse(BASE + NAMES.replace("ratio > 3", "ratio   >   3")).version == version
    for old, new in (("ratio > 3", "ratio > 4"), ("M1", "M2"), ("ratio", "rate_of")):
        assert parse(BASE + NAMES.replace(old, new)).version != version


def test_the_repeat_horizon_is_a_day_or_as_written() -> None:
    assert compile_policy(parse(BASE), HASHER.one).repeat_horizon_ms == DAY_MS
    for written, expected_ms in (("", DAY_MS), (", repeats: 2h", 7_200_000)):
        policy = parse(BASE + f"history: {{reach: 30d, cap: 10{written}}}")
        assert compile_policy(policy, HASHER.one).repeat_horizon_ms == expected_ms
