"""A plan's histories and slots as flat arrays: the tables that the history kernels walk.

The kernels read `Layout` (made once from a plan) and change `State`. Every table is a matrix of
int64; the enumerations below name its columns.
"""

from enum import IntEnum
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

# With the number of dimensions, which features.kernels.book has to know of an array in a tuple.
Table = Annotated[NDArray[np.int64], 2]
Vector = Annotated[NDArray[np.int64], 1]
FloatTable = Annotated[NDArray[np.float64], 2]
FloatVector = Annotated[NDArray[np.float64], 1]

CAPACITY_MIN = 8  # events in the smallest block
SIZE_CLASS_COUNT = 32
INVALID = -1
INVALID_MS = np.iinfo(np.int64).max  # no time is as late
NEVER_MS = np.iinfo(np.int64).min  # the floor of a history from which nothing was dropped
SPAN_MS_MAX = 1 << 61  # longer windows, delays and reaches mean "ever": no overflow in t - w - d

NOT_REACHED = -1  # EntityField.LABEL_KEY: no slot of this entity depends on labels
SAME_CUSTOMER = -2  # EntityField.LABEL_KEY: another history of the very same customer


class EntityField(IntEnum):
    """Columns of `Layout.entities`."""

    KEY_CELL = 0
    SHARED = 1
    WIDTH = 2  # columns of a block: the kept cells, and for a shared entity the partition
    KEPT_FROM = 3  # rows [KEPT_FROM, KEPT_FROM + KEPT_COUNT) of `Layout.kept`
    KEPT_COUNT = 4
    BOUND_FROM = 5
    BOUND_TO = 6
    FAMILY_FROM = 7
    FAMILY_TO = 8
    LABEL_KEY = 9  # column of the customer's block that holds this entity's key
    CELLS = 10  # bitmap of the kept cells
    KIND = 11  # of the records that its histories hold
    STATE_WORDS = 12  # size of the running state, without what grows
    STATE_GROWING = 13  # how many of its structures grow with the history
    STATE_COLUMNS = 14  # bitmap of the columns that are read when an event leaves a window
    SERIES_FROM = 15  # rows [SERIES_FROM, SERIES_TO) of `Layout.series`
    SERIES_TO = 16
    TILE_WORDS = 17  # of a block of tiles, 0 where the entity has no series


class FamilyField(IntEnum):
    """Columns of `Layout.families`: slots that differ only in aggregate and window."""

    VALUE_CELL = 0
    VALUE_COLUMN = 1  # -1 where events themselves are counted
    TERM_FROM = 2
    TERM_TO = 3
    HIGH_BOUND = 4
    INCLUDING_CURRENT = 5
    MEMBER_FROM = 6  # members stand with the widest window first
    MEMBER_TO = 7
    METHOD = 8
    NEEDS = 9  # bitmap of the columns that every qualifying event has a value in
    RUN_FROM = 10  # of runs: the terms that every event of the run meets
    RUN_TO = 11
    STATE = 12  # where its words begin in the running state, -1 where it has none
    WINDOW_FROM = 13  # rows of `Layout.windows`
    WINDOW_TO = 14
    WANTS = 15  # bits of `Want`
    READS_LABEL = 16
    SCALE = 17  # of MEAN and STD: what they are divided by together with the count


class Method(IntEnum):
    """How a family's values are found."""

    ENDS = 0  # counts of all events: where the windows end is enough
    SUMS = 1  # COUNT, SUM, MEAN, STD, MIN and MAX: sums and extremes of what qualifies
    DISTINCT = 2
    SEEN = 3
    LATEST = 4  # SINCE and LAST: the newest event that qualifies
    FIRST = 5  # the oldest one of the window
    GATHER = 6  # all others: the values of every qualifying event, side by side
    SERIES = 7  # EWMA and TREND: as GATHER, with the times beside the values
    RUN = 8  # STREAK and STREAK_AGE: from the newest event back to the first that breaks the run


class Want(IntEnum):
    """What the members of a family of sums need beyond count and sum."""

    SQUARES = 1
    LARGEST = 2
    SMALLEST = 4


class WindowField(IntEnum):
    """Columns of `Layout.windows`: the different windows of each family, the widest first.

    Families of sums have their slots here, -1 where nobody asks.
    """

    BOUND = 0
    COUNT = 1
    SUM = 2
    MEAN = 3
    STD = 4
    MIN = 5
    MAX = 6


class MemberField(IntEnum):
    """Columns of `Layout.members`: one row for each slot of the plan."""

    OUTPUT = 0
    AGGREGATE = 1
    LOW_BOUND = 2
    COLUMN = 3  # of LAST: the column of its value
    PARAMETER = 4  # of QUANTILE and EWMA
    MATCH = 5  # of TOP: the cell of the current record
    WINDOW = 6  # which of the family's windows
    SERIES = 7  # row of `Layout.series`, -1 where no tiles tell of events that were dropped


class RunField(IntEnum):
    """The first words of a running state; then two for each bound: position and next time."""

    TIME_MS = 0  # that it was last brought up to, INVALID_MS where it is out of date
    BOUNDS = 1


class FamilyState(IntEnum):
    """The first words of a family's running state; words for each window follow."""

    ENTERED = 0  # sequence number up to which events have entered, INVALID where out of date
    EXTREMES = 1  # SUMS: two queues (see features.kernels.extremes)
    TABLE = 1  # DISTINCT and SEEN: a table (see features.kernels.occurrences)
    NEWEST = 1  # LATEST: sequence number of the newest event that qualifies, INVALID where none


class RangeField(IntEnum):
    """Columns of `Layout.terms`: a term holds if the value lies in [LOW, HIGH], or not in it.

    Every comparison is such a range, so the kernels need no branch to tell them apart. Of a
    MISSING value only the range [MISSING, MISSING] holds.
    """

    COLUMN = 0
    LOW = 1
    HIGH = 2
    NEGATED = 3
    ENDS_CLAUSE = 4  # an event qualifies if in every clause some term holds


class StageField(IntEnum):
    """Columns of `Layout.stages`: a program, as ranges of the tables that all programs share."""

    CODE_FROM = 0
    CODE_TO = 1
    FLOAT_FROM = 2
    FLOAT_TO = 3
    INT_FROM = 4
    INT_TO = 5
    REGISTER_COUNT = 6
    OUTPUT_FROM = 7  # rows of `Layout.outputs`
    OUTPUT_TO = 8


class OutputField(IntEnum):
    """Columns of `Layout.outputs`: a kept value that a stage computes."""

    RESULT = 0  # row of the program's results
    CELL = 1
    SCALE = 2


class CurrentField(IntEnum):
    """Columns of `Scratch.current`: where the row at hand stands in an entity's history."""

    HISTORY = 0  # -1 where there is none
    POSITION = 1  # -1 where the history doesn't hold the row's event
    INSERTED = 2  # the event came in with this row
    RUNS = 3  # the running state is used, and was brought up to this row


class HistoryField(IntEnum):
    """Columns of `State.histories`: one row for each resident entity."""

    KEY = 0
    OWNER = 1  # entity << 32 | (partition + 1, or 0 where shared)
    START = 2  # first word of the block in the arena
    CAPACITY = 3  # events that the block has room for, 0 where there is no block yet
    COUNT = 4
    FLOOR_TS = 5  # time of the newest event ever dropped
    PARTIAL = 6  # head of the chain of partials, -1 where empty
    KNOWN = 7  # bitmap of the columns in which some event has, or once had, a value
    LACKING = 8  # bitmap of the columns that some event lacks: see features.kernels.lacking
    LACKING_TS = 9  # time of the newest event that lacks any of them
    BASE = 10  # sequence number of the event at position 0: how many were ever dropped
    RUNNING = 11  # start of the running state in the pool, -1 where there is none
    TILES = 12  # start of the block of tiles in the pool, -1 where nothing was ever folded


FREE_ROW = -2  # HistoryField.PARTIAL of a row that belongs to nobody: KEY is the next free row
TOUCHED = 1 << 62  # bit of HistoryField.KNOWN: used since eviction last looked at the history
ASKED = 1 << 61  # the same: the parts that other processes hold were asked for
READ = 1 << 60  # and were read: since then they only have to be kept up to date


class PartialField(IntEnum):
    """Columns of `State.partials`: the part of a history that one partition stores."""

    HISTORY = 0
    PARTITION = 1
    NEXT = 2
    COUNT = 3
    DIRTY = 4
    WHOLE = 5  # the stored value can't be patched: it must be replaced
    CHANGED_FROM = 6  # first event of the partial that differs from what is stored
    HEADER = 7  # the stored capacity or floor time is out of date
    FOREIGN = 8  # another process owns it: read only, and never stored from here
    TILES = 9  # of a shared entity: the tiles of this partition's events, -1 where there are none
    SECTION_BYTES = 10  # of the tiles in the stored value


class Control(IntEnum):
    """Cells of `State.control`."""

    ROW = 0  # where a kernel goes on after the arrays grew
    ENTITY = 1
    WORDS_NEEDED = 2
    ARENA_USED = 3
    HISTORY_COUNT = 4
    PARTIAL_COUNT = 5
    DIRTY_COUNT = 6
    UNMATCHED_LABELS = 7
    GENERATION = 8  # stamp of the distinct-count scratch table
    FREE_WORDS = 9  # words of the used arena that belong to no history
    FREE_HISTORY = 10  # first free row of `State.histories` + 1, 0 where there is none
    FREE_HISTORY_COUNT = 11
    FREE_PARTIAL = 12  # the same of `State.partials`, chained by PartialField.NEXT
    FREE_PARTIAL_COUNT = 13
    CHANGES = 14  # how often changes were handed out
    HAND = 15  # row of `State.histories` that eviction looks at next
    EVICTED_COUNT = 16
    REPEATED_EVENTS = 17
    POOL_USED = 18
    LONGEST_COUNT = 19  # events that any history ever had at once
    HAS_FOREIGN = 20  # other processes own some of the partitions


class Need(IntEnum):
    """Why a kernel came back: it is called again after Python has grown the arrays."""

    NOTHING = 0
    ARENA = 1
    TABLES = 2
    REFUSED = 3  # the item at Control.ROW is already resident
    POOL = 4
    MISFIT = 5  # a row holds what can't be stored


class Layout(NamedTuple):
    """What a plan asks for; never changes."""

    entities: Table
    kept: Vector  # (cells kept by all entities,)
    bounds: Vector  # (bounds,): distances back from the current event, ascending per entity
    families: Table
    windows: Table
    members: Table
    terms: Table
    spans: Table  # (entities, stages + 1): families of stage s are [spans[e, s], spans[e, s + 1])
    stages: Table
    outputs: Table
    code: Table  # of all stages, see features.plan.Program
    floats: FloatVector
    ints: Vector
    reach_ms: int
    repeat_horizon_ms: int
    event_cap: int
    run_from_count: int  # windows of shorter histories are walked over instead
    state_words: int  # of all entities together
    state_growing: int
    customer: int  # row of the entity that labels are joined through, -1 where there is none
    reads: Table  # columns: features.kernels.lacking.ReadField
    series: Table  # columns: features.kernels.tiles.SeriesField


class State(NamedTuple):
    """Everything that a kernel changes, apart from its results."""

    lookup: Table  # (power of two, 2): key, row of `histories` + 1 (0: free)
    histories: Table
    partials: Table
    dirty: Vector  # (partials,): rows of `partials`, the first DIRTY_COUNT are in use
    handed: Vector  # (partials,): the number of the changes that last held the partial
    arena: Vector  # (words,)
    free: Table  # (entities, SIZE_CLASS_COUNT): first free block of a size, -1 where none
    pool: Vector  # (words,): see features.kernels.pool
    pool_free: Vector  # (POOL_CLASS_COUNT,): first free block of a size, -1 where none
    control: Vector


class Scratch(NamedTuple):
    """Working memory of one event; nothing in it outlives the event."""

    found: Vector  # (prefetch.ROWS * entities,)
    positions: Vector  # (bounds,)
    earlier: Vector  # (bounds,): where they were before
    starts: Vector  # (members,)
    values: Vector  # (event_cap + features.kernels.tiles.HASHES_MAX_COUNT,)
    times: Vector  # (event_cap,): beside `values`
    ranked: Vector  # (event_cap,): values of one window, in any order
    distinct: Table  # (power of two >= 2 * len(values), 2): value, generation
    tallies: Vector  # beside `distinct`: how often the value was met
    current: Table  # (entities, len(CurrentField))
    registers: FloatTable  # (most registers of a stage, 1)
    results: FloatTable  # (most results of a stage, 1)
    externals: FloatTable  # (0, 1): stages read none
    parts: Table  # (features.kernels.tiles.PART_COUNT, len(features.kernels.tiles.PartField))
    guess: FloatVector  # (len(features.kernels.tiles.GuessField),)
