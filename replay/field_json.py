"""Columns to JSON texts: what a field of a record is in each row, as Arrow binary arrays."""

import json
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from replay.conversions import Converted, is_text, to_epoch_ms, to_integers, to_minor_units
from replay.fields import FieldKind, FieldType
from replay.mapping import FieldSpec

_ESCAPED = r'["\\\x00-\x1f]'
_TO_JSON = msgspec.json.Encoder(enc_hook=str)


class Piece(NamedTuple):
    """The JSON text of a column's values: prefix + body + suffix; null where it is left out."""

    prefix: bytes
    body: Any
    suffix: bytes


def field_piece(spec: FieldSpec, field: FieldType, column: Any, count: int) -> Piece:
    """Return the JSON of one field for `count` rows; `column` is None for a constant.

    A value that can't be converted stays as the nearest JSON value; null becomes the default, or
    null where there is none.
    """
    if column is None:
        return constant(spec.constant)
    if field.kind is FieldKind.TEXT:
        return quoted(field_text(spec, column, count))
    make = _unmapped if spec.values is None else _mapped
    return with_default(make(spec, field, column), spec)


def _unmapped(spec: FieldSpec, field: FieldType, column: Any) -> Piece:
    if field.kind is FieldKind.INTEGER:
        return numbers(integers(spec, column), column)
    if field.kind is FieldKind.NUMBER:
        return _floats(column)
    if field.kind is FieldKind.BOOLEAN:
        return _booleans(column)
    return _nested(spec, column)


def quoted(text: Any) -> Piece:
    """Return binary text as JSON strings; bytes that are not UTF-8 stay, so the engine refuses."""
    unsafe = pc.fill_null(pc.match_substring_regex(text, _ESCAPED), False)
    if pc.any(unsafe).as_py():
        escaped = [None if value is None else _escape(value) for value in text.to_pylist()]
        return Piece(b"", pa.array(escaped, type=pa.binary()), b"")
    return Piece(b'"', text, b'"')


def integers(spec: FieldSpec, column: Any) -> Converted:
    """Return an integer field's values as int64."""
    if spec.time is not None:
        return to_epoch_ms(column, spec.time)
    if spec.minor_units is not None:
        return to_minor_units(column, spec.minor_units)
    return to_integers(column)


def numbers(found: Converted, column: Any) -> Piece:
    """Return converted integers as JSON; what could not be converted stays raw."""
    body = decimal_text(found.values)
    good = found.good
    if not good.all():
        bad = ~good & ~mask_of(is_absent(column))
        body = pc.if_else(pa.array(good), body, pa.scalar(None, pa.binary()))
        if bad.any():
            body = _replaced(body, column, bad)
    return Piece(b"", body, b"")


def _floats(column: Any) -> Piece:
    doubles = column
    if is_text(column.type):
        try:
            doubles = column.cast(pa.string()).cast(pa.float64())
        except pa.ArrowInvalid:
            doubles = pa.array([_float(v) for v in column.to_pylist()], type=pa.float64())
    elif pa.types.is_decimal(column.type) or pa.types.is_integer(column.type):
        doubles = column.cast(pa.float64(), safe=False)
    elif not pa.types.is_floating(column.type):
        return _raw(column)
    finite = pc.fill_null(pc.is_finite(doubles), False)
    body = pc.if_else(finite, doubles.cast(pa.string()).cast(pa.binary()), None)
    bad = ~mask_of(finite) & ~mask_of(is_absent(column))
    return Piece(b"", _replaced(body, column, bad) if bad.any() else body, b"")


def _float(value: bytes | None) -> float | None:
    try:
        return None if value is None or b"_" in value else float(value)
    except ValueError:
        return None


def _booleans(column: Any) -> Piece:
    text = plain_text(column)
    known = ("true", "false", "1", "0", "True", "False")
    words = pa.array([b"true", b"false"] * 3, type=pa.binary())
    body = words.take(pc.index_in(text, pa.array(known).cast(pa.binary())))
    bad = ~mask_of(body.is_valid()) & ~mask_of(is_absent(column))
    return Piece(b"", _replaced(body, column, bad) if bad.any() else body, b"")


def _nested(spec: FieldSpec, column: Any) -> Piece:
    if spec.split is None or not is_text(column.type):
        return _raw(column)
    cut = spec.split
    lists = [
        None if value is None else [part for part in _decoded(value).split(cut) if part]
        for value in column.to_pylist()
    ]
    return Piece(b"", _json_array(lists), b"")


def _raw(column: Any) -> Piece:
    """Return the values as the nearest JSON there is for them."""
    return Piece(b"", _json_array(_readable(value) for value in column.to_pylist()), b"")


def _replaced(body: Any, column: Any, rows: NDArray[np.bool_]) -> Any:
    raw = [_readable(value) for value in column.filter(pa.array(rows)).to_pylist()]
    return pc.replace_with_mask(body, pa.array(rows), _json_array(raw))


def _readable(value: Any) -> Any:
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)  # JSON has no such number; as text it is refused by its path
    return value


def _json_array(values: Any) -> Any:
    encoded = [None if value is None else _TO_JSON.encode(value) for value in values]
    return pa.array(encoded, type=pa.binary())


def _mapped(spec: FieldSpec, field: FieldType, column: Any) -> Piece:
    assert spec.values is not None
    names = pa.array(list(spec.values)).cast(pa.binary())
    images = pa.array([_TO_JSON.encode(v) for v in spec.values.values()], type=pa.binary())
    body = images.take(pc.index_in(plain_text(column), names))
    if body.null_count and spec.default is None:
        body = pc.coalesce(body, _whole(_unmapped(spec, field, column)))
    return Piece(b"", body, b"")


def with_default(piece: Piece, spec: FieldSpec) -> Piece:
    """Put a field's default where the piece has nulls."""
    if spec.default is None or not piece.body.null_count:
        return piece
    return Piece(b"", pc.fill_null(_whole(piece), _TO_JSON.encode(spec.default)), b"")


def _whole(piece: Piece) -> Any:
    return joined(scalar(piece.prefix), piece.body, scalar(piece.suffix))


def constant(value: Any) -> Piece:
    """Return one value for all rows, as literal JSON."""
    return Piece(b"", _TO_JSON.encode(value), b"")


def field_text(spec: FieldSpec, column: Any, count: int) -> Any:
    """Return a text field's values as binary, before they are quoted."""
    if column is None:
        return pa.repeat(scalar(str(spec.constant).encode()), count)
    if spec.sign is not None:
        negative = _negative(column)
        words = [scalar(str(word).encode()) for word in (spec.sign.negative, spec.sign.otherwise)]
        text = pc.if_else(negative, *words)
    else:
        text = plain_text(column)
    if spec.values is not None:
        names = pa.array(list(spec.values)).cast(pa.binary())
        images = pa.array([str(v) for v in spec.values.values()]).cast(pa.binary())
        found = images.take(pc.index_in(text, names))
        text = found if spec.default is not None else pc.coalesce(found, text)
    if spec.template is not None:
        before, after = (scalar(part.encode()) for part in spec.template)
        text = joined(before, text, after)
    if spec.default is not None and text.null_count:
        text = pc.fill_null(text, str(spec.default).encode())
    return text


def plain_text(column: Any) -> Any:
    """Return any flat column as binary text: 7 and 7.0 are "7", true is "true"."""
    if is_text(column.type):
        return column
    if pa.types.is_nested(column.type):
        return _json_array(column.to_pylist())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return column.cast(pa.string()).cast(pa.binary())


def _negative(column: Any) -> Any:
    if is_text(column.type):
        return pc.match_substring(column, "-")
    return pc.less(column, 0)


def is_absent(column: Any) -> Any:
    """Return where a column has nothing; NaN is nothing."""
    return column.is_null(nan_is_null=pa.types.is_floating(column.type))


def joined(*parts: Any) -> Any:
    """Join arrays and scalars row by row; null where one of them is."""
    return pc.binary_join_element_wise(*parts, scalar(b""))


def decimal_text(values: NDArray[np.int64]) -> Any:
    """Return integers as decimal text."""
    return pa.array(values).cast(pa.string()).cast(pa.binary())


def scalar(value: bytes) -> Any:
    """Return one binary value for all rows."""
    return pa.scalar(value, type=pa.binary())


def mask_of(booleans: Any) -> NDArray[np.bool_]:
    """Return Arrow booleans as a NumPy mask."""
    return np.array(booleans.to_numpy(zero_copy_only=False), dtype=np.bool_)


def strings(text: Any) -> list[str]:
    """Return binary text as strings; "" for null."""
    try:
        found: list[str] = pc.fill_null(text.cast(pa.string()), "").to_pylist()
    except pa.ArrowInvalid:
        return ["" if value is None else _decoded(value) for value in text.to_pylist()]
    return found


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _escape(value: bytes) -> bytes:
    text = value.decode("utf-8", "surrogateescape")
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogateescape")
