"""Columns that some events of a history lack: the plan began to keep them after they were stored.

A history remembers which, and the time of the newest event that lacks any of them. A slot that
reads such a column and whose window reaches back to that event can't tell its value.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from features.kernels.jit import part
from features.kernels.layout import NEVER_MS, HistoryField, Table


class ReadField(IntEnum):
    """Columns of `Layout.reads`: one row for each slot of the plan."""

    ENTITY = 0
    COLUMNS = 1  # bitmap of the columns that the slot reads
    SPAN_MS = 2  # window and delay together: how far it looks back


@part
def note_lacking_column(own: Table, column: int, newest_ts: int) -> None:
    """Note that some events up to `newest_ts` lack a column."""
    own[HistoryField.LACKING] |= np.int64(1) << column
    own[HistoryField.LACKING_TS] = max(own[HistoryField.LACKING_TS], newest_ts)


@part
def clear_lacking(own: Table, floor_ts: int) -> None:
    """Forget what is lacking once all such events were dropped: the floor then says as much.

    `floor_ts` is that of what was dropped here.
    """
    if own[HistoryField.LACKING] and floor_ts >= own[HistoryField.LACKING_TS]:
        own[HistoryField.LACKING] = 0
        own[HistoryField.LACKING_TS] = NEVER_MS


@part
def note_lacking(
    reads: Table,
    histories: Table,
    entity: int,
    history: int,
    ts_ms: int,
    row: int,
    errors: NDArray[np.float64],
) -> None:
    """Mark the slots that read a lacking column and whose windows reach an event without it.

    To be called only where HistoryField.LACKING says that there is one.
    """
    lacking = histories[history, HistoryField.LACKING]
    lacking_ts = histories[history, HistoryField.LACKING_TS]
    for slot in range(reads.shape[0]):
        if (
            reads[slot, ReadField.ENTITY] == entity
            and reads[slot, ReadField.COLUMNS] & lacking
            and lacking_ts > ts_ms - reads[slot, ReadField.SPAN_MS]
        ):
            errors[slot, row] = np.inf
