"""The stored form of a history, format version 2: what stands in a blob, and how wide.

A partial's blob is a header of little-endian 64-bit words (`Head`), the fingerprints of the kept
values, one word each, a section of tiles (features.kernels.sections) where FOLDED says so, and the
events, row by row. A row has the kept cells side by side, each in as many bytes as `CELL_BYTES`
gives it; kept values take eight. How many rows there are follows from the blob's length, so that an
append is one write. Of the header, words FLOOR_TS to LACKING are overwritten in place, the others
never.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import CODE_CELLS, MISSING, Cell, Kind
from features.kernels.jit import kernel, part
from features.kernels.layout import NOT_REACHED, EntityField, Layout, Table, Vector
from features.plan import Plan

FORMAT_VERSION = 2  # the top byte of the first word
MAGIC = int.from_bytes(b"MRHIST\x00", "little")
MAGIC_BITS = 56
CELL_BITS = 48  # of word CELLS: the bitmap of kept standard cells; then flags, and a count
LABELLED = 1 << CELL_BITS  # labels were joined to these events
FOLDED = 1 << (CELL_BITS + 1)  # a section of tiles follows the fingerprints
VALUE_COUNT_SHIFT = 56
COLUMN_BITS = 56  # of word LACKING: the bitmap of columns; the top byte is log2 of the capacity
COLUMN_MASK = (1 << COLUMN_BITS) - 1
WIDE_BYTES = 8
TS_SHIFT = 16  # of a row's first cell, of six bytes; the event's id follows it
EVENT_OFFSET = 6
CELL_BYTES = {
    Cell.TS_MS: 6,
    Cell.LABEL: 1,
    Cell.MCC: 2,
    Cell.LAT: 4,
    Cell.LON: 4,
    **dict.fromkeys(CODE_CELLS, 2),
}


class Head(IntEnum):
    """Words of a blob's header."""

    MAGIC = 0
    CELLS = 1  # bitmap of the kept standard cells, flags, and how many kept values there are
    FLOOR_TS = 2  # time of the newest event ever dropped
    LACKING_TS = 3  # time of the newest event that lacks a column
    LACKING = 4  # bitmap of the columns that some event lacks; log2 of the block's capacity
    VALUES = 5  # fingerprints of the kept values from here on


HEAD_BYTES = 8 * Head.VALUES
MUTABLE_FROM, MUTABLE_TO = 8 * Head.FLOOR_TS, 8 * Head.VALUES


class FormField(IntEnum):
    """Columns of `Form.entities`."""

    CELLS = 0  # word CELLS of the header
    VALUE_COUNT = 1
    ROW_BYTES = 2


class ColumnField(IntEnum):
    """Columns of `Form.columns`."""

    OFFSET = 0  # byte of a row
    SHIFT = 1  # 64 less the bits of the cell
    FINGERPRINT = 2  # of a kept value; 0 for a standard cell


class Form(NamedTuple):
    """How a plan's histories are stored; never changes."""

    entities: Table
    columns: Table  # one row for each of `Layout.kept`
    cell_bytes: Vector  # (standard cells,)
    bounded: Table  # (narrow cells that are kept, 3): cell, lowest and highest value that fits


def compile_form(plan: Plan, layout: Layout) -> Form:
    """Return the stored form of a plan; ValueError where an entity keeps too many cells."""
    fingerprints = {value.cell: value.fingerprint for value in plan.values}
    entities = np.zeros((len(plan.entities), len(FormField)), dtype=np.int64)
    columns: list[tuple[int, int, int]] = []
    narrow: set[int] = set()
    for number, entity in enumerate(plan.entities):
        if len(entity.kept) > COLUMN_BITS:
            raise ValueError(
                f"entity {entity.name}: expected at most {COLUMN_BITS} kept cells, "
                f"got {len(entity.kept)}"
            )
        offset_bytes = 0
        for cell in entity.kept:
            width_bytes = cell_bytes(cell)
            columns.append((offset_bytes, 64 - 8 * width_bytes, fingerprints.get(cell, 0)))
            offset_bytes += width_bytes
            if width_bytes < WIDE_BYTES:
                narrow.add(cell)
        value_count = sum(cell >= len(Cell) for cell in entity.kept)
        entities[number] = (
            sum(1 << cell for cell in entity.kept if cell < len(Cell))
            | (LABELLED if _is_labelled(plan, layout, number) else 0)
            | (value_count << VALUE_COUNT_SHIFT),
            value_count,
            offset_bytes,
        )
    bounded = [(cell, *_limits(cell)) for cell in sorted(narrow)]
    return Form(
        entities=entities,
        columns=np.array(columns, dtype=np.int64).reshape(len(columns), len(ColumnField)),
        cell_bytes=np.array([cell_bytes(cell) for cell in Cell], dtype=np.int64),
        bounded=np.array(bounded, dtype=np.int64).reshape(len(bounded), 3),
    )


def cell_bytes(cell: int) -> int:
    """Return how many bytes a cell takes in a stored row."""
    return CELL_BYTES.get(Cell(cell), WIDE_BYTES) if cell < len(Cell) else WIDE_BYTES


def _limits(cell: int) -> tuple[int, int]:
    half = 1 << (8 * cell_bytes(cell) - 1)
    return 1 - half, half - 1  # the lowest value of all stands for MISSING


def _is_labelled(plan: Plan, layout: Layout, number: int) -> bool:
    """Say whether an entity's events have their labels; those of another kind have their own."""
    reached = layout.entities[number, EntityField.LABEL_KEY] != NOT_REACHED
    return bool(
        reached or number == layout.customer or plan.entities[number].kind != Kind.TRANSACTION
    )


@kernel
def misfit(form: Form, kinds: NDArray[np.uint8], cells: Table) -> tuple[int, int]:
    """Return the first row, and a cell of it, whose value its stored width can't hold, or -1, -1.

    REFUSED rows may hold anything.
    """
    for i in range(form.bounded.shape[0]):
        cell, lowest, highest = form.bounded[i, 0], form.bounded[i, 1], form.bounded[i, 2]
        outside = np.int64(0)
        for row in range(cells.shape[1]):
            value = cells[cell, row]
            outside += (value != MISSING) & ((value < lowest) | (value > highest))
        if outside:
            for row in range(cells.shape[1]):
                value = cells[cell, row]
                fits = value == MISSING or lowest <= value <= highest
                if kinds[row] != Kind.REFUSED and not fits:
                    return row, cell
    return -1, -1


@part
def bit_count(bits: int) -> int:
    """Return how many bits are set."""
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count
