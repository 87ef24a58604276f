"""Hypothesis strategies: records, and well-typed texts of the expression language."""

import json
from typing import get_args

from hypothesis import strategies as st
from oracles_expressions import LETS, LISTS, REACH_MS, Record, hashed

from features.columns import Cell
from features.expressions import Declarations, EntityDeclaration, ExpressionText
from features.records import (
    Channel,
    ContactChannel,
    InteractionType,
    OutcomeResult,
    TransactionType,
)

NOW_MS = 1_700_000_000_000
WINDOWS = ("30s", "10m", "1h", "7d", "60d")
NUMBERS = ("amount", "balance", "mcc", "lat", "lon")
TEXTS = ("merchant_id", "type", "channel", "country", "device_id")
CONSTANTS = {
    "merchant_id": ("M1", "M2"),
    "type": get_args(TransactionType)[:3],
    "channel": get_args(Channel)[:3],
    "country": ("DE", "FR"),
    "device_id": ("D1", "D2"),
}
NAMED_NUMBERS = ("ratio", "risen", "doubled")
# Of the records of each kind: texts with constants, fields that have numbers.
KIND_TEXTS: dict[str, dict[str, tuple[str, ...]]] = {
    "transaction": CONSTANTS,
    "interaction": {
        "type": get_args(InteractionType)[:3],
        "channel": get_args(Channel)[:3],
        "device_id": ("D1", "D2"),
        "metric": ("stock", "nps"),
    },
    "outcome": {"result": get_args(OutcomeResult)[:3]},
    "contact": {"channel": get_args(ContactChannel)[:3], "offer": ("loan", "card")},
    "label": {},
}
KIND_NUMBERS: dict[str, tuple[str, ...]] = {
    "transaction": (*NUMBERS, *NAMED_NUMBERS),
    "interaction": ("value",),
    "outcome": ("amount",),
    "contact": (),
    "label": (),
}
KIND_ENTITIES = {
    "transaction": ("customer", "card", "terminal", "device"),
    "interaction": ("customer", "device"),
    **dict.fromkeys(("outcome", "contact", "label"), ("customer",)),
}
OTHER_KINDS = tuple(kind for kind in KIND_TEXTS if kind != "transaction")
EXTERNALS = ("profile.assets", "profile.age_years", "profile.corporate", "model.fraud")
DECLARATIONS = Declarations(
    entities=(
        EntityDeclaration("customer", "customer_id", shared=False),
        EntityDeclaration("card", "card_id", shared=False, keep=("channel",)),
        EntityDeclaration("terminal", "terminal_id", shared=True),
        EntityDeclaration("device", "device_id", shared=True),
    ),
    hasher=hashed,
    currency_exponent=2,
    models=("fraud", "lapse"),
    history_reach_ms=REACH_MS,
    event_cap=4096,
    lets={
        name: ExpressionText(text, "lets.yaml", number, 1)
        for number, (name, text) in enumerate(LETS.items(), 1)
    },
    lists={name: tuple(texts) for name, texts in LISTS.items()},
)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


def among(*values: object) -> st.SearchStrategy[object]:
    return st.sampled_from(values)


@st.composite
def records(draw: st.DrawFn, number: int = 0) -> Record:
    """A transaction with few distinct values, so that histories and comparisons meet."""
    text: Record = {cell.name.lower(): None for cell in Cell if cell.name.lower() not in CONSTANTS}
    for name, values in CONSTANTS.items():
        required = name in ("type", "channel")
        text[name] = draw(among(*values) if required else maybe(among(*values, "XX")))
    steps = among(0, 1, 30_000, 600_000, 3_600_000, 86_400_000, 604_800_000)
    return text | {
        "kind": "transaction",
        "event_id": f"E{number}",
        "ts_ms": NOW_MS - draw(steps) - draw(among(0, 1)),
        "customer_id": draw(among("C1", "C2")),
        "card_id": draw(maybe(among("K1", "K2"))),
        "terminal_id": draw(maybe(among("T1", "T2"))),
        "amount": draw(among(0, 1, 1050, 1051, 50_000) | st.integers(0, 10**9)),
        "balance": draw(maybe(among(-100, 0, 1050) | st.integers(-(10**9), 10**9))),
        "mcc": draw(maybe(among(5411, 6011))),
        "lat": draw(maybe(among(0, 52_520_008, -33_868_820))),
        "lon": draw(maybe(among(0, 13_404_954, 151_209_290))),
        "label": draw(among("unknown", "legitimate", "fraud")),
    }


@st.composite
def other_records(draw: st.DrawFn, number: int, *kinds: str) -> Record:
    """A record that is no transaction: only the fields of its kind are there."""
    whole, kind = draw(records(number)), draw(among(*kinds))
    text: Record = dict.fromkeys(whole) | {"label": "unknown", "kind": kind}
    text |= {name: whole[name] for name in ("event_id", "ts_ms", "customer_id")}
    for name, values in KIND_TEXTS[kind].items():
        required = name in ("type", "channel", "result")
        text[name] = draw(among(*values) if required else maybe(among(*values)))
    if kind == "interaction":
        text["value"] = draw(maybe(among(0, 1_500_000, -10_500_000) | st.integers(0, 10**12)))
    if kind == "outcome":
        text["amount"] = whole["amount"]
    if kind == "label":
        text["label"] = draw(among("legitimate", "fraud"))
    return text


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """What arrived before, in an order that is not that of time."""
    numbers_of_events = range(1, draw(st.integers(1, 8)))
    return [
        draw(records(number) if draw(st.integers(0, 2)) else other_records(number, *OTHER_KINDS))
        for number in numbers_of_events
    ]


def pick(draw: st.DrawFn, *values: object) -> str:
    return str(draw(st.sampled_from(values)))


ORDERS = ("==", "!=", "<", "<=", ">", ">=")


@st.composite
def terms(draw: st.DrawFn, kind: str = "transaction") -> str:
    """One condition on a stored event."""
    texts, fields = KIND_TEXTS[kind], KIND_NUMBERS[kind]
    forms = [draw(st.integers(0, 8))] if kind == "transaction" else []
    forms += [0, 1, 2] if texts else []
    forms += [3, 4, 5] if fields else []
    forms += [6] if kind == "label" else []
    form = forms[0] if kind == "transaction" else draw(st.sampled_from(forms))
    if form <= 2:
        return draw(text_terms(kind))
    if form == 3:
        field = pick(draw, *fields)
        constant = pick(draw, 0, 500, -33, 5411, *([] if field == "mcc" else [10.5]))
        return f"{field} {pick(draw, *ORDERS)} {constant}"
    if form == 4:  # between two minor units
        return f"{pick(draw, *fields)} {pick(draw, '<', '<=', '>', '>=')} 10.505"
    if form == 5:
        return f"{pick(draw, 0, 500, 6011)} {pick(draw, *ORDERS)} {pick(draw, *fields)}"
    if form == 6:
        verdict = pick(draw, "fraud", "genuine")
        return pick(draw, f"label == {verdict}", f"label != {verdict}", verdict)
    if form == 7:
        return pick(draw, "odd", "not odd", 'pause > "1h"', 'pause <= "10m"', "is_missing(ratio)")
    return pick(draw, "0 < amount <= 10.5", "amount not in [0, 10.5]", "mcc in [5411, 6011]",
                "not 0 < mcc <= 6000", "merchant_id in lists.watched",
                "country not in lists.near", "merchant_id in lists.nobody",
                "country not in lists.nobody")  # fmt: skip


@st.composite
def text_terms(draw: st.DrawFn, kind: str) -> str:
    texts, form = KIND_TEXTS[kind], draw(st.integers(0, 3))
    name = pick(draw, *texts)
    constants = [pick(draw, *texts[name]) for _ in range(draw(st.integers(1, 3)))]
    if form == 0:
        return f"is_missing({pick(draw, name, *KIND_NUMBERS[kind])})"
    if form == 1:
        return f"{name} {pick(draw, 'in', 'not in')} {json.dumps(constants)}"
    return f"{name} {pick(draw, '==', '!=')} {json.dumps(constants[0])}"


@st.composite
def conditions_on_events(draw: st.DrawFn, kind: str = "transaction", depth: int = 2) -> str:
    form = draw(st.integers(0, 3)) if depth else 0
    inner = conditions_on_events(kind, depth - 1)
    if form == 0:
        return draw(terms(kind))
    if form == 1:
        return f"not ({draw(inner)})"
    return f"({draw(inner)}) {pick(draw, 'and', 'or')} ({draw(inner)})"


OF_NUMBERS = ("sum", "mean", "std", "min", "max", "first", "last", "zscore", "median",
              "quantile", "ewma", "trend")  # fmt: skip
OF_CONDITIONS = ("rate", "share", "streak", "streak_age")
WINDOW_OPTIONAL = ("first", "last", "since", "streak", "streak_age")
NEVER_CURRENT = ("first", "last", "since", "seen")
NUMBER_AGGREGATES = ("count", "distinct", "rate", "share", "streak", *OF_NUMBERS)
COMPARED_KEYS = (*TEXTS, "mcc")


@st.composite
def aggregates(draw: st.DrawFn, *aggregate_names: str) -> str:
    kind = draw(among("transaction", "transaction", *OTHER_KINDS))
    name = pick(draw, *aggregate_names)
    fields = aggregate_fields(name, kind)
    if fields == ():
        kind, fields = "transaction", aggregate_fields(name, "transaction")
    arguments = [] if fields is None else [pick(draw, *fields)]
    if name in OF_CONDITIONS:
        arguments.append(draw(conditions_on_events(kind)))
    if name == "quantile":
        arguments.append(pick(draw, 0, 0.25, 0.5, 0.999999, 1))
    if name == "ewma":
        arguments.append(pick(draw, "'1d'", "half_life='7d'"))
    omitted = name in WINDOW_OPTIONAL and draw(st.booleans())
    if not omitted:
        by_name = arguments and "half_life" in arguments[-1]
        arguments.append(f"{'window=' if by_name else ''}'{pick(draw, *WINDOWS)}'")
    if kind != "transaction":
        arguments.append(f"of={kind}")
    if draw(st.booleans()):
        arguments.append(f"where={draw(conditions_on_events(kind))}")
    if not omitted and draw(st.booleans()):
        arguments.append(f"delay='{pick(draw, '30s', '1h', '7d')}'")
    if name not in NEVER_CURRENT and draw(st.booleans()):
        current = kind in ("transaction", "interaction") and draw(st.booleans())
        arguments.append(f"including_current={current}")
    return f"{pick(draw, *KIND_ENTITIES[kind])}.{name}({', '.join(arguments)})"


def aggregate_fields(name: str, kind: str) -> tuple[str, ...] | None:
    """Return the fields that an aggregate may be about, None where it has none."""
    if name in ("seen", "top"):
        return tuple(field for field in COMPARED_KEYS if field in KIND_TEXTS[kind]) + (
            ("mcc",) if kind == "transaction" else ()
        )
    if name == "distinct":
        return (*KIND_TEXTS[kind], *KIND_NUMBERS[kind], "customer_id")
    if name == "zscore":
        return tuple(field for field in KIND_NUMBERS[kind] if field != "value")
    return KIND_NUMBERS[kind] if name in OF_NUMBERS else None


@st.composite
def tops(draw: st.DrawFn) -> str:
    top = draw(aggregates("top"))
    field = top[top.index("(") + 1 :].partition(",")[0]
    form = draw(st.integers(0, 2))
    if form == 0:
        return f"is_missing({top})"
    operator = pick(draw, "==", "!=")
    return f"({top} {operator} {field})" if form == 1 else f"({field} {operator} {top})"


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> str:
    form = draw(st.integers(0, 9)) if depth else 0
    if form <= 1:
        constants = ("0", "1", "2.5", "10.5", "-3", "100", "1e9")
        calendar = ("hour()", "weekday()", "day_of_month()")
        given = (*EXTERNALS[:2], "model.fraud")
        return pick(draw, *NUMBERS, *NAMED_NUMBERS, *calendar, *given, *constants)
    if form <= 3:
        return draw(aggregates(*NUMBER_AGGREGATES))
    inner = numbers(depth - 1)
    if form <= 5:
        return f"({draw(inner)} {pick(draw, '+', '-', '*', '/', '%')} {draw(inner)})"
    if form == 6:
        return f"({draw(inner)} ** {pick(draw, '2', '0.5', '-1', '0', '3')})"
    if form == 7:
        return f"{pick(draw, 'abs', 'log1p', 'sqrt', 'floor', '-')}({draw(inner)})"
    if form == 8:
        return f"{pick(draw, 'min', 'max', 'coalesce')}({draw(inner)}, {draw(inner)})"
    return f"({draw(inner)} if {draw(conditions(depth - 1))} else {draw(inner)})"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    form = draw(st.integers(0, 8)) if depth else draw(st.integers(0, 2))
    if form == 0:
        return draw(text_conditions())
    if form == 1:
        since = pick(draw, draw(aggregates("since", "streak_age")), "pause",
                     f"customer.max(pause, '{pick(draw, *WINDOWS)}')")  # fmt: skip
        return f"({since} {pick(draw, *ORDERS)} {json.dumps(pick(draw, *WINDOWS))})"
    if form == 2:
        flags = (
            "True",
            "False",
            "odd",
            "profile.corporate",
            *(f"is_missing({n})" for n in NUMBERS),
        )
        seen = draw(aggregates("seen")) if draw(st.booleans()) else draw(tops())
        return pick(draw, *flags) if draw(st.booleans()) else seen
    if form == 3:
        inner = conditions(depth - 1)
        return f"({draw(inner)} {pick(draw, 'and', 'or', '==', '!=')} {draw(inner)})"
    if form == 4:
        return f"(not {draw(conditions(depth - 1))})"
    inner = numbers(depth - 1)
    if form == 5:
        return f"({draw(inner)} {pick(draw, 'in', 'not in')} [0, 10.5, -3])"
    chain = f"{draw(inner)} {pick(draw, *ORDERS)} {draw(inner)}"
    return f"({chain} {pick(draw, *ORDERS)} {draw(inner)})" if form == 6 else f"({chain})"


@st.composite
def text_conditions(draw: st.DrawFn) -> str:
    name, form = pick(draw, *TEXTS), draw(st.integers(0, 3))
    if form == 0:
        return f"({name} {pick(draw, '==', '!=')} {json.dumps(pick(draw, *CONSTANTS[name]))})"
    if form == 1:
        return f"({name} {pick(draw, '==', '!=')} {pick(draw, *TEXTS)})"
    if form == 2:
        return f"is_missing({name})"
    if draw(st.integers(0, 3)) == 0:
        listed_in = (
            "merchant_id in lists.watched", "country not in lists.near",
            "merchant_id in lists.nobody", "country not in lists.nobody",
            "merchant_id in lists.many", "merchant_id not in lists.many",
        )  # fmt: skip
        return f"({pick(draw, *listed_in)})"
    listed = [pick(draw, *CONSTANTS[name]) for _ in range(draw(st.integers(1, 3)))]
    return f"({name} {pick(draw, 'in', 'not in')} {json.dumps(listed)})"


expression_texts = numbers() | conditions()
external_values = st.fixed_dictionaries(
    {
        "profile.assets": st.sampled_from([0.0, 1050.0, 2.5e7]),
        "profile.age_years": st.sampled_from([17.0, 54.0, float("nan")]),
        "profile.corporate": st.sampled_from([0.0, 1.0, float("nan")]),
        "model.fraud": st.sampled_from([0.0, 0.25, 1.0, float("nan")]),
    }
)
