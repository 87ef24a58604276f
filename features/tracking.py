"""Since when histories are kept: what came before a kind of history was asked for is not known.

A policy that begins to ask for an entity, or for its interactions, has no past of it in the store.
Until a window no longer reaches back to that moment, its value may miss events.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, SLOT_KINDS, Cell, Cells
from features.kernels.lacking import ReadField
from features.kernels.layout import NEVER_MS, Table
from features.plan import Plan


class Tracking:
    """Marks values of windows that reach back to before their histories were kept.

    `reads` are those of the plan's layout. A shared entity's history has parts of several
    partitions: it is kept since the last of them was.
    """

    def __init__(self, plan: Plan, reads: Table) -> None:
        self._plan = plan
        self._reads = reads
        self._numbers = {entity.name: number for number, entity in enumerate(plan.entities)}
        self._since_ms: dict[int, dict[int, int]] = {}  # entity -> partition -> time

    def begin(self, partition: int, since_ms: Mapping[str, int]) -> None:
        """Note since when a partition keeps some of its histories, by the entity's name.

        Those that are not named are kept since its first record. KeyError for an unknown entity.
        """
        for own in self._since_ms.values():
            own.pop(partition, None)
        for name, ts_ms in since_ms.items():
            self._since_ms.setdefault(self._numbers[name], {})[partition] = ts_ms
        self._since_ms = {number: own for number, own in self._since_ms.items() if own}

    def mark(
        self,
        kinds: NDArray[np.uint8],
        cells: Cells,
        partitions: NDArray[np.uint16],
        errors: NDArray[np.float64],
    ) -> None:
        """Make infinite the errors (slots, rows) of slots that reach back too far."""
        for number, by_partition in self._since_ms.items():
            entity = self._plan.entities[number]
            slots = np.flatnonzero(self._reads[:, ReadField.ENTITY] == number)
            rows = np.flatnonzero(np.isin(kinds, SLOT_KINDS) & (cells[entity.key] != MISSING))
            if entity.shared:
                since_ms = np.full(rows.size, max(by_partition.values()))
            else:
                table = np.full(1 + max(*by_partition, *partitions.tolist(), 0), NEVER_MS)
                table[list(by_partition)] = list(by_partition.values())
                since_ms = table[partitions[rows]]
            starts_ms = cells[Cell.TS_MS, rows] - self._reads[slots, ReadField.SPAN_MS][:, None]
            at_slot, at_row = np.nonzero(since_ms > starts_ms)
            errors[slots[at_slot], rows[at_row]] = np.inf
