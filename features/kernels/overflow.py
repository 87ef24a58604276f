"""Events that find no place when stored parts are merged, or when the cap has become smaller."""

import numpy as np

from features.columns import MISSING
from features.kernels.folding import fold_event, fold_oldest, raise_floor
from features.kernels.jit import part
from features.kernels.layout import EntityField, HistoryField, Layout, State, Table
from features.kernels.packing import Bytes, get_cell, get_word
from features.kernels.stored import EVENT_OFFSET, TS_SHIFT


@part
def fold_rest(
    layout: Layout, state: State, entity: int, history: int, partial: int, data: Bytes,
    source: Table, first: int, row_bytes: int, old: int, stored: int, decoded: Table,
) -> None:  # fmt: skip
    """Fold the oldest `old` events of a history and the oldest `stored` of a part being merged.

    The history still has its old block; the part's rows begin at byte `first`, and `source` says
    where its cells stand in them. `decoded` has room for the cells of one event.
    """
    own = state.histories[history]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    if layout.entities[entity, EntityField.TILE_WORDS]:
        fold_oldest(layout, state, entity, history, old)
        # Bare numbers would compile the callees once more, for literals.
        place, capacity_of_one = int(np.int64(0)), int(np.int64(1))
        for j in range(stored):
            at = first + j * row_bytes
            for column in range(layout.entities[entity, EntityField.KEPT_COUNT]):
                decoded[column] = MISSING
                if source[column, 0] >= 0:
                    decoded[column] = get_cell(data, at + source[column, 0], source[column, 1])
            # Of those with the floor's own time, too, some may be repeats.
            doubtful = decoded[0] <= own[HistoryField.FLOOR_TS]
            fold_event(
                layout, state, entity, history, partial, decoded, place, capacity_of_one, doubtful
            )
    if old > 0:
        last = start + old - 1
        raise_floor(state, history, state.arena[last], state.arena[last + capacity])
    if stored > 0:
        at = first + (stored - 1) * row_bytes
        event = get_word(data, at + EVENT_OFFSET)
        raise_floor(state, history, get_cell(data, at, TS_SHIFT), event)
