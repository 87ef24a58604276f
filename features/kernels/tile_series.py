"""Which series of tiles a plan's slots need, and which slots share one."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import Kind
from features.kernels.layout import (
    EntityField,
    FamilyField,
    MemberField,
    Method,
    RangeField,
)
from features.kernels.sketches import HASHES_COUNT
from features.kernels.tiles import (
    BLOCK_WORDS,
    RING_COUNT,
    TILE_COUNT,
    TILE_WORDS,
    SeriesField,
)
from features.plan import Plan

_DEFINITION = "tiles 1"  # to change where stored tiles come to mean something else
_KEPT_IN_TILES = (Method.ENDS, Method.SUMS, Method.DISTINCT)
Rows = list[list[int]]


class _Series(NamedTuple):
    """What slots must have in common to share tiles."""

    column: int
    ranges: tuple[tuple[int, ...], ...]
    shift: int
    sketched: bool


def shift_of(span_ms: int) -> int:
    """Return the power of two of a tile's width: all tiles but one are as long as the span."""
    shift = 0
    while (RING_COUNT - 1) << shift < span_ms:
        shift += 1
    return shift


def compile_series(
    plan: Plan, number: int, entity: NDArray[np.int64], bounds: list[int], families: Rows,
    members: Rows, terms: Rows,
) -> Rows:  # fmt: skip
    """Return the series of entity `number`, whose families and members are compiled already.

    Sets MemberField.SERIES, counted from EntityField.SERIES_FROM. Slots that read the labels of
    transactions have none: a label may still come for an event that was folded.
    """
    found: dict[_Series, list[int]] = {}
    words = BLOCK_WORDS
    for family in families[entity[EntityField.FAMILY_FROM] :]:
        labelled = (
            family[FamilyField.READS_LABEL] and plan.entities[number].kind == Kind.TRANSACTION
        )
        if family[FamilyField.METHOD] not in _KEPT_IN_TILES or labelled:
            continue
        first, last = family[FamilyField.TERM_FROM], family[FamilyField.TERM_TO]
        ranges = tuple(tuple(row) for row in terms[first:last])
        for member in members[family[FamilyField.MEMBER_FROM] : family[FamilyField.MEMBER_TO]]:
            series = _Series(
                family[FamilyField.VALUE_COLUMN],
                ranges,
                shift_of(bounds[member[MemberField.LOW_BOUND]]),
                family[FamilyField.METHOD] == Method.DISTINCT,
            )
            if series not in found:
                sketch_words = HASHES_COUNT if series.sketched else 0
                row = [0] * len(SeriesField)
                row[SeriesField.VALUE_COLUMN] = series.column
                row[SeriesField.TERM_FROM], row[SeriesField.TERM_TO] = first, last
                row[SeriesField.SHIFT] = series.shift
                row[SeriesField.SKETCH_WORDS] = sketch_words
                row[SeriesField.COLUMNS] = _columns(series)
                row[SeriesField.PLACE] = words
                row[SeriesField.FINGERPRINT] = _fingerprint(plan, number, series)
                found[series] = row
                words += 1 + TILE_COUNT * (TILE_WORDS + sketch_words)
            member[MemberField.SERIES] = entity[EntityField.SERIES_FROM] + list(found).index(series)
    entity[EntityField.SERIES_TO] = entity[EntityField.SERIES_FROM] + len(found)
    entity[EntityField.TILE_WORDS] = words if found else 0
    return list(found.values())


def _columns(series: _Series) -> int:
    bits = 1 << series.column if series.column >= 0 else 0
    for row in series.ranges:
        bits |= 1 << row[RangeField.COLUMN]
    return bits


def _fingerprint(plan: Plan, number: int, series: _Series) -> int:
    """Return a hash of what a series holds, in which columns stand for the cells that they are."""
    values = {value.cell: f"kept {value.fingerprint}" for value in plan.values}
    kept = plan.entities[number].kept
    names = [values.get(cell, str(int(cell))) for cell in kept]
    ranges = [[names[row[RangeField.COLUMN]], *row[1:]] for row in series.ranges]
    value = names[series.column] if series.column >= 0 else ""
    text = repr((_DEFINITION, value, ranges, series.shift, series.sketched))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
