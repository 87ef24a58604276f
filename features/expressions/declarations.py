"""What a policy declares before its expressions: entities, models, named values and lists."""

import keyword
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from features.codes import code_of
from features.columns import CODE_CELLS
from features.errors import MillraceError, nearest_name
from features.expressions.catalogue import FUNCTIONS, LABEL, NAMESPACES, VERDICTS
from features.expressions.fields import FIELDS, KEY_FIELDS, KINDS, STORED_FIELDS, Field
from features.expressions.parser import ExpressionText

CURRENCY_EXPONENT_MAX = 4  # ISO 4217 knows 0, 2, 3 and 4
EVENT_CAP_MIN = 1
CUSTOMER = "customer"  # the entity through whose history labels are joined


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
    of the policy's currency (ISO 4217); `models` are the names behind `model.`, `lets` the named
    values, `lists` the texts behind `lists.`; an event id seen again within `repeat_horizon_ms` is
    the same event.
    """

    entities: tuple[EntityDeclaration, ...]
    hasher: Callable[[str], int]
    currency_exponent: int
    models: tuple[str, ...]
    history_reach_ms: int
    event_cap: int
    lets: Mapping[str, ExpressionText] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repeat_horizon_ms: int = 0

    def cell_of(self, field: Field, text: str) -> int:
        """Return the int64 that stands for a text of a field; the text must fit the field."""
        return code_of(text) if field.cell in CODE_CELLS else int(self.hasher(text))


def taken_by(name: str, entities: Iterable[str]) -> str | None:
    """Return what else a name stands for, such as `a field`; None where it is free for a `let`."""
    meanings: tuple[tuple[str, Iterable[str]], ...] = (
        ("a field", {name for fields in STORED_FIELDS.values() for name in fields}),
        ("an entity", entities),
        ("a function", FUNCTIONS),
        ("a verdict", (*VERDICTS, LABEL)),
        ("a kind of record", KINDS),
        ("a word of the language", NAMESPACES),
        ("a word of Python", keyword.kwlist),
    )
    return next((meaning for meaning, names in meanings if name in names), None)


def check_declarations(declarations: Declarations) -> None:
    """Raise MillraceError for declarations that cannot be: they have no place in an expression."""
    _check_entities(declarations.entities)
    names = [entity.name for entity in declarations.entities]
    for name in declarations.lets:
        meaning = taken_by(name, names) if name.isidentifier() else "no name"
        if meaning:
            got = f"`{name}`, which is {meaning}"
            raise MillraceError(f"named value: expected a name of its own, got {got}")
    for name in declarations.lists:
        if not name.isidentifier():
            raise MillraceError(f"list: expected a name, got `{name}`")
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
    if declarations.repeat_horizon_ms < 0:
        raise MillraceError(
            f"repeat_horizon_ms: expected at least 0, got {declarations.repeat_horizon_ms}"
        )


def _check_entities(entities: Iterable[EntityDeclaration]) -> None:
    seen: set[str] = set()
    for entity in entities:
        where = f"entity `{entity.name}`"
        if not entity.name.isidentifier() or entity.name in NAMESPACES:
            raise MillraceError(f"{where}: expected a name of its own, got `{entity.name}`")
        if entity.name in seen:
            raise MillraceError(f"{where}: expected one declaration, got a second one")
        seen.add(entity.name)
        keys = ("customer_id",) if entity.name == CUSTOMER else KEY_FIELDS
        _check_field(where, "a key field", entity.key, keys)
        for name in entity.keep:
            _check_field(where, "a field to keep", name, tuple(FIELDS))


def _check_field(where: str, expected: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        nearest = nearest_name(name, known)
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        raise MillraceError(f"{where}: expected {expected}, got `{name}`{hint}")
