"""The fields of each kind of record, as far as a column mapping must know them."""

from enum import Enum, auto
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from replay.mapping import RECORDS_BY_KIND


class FieldKind(Enum):
    """What JSON a field takes."""

    TEXT = auto()
    INTEGER = auto()
    NUMBER = auto()
    BOOLEAN = auto()
    NESTED = auto()


class FieldType(NamedTuple):
    """A field: its name, annotated type, the JSON that it takes and its names if enumerated."""

    name: str
    type: Any
    kind: FieldKind
    required: bool
    choices: tuple[str, ...]


@cache
def field_types(kind: str) -> dict[str, FieldType]:
    """Return the fields of a kind of record by name, in the record's order."""
    struct = RECORDS_BY_KIND[kind]
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    types = {field.name: field.type for field in msgspec.structs.fields(struct)}
    found = {}
    for field in info.fields:
        inner = _inner(field.type)
        choices = tuple(map(str, inner.values)) if isinstance(inner, inspect.LiteralType) else ()
        annotated = types[field.name]
        found[field.name] = FieldType(field.name, annotated, _kind(inner), field.required, choices)
    return found


def _inner(of: inspect.Type) -> inspect.Type:
    """Return a type without its metadata and without `| None`."""
    while isinstance(of, inspect.Metadata):
        of = of.type
    if isinstance(of, inspect.UnionType):
        return _inner(next(t for t in of.types if not isinstance(t, inspect.NoneType)))
    return of


def _kind(of: inspect.Type) -> FieldKind:
    if isinstance(of, inspect.StrType | inspect.LiteralType):
        return FieldKind.TEXT
    if isinstance(of, inspect.IntType):
        return FieldKind.INTEGER
    if isinstance(of, inspect.FloatType):
        return FieldKind.NUMBER
    return FieldKind.BOOLEAN if isinstance(of, inspect.BoolType) else FieldKind.NESTED
