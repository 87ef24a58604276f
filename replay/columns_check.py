"""A mapping against a table's columns: every mapped column is there and of a type that fits."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from features.errors import SourceError, nearest_name
from replay.conversions import is_text
from replay.fields import FieldKind, FieldType, field_types
from replay.mapping import FieldSpec, Mapping, Place, TableSpec, TimeFormat


def resolve_fields(
    mapping: Mapping, table: TableSpec, schema: Any, name: str
) -> tuple[FieldSpec, ...]:
    """Return the mapped fields of a table, or those named like its columns where none are mapped.

    `name` is the table's name in errors. Raises SourceError at the place in the mapping file where
    a column is missing, ambiguous or of a type that the field can't take.
    """
    check = _Check(mapping.file, schema, name)
    types = field_types(table.kind)
    if table.columns is None:
        fields = tuple(
            FieldSpec(field, table.place, column=field) for field in types if field in schema.names
        )
        for field in types.values():
            if field.required:
                check.column(field.name, table.place)
    else:
        fields = table.columns
    for spec in fields:
        if spec.column is not None:
            check.column(spec.column, spec.place)
            check.fits(spec, types[spec.field])
    if table.labels is not None:
        check.column(table.labels.column, table.labels.place)
    return fields


def needed_columns(table: TableSpec, fields: Sequence[FieldSpec]) -> list[str]:
    """Return the columns that are read, each once; no other column is touched."""
    names = [spec.column for spec in fields if spec.column is not None]
    if table.labels is not None:
        names.append(table.labels.column)
    return list(dict.fromkeys(names))


class _Check:
    def __init__(self, file: str, schema: Any, name: str) -> None:
        self._file, self._schema, self._name = file, schema, name

    def column(self, column: str, place: Place) -> None:
        """Refuse a column that the table doesn't have, or has twice."""
        count = self._schema.names.count(column)
        if count == 0:
            nearest = nearest_name(column, self._schema.names)
            raise self._fault(place, f"a column of {self._name}", f"`{column}`", nearest)
        if count > 1:
            raise self._fault(place, f"one column `{column}` in {self._name}", f"{count}")

    def fits(self, spec: FieldSpec, field: FieldType) -> None:
        """Refuse a column of a type that can't become the field, whatever its rows hold."""
        of = self._schema.field(spec.column).type
        if pa.types.is_dictionary(of):
            of = of.value_type
        expected = _misfit(spec, field, of)
        if expected is not None and not pa.types.is_null(of):
            got = f"`{spec.column}` of type {of} in {self._name}"
            raise self._fault(spec.place, f"{expected} for `{field.name}`", got)

    def _fault(
        self, place: Place, expected: str, got: str, nearest: str | None = None
    ) -> SourceError:
        return SourceError(self._file, place.line, place.column, expected, got, nearest)


def _misfit(spec: FieldSpec, field: FieldType, of: Any) -> str | None:
    """Return what type of column is expected, or None where the type fits."""
    number = (
        pa.types.is_integer(of)
        or pa.types.is_floating(of)
        or pa.types.is_decimal(of)
        or is_text(of)
    )
    if spec.values is not None or field.kind is FieldKind.TEXT:
        fits, expected = not pa.types.is_nested(of), "a flat column"
        if spec.sign is not None:
            fits, expected = number, "a column of numbers"
    elif field.kind is FieldKind.NESTED:
        return None
    elif spec.time is not None and spec.time.format in (TimeFormat.ISO, TimeFormat.DATETIME):
        fits = pa.types.is_date(of) or pa.types.is_timestamp(of) or is_text(of)
        expected = "a column of text, dates or timestamps"
    elif field.kind is FieldKind.BOOLEAN:
        fits = pa.types.is_boolean(of) or pa.types.is_integer(of) or is_text(of)
        expected = "a column of booleans"
    else:
        fits, expected = number, "a column of numbers"
        if pa.types.is_timestamp(of) or pa.types.is_date(of):
            expected = "a `time` with `format: datetime`"
    return None if fits else expected
