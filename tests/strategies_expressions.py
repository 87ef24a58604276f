"""Hypothesis strategies: records, and well-typed texts of the expression language."""

import json
from typing import get_args

from hypothesis import strategies as st
from oracles_expressions import REACH_MS, Record, hashed

from features.columns import Cell
from features.expressions import Declarations, EntityDeclaration
from features.records import Channel, TransactionType

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
EXTERNALS = ("profile.assets", "profile.age_years", "profile.corporate", "model.fraud")
DECLARATIONS = Declarations(
    entities=(
        EntityDeclaration("customer", "customer_id", shared=False),
        EntityDeclaration("card", "card_id", shared=False, keep=("channel",)),
        EntityDeclaration("terminal", "terminal_id", shared=True),
    ),
    hasher=hashed,
    currency_exponent=2,
    models=("fraud", "lapse"),
    history_reach_ms=REACH_MS,
    event_cap=4096,
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
def histories(draw: st.DrawFn) -> list[Record]:
    """What arrived before, in an order that is not that of time."""
    return [draw(records(number)) for number in range(1, draw(st.integers(1, 8)))]


def pick(draw: st.DrawFn, *values: object) -> str:
    return str(draw(st.sampled_from(values)))


ORDERS = ("==", "!=", "<", "<=", ">", ">=")


@st.composite
def terms(draw: st.DrawFn) -> str:
    """One condition on a stored event."""
    form = draw(st.integers(0, 5))
    if form == 0:
        name = pick(draw, *TEXTS)
        return f"{name} {pick(draw, '==', '!=')} {json.dumps(pick(draw, *CONSTANTS[name]))}"
    if form == 1:
        field = pick(draw, *NUMBERS)
        constant = pick(draw, 0, 500, -33, 5411, *([] if field == "mcc" else [10.5]))
        return f"{field} {pick(draw, *ORDERS)} {constant}"
    if form == 2:  # between two minor units
        return f"{pick(draw, *NUMBERS)} {pick(draw, '<', '<=', '>', '>=')} 10.505"
    if form == 3:
        return f"{pick(draw, 0, 500, 6011)} {pick(draw, *ORDERS)} {pick(draw, *NUMBERS)}"
    if form == 4:
        return f"label {pick(draw, '==', '!=')} {pick(draw, 'fraud', 'genuine')}"
    return pick(
        draw, "0 < amount <= 10.5", "amount not in [0, 10.5]", 'country not in ["DE"]', "fraud"
    )


@st.composite
def conditions_on_events(draw: st.DrawFn) -> str:
    return " and ".join(draw(terms()) for _ in range(draw(st.integers(1, 3))))


AGGREGATE_FIELDS: dict[str, tuple[str, ...]] = {
    "count": (),
    "since": (),
    **dict.fromkeys(("sum", "mean", "std", "min", "max", "first", "last", "zscore"), NUMBERS),
    "distinct": (*TEXTS, "mcc"),
    "seen": (*TEXTS, "mcc"),
    "rate": (),
    "share": (),
}
NUMBER_AGGREGATES = tuple(kind for kind in AGGREGATE_FIELDS if kind not in ("since", "seen"))


@st.composite
def aggregates(draw: st.DrawFn, *kinds: str) -> str:
    kind = pick(draw, *kinds)
    arguments = []
    if AGGREGATE_FIELDS[kind]:
        arguments.append(pick(draw, *AGGREGATE_FIELDS[kind]))
    elif kind in ("rate", "share"):
        arguments.append(draw(conditions_on_events()))
    omitted = kind in ("first", "last", "since") and draw(st.booleans())
    if not omitted:
        arguments.append(json.dumps(pick(draw, *WINDOWS)))
    if draw(st.booleans()):
        arguments.append(f"where={draw(conditions_on_events())}")
    if not omitted and draw(st.booleans()):
        arguments.append(f"delay={json.dumps(pick(draw, '30s', '1h', '7d'))}")
    if kind not in ("first", "last", "since", "seen") and draw(st.booleans()):
        arguments.append(f"including_current={draw(st.booleans())}")
    return f"{pick(draw, 'customer', 'card', 'terminal')}.{kind}({', '.join(arguments)})"


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> str:
    form = draw(st.integers(0, 9)) if depth else 0
    if form <= 1:
        return pick(draw, *NUMBERS, "hour()", "weekday()", "day_of_month()", *EXTERNALS[:2],
                    "model.fraud", "0", "1", "2.5", "10.5", "-3", "100", "1e9")  # fmt: skip
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
        since = draw(aggregates("since"))
        return f"({since} {pick(draw, *ORDERS)} {json.dumps(pick(draw, *WINDOWS))})"
    if form == 2:
        flags = ("True", "False", "profile.corporate", *(f"is_missing({n})" for n in NUMBERS))
        return pick(draw, *flags) if draw(st.booleans()) else draw(aggregates("seen"))
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
