"""Stored blobs read with plain Python: what a reader of the format's description would write."""

from typing import NamedTuple

from features.columns import MISSING, Cell

HEAD_BYTES = 40
LEAD = [Cell.TS_MS, Cell.EVENT_ID, Cell.LABEL]
WIDTHS = {
    Cell.TS_MS: 6, Cell.LABEL: 1, Cell.TYPE: 2, Cell.DIRECTION: 2, Cell.CHANNEL: 2,
    Cell.COUNTRY: 2, Cell.CURRENCY: 2, Cell.RESULT: 2, Cell.MCC: 2, Cell.LAT: 4, Cell.LON: 4,
}  # fmt: skip


class Blob(NamedTuple):
    """What a blob says; `columns` of its rows are the standard cells, then the kept values."""

    version: int
    cells: list[Cell]
    labelled: bool
    floor_ts: int
    lacking_ts: int
    lacking: set[int]
    capacity: int
    fingerprints: list[int]
    rows: list[list[int]]


def number(value: bytes) -> int:
    return int.from_bytes(value, "little", signed=True)


def read_blob(blob: bytes | bytearray) -> Blob:
    value = bytes(blob)
    assert value[:7] == b"MRHIST\0"
    bitmap, flags, value_count = number(value[8:14]), value[14], value[15]
    rest = [cell for cell in Cell if bitmap >> cell & 1 and cell not in LEAD]
    cells = [*LEAD, *rest]
    rows_at = HEAD_BYTES + 8 * value_count
    widths = [WIDTHS.get(cell, 8) for cell in cells] + [8] * value_count
    rows = []
    for at in range(rows_at, len(value), sum(widths)):
        row = []
        for width in widths:
            cell = number(value[at : at + width])
            assert len(value) >= at + width
            row.append(int(MISSING) if cell == -(1 << (8 * width - 1)) else cell)
            at += width
        rows.append(row)
    return Blob(
        value[7],
        cells,
        bool(flags & 1),
        number(value[16:24]),
        number(value[24:32]),
        {column for column in range(56) if number(value[32:39] + b"\0") >> column & 1},
        1 << value[39],
        [number(value[at : at + 8]) for at in range(HEAD_BYTES, rows_at, 8)],
        rows,
    )
