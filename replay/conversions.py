"""Columns of any type to int64: amounts in minor units, integers, times in epoch milliseconds.

Each conversion works on whole columns where Arrow and NumPy can, and value by value for the rest
of a batch that holds something unusual; both give the same result for the same value, so a value
never depends on the rows around it.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.records import TS_MS_MAX, TS_MS_MIN
from replay.mapping import MinorUnits, TimeFormat, TimeSpec

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_INT64_MAX = 2**63 - 1
_EXPONENT_MAX = 40  # a decimal beyond 10**40 fits no int64, and rounding it would be slow
_EXACT_FLOAT_MAX = 2.0**53
_UNSURE_ULPS = 4  # the product is within 1.5 units in the last place of the exact one
_MINUTE_MS = 60_000
_EPOCH = datetime(1970, 1, 1)
_TICKS_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Converted(NamedTuple):
    """Values where `good`; a row that is neither good nor null holds what can't be converted."""

    values: NDArray[np.int64]
    good: NDArray[np.bool_]


def plain_column(column: Any) -> Any:
    """Return a column as one array without dictionary encoding; text becomes binary."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type != pa.binary() and (is_text(column.type) or pa.types.is_null(column.type)):
        column = column.cast(pa.binary())
    return column


def is_text(of: Any) -> bool:
    """Tell whether a type holds text or raw bytes."""
    return bool(
        pa.types.is_string(of)
        or pa.types.is_large_string(of)
        or pa.types.is_string_view(of)
        or pa.types.is_binary(of)
        or pa.types.is_large_binary(of)
        or pa.types.is_binary_view(of)
    )


def to_minor_units(column: Any, spec: MinorUnits) -> Converted:
    """Return amounts times 10**decimals, rounded half to even from their exact decimal value.

    The exact value of a binary float is the shortest decimal that reads back as it (57.16 is
    57.16, not 57.15999…).
    """
    if spec.strip and is_text(column.type):
        column = _stripped(column, spec.strip)
    found = scaled_integers(column, spec.decimals)
    return Converted(np.abs(found.values), found.good) if spec.absolute else found


def to_integers(column: Any) -> Converted:
    """Return integers; 5411, 5411.0 and "5411" are good, 5411.5 is not."""
    if pa.types.is_floating(column.type):
        values = _doubles(column)
        with np.errstate(invalid="ignore"):
            good = (np.rint(values) == values) & (np.abs(values) <= _EXACT_FLOAT_MAX)
        return Converted(np.where(good, values, 0).astype(np.int64), good)
    if pa.types.is_integer(column.type):
        return scaled_integers(column, 0)
    if is_text(column.type):
        # Arrow's own parser would take hexadecimal text, the exact one doesn't.
        if pc.all(pc.match_substring_regex(column, "^-?[0-9]{1,18}$")).as_py():
            return _filled(column.cast(pa.string()).cast(pa.int64()))
        return _each(column, lambda value: _scaled_exactly(value, 0, exact=True))
    if pa.types.is_decimal(column.type):
        return _each(column, lambda value: _scaled_exactly(value, 0, exact=True))
    return _nothing(len(column))


def scaled_integers(column: Any, decimals: int) -> Converted:
    """Return numbers times 10**decimals, rounded half to even from their exact decimal value."""
    if pa.types.is_floating(column.type):
        return _scaled_floats(_doubles(column), column, decimals)
    if pa.types.is_integer(column.type):
        if column.type == pa.uint64():
            return _each(column, lambda value: _scaled_exactly(value, decimals))
        found = _filled(column.cast(pa.int64()))
        fits = np.abs(found.values) <= _INT64_MAX // 10**decimals
        fits &= found.values != np.iinfo(np.int64).min
        good = found.good & fits
        return Converted(np.where(good, found.values, 0) * 10**decimals, good)
    if is_text(column.type):
        try:
            doubles = _doubles(column.cast(pa.string()))
        except pa.ArrowInvalid:
            return _each(column, lambda value: _scaled_exactly(value, decimals))
        return _scaled_floats(doubles, column, decimals)
    if pa.types.is_decimal(column.type):
        return _each(column, lambda value: _scaled_exactly(value, decimals))
    return _nothing(len(column))


def to_epoch_ms(column: Any, spec: TimeSpec) -> Converted:
    """Return points in time in epoch milliseconds, UTC; parts of a millisecond are cut off.

    A local time that a clock change repeats is its first occurrence; one that it skips is what an
    unchanged clock would have shown (PEP 495, fold 0). Epoch numbers are rounded half to even.
    """
    if spec.format is TimeFormat.EPOCH_S:
        return scaled_integers(column, 3)
    if spec.format is TimeFormat.EPOCH_MS:
        return scaled_integers(column, 0)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        return _timestamps_ms(column, spec.timezone)
    if not is_text(column.type):
        return _nothing(len(column))
    for zone in (None, "UTC"):
        try:
            stamps = column.cast(pa.string()).cast(pa.timestamp("us", zone))
        except pa.ArrowInvalid:
            continue
        return _timestamps_ms(stamps, spec.timezone)
    return _each_time(column, spec.timezone)


def _timestamps_ms(stamps: Any, zone: str) -> Converted:
    found = _filled(stamps.view(pa.int64()))
    ticks = _TICKS_PER_S[stamps.type.unit]
    if ticks < 1_000:
        limit = _INT64_MAX // 1_000
        good = found.good & (np.abs(found.values) <= limit)
        found = Converted(np.where(good, found.values, 0) * 1_000, good)
    else:
        found = Converted(found.values // (ticks // 1_000), found.good)
    if stamps.type.tz is not None or zone == "UTC":
        return found
    return Converted(found.values - _offsets_ms(found.values, ZoneInfo(zone)), found.good)


def _offsets_ms(local_ms: NDArray[np.int64], zone: ZoneInfo) -> NDArray[np.int64]:
    """Return a zone's offset from UTC at local times, looked up once for each minute.

    Not by Arrow, which needs the system's zone files and is wrong from 2038 on. Times that no
    record may have get no offset.
    """
    minutes, place = np.unique(local_ms // _MINUTE_MS, return_inverse=True)
    offsets_ms = np.zeros(len(minutes), dtype=np.int64)
    low, high = (TS_MS_MIN // _MINUTE_MS - 1_440, TS_MS_MAX // _MINUTE_MS + 1_440)
    for row, minute in enumerate(minutes.tolist()):
        if low <= minute <= high:
            local = (_EPOCH + timedelta(minutes=minute)).replace(tzinfo=zone)
            offset = local.utcoffset()
            assert offset is not None
            offsets_ms[row] = offset // timedelta(milliseconds=1)
    return offsets_ms[place]


def _each_time(column: Any, zone: str) -> Converted:
    """Parse text value by value; the local times among them go through Arrow together."""
    values = np.zeros(len(column), dtype=np.int64)
    good = np.zeros(len(column), dtype=np.bool_)
    local: dict[int, datetime] = {}
    for row, value in enumerate(column.to_pylist()):
        try:
            moment = datetime.fromisoformat(value.decode("utf-8").strip())
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC)
        except (AttributeError, ValueError, OverflowError):
            continue
        local[row] = moment.replace(tzinfo=None)
        if moment.tzinfo is not None:
            values[row], good[row] = _utc_ms(local.pop(row)), True
    if local:
        rows = np.fromiter(local, dtype=np.int64)
        stamps = pa.array(list(local.values()), type=pa.timestamp("us"))
        values[rows], good[rows] = _timestamps_ms(stamps, zone)
    return Converted(values, good)


def _utc_ms(moment: datetime) -> int:
    passed = moment - _EPOCH
    return passed.days * 86_400_000 + passed.seconds * 1_000 + passed.microseconds // 1_000


def _doubles(column: Any) -> NDArray[np.float64]:
    """Return a column as float64 with NaN for nulls; narrow floats by their shortest decimal."""
    if column.type in (pa.float16(), pa.float32()):
        column = column.cast(pa.float32()).cast(pa.string())
    doubles = pc.fill_null(column.cast(pa.float64()), float("nan"))
    return np.asarray(doubles.to_numpy(zero_copy_only=False), dtype=np.float64)


def _scaled_floats(values: NDArray[np.float64], column: Any, decimals: int) -> Converted:
    """Scale by one product; rows too near a tie to be sure are done again in exact decimals."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = values * 10.0**decimals
        finite = np.isfinite(scaled)
        tie_distance = np.abs(scaled - np.floor(scaled) - 0.5)
        unsure = finite & (tie_distance <= _UNSURE_ULPS * np.spacing(np.abs(scaled)))
    good = finite & ~unsure
    rounded = np.rint(np.where(good, scaled, 0)).astype(np.int64)
    for row in np.flatnonzero(unsure):
        exact = _scaled_exactly(column[int(row)].as_py(), decimals)
        if column.type in (pa.float16(), pa.float32()):
            exact = _scaled_exactly(float(values[row]), decimals)
        if exact is not None:
            rounded[row], good[row] = exact, True
    return Converted(rounded, good)


def _scaled_exactly(value: Any, decimals: int, *, exact: bool = False) -> int | None:
    """Return one number times 10**decimals, or None; `exact` refuses what must be rounded."""
    if isinstance(value, bytes):
        text = value.decode("utf-8", "replace").strip()
        if _NUMBER.fullmatch(text) is None:
            return None
        value = Decimal(text)
    elif isinstance(value, float):
        value = Decimal(repr(value))
    elif not isinstance(value, Decimal):
        value = Decimal(value)
    if not value.is_finite() or value.adjusted() > _EXPONENT_MAX:
        return None
    if value.adjusted() < -_EXPONENT_MAX:
        return None if exact and value else 0
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    scaled = Decimal((sign, digits, exponent + decimals))  # exact, whatever the context
    rounded = scaled.to_integral_value(rounding=ROUND_HALF_EVEN)
    if abs(rounded) > _INT64_MAX or (exact and rounded != scaled):
        return None
    return int(rounded)


def _each(column: Any, convert: Any) -> Converted:
    found = [None if value is None else convert(value) for value in column.to_pylist()]
    good = np.array([value is not None for value in found], dtype=np.bool_)
    return Converted(np.array([value or 0 for value in found], dtype=np.int64), good)


def _filled(integers: Any) -> Converted:
    good = np.asarray(integers.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
    filled = pc.fill_null(integers, 0) if integers.null_count else integers
    return Converted(filled.to_numpy(zero_copy_only=False).astype(np.int64, copy=False), good)


def _nothing(count: int) -> Converted:
    return Converted(np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_))


def _stripped(column: Any, characters: str) -> Any:
    unwanted = characters.encode()
    if any(byte > 127 for byte in unwanted):
        texts = [
            None if value is None else value.decode("utf-8", "surrogateescape")
            for value in column.to_pylist()
        ]
        table = str.maketrans("", "", characters)
        kept = [None if text is None else text.translate(table) for text in texts]
        encoded = [None if k is None else k.encode("utf-8", "surrogateescape") for k in kept]
        return pa.array(encoded, type=pa.binary())
    pattern = "[" + "".join(f"\\x{byte:02x}" for byte in unwanted) + "]"
    return pc.replace_substring_regex(column, pattern, "")
