"""JSON records straight into cells: one pass over the joined bytes of a batch.

The scanner takes what a well-behaved producer sends and is sure of every value it gives. Whatever
else it meets (escapes, nesting, a field twice, a value out of bounds, no JSON at all) makes it
unsure of the whole record: the typed decoder then reads it, or says what is wrong with it.

The records lie end to end, each followed by a byte 0, which no valid record holds: it stops every
loop. Behind the last one there is `WORD_PADDING`.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells, Kind, LabelCode
from features.kernels.jit import inlined, kernel, part
from features.kernels.numbers import UNSURE, decimal, integer, micro
from features.kernels.siphash import siphash_one
from features.kernels.words import Bytes, plain_until, word_at

Table = NDArray[np.int64]


class Text(IntEnum):
    """The first columns of both tables: a text of at most 15 bytes and its closing quote."""

    LOW = 0  # bytes 0 to 7
    HIGH = 1
    LOW_MASK = 2  # ones where they count
    HIGH_MASK = 3
    BYTES = 4  # with the quote


class WordColumn(IntEnum):
    """Columns of the words that a field may hold, shape (words, len(Text) + 1)."""

    VALUE = 5


class FieldColumn(IntEnum):
    """Columns of the fields that are known, shape (fields + 1, 13).

    Its last row stands for the beginning of a record; it only has a NEXT.
    """

    FORM = 5
    CELL = 6  # -1: checked, but not kept
    LEAST = 7  # bounds of a number; of a text's length; LETTERS: the number of A, AA or AAA
    MOST = 8
    NULLABLE = 9
    WORDS_FROM = 10  # rows of the words' table
    WORDS_TO = 11
    NEXT = 12  # the field that followed when last seen: where to look first


class Form(IntEnum):
    """What a field's value has to be."""

    ID = 0
    WORD = 1
    LETTERS = 2  # MOST capitals
    INTEGER = 3
    MICRO = 4
    OTHER = 5  # nothing that the scanner can read


class FrameColumn(IntEnum):
    """What is known beforehand of a record, by its kind: sets of fields as bits.

    `UNDECIDED` is the frame of a topic of several kinds, until `kind` is read.
    """

    REQUIRED = 0
    KNOWN = 1


class Span(IntEnum):
    """Rows of the spans, shape (3, records)."""

    BYTES = 0  # length of the record; given
    ID_FROM = 1  # where its event_id stands in the joined bytes; -1 where unsure
    ID_TO = 2


UNDECIDED = len(Kind)
KIND_FIELD = 0
_SPACE, _QUOTE, _COMMA, _COLON, _OPEN, _CLOSE = 32, 34, 44, 58, 123, 125
_LETTER_A, _MINUS, _DIGIT_0, _DIGIT_9 = 65, 45, 48, 57
_LETTER_N, _LETTER_T = 110, 116
_NULL = np.uint64(int.from_bytes(b"null", "little"))
_TRUE = np.uint64(int.from_bytes(b"true", "little"))
_FALSE = np.uint64(int.from_bytes(b"false", "little"))
_FOUR_BYTES = np.uint64(0xFFFFFFFF)
_FIVE_BYTES = np.uint64(0xFFFFFFFFFF)
_NOT_ASCII = np.uint64(0x8080808080808080)
_ANY = np.uint64(0)


@inlined
def _after_space(data: Bytes, position: int) -> int:
    while data[position] <= _SPACE and data[position] in (32, 10, 13, 9):
        position += 1
    return position


@inlined
def _is_text(table: Table, row: int, low: np.uint64, high: np.uint64) -> bool:
    unlike = (low ^ np.uint64(table[row, Text.LOW])) & np.uint64(table[row, Text.LOW_MASK])
    unlike |= (high ^ np.uint64(table[row, Text.HIGH])) & np.uint64(table[row, Text.HIGH_MASK])
    return bool(unlike == np.uint64(0))


@inlined
def _field_at(data: Bytes, position: int, fields: Table, previous: int) -> int:
    """Return the field whose name begins at `position`, -1 for one that isn't known."""
    low, high = word_at(data, position), word_at(data, position + 8)
    guess = fields[previous, FieldColumn.NEXT]
    if _is_text(fields, guess, low, high):
        return int(guess)
    for field in range(fields.shape[0] - 1):
        if _is_text(fields, field, low, high):
            fields[previous, FieldColumn.NEXT] = field
            return field
    return -1


@inlined
def _word(data: Bytes, position: int, words: Table, first: int, last: int) -> int:
    """Return the row of the word, with its closing quote, that begins at `position`, or -1."""
    low, high = word_at(data, position), word_at(data, position + 8)
    for row in range(first, last):
        if _is_text(words, row, low, high):
            return row
    return -1


@inlined
def _letters(data: Bytes, position: int, count: int) -> int:
    """Return the number of `count` capitals with a closing quote behind them, or -1."""
    value = 0
    for i in range(position, position + count):
        letter = int(data[i]) - _LETTER_A
        if letter < 0 or letter > 25:
            return -1
        value = value * 26 + letter
    return value if data[position + count] == _QUOTE else -1


@inlined
def _skipped(data: Bytes, position: int) -> int:
    """Return where a flat value of an unknown field ends, or UNSURE."""
    first = data[position]
    if first == _QUOTE:
        end = plain_until(data, position + 1, _ANY)
        return end + 1 if data[end] == _QUOTE else UNSURE
    if first == _MINUS or (first >= _DIGIT_0 and first <= _DIGIT_9):
        return decimal(data, position + 1 if first == _MINUS else position)[0]
    word = word_at(data, position)
    if word & _FOUR_BYTES == _NULL or word & _FOUR_BYTES == _TRUE:
        return position + 4
    return position + 5 if word & _FIVE_BYTES == _FALSE else UNSURE


@inlined
def _string(
    data: Bytes,
    position: int,
    row: int,
    field: Table,
    cells: Cells,
    spans: Table,
    words: Table,
    k0: np.uint64,
    k1: np.uint64,
) -> int:
    """Take the string whose first byte is at `position`; return where it ends, or UNSURE."""
    form, cell = field[FieldColumn.FORM], field[FieldColumn.CELL]
    if form == Form.ID:
        end = plain_until(data, position, _NOT_ASCII)
        length = end - position
        if data[end] != _QUOTE:
            return UNSURE
        if length < field[FieldColumn.LEAST] or length > field[FieldColumn.MOST]:
            return UNSURE
        if cell >= 0:
            value = np.int64(siphash_one(data, position, end, k0, k1))
            cells[cell, row] = value + 1 if value == MISSING else value
        if cell == Cell.EVENT_ID:
            spans[Span.ID_FROM, row] = position
            spans[Span.ID_TO, row] = end
        return end + 1
    if form == Form.WORD:
        first, last = field[FieldColumn.WORDS_FROM], field[FieldColumn.WORDS_TO]
        word = _word(data, position, words, first, last)
        if word < 0:
            return UNSURE
        if cell >= 0:
            cells[cell, row] = words[word, WordColumn.VALUE]
        return position + int(words[word, Text.BYTES])
    if form == Form.LETTERS:
        count = int(field[FieldColumn.MOST])
        letters = _letters(data, position, count)
        if letters < 0:
            return UNSURE
        if cell >= 0:
            cells[cell, row] = field[FieldColumn.LEAST] + letters
        return position + count + 1
    return UNSURE


@inlined
def _value(
    data: Bytes,
    position: int,
    row: int,
    field: Table,
    cells: Cells,
    spans: Table,
    words: Table,
    k0: np.uint64,
    k1: np.uint64,
) -> int:
    """Take a known field's value into its cell; return where it ends, or UNSURE."""
    first = data[position]
    if first == _QUOTE:
        return _string(data, position + 1, row, field, cells, spans, words, k0, k1)
    if first == _LETTER_N:
        is_null = word_at(data, position) & _FOUR_BYTES == _NULL
        return position + 4 if is_null and field[FieldColumn.NULLABLE] else UNSURE
    form = field[FieldColumn.FORM]
    least, most = field[FieldColumn.LEAST], field[FieldColumn.MOST]
    if form == Form.INTEGER:
        end, value = integer(data, position, least, most)
    elif form == Form.MICRO:
        end, value = micro(data, position, least, most)
    else:
        return UNSURE
    if end != UNSURE and field[FieldColumn.CELL] >= 0:
        cells[field[FieldColumn.CELL], row] = value
    return end


@inlined
def _member(data: Bytes, position: int, fields: Table, previous: int) -> tuple[int, int]:
    """Read a name and its colon: returns where the value begins (or UNSURE), and the field or -1.

    A name that holds no escape is unknown only if it is none of the fields' names.
    """
    if data[position] != _QUOTE:
        return UNSURE, -1
    at = position + 1
    field = _field_at(data, at, fields, previous)
    if field >= 0:
        at += fields[field, Text.BYTES]
    else:
        at = plain_until(data, at, _ANY)
        if data[at] != _QUOTE:
            return UNSURE, -1
        at += 1
    at = _after_space(data, at)
    if data[at] != _COLON:
        return UNSURE, -1
    return _after_space(data, at + 1), field


@inlined
def _decided(data: Bytes, position: int, frame: int, fields: Table, words: Table) -> int:
    """Return the frame of the kind that is named at `position`, or UNSURE."""
    field = fields[KIND_FIELD]
    first, last = field[FieldColumn.WORDS_FROM], field[FieldColumn.WORDS_TO]
    word = _word(data, position + 1, words, first, last)
    if data[position] != _QUOTE or word < 0:
        return UNSURE
    kind = words[word, WordColumn.VALUE]
    return int(kind) if frame in (kind, UNDECIDED) else UNSURE


@part
def _record(
    data: Bytes,
    start: int,
    stop: int,
    row: int,
    frame: int,
    cells: Cells,
    spans: Table,
    fields: Table,
    words: Table,
    frames: Table,
    k0: np.uint64,
    k1: np.uint64,
) -> int:
    """Take one record into its column of cells; return its kind, REFUSED where unsure."""
    at = _after_space(data, start)
    if data[at] != _OPEN:
        return Kind.REFUSED
    at = _after_space(data, at + 1)
    seen, previous = np.int64(0), fields.shape[0] - 1
    separator = data[at]
    while separator != _CLOSE:
        at, field = _member(data, at, fields, previous)
        if at == UNSURE:
            return Kind.REFUSED
        bit = np.int64(0)
        if field >= 0:
            previous = field
            bit = (np.int64(1) << field) & frames[frame, FrameColumn.KNOWN]
        if seen & bit:
            return Kind.REFUSED
        seen |= bit
        if field == KIND_FIELD:
            frame = _decided(data, at, frame, fields, words)
            if frame == UNSURE:
                return Kind.REFUSED
        if bit and field != KIND_FIELD:
            at = _value(data, at, row, fields[field], cells, spans, words, k0, k1)
        else:
            at = _skipped(data, at)
        if at == UNSURE:
            return Kind.REFUSED
        at = _after_space(data, at)
        separator = data[at]
        if separator != _COMMA and separator != _CLOSE:
            return Kind.REFUSED
        at = _after_space(data, at + 1)
    required, known = frames[frame, FrameColumn.REQUIRED], frames[frame, FrameColumn.KNOWN]
    if at != stop or (seen & required) != required or (seen & ~known):
        return Kind.REFUSED
    return frame


@kernel
def scan(
    data: Bytes,
    kinds: NDArray[np.uint8],
    cells: Cells,
    spans: Table,
    fields: Table,
    words: Table,
    frames: Table,
    k0: np.uint64,
    k1: np.uint64,
    own_code: int,
) -> tuple[int, int]:
    """Fill the columns of cells of all records that are plain.

    Returns how many are not, and how many transactions are in another currency than `own_code`.

    `kinds` holds each record's frame and takes its kind: REFUSED, as a frame too, for those that
    are left to the typed decoder. Their cells are MISSING.
    """
    for cell in range(cells.shape[0]):
        for row in range(cells.shape[1]):
            cells[cell, row] = MISSING
    start, unsure_count, foreign_count = 0, 0, 0
    for row in range(kinds.shape[0]):
        stop = start + int(spans[Span.BYTES, row])
        if kinds[row] != Kind.REFUSED:
            kinds[row] = _record(
                data, start, stop, row, int(kinds[row]), cells, spans, fields, words, frames, k0, k1
            )
        if kinds[row] == Kind.TRANSACTION:
            cells[Cell.LABEL, row] = LabelCode.UNKNOWN
            foreign_count += cells[Cell.CURRENCY, row] != own_code
        elif kinds[row] == Kind.REFUSED:
            unsure_count += 1
            spans[Span.ID_FROM, row] = -1
            for cell in range(cells.shape[0]):
                cells[cell, row] = MISSING
        start = stop + 1
    return unsure_count, foreign_count
