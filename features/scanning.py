"""What the scanner knows of the records, read off their types, and its call for a batch."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct, inspect
from numpy.typing import NDArray

from features.codes import code_of
from features.columns import Cell, Cells, Kind, LabelCode
from features.hashing import IdHasher
from features.kernels.numbers import MICRO_BOUND
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
_FIELDS_MAX = 62  # and `kind`: a set of them is one integer


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
    return tables_of(KINDS)


def tables_of(records: Mapping[type[Struct], Kind]) -> Tables:
    """Return what the kernel has to know of these records.

    A field that two of them have must be of one type, and a name at most 15 bytes long: ValueError.
    """
    fields: dict[str, Any] = {}
    for record in records:
        for field in _fields_of(record):
            if fields.setdefault(field.name, field.type) != field.type:
                raise ValueError(f"{field.name}: expected one type in all records that are scanned")
    if len(fields) > _FIELDS_MAX:
        raise ValueError(f"expected at most {_FIELDS_MAX} fields, got {len(fields)}")
    words: list[list[int]] = []
    tags = {str(record.__struct_config__.tag): int(kind) for record, kind in records.items()}
    rows = [_row("kind", _Reading(Form.WORD, words=tags), False, words)]
    for name, kind in fields.items():
        options = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        kinds = [option for option in options if not isinstance(option, inspect.NoneType)]
        reading = _reading(name, kinds[0]) if len(kinds) == 1 else _Reading(Form.OTHER)
        rows.append(_row(name, reading, len(kinds) < len(options), words))
    rows.append([0] * len(rows[0]))  # the beginning of a record
    numbers = {name: number for number, name in enumerate(fields, KIND_FIELD + 1)}
    frames = np.zeros((UNDECIDED + 1, len(FrameColumn)), dtype=np.int64)
    for record, frame in records.items():
        known = [(1 << numbers[field.name], field.required) for field in _fields_of(record)]
        frames[frame, FrameColumn.REQUIRED] = sum(bit for bit, required in known if required)
        frames[frame, FrameColumn.KNOWN] = sum(bit for bit, _ in known) | (1 << KIND_FIELD)
        frames[UNDECIDED, FrameColumn.KNOWN] |= frames[frame, FrameColumn.KNOWN]
    frames[UNDECIDED, FrameColumn.REQUIRED] = 1 << KIND_FIELD  # which decides
    return Tables(np.array(rows, dtype=np.int64), np.array(words, dtype=np.int64), frames)


def _fields_of(record: type[Struct]) -> tuple[Any, ...]:
    kind: Any = inspect.type_info(record)
    return tuple(kind.fields)


class _Reading(NamedTuple):
    """How a field's value is read: the columns of `FieldColumn`, and the words it may hold."""

    form: Form
    least: float = 0
    most: float = 0
    words: Mapping[str, int] = {}


def _reading(name: str, kind: Any) -> _Reading:
    """Return how to read a type; OTHER where the scanner leaves it to the typed decoder."""
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(kind, inspect.LiteralType):
        words = [str(word) for word in kind.values]
        if all(len(word.encode()) <= _TEXT_BYTES_MAX for word in words):
            return _Reading(Form.WORD, words={word: _number(name, word) for word in words})
    if isinstance(kind, inspect.StrType):
        least, most = kind.min_length, kind.max_length
        if kind.pattern is None and least is not None and most is not None:
            return _Reading(Form.ID, least, most)
        if most in (2, 3) and kind.pattern == f"^[A-Z]{{{most}}}$":
            return _Reading(Form.LETTERS, code_of("A" * most), most)
    if isinstance(kind, inspect.IntType | inspect.FloatType) and kind.multiple_of is None:
        bounds = [bound for bound in (kind.ge, kind.le) if bound is not None]
        inclusive = len(bounds) == 2 and kind.gt is None and kind.lt is None
        if inclusive and isinstance(kind, inspect.IntType):
            return _Reading(Form.INTEGER, bounds[0], bounds[1])
        if inclusive and max(map(abs, bounds)) <= MICRO_BOUND:
            return _Reading(Form.MICRO, bounds[0], bounds[1])
    return _Reading(Form.OTHER)


def _number(name: str, word: str) -> int:
    if name == "verdict":
        return LabelCode.FRAUD if word == "fraud" else LabelCode.LEGITIMATE
    return code_of(word) if _cell(name) >= 0 else 0


def _cell(name: str) -> int:
    return _CELLS.get(name, Cell.__members__.get(name.upper(), -1))


def _row(name: str, reading: _Reading, nullable: bool, words: list[list[int]]) -> list[int]:
    """Return a field's row of the table, and add its words to theirs."""
    first = len(words)
    words += [[*_text(word), number] for word, number in reading.words.items()]
    numbers = {
        FieldColumn.FORM: reading.form,
        FieldColumn.CELL: _cell(name),
        FieldColumn.LEAST: reading.least,
        FieldColumn.MOST: reading.most,
        FieldColumn.NULLABLE: nullable,
        FieldColumn.WORDS_FROM: first,
        FieldColumn.WORDS_TO: len(words),
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
