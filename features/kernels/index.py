"""Who has a history: an open-addressing hash index from (entity, partition, key) to its row.

Functions that run for every event take the arrays they need and no `State`: numba counts
references, atomically, for each array of a tuple at each call, which came to 1 us an event.
"""

import numpy as np

from features.kernels.jit import inlined, kernel, part
from features.kernels.layout import (
    FREE_ROW,
    NEVER_MS,
    TOUCHED,
    Control,
    EntityField,
    HistoryField,
    PartialField,
    State,
    Table,
)


@inlined
def owner_code(entities: Table, entity: int, partition: int) -> int:
    """Return the code of an entity kind and, where it is local, its partition."""
    if entities[entity, EntityField.SHARED]:
        return entity << 32
    return (entity << 32) | (partition + 1)


@inlined
def home_of(lookup: Table, key: int, owner: int) -> int:
    """Return the row of the index at which the search for a key begins."""
    # Keys may be small numbers (codes) as well as hashes: multiply and fold (MurmurHash3's mix).
    x = np.uint64(key) ^ (np.uint64(owner) * np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    return int(np.int64(x & np.uint64(lookup.shape[0] - 1)))


@inlined
def find(lookup: Table, histories: Table, key: int, owner: int) -> int:
    """Return the history of `key`, or -1."""
    at = home_of(lookup, key, owner)
    while lookup[at, 1]:
        history = int(lookup[at, 1]) - 1
        if lookup[at, 0] == key and histories[history, HistoryField.OWNER] == owner:
            return history
        at = (at + 1) & (lookup.shape[0] - 1)
    return -1


@part
def _place(lookup: Table, key: int, owner: int, history: int) -> None:
    at = home_of(lookup, key, owner)
    while lookup[at, 1]:
        at = (at + 1) & (lookup.shape[0] - 1)
    lookup[at, 0] = key
    lookup[at, 1] = history + 1


@part
def remove(lookup: Table, histories: Table, history: int) -> None:
    """Take a history out of the index; what stands behind it moves up, so that no gap stays."""
    last = lookup.shape[0] - 1
    gap = home_of(
        lookup, histories[history, HistoryField.KEY], histories[history, HistoryField.OWNER]
    )
    while lookup[gap, 1] != history + 1:
        gap = (gap + 1) & last
    at = (gap + 1) & last
    while lookup[at, 1]:
        home = home_of(lookup, lookup[at, 0], histories[lookup[at, 1] - 1, HistoryField.OWNER])
        if (at - home) & last >= (at - gap) & last:
            lookup[gap, 0] = lookup[at, 0]
            lookup[gap, 1] = lookup[at, 1]
            gap = at
        at = (at + 1) & last
    lookup[gap, 0] = 0
    lookup[gap, 1] = 0


@part
def tables_full(state: State) -> bool:
    """Say whether there may be no room for one more history and one more partial."""
    control = state.control
    count, free = int(control[Control.HISTORY_COUNT]), int(control[Control.FREE_HISTORY_COUNT])
    no_history = count >= state.histories.shape[0] and free == 0
    no_partial = (
        control[Control.PARTIAL_COUNT] >= state.partials.shape[0]
        and control[Control.FREE_PARTIAL_COUNT] == 0
    )
    return bool(no_history or no_partial or (count - free) * 10 >= state.lookup.shape[0] * 6)


@part
def add(state: State, key: int, owner: int) -> int:
    """Add an empty history of `key`, which must have none; there must be room."""
    history = int(state.control[Control.FREE_HISTORY]) - 1
    if history >= 0:
        state.control[Control.FREE_HISTORY] = state.histories[history, HistoryField.KEY]
        state.control[Control.FREE_HISTORY_COUNT] -= 1
    else:
        history = int(state.control[Control.HISTORY_COUNT])
        state.control[Control.HISTORY_COUNT] += 1
    row = state.histories[history]
    row[HistoryField.KEY] = key
    row[HistoryField.OWNER] = owner
    row[HistoryField.START] = 0
    row[HistoryField.CAPACITY] = 0
    row[HistoryField.COUNT] = 0
    row[HistoryField.FLOOR_TS] = NEVER_MS
    row[HistoryField.PARTIAL] = -1
    row[HistoryField.KNOWN] = TOUCHED
    row[HistoryField.LACKING] = 0
    row[HistoryField.LACKING_TS] = NEVER_MS
    row[HistoryField.BASE] = 0
    row[HistoryField.RUNNING] = -1
    row[HistoryField.TILES] = -1
    _place(state.lookup, key, owner, history)
    return history


@kernel
def rebuild(state: State) -> None:
    """Fill an index of zeros from the table of histories."""
    for history in range(state.control[Control.HISTORY_COUNT]):
        row = state.histories[history]
        if row[HistoryField.PARTIAL] != FREE_ROW:
            _place(state.lookup, row[HistoryField.KEY], row[HistoryField.OWNER], history)


@part
def find_partial(histories: Table, partials: Table, history: int, partition: int) -> int:
    """Return the partial of `partition`, or -1."""
    partial = int(histories[history, HistoryField.PARTIAL])
    while partial >= 0 and partials[partial, PartialField.PARTITION] != partition:
        partial = int(partials[partial, PartialField.NEXT])
    return partial


@part
def add_partial(state: State, history: int, partition: int) -> int:
    """Add an empty partial, of which nothing is stored yet; there must be room."""
    partial = int(state.control[Control.FREE_PARTIAL]) - 1
    if partial >= 0:
        state.control[Control.FREE_PARTIAL] = state.partials[partial, PartialField.NEXT]
        state.control[Control.FREE_PARTIAL_COUNT] -= 1
    else:
        partial = int(state.control[Control.PARTIAL_COUNT])
        state.control[Control.PARTIAL_COUNT] += 1
    row = state.partials[partial]
    row[PartialField.HISTORY] = history
    row[PartialField.PARTITION] = partition
    row[PartialField.NEXT] = state.histories[history, HistoryField.PARTIAL]
    row[PartialField.COUNT] = 0
    row[PartialField.DIRTY] = 0
    row[PartialField.WHOLE] = 1
    row[PartialField.CHANGED_FROM] = 0
    row[PartialField.HEADER] = 0
    row[PartialField.FOREIGN] = 0
    row[PartialField.TILES] = -1
    row[PartialField.SECTION_BYTES] = 0
    state.handed[partial] = 0
    state.histories[history, HistoryField.PARTIAL] = partial
    return partial


@part
def touch(partials: Table, dirty: Table, control: Table, partial: int, changed_from: int) -> None:
    """Note that a partial's events from `changed_from` on must be stored."""
    if not partials[partial, PartialField.DIRTY]:
        partials[partial, PartialField.DIRTY] = 1
        partials[partial, PartialField.CHANGED_FROM] = changed_from
        dirty[control[Control.DIRTY_COUNT]] = partial
        control[Control.DIRTY_COUNT] += 1
    elif changed_from < partials[partial, PartialField.CHANGED_FROM]:
        partials[partial, PartialField.CHANGED_FROM] = changed_from
