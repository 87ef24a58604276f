"""The compiled form of a policy's expressions: data that kernels walk, not code.

A plan is made by `features.expressions.compile_plan`, filled by `features.histories` (slots) and
evaluated by `features.kernels.walker` (programs). Two programs share the slots: the first needs
nothing but the record, its profile and its histories; the second may also read model scores.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from features.columns import Kind

KEPT_UNITS_MAX = 2**51  # a kept value beyond it, either way, is absent: all within it are exact


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
    QUANTILE = 11  # PARAMETER: the share in millionths; linear between order statistics
    STREAK = 12  # how many of the newest events in a row meet the run's terms
    STREAK_AGE = 13  # milliseconds from the oldest event of that run to the current one
    EWMA = 14  # mean, each event weighted by 0.5 ** (age / PARAMETER ms)
    TREND = 15  # least-squares slope of the value over time, a day
    TOP = 16  # 1.0 where the current record's MATCH cell is the window's most frequent value


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
    PARAMETER = 8  # of QUANTILE and EWMA
    MATCH = 9  # of TOP: the Cell of the current record; -1 for all others
    RUN_FROM = 10  # of STREAK and STREAK_AGE: rows [RUN_FROM, RUN_TO) of the terms table
    RUN_TO = 11
    STAGE = 12  # computed after the kept values of all earlier stages
    SCALE = 13  # of MEAN and STD: so many raw units make one of theirs; 1 for all others


class Comparison(IntEnum):
    """How a term compares the stored cell (int64) with its constant (int64)."""

    EQ = 0
    NE = 1
    LT = 2
    LE = 3
    GT = 4
    GE = 5


class TermField(IntEnum):
    """Columns of the terms table (the `where=` conditions), int64.

    A condition is a conjunction of clauses, a clause a disjunction of terms. A term EQ with the
    constant MISSING holds exactly for a missing cell; no other term ever holds for one, `!=` and
    `<` included, so that a plan needs no second term for these.
    """

    CELL = 0
    COMPARISON = 1
    CONSTANT = 2
    ENDS_CLAUSE = 3  # 1 for the last term of a clause


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that has a history: its key field, scope, and the cells kept of each event.

    `kept` always begins with TS_MS, EVENT_ID and LABEL; then ascending, without repeats. A history
    holds the records of one kind; an entity of which several kinds are remembered stands several
    times, under the names `card`, `card@interaction` and so on.
    """

    name: str
    key: int
    shared: bool
    kept: tuple[int, ...]
    kind: Kind = Kind.TRANSACTION


@dataclass(frozen=True, slots=True)
class Program:
    """Bytecode over registers, shape (instructions, 4): opcode, destination, a, b."""

    code: NDArray[np.int64]
    floats: NDArray[np.float64]
    ints: NDArray[np.int64]
    register_count: int
    outputs: dict[str, int]  # name -> row of the result
    reads: dict[str, tuple[int, ...]] = field(default_factory=dict)  # output -> slots behind it
    of_record: frozenset[str] = frozenset()  # outputs that read more of the record than its time


@dataclass(frozen=True, slots=True)
class KeptValue:
    """A named value (`let`) that histories keep: computed once, when its event arrives.

    It stands in the cells matrix as a whole number of 1/`scale` units, rounded half to even;
    absent where the value is undefined or beyond KEPT_UNITS_MAX units (for a number about 2.25e9).
    `fingerprint` is the hash of its definition: by it a stored history is understood when the plan
    has changed.
    """

    name: str
    cell: int  # len(Cell) and above
    scale: int
    fingerprint: int


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
    values: tuple[KeptValue, ...] = ()
    stages: tuple[Program, ...] = ()  # stage k gives kept values, by name, from slots up to k
    repeat_horizon_ms: int = 0  # an event id seen again within this time is the same event
