"""What a process sees of shared entities whose other parts are owned by other processes.

A shared entity's history is one block in memory: the parts of this process's partitions, always
fresh, and copies of the foreign ones as their owners stored them last. The engine reads no store
and no clock: whoever runs it reads the blobs between batches and says how old they are.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from features.columns import Cells
from features.kernels import foreign, labels
from features.kernels.layout import (
    ASKED,
    FREE_ROW,
    READ,
    Control,
    EntityField,
    HistoryField,
    Layout,
    State,
)
from features.plan import Plan, SlotField

UNREAD_MS = np.inf  # the age of a value whose foreign parts have never been read


class ForeignParts:
    """Ages of the slots over shared entities, and which entities have yet to be read.

    `age_ms` is how old the copies of the foreign partitions are, that of the oldest: 0 for as good
    as fresh. It is set from outside, between batches. `state` returns that of the engine.
    """

    def __init__(
        self, plan: Plan, layout: Layout, partitions: Sequence[int], state: Callable[[], State]
    ) -> None:
        self.partitions = frozenset(partitions)
        self.age_ms = 0.0
        self.stale_count = 0  # rows for which some slot was stale
        self._layout = layout
        self._state = state
        self._names = [entity.name for entity in plan.entities]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._entity_of_slot = plan.slots[:, SlotField.ENTITY]
        fields = layout.entities
        has_slots = fields[:, EntityField.FAMILY_FROM] < fields[:, EntityField.FAMILY_TO]
        self._is_copied = (fields[:, EntityField.SHARED] != 0) & has_slots
        self._wanted: list[tuple[str, int]] = []

    def note(self, cells: Cells, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the ages of a batch's slots, (slots, rows), in ms; 0 where no part is foreign.

        Infinite where the entity's foreign parts have not been read since it became resident;
        such an entity is `wanted`, once. Old copies bound nothing: where a value has an age and an
        error, that becomes infinite.
        """
        row_count = cells.shape[1]
        seen = np.zeros((len(self._names), row_count), dtype=np.uint8)
        wanted = np.empty((int(self._is_copied.sum()) * row_count, 2), dtype=np.int64)
        count = foreign.note_unread(self._layout, self._state(), cells, seen, wanted)
        self._wanted += [(self._names[number], key) for number, key in wanted[:count].tolist()]
        ages_ms = np.choose(seen, np.array([0.0, self.age_ms, UNREAD_MS]))
        self.stale_count += int(np.count_nonzero(ages_ms.any(axis=0)))
        found: NDArray[np.float64] = ages_ms[self._entity_of_slot]
        errors[(found > 0.0) & (errors > 0.0)] = np.inf
        return found

    def wanted(self) -> list[tuple[str, int]]:
        """Return the (entity, key) to be read that were not returned before."""
        found, self._wanted = self._wanted, []
        return found

    def resident(self, owners: Sequence[tuple[str, int]]) -> list[bool]:
        """Say of each (entity, key) whether copies of it are kept here; False if unknown."""
        table = np.zeros((len(owners), 2), dtype=np.int64)
        is_known = np.zeros(len(owners), dtype=np.bool_)
        for i, (name, key) in enumerate(owners):
            number = self._numbers.get(name, -1)
            is_known[i] = number >= 0 and self._is_copied[number]
            table[i] = max(number, 0), key
        is_here = np.zeros(len(owners), dtype=np.uint8)
        foreign.note_resident(self._layout, self._state(), table, is_here)
        found: list[bool] = ((is_here == 1) & is_known).tolist()
        return found

    def doubt(self, owner: tuple[str, int]) -> None:
        """Take a copy that may not be what its owner has for unread until it is read anew."""
        state, (name, key) = self._state(), owner
        row = int(labels.find_resident(self._layout, state, self._numbers[name], key, 0))
        if row >= 0:
            state.histories[row, HistoryField.KNOWN] &= ~READ

    def residents(self) -> list[tuple[str, int]]:
        """Return every (entity, key) of which copies are kept here."""
        state = self._state()
        rows = state.histories[: int(state.control[Control.HISTORY_COUNT])]
        is_used = rows[:, HistoryField.PARTIAL] != FREE_ROW
        rows = rows[is_used & (rows[:, HistoryField.KNOWN] & ASKED != 0)]
        numbers, keys = rows[:, HistoryField.OWNER] >> 32, rows[:, HistoryField.KEY]
        owners = zip(numbers.tolist(), keys.tolist(), strict=True)
        return [(self._names[number], key) for number, key in owners]
