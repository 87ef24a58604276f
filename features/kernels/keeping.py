"""Kept values: computed once, when their event arrives, and stored with it."""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells
from features.kernels.jit import part
from features.kernels.layout import (
    CurrentField,
    EntityField,
    HistoryField,
    Layout,
    OutputField,
    Scratch,
    StageField,
    State,
)
from features.kernels.walker import walk

UNITS_MAX = float(1 << 51)  # a value beyond so many units isn't kept: float64 has no room for it
_FIRST = len(Cell)  # the cell of the first kept value


@part
def recall_kept(layout: Layout, state: State, scratch: Scratch, cells: Cells, row: int) -> int:
    """Set a row's kept values as stored, where its event was there before the row.

    Returns the bitmap of the cells that are so settled, whatever their value.
    """
    entities, settled = layout.entities, int(np.int64(0))
    for entity in range(entities.shape[0]):
        position = scratch.current[entity, CurrentField.POSITION]
        if position < 0 or scratch.current[entity, CurrentField.INSERTED]:
            continue
        own = state.histories[scratch.current[entity, CurrentField.HISTORY]]
        for column in range(entities[entity, EntityField.KEPT_COUNT]):
            cell = layout.kept[entities[entity, EntityField.KEPT_FROM] + column]
            if cell >= _FIRST and not settled >> cell & 1:
                at = own[HistoryField.START] + column * own[HistoryField.CAPACITY] + position
                cells[cell, row] = state.arena[at]
                settled |= np.int64(1) << cell
    return settled


@part
def _write_kept(layout: Layout, state: State, scratch: Scratch, cells: Cells, row: int) -> None:
    """Copy a row's kept values to the histories in which its event has just been inserted."""
    entities = layout.entities
    for entity in range(entities.shape[0]):
        if not scratch.current[entity, CurrentField.INSERTED]:
            continue
        own = state.histories[scratch.current[entity, CurrentField.HISTORY]]
        position = scratch.current[entity, CurrentField.POSITION]
        for column in range(entities[entity, EntityField.KEPT_COUNT]):
            cell = layout.kept[entities[entity, EntityField.KEPT_FROM] + column]
            if cell >= _FIRST and cells[cell, row] != MISSING:
                at = own[HistoryField.START] + column * own[HistoryField.CAPACITY] + position
                state.arena[at] = cells[cell, row]
                own[HistoryField.KNOWN] |= np.int64(1) << column


@part
def keep_values(
    layout: Layout,
    state: State,
    scratch: Scratch,
    stage: int,
    settled: int,
    cells: Cells,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Run one stage's program for a row and keep what it says.

    A value is rounded to whole units, half to even; it is MISSING where it is undefined or too
    large. A value that is settled, see `recall_kept`, stays as it is.
    """
    own = layout.stages[stage]
    walk(
        layout.code[own[StageField.CODE_FROM] : own[StageField.CODE_TO]],
        layout.floats[own[StageField.FLOAT_FROM] : own[StageField.FLOAT_TO]],
        layout.ints[own[StageField.INT_FROM] : own[StageField.INT_TO]],
        cells,
        slot_values,
        scratch.externals,
        row,
        scratch.registers,
        scratch.results,
    )
    for i in range(own[StageField.OUTPUT_FROM], own[StageField.OUTPUT_TO]):
        cell = layout.outputs[i, OutputField.CELL]
        if settled >> cell & 1:
            continue
        value = scratch.results[layout.outputs[i, OutputField.RESULT], 0]
        units = np.rint(value * layout.outputs[i, OutputField.SCALE])
        # NaN is not within any bound.
        cells[cell, row] = int(units) if abs(units) <= UNITS_MAX else MISSING
    _write_kept(layout, state, scratch, cells, row)
