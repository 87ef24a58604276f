"""What a process sees of shared entities whose other parts are owned by other processes.

A shared entity's history is one block in memory: the parts of this process's partitions, always
fresh, and copies of the foreign ones as their owners stored them last. The engine reads no store
and no clock: whoever runs it reads the blobs between batches and says how old they are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.columns import Cells
from features.kernels import foreign
from features.kernels.layout import EntityField, Layout, State
from features.plan import Plan, SlotField

UNREAD_MS = np.inf  # the age of a value whose foreign parts have never been read


class ForeignParts:
    """Ages of the slots over shared entities, and which entities have yet to be read.

    `age_ms` is how old the copies of the foreign partitions are, that of the oldest: 0 for as good
    as fresh. It is set from outside, between batches.
    """

    def __init__(self, plan: Plan, layout: Layout, partitions: Sequence[int]) -> None:
        self.partitions = frozenset(partitions)
        self.age_ms = 0.0
        self.stale_count = 0  # rows for which some slot was stale
        self._names = [entity.name for entity in plan.entities]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._entity_of_slot = plan.slots[:, SlotField.ENTITY]
        fields = layout.entities
        asked_for = fields[:, EntityField.FAMILY_FROM] < fields[:, EntityField.FAMILY_TO]
        self._is_read = (fields[:, EntityField.SHARED] != 0) & asked_for
        self._wanted: list[tuple[str, int]] = []

    def note(self, layout: Layout, state: State, cells: Cells) -> NDArray[np.float64]:
        """Return the ages of a batch's slots, (slots, rows), in ms; 0 where no part is foreign.

        Infinite where the entity's foreign parts have not been read since it became resident;
        such an entity is `wanted`, once.
        """
        row_count = cells.shape[1]
        seen = np.zeros((len(self._names), row_count), dtype=np.uint8)
        wanted = np.empty((int(self._is_read.sum()) * row_count, 2), dtype=np.int64)
        count = foreign.note_unread(layout, state, cells, seen, wanted)
        self._wanted += [(self._names[number], key) for number, key in wanted[:count].tolist()]
        ages_ms = np.choose(seen, np.array([0.0, self.age_ms, UNREAD_MS]))
        self.stale_count += int(np.count_nonzero(ages_ms.any(axis=0)))
        found: NDArray[np.float64] = ages_ms[self._entity_of_slot]
        return found

    def wanted(self) -> list[tuple[str, int]]:
        """Return the (entity, key) to be read that were not returned before."""
        found, self._wanted = self._wanted, []
        return found

    def resident(
        self, layout: Layout, state: State, owners: Sequence[tuple[str, int]]
    ) -> list[bool]:
        """Say of each (entity, key) whether its foreign parts are kept here; False if unknown."""
        table = np.full((len(owners), 2), -1, dtype=np.int64)
        known = np.zeros(len(owners), dtype=np.bool_)
        for i, (name, key) in enumerate(owners):
            number = self._numbers.get(name, -1)
            known[i] = number >= 0 and self._is_read[number]
            table[i] = max(number, 0), key
        resident = np.zeros(len(owners), dtype=np.uint8)
        foreign.note_resident(layout, state, table, resident)
        found: list[bool] = ((resident == 1) & known).tolist()
        return found
