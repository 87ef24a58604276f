"""The compiled form of a policy's expressions: data that kernels walk, not code.

A plan is made by `features.expressions.compile_plan`, filled by `features.histories` (slots) and
evaluated by `features.kernels.walker` (programs). Two programs share the slots: the first needs
nothing but the record, its profile and its histories; the second may also read model scores.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Aggregate(IntEnum):
    """What a slot computes over its window."""

    COUNT = 0
    SUM = 1
    MEAN = 2
    STD = 3  # population standard deviation
    MIN = 4
    MAX = 5
    FIRST = 6
    LAST = 7
    SINCE = 8  # milliseconds from the newest event of the window to the current one
    SEEN = 9  # 1.0 where an event of the window has the current record's value
    DISTINCT = 10


class SlotField(IntEnum):
    """Columns of the slots table, shape (slots, len(SlotField)), int64."""

    ENTITY = 0  # index into Plan.entities
    AGGREGATE = 1
    VALUE = 2  # the Cell that is aggregated; -1 for COUNT and SINCE
    WINDOW_MS = 3
    DELAY_MS = 4
    TERM_FROM = 5  # rows [TERM_FROM, TERM_TO) of the terms table must all hold
    TERM_TO = 6
    INCLUDING_CURRENT = 7


class Comparison(IntEnum):
    """How a term compares the stored cell (int64) with its constant (int64)."""

    EQ = 0
    NE = 1
    LT = 2
    LE = 3
    GT = 4
    GE = 5


class TermField(IntEnum):
    """Columns of the terms table (the `where=` conditions), int64."""

    CELL = 0
    COMPARISON = 1
    CONSTANT = 2


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that has a history: its key field, scope, and the cells kept of each event.

    `kept` always begins with TS_MS, EVENT_ID and LABEL; then ascending, without repeats.
    """

    name: str
    key: int
    shared: bool
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """Bytecode over registers, shape (instructions, 4): opcode, destination, a, b."""

    code: NDArray[np.int64]
    floats: NDArray[np.float64]
    ints: NDArray[np.int64]
    register_count: int
    outputs: dict[str, int]  # name -> row of the result


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the kernels need to know about a policy's expressions."""

    entities: tuple[Entity, ...]
    slots: NDArray[np.int64]
    terms: NDArray[np.int64]
    slot_texts: tuple[str, ...]  # canonical text of each slot, for reasons and errors
    externals: tuple[str, ...]  # "profile.<field>" and "model.<name>", in column order
    before_models: Program
    after_models: Program
    reach_ms: int  # histories keep at least this much
    event_cap: int  # and at most this many events of an entity
