"""The feature engine: recent events of every entity, and what a plan's slots say of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells
from features.errors import MillraceError, nearest_name
from features.kernels import arena, blobs, histories, index, loading
from features.kernels.arena import capacity_for
from features.kernels.families import compile_layout
from features.kernels.layout import (
    NEVER_MS,
    SIZE_CLASS_COUNT,
    Control,
    CurrentField,
    HistoryField,
    Layout,
    Need,
    PartialField,
    Scratch,
    State,
)
from features.plan import Plan

_TABLE_ROWS_MIN = 1024
_ARENA_WORDS_MIN = 1 << 20
_FAULTS = {
    loading.Fault.NO_HISTORY: "a history's header",
    loading.Fault.VERSION: f"format version {blobs.FORMAT_VERSION}",
    loading.Fault.CELLS: "TS_MS, EVENT_ID and LABEL among the kept cells",
    loading.Fault.CAPACITY: "a capacity that is a power of two and holds the events",
    loading.Fault.LENGTH: "whole rows of events",
    loading.Fault.ORDER: "events in ascending order of time and id",
}


class EntityKey(NamedTuple):
    """An entity's stored history: for a shared entity, the partial of one partition."""

    partition: int
    entity: str
    key: int


class Change(NamedTuple):
    """Bytes to store: `offset` 0 replaces the whole blob, else overwrites from that byte.

    `value` is a view of a buffer that all changes of one call share; nobody writes to it again.
    """

    owner: EntityKey
    offset: int
    value: memoryview


class Features(NamedTuple):
    """What a plan's slots say at each row of a batch; both have the shape (slots, rows).

    `values` are in raw units (minor units, micro-degrees, milliseconds), NaN where undefined or
    where the row is not one of SLOT_KINDS. `errors` bounds how far a value may be from the truth: 0
    where it is exact, infinite where events that its window needs had to be dropped.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]


class HistoryError(MillraceError):
    """A stored history that can't be loaded."""

    def __init__(self, owner: EntityKey, expected: str, got: str) -> None:
        self.owner = owner
        self.expected = expected
        self.got = got
        super().__init__(
            f"history of {owner.entity} {owner.key} in partition {owner.partition}: "
            f"expected {expected}, got {got}"
        )


class FeatureEngine:
    """Histories of all entities of a plan for the partitions of one process.

    A batch goes through four steps:

        while keys := engine.missing(kinds, cells, partitions):
            engine.load((key, blob or None) for each key)
        features = engine.update(kinds, cells, partitions)
        ...; changes = engine.changes()   # at any time, for the store

    `missing` is asked again after each load: where a label's customer has just been loaded, the
    other entities of the labelled event become known only then (at most one more round).

    Any cut of the same rows into batches gives bit-equal values, and the same stored bytes after
    the same rows. Sums are exact while they stay within 64 bits.
    """

    def __init__(self, plan: Plan, partitions: Sequence[int], assume_fresh: bool = False) -> None:
        """Make an engine without histories; `assume_fresh` says that nothing is stored yet.

        Raises ValueError where the plan contradicts itself.
        """
        self._layout: Layout = compile_layout(plan)
        self._names = [entity.name for entity in plan.entities]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._shared = [entity.shared for entity in plan.entities]
        self._slot_count = len(plan.slots)
        self._kept_count = len(plan.values)
        self._partitions = sorted(set(partitions))
        self._assume_fresh = assume_fresh
        self._state = State(
            lookup=np.zeros((2 * _TABLE_ROWS_MIN, 2), dtype=np.int64),
            histories=np.zeros((_TABLE_ROWS_MIN, len(HistoryField)), dtype=np.int64),
            partials=np.zeros((_TABLE_ROWS_MIN, len(PartialField)), dtype=np.int64),
            dirty=np.zeros(_TABLE_ROWS_MIN, dtype=np.int64),
            arena=np.empty(_ARENA_WORDS_MIN, dtype=np.int64),
            free=np.full((len(self._names), SIZE_CLASS_COUNT), -1, dtype=np.int64),
            control=np.zeros(len(Control), dtype=np.int64),
        )
        event_count_max = int(capacity_for(plan.event_cap))
        self._scratch = Scratch(
            positions=np.zeros(len(self._layout.bounds), dtype=np.int64),
            starts=np.zeros(len(self._layout.members), dtype=np.int64),
            values=np.zeros(event_count_max, dtype=np.int64),
            times=np.zeros(event_count_max, dtype=np.int64),
            ranked=np.zeros(event_count_max, dtype=np.int64),
            distinct=np.zeros((2 * event_count_max, 2), dtype=np.int64),
            tallies=np.zeros(2 * event_count_max, dtype=np.int64),
            current=np.zeros((len(self._names), len(CurrentField)), dtype=np.int64),
            registers=np.zeros((max((p.register_count for p in plan.stages), default=0), 1)),
            results=np.zeros((max((len(p.outputs) for p in plan.stages), default=0), 1)),
            externals=np.zeros((0, 1)),
        )

    @property
    def unmatched_labels(self) -> int:
        """How many labels found no event: unknown customer or event, or already dropped."""
        return int(self._state.control[Control.UNMATCHED_LABELS])

    @property
    def repeated_events(self) -> int:
        """How many transactions their customer's history held already."""
        return int(self._state.control[Control.REPEATED_EVENTS])

    def floor_ts(self, owner: EntityKey) -> int | None:
        """Return the time of the newest event ever dropped from a history, None where none was.

        Windows that begin at or after it are exact. For a shared entity it is the floor of the
        merged history, whatever the partition.
        """
        number = self._number(owner)
        code = index.owner_code(self._layout.entities, number, owner.partition)
        history = index.find(self._state.lookup, self._state.histories, owner.key, code)
        if history < 0:
            return None
        floor_ts = int(self._state.histories[history, HistoryField.FLOOR_TS])
        return None if floor_ts == NEVER_MS else floor_ts

    def missing(
        self, kinds: NDArray[np.uint8], cells: Cells, partitions: NDArray[np.uint16]
    ) -> list[EntityKey]:
        """Return what must be loaded before `update` takes these rows, without repeats.

        For a shared entity that is one key for each partition of this process.
        """
        if self._assume_fresh:
            return []
        kinds, cells, partitions = _rows(kinds, cells, partitions)
        absent = np.empty((len(kinds) * len(self._names), 3), dtype=np.int64)
        count = histories.absentees(self._layout, self._state, kinds, cells, partitions, absent)
        if not count:
            return []
        found: dict[EntityKey, None] = {}
        for number, key, partition in absent[:count].tolist():
            name = self._names[number]
            for own in self._partitions if self._shared[number] else (partition,):
                found[EntityKey(own, name, key)] = None
        return list(found)

    def load(self, items: Iterable[tuple[EntityKey, bytes | None]]) -> None:
        """Make histories resident; None says that nothing is stored.

        All partials of a shared entity belong in one call. Nothing is loaded where one blob is
        corrupt: HistoryError. ValueError for an unknown entity and for a key loaded twice.
        """
        owners: list[EntityKey] = []
        parts: list[bytes] = []
        rows: list[tuple[int, int, int, int, int]] = []
        at = 0
        for owner, blob in items:
            value = blob or b""
            if len(value) % 8 or (blob is not None and not blob):
                raise HistoryError(owner, "whole 64-bit words", f"{len(value)} bytes")
            end = at + len(value) // 8
            rows.append((self._number(owner), owner.partition, owner.key, at, end))
            owners.append(owner)
            parts.append(value)
            at = end
        if not rows:
            return
        words = np.frombuffer(b"".join(parts), dtype=np.int64)
        table = np.array(rows, dtype=np.int64)
        bad, fault = loading.first_fault(words, table)
        if bad >= 0:
            head = parts[bad][:32].hex(" ", 8)
            expected = _FAULTS[loading.Fault(fault)]
            raise HistoryError(owners[bad], expected, f"{len(parts[bad])} bytes: {head}")
        self._state.control[Control.ROW] = 0
        while need := loading.load(self._layout, self._state, words, table):
            if need == Need.REFUSED:
                owner = owners[int(self._state.control[Control.ROW])]
                raise ValueError(f"{owner}: expected a history that isn't resident yet")
            self._grow(need)

    def update(
        self, kinds: NDArray[np.uint8], cells: Cells, partitions: NDArray[np.uint16]
    ) -> Features:
        """Take a batch's rows in order and return what its slots say.

        A row enters the histories of its entities and kind; then, for one of SLOT_KINDS, the slots
        are computed, and the kept values stage by stage. A label is also set on the event that it
        names. NaN: undefined, or a row without slots.
        """
        kinds, cells, partitions = _rows(kinds, cells, partitions)
        if self._kept_count:
            kept = np.full((self._kept_count, len(kinds)), MISSING, dtype=np.int64)
            cells = np.concatenate([cells, kept])
        values = np.full((self._slot_count, len(kinds)), np.nan)
        errors = np.zeros((self._slot_count, len(kinds)))
        self._state.control[Control.ROW] = 0
        self._state.control[Control.ENTITY] = 0
        while need := histories.update(
            self._layout, self._state, self._scratch, kinds, cells, partitions, values, errors
        ):
            self._grow(need)
        return Features(values, errors)

    def changes(self) -> list[Change]:
        """Return what must be stored of the histories touched since the previous call.

        Applied in order, on top of all earlier changes or of what was loaded.
        """
        touched_count = int(self._state.control[Control.DIRTY_COUNT])
        if not touched_count:
            return []
        words = np.empty(blobs.measure(self._layout, self._state), dtype=np.int64)
        table = np.empty((2 * touched_count, len(blobs.ChangeField)), dtype=np.int64)
        count = blobs.pack(self._layout, self._state, words, table)
        data, names = words.data.cast("B"), self._names
        return [
            Change(EntityKey(partition, names[number], key), offset, data[first:to])
            for number, partition, key, offset, first, to in table[:count].tolist()
        ]

    def _number(self, owner: EntityKey) -> int:
        number = self._numbers.get(owner.entity)
        if number is None:
            nearest = nearest_name(owner.entity, self._names)
            hint = f"; did you mean `{nearest}`?" if nearest else ""
            raise ValueError(f"expected an entity of the plan, got `{owner.entity}`{hint}")
        return number

    def _make_room(self) -> None:
        """Have room in the arena: by sliding blocks together where an eighth is free, or more."""
        state = self._state
        used = int(state.control[Control.ARENA_USED])
        if arena.free_words(self._layout, state) * 8 >= used:
            count = int(state.control[Control.HISTORY_COUNT])
            starts = state.histories[:count, HistoryField.START]
            arena.compact(self._layout, state, np.argsort(starts, kind="stable"))
            used = int(state.control[Control.ARENA_USED])
        needed = used + int(state.control[Control.WORDS_NEEDED])
        if needed > len(state.arena):
            # In place where the allocator can: a copy would for a moment need twice the memory.
            state.arena.resize(needed + max(used // 8, _ARENA_WORDS_MIN), refcheck=False)

    def _grow(self, need: int) -> None:
        """Double what a kernel ran out of."""
        state = self._state
        if need == Need.ARENA:
            self._make_room()
            return
        if state.control[Control.PARTIAL_COUNT] >= len(state.partials):
            state = state._replace(partials=_doubled(state.partials), dirty=_doubled(state.dirty))
        if state.control[Control.HISTORY_COUNT] >= len(state.histories):
            state = state._replace(histories=_doubled(state.histories))
        crowded = state.control[Control.HISTORY_COUNT] * 10 >= len(state.lookup) * 6
        if crowded:
            state = state._replace(lookup=np.zeros((2 * len(state.lookup), 2), dtype=np.int64))
            index.rebuild(state)
        self._state = state


def _doubled(table: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([table, np.zeros_like(table)])


def _rows(
    kinds: NDArray[np.uint8], cells: Cells, partitions: NDArray[np.uint16]
) -> tuple[NDArray[np.uint8], Cells, NDArray[np.uint16]]:
    """Return the arrays as the kernels were compiled for: any other layout would compile anew."""
    return (
        np.require(kinds, np.uint8, ["C", "W"]),
        np.require(cells, np.int64, ["C", "W"]),
        np.require(partitions, np.uint16, ["C", "W"]),
    )
