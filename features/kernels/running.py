"""Windows that move with time: what enters and what leaves them, instead of all that is inside.

The running state of a history is one block of the pool: where every window begins (its bounds),
then the words of every family. It is a cache: it holds nothing that the events do not say, and is
made again from them after whatever does not come in the order of time. Positions in it are sequence
numbers (`HistoryField.BASE` + position), so that dropping old events moves nothing. All of it is
integer arithmetic, so the values are those of a walk over the whole window, bit for bit.
"""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels import extremes, occurrences
from features.kernels.arena import later_than
from features.kernels.jit import inlined
from features.kernels.layout import (
    INVALID,
    EntityField,
    FamilyField,
    FamilyState,
    HistoryField,
    MemberField,
    Method,
    RunField,
    Table,
    Want,
    WindowField,
)
from features.kernels.moments import add_square, subtract_square
from features.kernels.sweep import fill_sums
from features.kernels.terms import value_if
from features.plan import Aggregate

SUM_WORDS = 4  # of each window of a family of sums: count, total, squares (high, low)
SUMS_AT = FamilyState.EXTREMES + 2 * extremes.QUEUE_WORDS
_COUNTS = FamilyState.TABLE + occurrences.TABLE_WORDS
_FIRSTS = FamilyState.ENTERED + 1
_NOT_YET_MS = np.iinfo(np.int64).max


def state_words(method: int, window_count: int) -> int:
    """Return how many words a family's running state has, 0 where it has none."""
    fixed_and_each = {
        Method.SUMS: (SUMS_AT, SUM_WORDS),
        Method.DISTINCT: (_COUNTS, 1),
        Method.SEEN: (_COUNTS, 0),
        Method.LATEST: (FamilyState.NEWEST + 1, 0),
        Method.FIRST: (_FIRSTS, 1),
    }
    fixed, each = fixed_and_each.get(Method(method), (0, 0))
    return fixed + each * window_count


@inlined
def advance_bounds(
    entities: Table, bounds: Table, histories: Table, arena: Table, pool: Table, entity: int,
    history: int, ts_ms: int, positions: Table, earlier: Table,
) -> bool:  # fmt: skip
    """Fill `positions` with where each bound lies now, `earlier` with where it lay before.

    Returns whether the running state was in date: else `earlier` means nothing.
    """
    first, last = entities[entity, EntityField.BOUND_FROM], entities[entity, EntityField.BOUND_TO]
    block = histories[history, HistoryField.RUNNING]
    base, start = histories[history, HistoryField.BASE], histories[history, HistoryField.START]
    count = histories[history, HistoryField.COUNT]
    valid = pool[block + RunField.TIME_MS] <= ts_ms
    pool[block + RunField.TIME_MS] = ts_ms
    at = block + RunField.BOUNDS
    high = count
    for bound in range(first, last):
        edge_ms = ts_ms - bounds[bound]
        if valid:
            position = pool[at] - base
            earlier[bound] = position
            next_ms = pool[at + 1]
            if next_ms > edge_ms and next_ms != _NOT_YET_MS:
                positions[bound] = position
                at += 2
                continue
            while position < count and arena[start + position] <= edge_ms:
                position += 1
        else:
            position = later_than(arena, start, high, edge_ms)
            high = position
        positions[bound] = position
        pool[at] = position + base
        pool[at + 1] = arena[start + position] if position < count else _NOT_YET_MS
        at += 2
    return bool(valid)


@inlined
def enter_sums(
    arena: Table, start: int, capacity: int, base: int, families: Table, family: int,
    windows: Table, terms: Table, pool: Table, pool_free: Table, control: Table, words: int,
    first: int, high: int,
) -> None:  # fmt: skip
    """Let the events [first, high) enter all windows of a family of sums."""
    window_count = (
        families[family, FamilyField.WINDOW_TO] - families[family, FamilyField.WINDOW_FROM]
    )
    wants = families[family, FamilyField.WANTS]
    queue = words + FamilyState.EXTREMES
    for i in range(first, high):
        value = value_if(arena, start + i, capacity, families, family, terms)
        if value == MISSING:
            continue
        for at in range(words + SUMS_AT, words + SUMS_AT + SUM_WORDS * window_count, SUM_WORDS):
            pool[at] += 1
            pool[at + 1] += value
            if wants & Want.SQUARES:
                pool[at + 2], pool[at + 3] = add_square(pool[at + 2], pool[at + 3], value)
        if wants & Want.LARGEST:
            extremes.enter(pool, pool_free, control, queue, base + i, value)
        if wants & Want.SMALLEST:
            other = queue + extremes.QUEUE_WORDS
            extremes.enter(pool, pool_free, control, other, base + i, -value)


@inlined
def leave_sums(
    arena: Table, start: int, capacity: int, families: Table, family: int, terms: Table,
    pool: Table, at: int, first: int, last: int,
) -> None:  # fmt: skip
    """Let the events [first, last) leave one window of a family of sums."""
    squares = families[family, FamilyField.WANTS] & Want.SQUARES
    for i in range(first, last):
        value = value_if(arena, start + i, capacity, families, family, terms)
        if value == MISSING:
            continue
        pool[at] -= 1
        pool[at + 1] -= value
        if squares:
            pool[at + 2], pool[at + 3] = subtract_square(pool[at + 2], pool[at + 3], value)


@inlined
def run_sums(
    arena: Table, start: int, capacity: int, base: int, families: Table, family: int,
    windows: Table, terms: Table, pool: Table, pool_free: Table, control: Table, words: int,
    positions: Table, earlier: Table, high: int,
) -> None:  # fmt: skip
    """Bring a family of sums up to date; `high` is the end of its windows."""
    window_from, window_to = (
        families[family, FamilyField.WINDOW_FROM],
        families[family, FamilyField.WINDOW_TO],
    )
    lowest = min(positions[windows[window_from, WindowField.BOUND]], high)
    entered = pool[words + FamilyState.ENTERED] - base
    fresh = pool[words + FamilyState.ENTERED] == INVALID
    queue = words + FamilyState.EXTREMES
    if fresh:
        entered = lowest
        for at in range(words + SUMS_AT, words + SUMS_AT + SUM_WORDS * (window_to - window_from)):
            pool[at] = 0
        extremes.clear(pool, queue)
        extremes.clear(pool, queue + extremes.QUEUE_WORDS)
    enter_sums(
        arena, start, capacity, base, families, family, windows, terms, pool, pool_free, control,
        words, entered, high,
    )  # fmt: skip
    at = words + SUMS_AT
    for window in range(window_from, window_to):
        low = min(positions[windows[window, WindowField.BOUND]], high)
        before = lowest if fresh else min(earlier[windows[window, WindowField.BOUND]], entered)
        if before < low:
            leave_sums(arena, start, capacity, families, family, terms, pool, at, before, low)
        at += SUM_WORDS
    if families[family, FamilyField.WANTS] & Want.LARGEST:
        extremes.leave(pool, queue, base + lowest)
    if families[family, FamilyField.WANTS] & Want.SMALLEST:
        extremes.leave(pool, queue + extremes.QUEUE_WORDS, base + lowest)
    pool[words + FamilyState.ENTERED] = base + high


@inlined
def read_sums(
    base: int,
    families: Table,
    family: int,
    windows: Table,
    pool: Table,
    words: int,
    positions: Table,
    high: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill the slots of a family of sums that is up to date."""
    queue = words + FamilyState.EXTREMES
    wants, scale = families[family, FamilyField.WANTS], families[family, FamilyField.SCALE]
    largest, smallest, most, least = 0, 0, 0, 0
    at = words + SUMS_AT
    for window in range(
        families[family, FamilyField.WINDOW_FROM], families[family, FamilyField.WINDOW_TO]
    ):
        if wants & (Want.LARGEST | Want.SMALLEST) and pool[at] > 0:
            low = base + min(positions[windows[window, WindowField.BOUND]], high)
            if wants & Want.LARGEST:
                largest = extremes.first_from(pool, queue, largest, low)
                most = extremes.value_of(pool, queue, largest)
            if wants & Want.SMALLEST:
                other = queue + extremes.QUEUE_WORDS
                smallest = extremes.first_from(pool, other, smallest, low)
                least = -extremes.value_of(pool, other, smallest)
        fill_sums(
            windows, window, pool[at], pool[at + 1], pool[at + 2], pool[at + 3], least, most,
            scale, row, slot_values,
        )  # fmt: skip
        at += SUM_WORDS


@inlined
def run_values(
    arena: Table, start: int, capacity: int, base: int, families: Table, family: int,
    windows: Table, terms: Table, pool: Table, pool_free: Table, control: Table, words: int,
    positions: Table, earlier: Table, high: int,
) -> None:  # fmt: skip
    """Bring the table of a family of DISTINCT or SEEN up to date, and the counts of DISTINCT."""
    window_from, window_to = (
        families[family, FamilyField.WINDOW_FROM],
        families[family, FamilyField.WINDOW_TO],
    )
    counting = families[family, FamilyField.METHOD] == Method.DISTINCT
    lowest = min(positions[windows[window_from, WindowField.BOUND]], high)
    entered = pool[words + FamilyState.ENTERED] - base
    fresh = pool[words + FamilyState.ENTERED] == INVALID
    table, counts = words + FamilyState.TABLE, words + _COUNTS - window_from
    if fresh:
        entered = lowest
        occurrences.clear(pool, table)
        if counting:
            for window in range(window_from, window_to):
                pool[counts + window] = 0
    for i in range(entered, high):
        value = value_if(arena, start + i, capacity, families, family, terms)
        if value == MISSING:
            continue
        last = occurrences.enter(pool, pool_free, control, table, base + i, value) - base
        if counting:
            for window in range(window_from, window_to):
                low = lowest if fresh else min(earlier[windows[window, WindowField.BOUND]], entered)
                pool[counts + window] += last < low
    # The widest window last: what leaves it leaves the table.
    for window in range(window_to - 1 if counting else window_from, window_from - 1, -1):
        first = lowest if fresh else min(earlier[windows[window, WindowField.BOUND]], entered)
        for i in range(first, min(positions[windows[window, WindowField.BOUND]], high)):
            value = value_if(arena, start + i, capacity, families, family, terms)
            if value == MISSING or occurrences.last_of(pool, table, value) != base + i:
                continue
            if counting:
                pool[counts + window] -= 1
            if window == window_from:
                occurrences.remove(pool, table, value)
    pool[words + FamilyState.ENTERED] = base + high


@inlined
def read_values(
    base: int, families: Table, family: int, windows: Table, members: Table, pool: Table,
    words: int, positions: Table, high: int, current: int, row: int,
    slot_values: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill the slots of a family of DISTINCT or SEEN that is up to date.

    `current` is the record's own value, for SEEN.
    """
    window_from = families[family, FamilyField.WINDOW_FROM]
    counting = families[family, FamilyField.METHOD] == Method.DISTINCT
    last = -1
    if not counting and current != MISSING:
        last = occurrences.last_of(pool, words + FamilyState.TABLE, current)
    for member in range(
        families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
    ):
        window = members[member, MemberField.WINDOW]
        if counting:
            value = float(pool[words + _COUNTS + window])
        else:
            low = base + min(positions[windows[window_from + window, WindowField.BOUND]], high)
            value = 1.0 if last >= low else 0.0
        slot_values[members[member, MemberField.OUTPUT], row] = value


@inlined
def run_latest(
    arena: Table, start: int, capacity: int, base: int, families: Table, family: int,
    windows: Table, terms: Table, pool: Table, words: int, positions: Table, high: int,
) -> None:  # fmt: skip
    """Bring the newest qualifying event up to date."""
    lowest = positions[windows[families[family, FamilyField.WINDOW_FROM], WindowField.BOUND]]
    entered = pool[words + FamilyState.ENTERED] - base
    if pool[words + FamilyState.ENTERED] == INVALID:
        pool[words + FamilyState.NEWEST] = INVALID
        entered = lowest
    for i in range(high - 1, entered - 1, -1):
        if value_if(arena, start + i, capacity, families, family, terms) != MISSING:
            pool[words + FamilyState.NEWEST] = base + i
            break
    pool[words + FamilyState.ENTERED] = base + high


@inlined
def read_latest(
    arena: Table, start: int, capacity: int, base: int, families: Table, family: int,
    windows: Table, members: Table, pool: Table, words: int, positions: Table, high: int,
    ts_ms: int, row: int, slot_values: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill SINCE and LAST."""
    window_from = families[family, FamilyField.WINDOW_FROM]
    newest = pool[words + FamilyState.NEWEST] - base
    for member in range(
        families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
    ):
        low = positions[
            windows[window_from + members[member, MemberField.WINDOW], WindowField.BOUND]
        ]
        if pool[words + FamilyState.NEWEST] == INVALID or newest < low:
            continue
        output = members[member, MemberField.OUTPUT]
        if members[member, MemberField.AGGREGATE] == Aggregate.SINCE:
            slot_values[output, row] = ts_ms - arena[start + newest]
        else:
            column = members[member, MemberField.COLUMN]
            slot_values[output, row] = arena[start + column * capacity + newest]


@inlined
def run_first(
    arena: Table, start: int, capacity: int, base: int, families: Table, family: int,
    windows: Table, members: Table, terms: Table, pool: Table, words: int, positions: Table,
    high: int, row: int, slot_values: NDArray[np.float64],
) -> None:  # fmt: skip
    """Bring the oldest qualifying event of each window up to date, and fill FIRST."""
    window_from = families[family, FamilyField.WINDOW_FROM]
    fresh = pool[words + FamilyState.ENTERED] == INVALID
    pool[words + FamilyState.ENTERED] = base + high
    for member in range(
        families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
    ):
        window = members[member, MemberField.WINDOW]
        position = positions[windows[window_from + window, WindowField.BOUND]]
        if not fresh:
            position = max(position, pool[words + _FIRSTS + window] - base)
        value = MISSING
        while position < high and value == MISSING:
            value = value_if(arena, start + position, capacity, families, family, terms)
            position += value == MISSING
        pool[words + _FIRSTS + window] = base + position
        if value != MISSING:
            slot_values[members[member, MemberField.OUTPUT], row] = value
