"""The reference page of the language, made from the tables that the compiler itself reads."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from features.columns import Kind
from features.expressions import reference_texts as texts
from features.expressions.catalogue import (
    AGGREGATES,
    ARGUMENT_COUNT_MAX,
    FUNCTIONS,
    OPTIONS,
    PROFILE_FIELDS,
    VERDICTS,
)
from features.expressions.clauses import TERM_COUNT_MAX
from features.expressions.declarations import Declarations, EntityDeclaration
from features.expressions.fields import KEY_FIELDS, KINDS, MICRO, STORED_FIELDS, Field
from features.expressions.parser import DEPTH_MAX, TEXT_CHARACTERS_MAX, ExpressionText
from features.expressions.types import Type
from features.plan import KEPT_UNITS_MAX

LETS = {"ratio": 'amount / customer.median(amount, "90d")', "high": "ratio > 3"}
LISTS = {"watched": ("M1", "M2"), "near": ("DE", "FR")}
_ENTITIES = (
    EntityDeclaration("customer", "customer_id", shared=False),
    EntityDeclaration("card", "card_id", shared=False, keep=("amount", "country")),
    EntityDeclaration("terminal", "terminal_id", shared=True),
    EntityDeclaration("device", "device_id", shared=True),
)
_REACH_MS, _EVENT_CAP, _EXPONENT = 90 * 86_400_000, 4096, 2


class Row(NamedTuple):
    """One line of a table: a name, what it means, and an expression that shows it."""

    name: str
    about: str
    example: str


class Section(NamedTuple):
    """A heading, what stands below it, and a table."""

    heading: str
    text: str
    rows: list[Row]


def example_declarations(hasher: Callable[[str], int]) -> Declarations:
    """Return the declarations that the page's examples are written for."""
    lets = {name: ExpressionText(text, "let", 1, 1) for name, text in LETS.items()}
    return Declarations(
        _ENTITIES, hasher, _EXPONENT, ("fraud",), _REACH_MS, _EVENT_CAP, lets=lets, lists=LISTS
    )


def sections() -> list[Section]:
    """Return the sections of the page that have tables, in order."""
    others = [kind for kind in KINDS.values() if kind is not Kind.TRANSACTION]
    functions = [Row(f.signature, f.about, f.example) for f in FUNCTIONS.values()]
    aggregates = [Row(call.signature, call.about, call.example) for call in AGGREGATES.values()]
    profile = [
        Row(f"profile.{name}", f"{about}; {result}", _compared(f"profile.{name}", result))
        for name, (result, about) in PROFILE_FIELDS.items()
    ]
    return [
        Section("Types", "", _rows(texts.TYPES)),
        Section("Fields of a transaction", texts.CURRENT, _field_rows(Kind.TRANSACTION)),
        Section("Operators", "", _rows(texts.OPERATORS)),
        Section("Functions", "", functions),
        Section("Entities", texts.ENTITIES, _rows(texts.ENTITY_OPTIONS)),
        Section("Aggregates", texts.AGGREGATES, aggregates),
        Section("Options of aggregates", "", [Row(f"{o}=", *OPTIONS[o]) for o in OPTIONS]),
        Section("Conditions on stored events", texts.CONDITIONS, _rows(texts.CONDITION_FORMS)),
        Section("Histories of other kinds", texts.KINDS, []),
        *(Section(f"Fields with of={k.name.lower()}", "", _field_rows(k)) for k in others),
        Section("Named values and lists", texts.NAMED_VALUES, _rows(texts.NAME_USES)),
        Section("Profile and models", texts.PROFILE, profile),
    ]


def page() -> str:
    """Return the reference page as Markdown."""
    facts: dict[str, object] = {
        "key_fields": ", ".join(f"`{name}`" for name in KEY_FIELDS),
        "verdicts": ", ".join(f"`{name}`" for name in VERDICTS),
        "lets": "\n".join(f"  {name}: {text}" for name, text in LETS.items()),
        "lists": "\n".join(f"  {name}: [{', '.join(items)}]" for name, items in LISTS.items()),
        "term_count_max": TERM_COUNT_MAX,
        "depth_max": DEPTH_MAX,
        "characters_max": f"{TEXT_CHARACTERS_MAX:,}",
        "argument_count_max": ARGUMENT_COUNT_MAX,
        "kept_max": f"{KEPT_UNITS_MAX // MICRO:,}",
    }
    parts = [texts.INTRODUCTION]
    for section in sections():
        parts.append(f"## {section.heading}\n")
        parts += [part for part in (section.text.format(**facts), _table(section.rows)) if part]
    parts.append(texts.LIMITS.format(**facts))
    return "\n".join(parts)


def _rows(rows: Iterable[tuple[str, str, str]]) -> list[Row]:
    return [Row(*row) for row in rows]


def _table(rows: list[Row]) -> str:
    if not rows:
        return ""
    lines = [f"| `{row.name}` | {row.about} | `{row.example}` |" for row in rows]
    return "\n".join(["| | meaning | example |", "|---|---|---|", *lines, ""])


def _field_rows(kind: Kind) -> list[Row]:
    rows = [
        Row(field.name, _described(field), _field_example(kind, field))
        for field in STORED_FIELDS[kind].values()
    ]
    if kind is Kind.LABEL:
        example = 'customer.count("30d", of=label, where=fraud)'
        rows.append(Row("label", "the verdict", example))
    return rows


def _described(field: Field) -> str:
    words = f": {', '.join(field.vocabulary)}" if field.vocabulary else ""
    return f"{field.about}{words}; {field.type}" + ("" if field.required else "; may be absent")


def _field_example(kind: Kind, field: Field) -> str:
    if kind is Kind.TRANSACTION:
        return _compared(field.name, field.type, field)
    of = f"of={kind.name.lower()}"
    return f'customer.count("30d", {of}, where={_compared(field.name, field.type, field)})'


def _compared(name: str, result: Type, field: Field | None = None) -> str:
    """Return a condition that shows a value: beside a constant that it can have."""
    if name in texts.FIELD_CONDITIONS:
        return texts.FIELD_CONDITIONS[name]
    if field is not None and field.vocabulary:
        return f'{name} == "{field.vocabulary[0]}"'
    if result is Type.TEXT:
        return f"not is_missing({name})"
    return name if result is Type.BOOL else f"{name} > 100"
