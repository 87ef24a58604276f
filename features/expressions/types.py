"""What an expression may speak of: value types, fields, durations and the declared entities."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

import msgspec

from features.codes import code_of
from features.columns import CODE_CELLS, Cell
from features.errors import MillraceError, nearest_name
from features.records import (
    Channel,
    CountryCode,
    CurrencyCode,
    Direction,
    Transaction,
    TransactionType,
)

MICRO_DEGREES_PER_DEGREE = 1_000_000
CURRENCY_EXPONENT_MAX = 4  # ISO 4217 knows 0, 2, 3 and 4
EVENT_CAP_MIN = 1
CUSTOMER = "customer"  # the entity through whose history labels are joined

_UNIT_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d|w)")


class Type(StrEnum):
    """The type of a value. Money mixes with numbers; the two are told apart in messages."""

    NUMBER = "a number"
    MONEY = "money"
    TEXT = "text"
    BOOL = "a condition"
    DURATION = "a duration"


NUMERIC = (Type.NUMBER, Type.MONEY)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a transaction as expressions see it.

    `vocabulary` lists all values of an enumeration, `pattern` the form of a code; `required` says
    that no transaction lacks the field.
    """

    name: str
    cell: Cell
    type: Type
    vocabulary: tuple[str, ...] = ()
    pattern: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class EntityDeclaration:
    """An entity of a policy: its name, key field, scope, and fields kept for their own sake."""

    name: str
    key: str
    shared: bool
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a policy declares before its expressions.

    `hasher` turns an id into the int64 of its cell; `currency_exponent` is the number of decimals
    of the policy's currency (ISO 4217); `models` are the names behind `model.`.
    """

    entities: tuple[EntityDeclaration, ...]
    hasher: Callable[[str], int]
    currency_exponent: int
    models: tuple[str, ...]
    history_reach_ms: int
    event_cap: int

    def cell_of(self, field: Field, text: str) -> int:
        """Return the int64 that stands for a text of a field; the text must fit the field."""
        return code_of(text) if field.cell in CODE_CELLS else int(self.hasher(text))


def _pattern(annotated: object) -> str:
    for meta in get_args(annotated)[1:]:
        if isinstance(meta, msgspec.Meta) and meta.pattern:
            return meta.pattern
    raise TypeError(f"{annotated} has no pattern")


def _fields() -> dict[str, Field]:
    types = dict.fromkeys((Cell.MCC, Cell.LAT, Cell.LON, Cell.TS_MS), Type.NUMBER)
    types |= dict.fromkeys((Cell.AMOUNT, Cell.BALANCE), Type.MONEY)
    vocabularies = {
        Cell.TYPE: get_args(TransactionType),
        Cell.DIRECTION: get_args(Direction),
        Cell.CHANNEL: get_args(Channel),
    }
    patterns = {Cell.COUNTRY: _pattern(CountryCode), Cell.CURRENCY: _pattern(CurrencyCode)}
    required = {
        field.name.removesuffix("_minor")
        for field in msgspec.structs.fields(Transaction)
        if field.required
    }
    return {
        cell.name.lower(): Field(
            name=cell.name.lower(),
            cell=cell,
            type=types.get(cell, Type.TEXT),
            vocabulary=vocabularies.get(cell, ()),
            pattern=patterns.get(cell, ""),
            required=cell.name.lower() in required,
        )
        for cell in Cell
        if cell < Cell.LABEL
    }


FIELDS: dict[str, Field] = _fields()
FIELD_OF_CELL: dict[int, Field] = {int(field.cell): field for field in FIELDS.values()}
KEY_FIELDS: tuple[str, ...] = tuple(
    field.name
    for field in FIELDS.values()
    if field.type is Type.TEXT and field.cell != Cell.EVENT_ID
)


def duration_ms(text: str) -> int | None:
    """Return the milliseconds of a duration such as "10m", or None where it is not one.

    A whole number and a unit: ms, s, m (minutes), h, d (24 hours) or w (7 days).
    """
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNIT_MS[match[2]] if match else None


def duration_text(ms: int) -> str:
    """Return the shortest duration literal: 3,600,000 gives "1h"."""
    units = [unit for unit in _UNIT_MS if ms % _UNIT_MS[unit] == 0 and unit != "w"]
    return f"{ms // _UNIT_MS[units[-1]]}{units[-1]}"


def scale(cell: int, currency_exponent: int) -> int:
    """Return how many units of the stored cell make one unit in expressions."""
    if cell in (Cell.AMOUNT, Cell.BALANCE):
        return int(10**currency_exponent)
    return MICRO_DEGREES_PER_DEGREE if cell in (Cell.LAT, Cell.LON) else 1


def check_declarations(declarations: Declarations) -> None:
    """Raise MillraceError for entities that cannot be: these have no position in an expression."""
    seen: set[str] = set()
    for entity in declarations.entities:
        where = f"entity `{entity.name}`"
        if not entity.name.isidentifier() or entity.name in ("profile", "model"):
            raise MillraceError(f"{where}: expected a name of its own, got `{entity.name}`")
        if entity.name in seen:
            raise MillraceError(f"{where}: expected one declaration, got a second one")
        seen.add(entity.name)
        keys = ("customer_id",) if entity.name == CUSTOMER else KEY_FIELDS
        _check_field(where, "a key field", entity.key, keys)
        for name in entity.keep:
            _check_field(where, "a field to keep", name, tuple(FIELDS))
    if not 0 <= declarations.currency_exponent <= CURRENCY_EXPONENT_MAX:
        raise MillraceError(
            f"currency_exponent: expected 0 to {CURRENCY_EXPONENT_MAX}, "
            f"got {declarations.currency_exponent}"
        )
    if declarations.history_reach_ms <= 0:
        raise MillraceError(
            f"history_reach_ms: expected a positive time, got {declarations.history_reach_ms}"
        )
    if declarations.event_cap < EVENT_CAP_MIN:
        raise MillraceError(
            f"event_cap: expected at least {EVENT_CAP_MIN}, got {declarations.event_cap}"
        )


def _check_field(where: str, expected: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        nearest = nearest_name(name, known)
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        raise MillraceError(f"{where}: expected {expected}, got `{name}`{hint}")
