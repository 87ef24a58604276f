"""Stored blobs read with plain Python: what a reader of the format's description would write."""

from typing import NamedTuple

from features.columns import MISSING, Cell

HEAD_BYTES = 40
LEAD = [Cell.TS_MS, Cell.EVENT_ID, Cell.LABEL]
WIDTHS = {
    Cell.TS_MS: 6, Cell.LABEL: 1, Cell.TYPE: 2, Cell.DIRECTION: 2, Cell.CHANNEL: 2,
    Cell.COUNTRY: 2, Cell.CURRENCY: 2, Cell.RESULT: 2, Cell.MCC: 2, Cell.LAT: 4, Cell.LON: 4,
}  # fmt: skip


RING_COUNT, TILE_COUNT, HASHES_COUNT = 32, 40, 32


class Tile(NamedTuple):
    """A tile's words; the place says which span of time it is of."""

    place: int
    first_ts: int
    last_ts: int
    count: int
    total: int
    squares: int
    least: int
    most: int
    hashes: list[int]


class Section(NamedTuple):
    """What a blob says of folded events: by fingerprint, from when a series is complete, tiles."""

    floor_event: int
    unfolded_ts: int
    series: dict[int, tuple[int, list[Tile]]]


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
    section: Section | None
    rows: list[list[int]]


def number(value: bytes) -> int:
    return int.from_bytes(value, "little", signed=True)


def read_section(words: list[int]) -> tuple[Section, int]:
    """Return the section that begins with these words, and how many of them it takes."""
    series, at = {}, 3
    for _ in range(words[2]):
        fingerprint, complete_from, bits = words[at : at + 3]
        tiles, at = [], at + 3
        for place in range(TILE_COUNT):
            if not bits >> place & 1:
                continue
            first, last, count, total, high, low, least, most = words[at : at + 8]
            at += 8
            hashes = words[at : at + HASHES_COUNT] if bits >> 62 & 1 else []
            at += len(hashes)
            squares = (high << 64) + (low % 2**64)
            known = [value for value in hashes if value != 2**63 - 1]
            tiles.append(Tile(place, first, last, count, total, squares, least, most, known))
        series[fingerprint] = (complete_from, tiles)
    return Section(words[0], words[1], series), at


def read_blob(blob: bytes | bytearray) -> Blob:
    value = bytes(blob)
    assert value[:7] == b"MRHIST\0"
    bitmap, flags, value_count = number(value[8:14]), value[14], value[15]
    rest = [cell for cell in Cell if bitmap >> cell & 1 and cell not in LEAD]
    cells = [*LEAD, *rest]
    rows_at = HEAD_BYTES + 8 * value_count
    section, fingerprints_to = None, rows_at
    if flags & 2:
        words = [number(value[at : at + 8]) for at in range(rows_at, len(value) - 7, 8)]
        section, taken = read_section(words)
        rows_at += 8 * taken
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
        [number(value[at : at + 8]) for at in range(HEAD_BYTES, fingerprints_to, 8)],
        section,
        rows,
    )
