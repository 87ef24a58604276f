"""Refusals of what looks into histories: aggregates, kinds of records, named values, lists."""

import dataclasses

import pytest
from refusals_expressions import refused_at
from strategies_expressions import DECLARATIONS

from features.errors import MillraceError, SourceError
from features.expressions import Declarations, ExpressionText, compile_plan

AGGREGATES = [
    ("customer.quantile(amount, @2, '1h')", "a share from 0 to 1", "`2`"),
    ("customer.quantile(amount, @-0.1, '1h')", "a share from 0 to 1", "`-0.1`"),
    ("customer.quantile(amount, @mcc, '1h')", "a share from 0 to 1", "`mcc`"),
    ("customer.quantile(amount, @0.1234567, '1h')", "at most 6 decimals", "`0.1234567`"),
    ("@customer.quantile(amount, '1h')", "quantile(field, share, window)", "customer.quantile"),
    ("customer.ewma(amount, half_life=@7, window='1h')", "a half-life such as", "`7`"),
    ("customer.ewma(amount, @'0s', '1h')", "a half-life such as", "`'0s'`"),
    ("@customer.ewma(amount, window='1h')", "ewma(field, half_life, window)", "customer.ewma"),
    ("customer.median(@country, '1h')", "a field with numbers", "`country`, which is text"),
    ("customer.trend(@odd, '1h')", "a field with numbers", "`odd`, which is a condition"),
    ("@customer.streak()", "streak(condition, window=None)", "`customer.streak()`"),
    ("customer.streak(@mcc)", "field op constant", "`mcc`"),
    ("customer.streak_age(fraud, @5) > '1d'", "a window such as", "`5`"),
    ("customer.streak_age(fraud) > @5", 'a duration such as "10m"', "`5`, a number"),
    ("customer.top(@amount, '1h') == amount", "a text or `mcc`", "`amount`, which is money"),
    ("customer.top(@ratio, '1h') == ratio", "a text or `mcc`", "`ratio`, which is a number"),
    ("@customer.top(country, '1h')", "a number, money", "text"),
    ("customer.top(country, '1h') == @'DE'", "to compare with a country", "`'DE'`"),
    ("@merchant_id != customer.top(country, '1h')", "to compare with a country", "`merchant_id`"),
    ("customer.top(mcc, '1h') == @amount", "to compare with a mcc", "`amount`"),
    ("customer.top(mcc, '1h') == @5411", "to compare with a mcc", "`5411`"),
    ("customer.top(mcc, '1h') == (@mcc + 1)", "to compare with a mcc", "`mcc + 1`"),
    ("@customer.top(mcc, '1h') < mcc", "== or != beside `top`", "customer.top"),
    ("@customer.top(country, '1h') in ['DE']", "a field", "text"),
    ("customer.top(mcc, '1h') == @customer.top(mcc, '7d')", "to compare with a mcc", "'7d'"),
]
KINDS = [
    (
        "card.count('1h', of=@contact)",
        "has the `card_id` of `card`",
        "`contact`, which has ts_ms, event_id, customer_id, channel, offer",
    ),
    ("device.count('1h', of=@label)", "has the `device_id` of `device`", "`label`, which has"),
    ("customer.count('1h', of=@'contact')", "a kind of record: transaction, interaction,", ""),
    (
        "customer.count('1h', of=interaction, where=@amount > 5)",
        "a field of a stored interaction: ts_ms, event_id, customer_id, type, channel, device_id,",
        "`amount`",
    ),
    ("customer.count('1h', of=contact, where=channel == @'pos')", "one of app_push, sms", "pos"),
    ("customer.count('1h', of=interaction, where=type == @'fee')", "one of login,", "fee"),
    ("customer.count('1h', of=contact, where=@fraud)", "a field of a stored contact", "`fraud`"),
    ("customer.count('1h', of=outcome, where=@label == fraud)", "a field of a stored outcome", ""),
    ("customer.sum(@amount, '1h', of=interaction)", "a field with numbers: ts_ms, value", "amount"),
    ("customer.sum(@channel, '1h', of=contact)", "a field with numbers: ts_ms", "which is text"),
    ("customer.sum(@ratio, '1h', of=interaction)", "a field with numbers: ts_ms, value", "`ratio`"),
    ("customer.rate(@odd, '1h', of=interaction)", "field op constant", "`odd`"),
    (
        "customer.seen(@metric, '1h', of=interaction)",
        "that the current transaction has too",
        "`metric`, which only a stored interaction has",
    ),
    ("customer.zscore(@value, '1h', of=interaction)", "that the current transaction has too", ""),
    (
        "customer.count('1h', of=contact, including_current=@True)",
        "no current event is of kind",
        "`True`",
    ),
    ("amount > 1 and @metric == 'x'", "`metric` belongs beside of=interaction", "`metric`"),
]
NAMED = [
    ("card.count('1h', where=@ratio)", "field op constant", "`ratio`"),
    ("card.count('1h', where=@odd == 1)", "`odd` alone: it is a condition", "`odd`"),
    ("card.count('1h', where=ratio == @0.3333333)", "a multiple of 1/1000000", "0.3333333"),
    ("card.count('1h', where=pause > @5)", "a duration such as", "`5`"),
    ("card.count('1h', where=pause > @'5')", "a duration such as", "`'5'`"),
    ("customer.seen(@ratio, '1h')", "current transaction has too", "`ratio`, a named value"),
    ("@ratio and odd", "a condition", "`ratio`"),
    ("merchant_id in @lists", "a list of constants, or one of `lists.`", "`lists`"),
    ("mcc in @lists.near", "text before `in lists.near`", "something else"),
    ("@lists.near", "`field in lists.name`", "`lists.near`"),
    ("@lists", "`lists.` and a name", "`lists`"),
    ("currency in @lists.near", "a currency of the form", '"DE"'),
    ("card.count('1h', where=mcc in @lists.near)", "text before `in lists.near`", ""),
    ("card.count('1h', where=currency in @lists.near)", "a currency of the form", '"DE"'),
]


@pytest.mark.parametrize(("marked", "expected", "got"), [*AGGREGATES, *KINDS, *NAMED])
def test_wrong_calls(marked: str, expected: str, got: str) -> None:
    error = refused_at(marked)
    assert expected in error.expected
    assert got in error.got


def named(**texts: str) -> Declarations:
    lets = {name: ExpressionText(text, "lets.yaml", 3, 1) for name, text in texts.items()}
    return dataclasses.replace(DECLARATIONS, lets=lets)


@pytest.mark.parametrize(
    ("texts", "column", "expected", "got"),
    [
        ({"a": "a + 1"}, 1, "does not depend on itself", "`a → a`"),
        ({"a": "1 + b", "b": "a * 2"}, 1, "does not depend on itself", "`a → b → a`"),
        ({"a": "customer.max(a, '1d')"}, 14, "does not depend on itself", "`a → a`"),
        ({"a": "amount + profile.assets"}, 10, "the record and its histories", "`profile.assets`"),
        ({"a": "model.fraud"}, 1, "the record and its histories", "`model.fraud`"),
        ({"a": "country"}, 1, "a number, money, a duration or a condition", "`country`, text"),
        ({"a": "amount + True"}, 10, "a number or money", "`True`"),
        ({"a": "amount >"}, 9, "Python syntax", "invalid syntax"),
        ({"a": "b > 1", "b": "amont"}, 1, "a field", "unknown name `amont`"),
    ],
)
def test_wrong_named_values(texts: dict[str, str], column: int, expected: str, got: str) -> None:
    """They are refused whether an expression uses them or not, at their own place."""
    for outputs in ({}, {"rule:r": ExpressionText("a > 1", "p.yaml", 1, 1)}):
        with pytest.raises(SourceError) as caught:
            compile_plan(outputs, named(**texts))
        error = caught.value
        assert (error.file, error.line, error.column) == ("lets.yaml", 3, column), str(error)
        assert expected in error.expected
        assert got in error.got


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("amount", "a field"),
        ("metric", "a field"),
        ("card", "an entity"),
        ("max", "a function"),
        ("genuine", "a verdict"),
        ("contact", "a kind of record"),
        ("lists", "a word of the language"),
        ("lambda", "a word of Python"),
        ("a b", "no name"),
    ],
)
def test_names_that_mean_something_else(name: str, meaning: str) -> None:
    with pytest.raises(MillraceError, match=f"got `{name}`, which is {meaning}"):
        compile_plan({}, named(**{name: "1"}))
