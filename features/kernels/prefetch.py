"""Asking for memory ahead of its use: the histories of a batch's rows lie anywhere.

Row by row, each would wait for one piece of memory after the other: where its history is, then the
history, then what it points at. Asked for in steps, each step over many rows, the waits overlap.
Nothing here changes anything.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells, Kind
from features.kernels.index import home_of, owner_code
from features.kernels.jit import inlined, part
from features.kernels.layout import (
    EntityField,
    HistoryField,
    Layout,
    RunField,
    State,
    Table,
)

ROWS = 64  # asked for together: about 200 KiB of memory, which the second cache holds
WALKED_COUNT = 32  # events: of a history that isn't kept running, so many are asked for
_LINE_WORDS = 8


def _asking(typing_context: Any, array: Any, word: Any) -> Any:
    """Have the processor fetch the cache line of word `word` of an array's data."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
        flag = ir.IntType(32)
        of = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, flag, flag, flag])
        insert: Any = cgutils.get_or_insert_function
        function = insert(builder.module, of, "llvm.prefetch.p0")
        builder.call(function, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_ask: Any = intrinsic(_asking)


@inlined
def _ask_found(lookup: Table, histories: Table, key: int, owner: int) -> int:
    """Ask for the row of the history of `key`, or of another kind's of that key; -1 for none."""
    at = home_of(lookup, key, owner)
    while lookup[at, 1] and lookup[at, 0] != key:
        at = (at + 1) & (lookup.shape[0] - 1)
    history = int(lookup[at, 1]) - 1
    if history >= 0:
        for word in range(0, histories.shape[1], _LINE_WORDS):
            _ask(histories, history * histories.shape[1] + word)
        _ask(histories, (history + 1) * histories.shape[1] - 1)
    return history


@inlined
def _ask_history(layout: Layout, state: State, entity: int, history: int) -> None:
    """Ask for where the next event will stand, for the running state and for the partial."""
    histories, entities = state.histories, layout.entities
    capacity = histories[history, HistoryField.CAPACITY]
    count = histories[history, HistoryField.COUNT]
    at = histories[history, HistoryField.START] + count - 1
    block = histories[history, HistoryField.RUNNING]
    reach = min(count, WALKED_COUNT) if block < 0 else 0
    read = entities[entity, EntityField.STATE_COLUMNS] | 1
    if capacity > 0:
        for _ in range(entities[entity, EntityField.WIDTH]):
            _ask(state.arena, at)
            if read & 1:
                for back in range(_LINE_WORDS, reach, _LINE_WORDS):
                    _ask(state.arena, at - back)
            read >>= 1
            at += capacity
    partial = histories[history, HistoryField.PARTIAL]
    if partial >= 0:
        _ask(state.partials, partial * state.partials.shape[1])
        _ask(state.partials, (partial + 1) * state.partials.shape[1] - 1)
    if block >= 0:
        end = block + entities[entity, EntityField.STATE_WORDS]
        for word in range(block, end, _LINE_WORDS):
            _ask(state.pool, word)


@inlined
def _ask_leaving(layout: Layout, state: State, entity: int, history: int, ts_ms: int) -> None:
    """Ask for the events that are about to leave a window."""
    histories = state.histories
    block = histories[history, HistoryField.RUNNING]
    if block < 0:
        return
    start, capacity = (
        histories[history, HistoryField.START],
        histories[history, HistoryField.CAPACITY],
    )
    base = histories[history, HistoryField.BASE]
    first = layout.entities[entity, EntityField.BOUND_FROM]
    at = block + RunField.BOUNDS
    for bound in range(first, layout.entities[entity, EntityField.BOUND_TO]):
        if state.pool[at + 1] <= ts_ms - layout.bounds[bound]:
            event = start + state.pool[at] - base
            _ask(state.arena, event)
            columns = layout.entities[entity, EntityField.STATE_COLUMNS]
            column = 0
            while columns:
                if columns & 1:
                    _ask(state.arena, event + column * capacity)
                columns >>= 1
                column += 1
        at += 2


@part
def ask_for_rows(
    layout: Layout,
    state: State,
    found: Table,
    kinds: NDArray[np.uint8],
    cells: Cells,
    partitions: NDArray[np.uint16],
    first: int,
) -> None:
    """Ask for what `ROWS` rows from `first` on will touch; `found` has room for their histories."""
    last = min(first + ROWS, len(kinds))
    entities, lookup = layout.entities, state.lookup
    count = entities.shape[0]
    for row in range(first, last):
        partition = int(np.int64(partitions[row]))
        for entity in range(count):
            key = cells[entities[entity, EntityField.KEY_CELL], row]
            owner = owner_code(entities, entity, partition)
            _ask(lookup, 2 * home_of(lookup, key, owner))
    for row in range(first, last):
        partition = int(np.int64(partitions[row]))
        for entity in range(count):
            key = cells[entities[entity, EntityField.KEY_CELL], row]
            history = -1
            if kinds[row] == Kind.TRANSACTION and key != MISSING:
                owner = owner_code(entities, entity, partition)
                history = _ask_found(lookup, state.histories, key, owner)
            found[(row - first) * count + entity] = history
    for at in range((last - first) * count):
        if found[at] >= 0:
            _ask_history(layout, state, at % count, found[at])
    for at in range((last - first) * count):
        if found[at] >= 0:
            ts_ms = cells[Cell.TS_MS, first + at // count]
            _ask_leaving(layout, state, at % count, found[at], ts_ms)
