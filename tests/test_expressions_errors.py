"""Every refusal of a text: its position, what was expected, what was there, the nearest name."""

import dataclasses

import pytest
from refusals_expressions import LINE, place, refusal, refused_at
from strategies_expressions import DECLARATIONS

from features.errors import MillraceError
from features.expressions import (
    Declarations,
    EntityDeclaration,
    compile_plan,
)

NAMES = [
    # text with @ at the place of the error, a part of what is expected, the nearest name
    ("@crad.count('10m') > 1", "before the dot", "card"),
    ("card.@coutn('10m') > 1", "an aggregate of `card`", "count"),
    ("amount > 1 and @amont > 2", "a field", "amount"),
    ("@chanel == 'pos'", "a field", "channel"),
    ("channel == @'poss'", "a channel: one of pos,", "pos"),
    ("@'onlin' == channel", "a channel", "online"),
    ("type in ['fee', @'purchas']", "a type", "purchase"),
    ("direction != @'outt'", "a direction", "out"),
    ("country == @'de'", "a country", "DE"),
    ("currency == @'Euro'", "a currency", None),
    ("@flor(amount)", "a function", "floor"),
    ("speed_kmh(@crd)", "an entity: customer, card, terminal", "card"),
    ("speed_kmh(@'card')", "an entity", None),
    ("profile.@asets", "a profile field", "assets"),
    ("model.@frauds", "a declared model", "fraud"),
    ("card.sum(@amout, '1h')", "a field with numbers", "amount"),
    ("card.distinct(@merchantid, '1h')", "a field", "merchant_id"),
    ("card.count('1h', @wher=fraud)", "an option of count(window)", "where"),
    ("card.count('1h', where=@amuont > 5)", "a field of the stored event", "amount"),
    ("card.count('1h', where=@fruad)", "field op constant", "fraud"),
    ("card.count('1h', where=label == @frad)", "`fraud` or `legitimate`", "fraud"),
    ("card.count('1h', where=channel == @'sns')", "a channel", "sms"),
    ("@xyzzy", "a field", None),
    ("@ratoi > 2", "a field", "ratio"),
    ("customer.max(@ratoi, '1h')", "a field with numbers", "ratio"),
    ("customer.count('1h', where=@od)", "field op constant", "odd"),
    ("customer.count('1h', of=@contacts)", "a kind of record", "contact"),
    ("customer.count('1h', of=contact, where=@chanel == 'sms')", "a stored contact", "channel"),
    ("customer.count('1h', of=interaction, where=type == @'logn')", "a type", "login"),
    ("customer.@meidan(amount, '1h')", "an aggregate of `customer`", "median"),
    ("merchant_id in lists.@watch", "a declared list", "watched"),
    ("customer.count('1h', where=merchant_id in lists.@watch)", "a declared list", "watched"),
    ("customer.count('1h', where=@is_mising(mcc))", "field op constant", "is_missing"),
]
SYNTAX = [
    ("amount >@", "Python syntax", "invalid syntax"),
    ("amount@) + (mcc", "Python syntax", "unmatched ')'"),
    ("amount > @(5", "Python syntax", "'(' was never closed"),
    ("amount @= 5", "Python syntax", "invalid syntax"),
    ("amount > 5 and\n  mcc == @'x", "Python syntax", "unterminated string literal"),
    ("amount > 5\nand mcc @mcc", "Python syntax", "invalid syntax"),
    ("amount > 5@)\nand (mcc == 5", "Python syntax", "unmatched ')'"),
    ("@", "an expression", "nothing"),
    ("@ \n ", "an expression", "nothing"),
    ("@amount, mcc", "one expression", "several"),
    ("mcc >\n a@\0b", "Python syntax", "a null character"),
    ("@" + "-" * 9_000 + "1", "Python syntax", ""),
    ("@" + "1+" * 300 + "1", "at most 100 levels", "more"),
    ("@" + "1" * 10_001, "at most 10000 characters", "10001"),
]
NOT_WHITELISTED = [
    "@lambda: 1",
    "@f'{amount}'",
    "@amount[0]",
    "(@x := 5)",
    "@{1: 2}",
    "@[1, 2]",
    "(@yield 1)",
    "amount > 5 and @[x for x in [1]]",
    "max(1, @*[1])",
    "(@1)(2)",
    "@...",
    "@None",
    "@1j",
    "@b'x' == country",
    "@1e999",
    "@amount | mcc",
    "@amount // 2",
    "@~amount",
    "@card.count.x",
    "@card.count('1h').real",
    "@amount.real",
    "@'x'.join(country)",
    "@profile.assets(1)",
    "amount > 1 and @model.fraud.x",
    "@amount is mcc",
    "card.count('1h', @**{'where': fraud})",
]
TYPES = [
    ("@amount and True", "a condition", "`amount`, money"),
    ("not @mcc", "a condition", "`mcc`, a number"),
    ("1 if @amount else 2", "a condition", "`amount`, money"),
    ("1 if amount > 1 else @country", "a number, money", "`country`, text"),
    ("1 if amount > 1 else (@amount > 2)", "a number", "`amount > 2`, a condition"),
    ("amount + @country", "a number or money", "`country`, text"),
    ("amount + (@True)", "a number or money", "`True`, a condition"),
    ("-@country", "a number or money", "`country`, text"),
    ("sqrt(@country)", "a number or money", "`country`, text"),
    ("max(@amount > 1, mcc > 1)", "a number", "a condition"),
    ("coalesce(@country, 'DE')", "a number", "`country`, text"),
    ("@country", "a number, money", "`country`, text"),
    ("@'10m'", "a number, money", "text"),
    ("country == @5", "text", "`5`, a number"),
    ("@amount == country", "text", "`amount`, money"),
    ("@country < 'DE'", "a number", "`country`, text"),
    ("@'a' == 'a'", "a field on one side", "text"),
    ("@'a' in ['a']", "a field", "text"),
    ("country in ['DE', @5]", "a string", "`5`"),
    ("mcc in [5411, @'x']", "a constant that is a number", "`'x'`"),
    ("mcc in [@amount]", "a constant", "`amount`"),
    ("mcc in @amount", "a list of constants", "`amount`"),
    ("mcc in @[]", "a list of constants", "`[]`"),
    ("@1 < mcc in [5]", "`in` alone", ""),
    ("(amount > 1) == @1", "a condition", "`1`, a number"),
    ("(@amount > 1) < (mcc > 1)", "a number", "a condition"),
    ("card.since() < @5", 'a duration such as "10m"', "`5`, a number"),
    ("card.since() < @'5 m'", 'a duration such as "10m"', "text"),
    ("card.since() + @1 < '5m'", 'a duration such as "10m"', "`1`, a number"),
    ("@card.since() ** 2", "a number or money beside **", "a duration"),
    ("@1 / card.since()", 'a duration such as "10m"', "`1`, a number"),
    ("is_missing(@'x')", "a field or a computed value", "x"),
]
ARGUMENTS = [
    ("@card", "an aggregate such as card.count", "the entity `card` alone"),
    ("card.@count", "a call: card.count(window)", "`count`"),
    ("@hour", "a call: hour()", "`hour`"),
    ("@profile", "`profile.` and a name", "`profile`"),
    ("@fraud", "known when deciding", "`fraud`"),
    ("amount > 1 and @label == 1", "known when deciding", "`label`"),
    ("hour(@5)", "hour()", "`5`"),
    ("@max(1)", "max(x, y, …)", "`max(1)`"),
    ("abs(@x=1)", "abs(x) without keywords", "`x=`"),
    ("@card.count()", "count(window)", "`card.count()`"),
    ("@card.sum(amount)", "sum(field, window)", "`card.sum(amount)`"),
    ("card.count('1h', @'2h')", "count(window)", "`'2h'`"),
    ("card.count('1h', @window='2h')", "count(window)", "a second `window`"),
    ("card.count(@10)", "a window such as", "`10`"),
    ("card.count(@'10 minutes')", "a window such as", "`'10 minutes'`"),
    ("card.count(@'0s')", "a window such as", "`'0s'`"),
    ("card.count(@None)", "a window such as", "`None`"),
    ("card.count('1h', delay=@7)", "a delay such as", "`7`"),
    ("card.count(@'91d')", "at most 90d", "91d"),
    ("card.count(@'84d', delay='7d')", "at most 90d", "91d"),
    ("card.last(amount, delay=@'90d')", "at most 90d", "7776000001ms"),
    ("card.count('1h', including_current=@1)", "True or False", "`1`"),
    ("card.seen(mcc, '1h', including_current=@True)", "leaves the current event out", "`True`"),
    ("card.sum(@country, '1h')", "a field with numbers", "`country`, which is text"),
    ("card.last(@merchant_id)", "a field with numbers", "which is text"),
    ("card.sum(@amount * 2, '1h')", "a field with numbers", "`amount * 2`"),
    ("card.rate(@mcc, '1h')", "field op constant", "`mcc`"),
    ("card.rate(fraud or @5, '1h')", "field op constant", "`5`"),
    ("card.count('1h', where=not @True)", "field op constant", "`True`"),
    ("card.count('1h', where=(@fraud if mcc > 5 else genuine))", "field op constant", "fraud if"),
    ("card.count('1h', where=@hour() == 5)", "a field of the stored event", "`hour()`"),
    ("card.count('1h', where=@abs(mcc))", "field op constant", "`abs(mcc)`"),
    ("card.count('1h', where=@is_missing())", "is_missing(field)", "`is_missing()`"),
    ("card.count('1h', where=is_missing(@5))", "a field of the stored event", "`5`"),
    ("card.count('1h', where=is_missing(@label))", "a field of the stored event", "`label`"),
    ("card.count('1h', where=mcc in @[])", "a list of constants", "`[]`"),
    ("card.count('1h', where=mcc in [5, @'x'])", "a number to compare with `mcc`", "`'x'`"),
    ("card.count('1h', where=country in [@5])", "a string to compare with `country`", "`5`"),
    ("card.count('1h', where=" + "not " * 100 + "@fraud)", "at most 100 levels", "more"),
    ("card.count('1h', where=@mcc in " + str([*range(257)]) + ")", "at most 256 terms", "mcc in"),
    (
        "card.count('1h', where=@"
        + " or ".join(f"mcc > {n} and lat > {n}" for n in range(9))
        + ")",
        "at most 256 terms",
        "",
    ),
    ("card.count('1h', where=amount > @mcc)", "a number to compare with `amount`", "`mcc`"),
    ("card.count('1h', where=mcc == @True)", "a number to compare with `mcc`", "`True`"),
    ("card.count('1h', where=mcc > @1e999)", "a number to compare with `mcc`", "`1e999`"),
    ("card.count('1h', where=mcc > @1e30)", "a number that `mcc` can have", "`1e30`"),
    ("card.count('1h', where=amount == @0.005)", "a multiple of 1/100", "`0.005`"),
    ("card.count('1h', where=country > @'DE')", "== or !=", ">"),
    ("card.count('1h', where=country == @5)", "a string to compare", "`5`"),
    ("card.count('1h', where=mcc is @5)", "a comparison by", "`5`"),
    ("card.count('1h', where=label > @fraud)", "== or != for a label", ">"),
    ("card.count('1h', where=not label > @fraud)", "== or != for a label", ">"),
    ("card.count('1h', where=@mcc + 1 == 2)", "a field of the stored event", "`mcc + 1`"),
]


@pytest.mark.parametrize(("marked", "expected", "nearest"), NAMES)
def test_unknown_names(marked: str, expected: str, nearest: str | None) -> None:
    error = refused_at(marked)
    assert expected in error.expected
    assert error.nearest == nearest


@pytest.mark.parametrize(("marked", "expected", "got"), [*SYNTAX, *TYPES, *ARGUMENTS])
def test_wrong_texts(marked: str, expected: str, got: str) -> None:
    error = refused_at(marked)
    assert expected in error.expected
    assert got in error.got


@pytest.mark.parametrize("marked", NOT_WHITELISTED)
def test_what_is_not_on_the_whitelist(marked: str) -> None:
    refused_at(marked)


def test_columns_count_characters_of_the_line() -> None:
    error = refusal("device_id == 'äöü' and\n  'ß' == merchant_id and  amont > 1")
    assert (error.line, error.column) == (LINE + 1, 27)
    assert str(error) == "p.yaml:11:27: expected a field, got unknown name `amont`; did you " \
        "mean `amount`?"  # fmt: skip


def test_carriage_returns_end_lines_too() -> None:
    error = refusal("amount > 1 and\r\n amont > 1")
    assert (error.line, error.column) == (LINE + 1, 2)


def test_labels_need_a_customer() -> None:
    card = EntityDeclaration("card", "card_id", shared=False)
    lone = Declarations((card,), DECLARATIONS.hasher, 2, (), 90 * 86_400_000, 10)
    text, line, column = place("card.count('1h', where=label == @fraud) > 1")
    error = refusal(text, lone)
    assert (error.line, error.column) == (line, column)
    assert "an entity named `customer`" in error.expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"key": "card"},
            "entity `card`: expected a key field, got `card`; did you mean `card_id`",
        ),
        ({"key": "amount"}, "expected a key field, got `amount`"),
        ({"name": "customer"}, "entity `customer`: expected a key field, got `card_id`"),
        ({"name": "profile"}, "expected a name of its own"),
        ({"name": "a b"}, "expected a name of its own"),
        ({"keep": ("chanel",)}, "expected a field to keep, got `chanel`; did you mean `channel`"),
    ],
)
def test_wrong_entities(changes: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"name": "card", "key": "card_id", "shared": False} | changes
    declarations = Declarations(
        (EntityDeclaration(**fields),),  # type: ignore[arg-type]
        DECLARATIONS.hasher, 2, (), 1, 1,
    )  # fmt: skip
    with pytest.raises(MillraceError, match=message.replace("(", r"\(")):
        compile_plan({}, declarations)


def test_wrong_declarations() -> None:
    card = EntityDeclaration("card", "card_id", shared=False)
    wrong = [
        (((card, card), 2, 1, 1), "expected one declaration"),
        (((card,), 5, 1, 1), "currency_exponent"),
        (((card,), 2, 0, 1), "history_reach_ms"),
        (((card,), 2, 1, 0), "event_cap"),
    ]
    for (entities, exponent, reach_ms, cap_events), message in wrong:
        declarations = Declarations(
            entities, DECLARATIONS.hasher, exponent, (), reach_ms, cap_events
        )
        with pytest.raises(MillraceError, match=message):
            compile_plan({}, declarations)
    for changes, message in [
        ({"repeat_horizon_ms": -1}, "repeat_horizon_ms: expected at least 0, got -1"),
        ({"lists": {"two words": ()}}, "list: expected a name, got `two words`"),
    ]:
        with pytest.raises(MillraceError, match=message):
            compile_plan({}, dataclasses.replace(DECLARATIONS, **changes))
