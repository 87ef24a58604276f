"""Idle histories leave memory; what the store has confirmed can be loaded again.

A clock with a second chance: a hand goes round the table of histories. Where it finds one that was
used since it last came by, it takes that mark away and goes on; the others leave, unless some of
their changes may not be stored yet. So what leaves was not used for a whole round, and finding it
costs no more than what was used and what leaves.
"""

from features.kernels.arena import release
from features.kernels.folding import end_tiles
from features.kernels.index import remove
from features.kernels.jit import kernel, part
from features.kernels.layout import (
    FREE_ROW,
    TOUCHED,
    Control,
    HistoryField,
    Layout,
    PartialField,
    State,
)
from features.kernels.upkeep import end


@part
def _is_stored(state: State, history: int, confirmed: int) -> bool:
    """Say whether the store has all of a history, if it has all changes up to `confirmed`."""
    partial = state.histories[history, HistoryField.PARTIAL]
    while partial >= 0:
        if state.partials[partial, PartialField.DIRTY] or state.handed[partial] > confirmed:
            return False
        partial = state.partials[partial, PartialField.NEXT]
    return True


@part
def _forget(layout: Layout, state: State, history: int) -> None:
    """Take a history out of memory, with all its partials."""
    row, control = state.histories[history], state.control
    remove(state.lookup, state.histories, history)
    entity = int(row[HistoryField.OWNER] >> 32)
    end(
        layout.entities, layout.families, state.histories, state.pool, state.pool_free, entity,
        history,
    )  # fmt: skip
    end_tiles(layout, state, entity, history)
    partial = row[HistoryField.PARTIAL]
    while partial >= 0:
        following = state.partials[partial, PartialField.NEXT]
        state.partials[partial, PartialField.NEXT] = control[Control.FREE_PARTIAL]
        control[Control.FREE_PARTIAL] = partial + 1
        control[Control.FREE_PARTIAL_COUNT] += 1
        partial = following
    if row[HistoryField.CAPACITY] > 0:
        release(layout, state, entity, row[HistoryField.START], row[HistoryField.CAPACITY])
    row[HistoryField.KEY] = control[Control.FREE_HISTORY]
    row[HistoryField.PARTIAL] = FREE_ROW
    row[HistoryField.START] = 0
    row[HistoryField.CAPACITY] = 0
    row[HistoryField.COUNT] = 0
    control[Control.FREE_HISTORY] = history + 1
    control[Control.FREE_HISTORY_COUNT] += 1
    control[Control.EVICTED_COUNT] += 1


@kernel
def sweep(layout: Layout, state: State, confirmed: int, row_count: int, word_count: int) -> int:
    """Evict until `row_count` histories and `word_count` words have left; returns how many did.

    Fewer leave where the others are not known to be stored: the changes up to number `confirmed`
    are.
    """
    control, evicted = state.control, int(state.control[Control.EVICTED_COUNT])
    wanted_words = control[Control.FREE_WORDS] + word_count
    wanted_count = evicted + row_count
    left = 2 * control[Control.HISTORY_COUNT]  # the first round may only take marks away
    while left > 0 and (
        control[Control.FREE_WORDS] < wanted_words or control[Control.EVICTED_COUNT] < wanted_count
    ):
        left -= 1
        history = int(control[Control.HAND])
        if history >= control[Control.HISTORY_COUNT]:
            history = 0
        control[Control.HAND] = history + 1
        row = state.histories[history]
        if row[HistoryField.PARTIAL] == FREE_ROW:
            continue
        if row[HistoryField.KNOWN] & TOUCHED:
            row[HistoryField.KNOWN] &= ~TOUCHED
        elif _is_stored(state, history, confirmed):
            _forget(layout, state, history)
    return int(control[Control.EVICTED_COUNT] - evicted)
