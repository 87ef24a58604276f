"""What the scanner knows of the records, read off their types, and its call for a batch."""

from collections.abc import Sequence
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct, inspect
from numpy.typing import NDArray

from features.codes import code_of
from features.columns import Cell, Cells, Kind, LabelCode
from features.hashing import IdHasher
from features.kernels.scan import (
    KIND_FIELD,
    UNDECIDED,
    FieldColumn,
    Form,
    FrameColumn,
    Span,
    Text,
    scan,
)
from features.kernels.words import WORD_PADDING
from features.records import INPUT_RECORDS, ONE_TOPIC, Label, Transaction

KINDS: dict[type[Struct], Kind] = {Transaction: Kind.TRANSACTION, Label: Kind.LABEL}
_CELLS = {"amount_minor": Cell.AMOUNT, "balance_minor": Cell.BALANCE, "verdict": Cell.LABEL}
_TEXT_BYTES_MAX = 15  # with its closing quote, two words


class Tables(NamedTuple):
    """The tables of `features.kernels.scan`, int64."""

    fields: NDArray[np.int64]
    words: NDArray[np.int64]
    frames: NDArray[np.int64]


class Scanned(NamedTuple):
    """A scanned batch: kinds (n,) are REFUSED where the scanner is unsure of a record."""

    text: bytes  # the records end to end, each followed by a byte 0
    kinds: NDArray[np.uint8]
    cells: Cells
    spans: NDArray[np.int64]
    unsure_count: int
    foreign_count: int  # transactions in another currency than the given one


class Scanner:
    """Takes the plain records of a batch into cells."""

    def __init__(self, hasher: IdHasher) -> None:
        fields, words, frames = tables()
        # The kernel notes in it which field follows which: only to look there first.
        self._tables = (fields.copy(), words, frames)
        self._key = hasher.key
        self._frames = {
            topic: int(KINDS[kind]) for topic, kind in INPUT_RECORDS.items() if kind in KINDS
        }
        self._frames[ONE_TOPIC] = UNDECIDED

    def scan(self, topics: Sequence[str], values: Sequence[bytes], own_code: int) -> Scanned:
        """Scan `values`, each sent on the topic of the same place; `own_code` is a currency's."""
        count = len(values)
        text = b"\0".join([*values, WORD_PADDING])
        frames = bytearray(map(self._frames.get, topics, repeat(int(Kind.REFUSED))))
        kinds = np.frombuffer(frames, dtype=np.uint8)
        spans = np.empty((len(Span), count), dtype=np.int64)
        spans[Span.BYTES] = list(map(len, values))
        cells = np.empty((len(Cell), count), dtype=np.int64)
        data = np.frombuffer(text, dtype=np.uint8)
        unsure_count, foreign_count = scan(
            data, kinds, cells, spans, *self._tables, *self._key, own_code
        )
        return Scanned(text, kinds, cells, spans, unsure_count, foreign_count)


@cache
def tables() -> Tables:
    """Return what the kernel has to know of transactions and labels."""
    fields: dict[str, Any] = {}
    for record in KINDS:
        for field in _fields_of(record):
            if fields.setdefault(field.name, field.type) != field.type:
                raise ValueError(f"{field.name}: expected one type in all records that are scanned")
    words: list[list[int]] = []
    rows = [_kind_row(words)]
    rows += [_row(name, kind, words) for name, kind in fields.items()]
    rows.append([0] * len(rows[0]))  # the beginning of a record
    numbers = {name: number for number, name in enumerate(fields, KIND_FIELD + 1)}
    frames = np.zeros((UNDECIDED + 1, len(FrameColumn)), dtype=np.int64)
    for record, kind in KINDS.items():
        known = [(1 << numbers[field.name], field.required) for field in _fields_of(record)]
        frames[kind, FrameColumn.REQUIRED] = sum(bit for bit, required in known if required)
        frames[kind, FrameColumn.KNOWN] = sum(bit for bit, _ in known) | (1 << KIND_FIELD)
        frames[UNDECIDED] |= frames[kind]
    return Tables(np.array(rows, dtype=np.int64), np.array(words, dtype=np.int64), frames)


def _fields_of(record: type[Struct]) -> tuple[Any, ...]:
    kind: Any = inspect.type_info(record)
    return tuple(kind.fields)


def _kind_row(words: list[list[int]]) -> list[int]:
    values = {str(record.__struct_config__.tag): int(kind) for record, kind in KINDS.items()}
    first = _add_words(values, words)
    return _field_row("kind", Form.WORD, words_from=first, words_to=len(words))


def _row(name: str, kind: Any, words: list[list[int]]) -> list[int]:
    """Return a field's row of the table; its type says what the scanner may take."""
    options = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    nullable = any(isinstance(option, inspect.NoneType) for option in options)
    (value,) = (option for option in options if not isinstance(option, inspect.NoneType))
    value = value.type if isinstance(value, inspect.Metadata) else value
    cell = _CELLS.get(name, Cell.__members__.get(name.upper(), -1))
    if isinstance(value, inspect.LiteralType):
        first = _add_words({str(word): _number(name, str(word)) for word in value.values}, words)
        return _field_row(name, Form.WORD, cell, 0, 0, nullable, first, len(words))
    if isinstance(value, inspect.StrType) and value.pattern is None:
        return _field_row(name, Form.ID, cell, value.min_length, value.max_length, nullable)
    if isinstance(value, inspect.StrType) and value.pattern == f"^[A-Z]{{{value.max_length}}}$":
        least = code_of("A" * (value.max_length or 0))
        return _field_row(name, Form.LETTERS, cell, least, value.max_length, nullable)
    if isinstance(value, inspect.IntType):
        return _field_row(name, Form.INTEGER, cell, value.ge, value.le, nullable)
    if isinstance(value, inspect.FloatType):
        return _field_row(name, Form.MICRO, cell, value.ge, value.le, nullable)
    raise ValueError(f"{name}: expected a type that the scanner can read, got {kind}")


def _number(name: str, word: str) -> int:
    if name == "verdict":
        return LabelCode.FRAUD if word == "fraud" else LabelCode.LEGITIMATE
    return code_of(word)


def _add_words(numbers: dict[str, int], words: list[list[int]]) -> int:
    """Add words with their numbers to the table; return the row of the first."""
    first = len(words)
    words += [[*_text(word), number] for word, number in numbers.items()]
    return first


def _field_row(
    name: str,
    form: Form,
    cell: int = -1,
    least: float | None = 0,
    most: float | None = 0,
    nullable: bool = False,
    words_from: int = 0,
    words_to: int = 0,
) -> list[int]:
    if least is None or most is None:
        raise ValueError(f"{name}: expected a lower and an upper bound")
    numbers = {
        FieldColumn.FORM: form,
        FieldColumn.CELL: cell,
        FieldColumn.LEAST: least,
        FieldColumn.MOST: most,
        FieldColumn.NULLABLE: nullable,
        FieldColumn.WORDS_FROM: words_from,
        FieldColumn.WORDS_TO: words_to,
        FieldColumn.NEXT: 0,
    }
    return [*_text(name), *(int(numbers[column]) for column in FieldColumn)]


def _text(text: str) -> list[int]:
    """Return the columns of `Text` for a text: its bytes and a quote as two words, and masks."""
    quoted = text.encode() + b'"'
    if len(quoted) > _TEXT_BYTES_MAX + 1:
        raise ValueError(f"{text}: expected at most {_TEXT_BYTES_MAX} bytes")
    parts = (quoted.ljust(16, b"\0"), (b"\xff" * len(quoted)).ljust(16, b"\0"))
    low, high, low_mask, high_mask = np.frombuffer(b"".join(parts), dtype="<i8").tolist()
    numbers = {
        Text.LOW: low,
        Text.HIGH: high,
        Text.LOW_MASK: low_mask,
        Text.HIGH_MASK: high_mask,
        Text.BYTES: len(quoted),
    }
    return [numbers[column] for column in Text]
