"""The feature engine: recent events of every entity, and what a plan's slots say of them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features import residency
from features.columns import MISSING, Cell, Cells
from features.errors import MillraceError, nearest_name
from features.foreign import ForeignParts
from features.kernels import blobs, eviction, foreign, histories, labels, loading, stored
from features.kernels.book import write_book
from features.kernels.families import RUN_FROM_COUNT, compile_layout
from features.kernels.layout import (
    NEVER_MS,
    Control,
    HistoryField,
    Layout,
    Need,
)
from features.kernels.packing import SLACK_BYTES
from features.plan import Plan
from features.residency import MemoryUse
from features.tracking import Tracking

_KINDS, _CELLS, _PARTITIONS = np.dtype(np.uint8), np.dtype(np.int64), np.dtype(np.uint16)
_FAULTS = {
    loading.Fault.NO_HISTORY: "a history's header",
    loading.Fault.VERSION: f"format version {stored.FORMAT_VERSION}",
    loading.Fault.CELLS: "known cells, and TS_MS, EVENT_ID and LABEL among them",
    loading.Fault.CAPACITY: "a capacity that is a power of two and holds the events",
    loading.Fault.LENGTH: "whole rows of events",
    loading.Fault.ORDER: "events in ascending order of time and id",
    loading.Fault.TILES: "whole tiles behind the header",
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

    `values` are in raw units (minor units, micro-degrees, milliseconds), those of MEAN and STD in
    that of their SlotField.SCALE; NaN where undefined or where the row is not one of SLOT_KINDS.
    `errors` bounds how far a value may be from the truth: 0 where it is exact, infinite where
    events that its window needs are not known. `ages_ms` says how old its parts of other processes
    are: see `ForeignParts.note`; None where none are foreign.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    ages_ms: NDArray[np.float64] | None = None


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

    def __init__(
        self,
        plan: Plan,
        partitions: Sequence[int],
        assume_fresh: bool = False,
        run_from_count: int = RUN_FROM_COUNT,
        foreign_partitions: Sequence[int] = (),
    ) -> None:
        """Make an engine without histories; `assume_fresh` says that nothing is stored yet.

        `foreign_partitions` are those that other processes own: see `load_foreign`.

        Windows of histories with `run_from_count` events or more are kept running; shorter ones
        are walked over. The values are the same. ValueError where the plan contradicts itself.
        """
        self._layout: Layout = compile_layout(plan, run_from_count)
        self._form = stored.compile_form(plan, self._layout)
        self._names = [entity.name for entity in plan.entities]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._shared = [entity.shared for entity in plan.entities]
        self._slot_count = len(plan.slots)
        self._kept_count = len(plan.values)
        self._partitions = sorted(set(partitions))
        self._assume_fresh = assume_fresh and not foreign_partitions
        self.foreign: ForeignParts | None = None
        if foreign_partitions:
            self.foreign = ForeignParts(plan, self._layout, foreign_partitions, lambda: self._state)
        self._state = residency.empty_state(len(self._names))
        self._state.control[Control.HAS_FOREIGN] = bool(foreign_partitions)
        self._confirmed = 0
        self._loaded_count = 0
        self.memory_bytes_max: int | None = None  # of histories and tables; `make_room` keeps it
        self._scratch = residency.empty_scratch(plan, self._layout)
        self._write_book()
        self.tracking = Tracking(plan, self._layout.reads)

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
        history = self._find(owner)
        if history < 0:
            return None
        floor_ts = int(self._state.histories[history, HistoryField.FLOOR_TS])
        return None if floor_ts == NEVER_MS else floor_ts

    def newest_ts(self, owner: EntityKey) -> int | None:
        """Return the time of the newest event of a resident history, None where there is none."""
        history = self._find(owner)
        if history < 0:
            return None
        row = self._state.histories[history]
        last = int(row[HistoryField.START] + row[HistoryField.COUNT]) - 1
        return int(self._state.arena[last]) if row[HistoryField.COUNT] else None

    def _find(self, owner: EntityKey) -> int:
        """Return the row of a resident history, or -1."""
        number = self._number(owner)
        found = labels.find_resident(self._layout, self._state, number, owner.key, owner.partition)
        return int(found)

    @property
    def memory(self) -> MemoryUse:
        """What is in memory, and what went out and came in."""
        return residency.memory_use(self._state, self._loaded_count)

    @property
    def generation(self) -> int:
        """The number of the newest changes that were handed out, 0 before the first."""
        return int(self._state.control[Control.CHANGES])

    def confirmed(self, generation: int) -> None:
        """Say that the store has all changes up to those with this number."""
        self._confirmed = max(self._confirmed, generation)

    def evict(self, history_count: int) -> int:
        """Let up to so many idle histories leave memory; returns how many did.

        Those that were not used for longest go first, all partials together, and none of which
        the store may not have everything. Afterwards ask what is `missing` for the next batch,
        also where all began with `assume_fresh`.
        """
        return self._sweep(history_count, 0)

    def make_room(self, row_count: int, stored_bytes: int = 0) -> bool:
        """Evict until a batch of so many rows can be taken within `memory_bytes_max`.

        `stored_bytes` are those of histories about to be loaded for it. False where too little
        could leave because its changes are not confirmed: after a commit more can. The batch may
        be taken nonetheless, over the bound.
        """
        bytes_max = self.memory_bytes_max
        if bytes_max is None:
            return True
        asked = (self._layout, self._state, bytes_max, row_count, stored_bytes)
        wanted = residency.shortage(*asked)
        if any(wanted):
            self._sweep(*wanted)
            wanted = residency.shortage(*asked)
        if residency.shrink(self._layout, self._state, bytes_max):
            self._write_book()
        return not any(wanted)

    def _sweep(self, history_count: int, word_count: int) -> int:
        evicted = eviction.sweep(
            self._layout, self._state, self._confirmed, history_count, word_count
        )
        self._assume_fresh &= evicted == 0
        return int(evicted)

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
        count = histories.absentees(self._book, kinds, cells, partitions, absent)
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
        data, table, owners = self._sound(items)
        self._state.control[Control.ROW] = 0
        while need := loading.load(self._layout, self._form, self._state, data, table):
            if need == Need.REFUSED:
                owner = owners[int(self._state.control[Control.ROW])]
                raise ValueError(f"{owner}: expected a history that isn't resident yet")
            self._grow(need)

    def load_foreign(
        self, items: Iterable[tuple[EntityKey, bytes | None]], is_first: bool = False
    ) -> None:
        """Have resident shared histories hold what foreign partitions have stored of them.

        Each item replaces the part of one partition; None says that nothing is stored there.
        `is_first` says that these are all foreign parts of their entities: from now on they count
        as read. Nothing becomes resident or has to be stored by it. Nothing is taken where one
        blob is corrupt: HistoryError. ValueError for a partition that isn't foreign.
        """
        data, table, owners = self._sound(items)
        known = self.foreign.partitions if self.foreign else frozenset()
        for owner in owners:
            if owner.partition not in known or not self._shared[self._number(owner)]:
                raise ValueError(f"{owner}: expected a shared entity's part that isn't ours")
        source = np.empty((stored.COLUMN_BITS, 2), dtype=np.int64)
        decoded = np.empty(stored.COLUMN_BITS, dtype=np.int64)
        self._state.control[Control.ROW] = 0
        while need := foreign.take(
            self._layout, self._form, self._state, data, table, source, decoded, is_first
        ):
            self._grow(need)

    def _sound(
        self, items: Iterable[tuple[EntityKey, bytes | None]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[EntityKey]]:
        """Return blobs joined, a table (columns: loading.ItemField) and the owners of its rows."""
        owners: list[EntityKey] = []
        parts: list[bytes] = []
        rows: list[tuple[int, int, int, int, int]] = []
        at = 0
        for owner, blob in items:
            self._loaded_count += blob is not None
            if blob is not None and not blob:
                raise HistoryError(owner, _FAULTS[loading.Fault.NO_HISTORY], "0 bytes")
            value = blob or b""
            end = at + len(value)
            rows.append((self._number(owner), owner.partition, owner.key, at, end))
            owners.append(owner)
            parts.append(value)
            at = end
        data = np.frombuffer(bytearray().join([*parts, bytes(SLACK_BYTES)]), dtype=np.uint8)
        table = np.array(rows, dtype=np.int64).reshape(len(rows), len(loading.ItemField))
        bad, fault = loading.first_fault(self._form, data, table)
        if bad >= 0:
            head = parts[bad][:32].hex(" ", 8)
            expected = _FAULTS[loading.Fault(fault)]
            raise HistoryError(owners[bad], expected, f"{len(parts[bad])} bytes: {head}")
        return data, table, owners

    def update(
        self, kinds: NDArray[np.uint8], cells: Cells, partitions: NDArray[np.uint16]
    ) -> Features:
        """Take a batch's rows in order and return what its slots say.

        A row enters the histories of its entities and kind; then, for one of SLOT_KINDS, the slots
        are computed, and the kept values stage by stage. A label is also set on the event that it
        names. NaN: undefined, or a row without slots. ValueError, with nothing taken, for a value
        beyond what is stored of its cell; no decoder lets one through.
        """
        kinds, cells, partitions = _rows(kinds, cells, partitions)
        given = cells
        if self._kept_count:
            cells = np.empty((len(given) + self._kept_count, len(kinds)), dtype=np.int64)
            cells[: len(given)] = given
            cells[len(given) :] = MISSING
        values = np.empty((self._slot_count, len(kinds)))
        errors = np.empty((self._slot_count, len(kinds)))
        need = histories.update(self._book, False, kinds, cells, partitions, values, errors)
        while need:
            if need == Need.MISFIT:
                raise self._misfit(kinds, given)
            self._grow(need)
            need = histories.update(self._book, True, kinds, cells, partitions, values, errors)
        self.tracking.mark(kinds, cells, partitions, errors)
        ages_ms = self.foreign.note(cells, errors) if self.foreign is not None else None
        return Features(values, errors, ages_ms)

    def changes(self) -> list[Change]:
        """Return what must be stored of the histories touched since the previous call.

        Applied in order, on top of all earlier changes or of what was loaded. `generation` is
        their number; say `confirmed` once they are stored.
        """
        table, data = self.packed_changes()
        names = self._names
        return [
            Change(EntityKey(partition, names[number], key), offset, data[first:to])
            for number, partition, key, offset, first, to in table.tolist()
        ]

    def packed_changes(self) -> tuple[NDArray[np.int64], memoryview]:
        """Return `changes` as a table (columns: ChangeField) and the bytes that its rows name.

        ENTITY is the number of the entity in the plan.
        """
        touched_count = int(self._state.control[Control.DIRTY_COUNT])
        packed = np.empty(blobs.measure(self._layout, self._form, self._state), dtype=np.uint8)
        table = np.empty((2 * touched_count, len(blobs.ChangeField)), dtype=np.int64)
        count = blobs.pack(self._layout, self._form, self._state, packed, table)
        return table[:count], packed.data

    def _grow(self, need: int) -> None:
        self._state = residency.grow(self._layout, self._state, Need(need), self.memory_bytes_max)
        self._write_book()

    def _write_book(self) -> None:
        """Note where the arrays lie: to be called wherever one may have moved."""
        self._book = write_book(self._layout, self._form, self._scratch, self._state)

    def _misfit(self, kinds: NDArray[np.uint8], cells: Cells) -> ValueError:
        row, cell = stored.misfit(self._form, kinds, cells)
        bits, got = 8 * stored.cell_bytes(cell), int(cells[cell, row])
        return ValueError(f"row {row}: expected {Cell(cell).name} within {bits} bits, got {got}")

    def _number(self, owner: EntityKey) -> int:
        number = self._numbers.get(owner.entity)
        if number is None:
            nearest = nearest_name(owner.entity, self._names)
            hint = f"; did you mean `{nearest}`?" if nearest else ""
            raise ValueError(f"expected an entity of the plan, got `{owner.entity}`{hint}")
        return number


def _rows(
    kinds: NDArray[np.uint8], cells: Cells, partitions: NDArray[np.uint16]
) -> tuple[NDArray[np.uint8], Cells, NDArray[np.uint16]]:
    """Return the arrays as the kernels were compiled for: any other layout would compile anew."""
    return _as(kinds, _KINDS), _as(cells, _CELLS), _as(partitions, _PARTITIONS)


def _as(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    # `np.require` looks at the same things, in 2.7 us.
    if array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C", "W"])
