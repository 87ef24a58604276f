"""Amounts are exact and times are right, whatever type the column has."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.conversions import (
    plain_column,
    scaled_integers,
    to_epoch_ms,
    to_integers,
    to_minor_units,
)
from replay.mapping import MinorUnits, TimeFormat, TimeSpec

INT64_MAX = 2**63 - 1


def exact(value: float | str | Decimal, decimals: int) -> int | None:
    """The oracle: one number through decimal arithmetic of unlimited precision."""
    text = repr(value) if isinstance(value, float) else str(value)
    number = Decimal(text)
    if not number.is_finite():
        return None
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    scaled = Decimal((sign, digits, exponent + decimals))
    if scaled.adjusted() > 20:  # beyond 64 bits; the context counts 28 digits
        return None
    whole = int(scaled.quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
    return whole if abs(whole) <= INT64_MAX else None


def listed(found: object) -> list[int | None]:
    values, good = found  # type: ignore[misc]
    return [int(v) if g else None for v, g in zip(values, good, strict=True)]


cents = st.integers(-(10**15), 10**15)


@given(st.lists(cents, min_size=1), st.integers(0, 4))
def test_whole_minor_units_in_a_float_come_back_exactly(amounts: list[int], places: int) -> None:
    # Up to 15 digits a double keeps every decimal, so that the answer is the integer itself.
    floats = pa.array([float(Decimal(amount).scaleb(-places)) for amount in amounts])
    assert listed(to_minor_units(floats, MinorUnits(places))) == amounts


def test_the_amounts_that_truncation_loses() -> None:
    amounts = np.arange(100_000)
    found = to_minor_units(pa.array([cent / 100 for cent in amounts.tolist()]), MinorUnits(2))
    assert np.array_equal(found.values, amounts) and found.good.all()
    assert int(0.29 * 100) == 28  # what this is about


@given(st.lists(st.floats(width=64), min_size=1), st.integers(0, 4))
def test_any_float_is_its_shortest_decimal_rounded(values: list[float], places: int) -> None:
    found = scaled_integers(pa.array(values), places)
    assert listed(found) == [exact(value, places) for value in values]


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1), st.integers(1, 4))
def test_ties_go_to_the_even_neighbour(values: list[int], places: int) -> None:
    halves = [float(Decimal(2 * value + 1) / 2 / 10**places) for value in values]
    expected = [value if value % 2 == 0 else value + 1 for value in values]
    assert listed(scaled_integers(pa.array(halves), places)) == expected


numbers = st.decimals(allow_nan=False, allow_infinity=False, places=None).map(str)


@given(st.lists(numbers | st.sampled_from(["1e3", "+4.5", ".5", "7.", "0x10", "1_0", "", "n"])))
def test_text_is_read_as_the_exact_decimal_that_it_is(texts: list[str]) -> None:
    expected = [None if text in ("0x10", "1_0", "", "n") else exact(text, 2) for text in texts]
    column = pa.array([text.encode() for text in texts], type=pa.binary())
    assert listed(scaled_integers(column, 2)) == expected


@given(st.lists(st.decimals(-(10**12), 10**12, places=4)))
def test_decimal_columns_are_rounded_half_even(values: list[Decimal]) -> None:
    column = pa.array(values, type=pa.decimal128(20, 4))
    assert listed(scaled_integers(column, 2)) == [exact(value, 2) for value in values]


def test_narrow_floats_are_their_own_shortest_decimal() -> None:
    column = pa.array(np.array([57.16, 0.1, 1.005], dtype=np.float32))
    assert listed(scaled_integers(column, 2)) == [5716, 10, 100]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()), st.integers(0, 3))
def test_integers_that_do_not_fit_are_not_good(values: list[int | None], places: int) -> None:
    expected = [
        None if v is None or abs(v) * 10**places > INT64_MAX else v * 10**places for v in values
    ]
    assert listed(scaled_integers(pa.array(values, type=pa.int64()), places)) == expected


def test_integer_fields_take_whole_numbers_only() -> None:
    assert listed(to_integers(pa.array([5411.0, 5411.5, None]))) == [5411, None, None]
    texts = pa.array([b"5411", b"5411.0", b"5411.5", b"0x10", b" 7", None], type=pa.binary())
    assert listed(to_integers(texts)) == [5411, 5411, None, None, 7, None]
    assert listed(to_integers(texts.slice(0, 1))) == [5411]


def test_stripped_characters_and_signs() -> None:
    texts = pa.array(["$1,234.50", "$-99.00", "1]2", None]).cast(pa.binary())
    spec = MinorUnits(2, "$,]", absolute=True)
    assert listed(to_minor_units(texts, spec)) == [123450, 9900, 1200, None]
    euros = pa.array(["€7"]).cast(pa.binary())
    assert listed(to_minor_units(euros, MinorUnits(2, "€"))) == [700]


moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1))


def milliseconds(moment: datetime) -> int:
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // (
        timedelta(milliseconds=1)
    )


@given(st.lists(moments, min_size=1), st.sampled_from(["s", "ms", "us", "ns"]))
def test_timestamps_without_a_zone_are_utc(values: list[datetime], unit: str) -> None:
    if unit == "s":
        values = [value.replace(microsecond=0) for value in values]
    column = pa.array(values, type=pa.timestamp("us")).cast(pa.timestamp(unit), safe=False)
    expected = [milliseconds(value) for value in values]
    assert listed(to_epoch_ms(column, TimeSpec(TimeFormat.DATETIME))) == expected


@given(st.lists(moments, min_size=1))
def test_local_times_go_through_their_zone(values: list[datetime]) -> None:
    zone = ZoneInfo("Europe/Brussels")
    column = pa.array([value.isoformat().encode() for value in values], type=pa.binary())
    found = to_epoch_ms(column, TimeSpec(TimeFormat.ISO, "Europe/Brussels"))
    assert listed(found) == [milliseconds(value.replace(tzinfo=zone)) for value in values]


def test_clock_changes() -> None:
    column = pa.array([b"2024-03-31 02:30:00", b"2024-10-27 02:30:00"], type=pa.binary())
    found = to_epoch_ms(column, TimeSpec(TimeFormat.ISO, "Europe/Brussels"))
    skipped, repeated = datetime(2024, 3, 31, 1, 30), datetime(2024, 10, 27, 0, 30)
    assert listed(found) == [milliseconds(skipped), milliseconds(repeated)]


ISO = {
    b"2018-04-01T00:00:31Z": datetime(2018, 4, 1, 0, 0, 31),
    b"2018-04-01 00:00:31": datetime(2018, 4, 1, 0, 0, 31),
    b"2018-04-01T02:00:31.123456+02:00": datetime(2018, 4, 1, 0, 0, 31, 123_000),
    b"2018-04-01": datetime(2018, 4, 1),
    b" 2018-04-01 ": datetime(2018, 4, 1),
    b"2018-02-30": None,
    b"01/04/2018": None,
    b"\xff": None,
    None: None,
}


@given(st.lists(st.sampled_from(list(ISO))))
def test_iso_text_does_not_depend_on_the_rows_around_it(texts: list[bytes | None]) -> None:
    found = to_epoch_ms(pa.array(texts, type=pa.binary()), TimeSpec(TimeFormat.ISO))
    wanted = [ISO[text] for text in texts]
    assert listed(found) == [None if w is None else milliseconds(w) for w in wanted]


@pytest.mark.parametrize("value", [1_735_689_615, 1_735_689_615.0, "1735689615.000"])
def test_epoch_seconds(value: float | str) -> None:
    column = plain_column(pa.array([value]))
    assert listed(to_epoch_ms(column, TimeSpec(TimeFormat.EPOCH_S))) == [1_735_689_615_000]


def test_dates_are_midnight() -> None:
    column = pa.array([datetime(2018, 4, 1).date(), None])
    expected = [milliseconds(datetime(2018, 4, 1)), None]
    assert listed(to_epoch_ms(column, TimeSpec(TimeFormat.DATETIME))) == expected
