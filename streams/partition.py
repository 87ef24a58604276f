"""What a partition owns besides histories: its clock, its customers and its pending labels."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actions.customers import CustomerState
from features.columns import Cell, Cells, Kind, LabelCode
from features.records import TrainingExample
from online_models.delayed import PendingLabels
from streams.customer_states import CustomerStates
from streams.tracked import TRACKED_KEY, TrackedKinds

CLOCK_KEY = b"clock"
CUSTOMER_PREFIX = b"customer:"
PENDING_PREFIX = b"pending:"
PENDING_LIST_KEY = b"pending-list"  # the keys of the pending labels, so that none is scanned for

Load = Callable[[list[bytes]], list[bytes | None]]  # values of keys relative to the partition
Inputs = Mapping[str, NDArray[np.float64]]  # model name -> inputs (rows, k)
Scores = Mapping[str, NDArray[np.float64]]  # model name -> scores (rows, contestants)


class Write(NamedTuple):
    """Bytes to store under a key relative to the partition; offset 0 replaces the whole value."""

    key: bytes
    offset: int
    value: bytes | memoryview


class PartitionState:
    """State of one partition; everything here follows from its own input sequence alone."""

    def __init__(
        self,
        pending: Mapping[str, PendingLabels],
        tracked: TrackedKinds,
        *,
        fresh: bool = False,
    ) -> None:
        self.clock_ms = 0
        self.tracked = tracked
        self.pending = pending
        self.has_profiles = False  # whether any customer's profile has ever been seen
        self.customers = CustomerStates(fresh)
        self._clock_written_ms = 0
        self._pending_keys: dict[bytes, None] = {}

    def customer(self, key: int) -> CustomerState | None:
        """Return the state of a customer, or None where nothing is known of one."""
        return self.customers.get(key)

    def customer_for_change(self, key: int) -> CustomerState:
        """Return the state of a customer, made if need be, and write it at the next checkpoint."""
        state = self.customers.get(key) or CustomerState()
        self.customers.keep(key, state)
        return state

    def keep_customer(self, key: int, state: CustomerState) -> None:
        """Keep a changed state and write it at the next checkpoint."""
        self.customers.keep(key, state)

    def missing_customers(self, keys: NDArray[np.int64]) -> list[int]:
        """Return those of `keys` whose stored state has not been asked for yet."""
        return self.customers.missing(np.unique(keys).tolist())

    def load_customer(self, key: int, blob: bytes | None) -> None:
        """Take a customer's stored state; None says that there is none."""
        state = None if blob is None else CustomerState.decode(blob)
        self.customers.load(key, state)
        self.has_profiles |= state is not None and state.profile is not None

    def advance(
        self, kinds: NDArray[np.uint8], cells: Cells, inputs: Inputs, scores: Scores
    ) -> list[TrainingExample]:
        """Remember the rows' transactions, join the rows' labels, return what matures.

        `kinds` (n,), `cells` (cells, n), the models' `inputs` (n, k) and their contestants'
        `scores` are of this partition's rows, in input order. Any cut of the sequence gives the
        same examples, as `PendingLabels` promises to a caller that lets time pass before each label
        and after each batch.
        """
        if not len(kinds):
            return []
        examples: list[TrainingExample] = []
        clocks_ms = np.maximum.accumulate(np.maximum(cells[Cell.TS_MS], self.clock_ms))
        before_ms = np.concatenate([[self.clock_ms], clocks_ms[:-1]])
        start = 0
        for row in np.flatnonzero(kinds == Kind.LABEL).tolist():
            self._remember(kinds, cells, inputs, scores, before_ms, slice(start, row))
            start = row + 1
            examples += self.heartbeat(int(clocks_ms[row]))
            fraud = bool(cells[Cell.LABEL, row] == LabelCode.FRAUD)
            for pending in self.pending.values():
                pending.label(int(cells[Cell.EVENT_ID, row]), fraud)
        self._remember(kinds, cells, inputs, scores, before_ms, slice(start, len(kinds)))
        return examples + self.heartbeat(int(clocks_ms[-1]))

    def heartbeat(self, ts_ms: int) -> list[TrainingExample]:
        """Let time pass up to `ts_ms`; return what matured."""
        self.clock_ms = max(self.clock_ms, ts_ms)
        return [e for p in self.pending.values() for e in p.mature(self.clock_ms)]

    def _remember(
        self,
        kinds: NDArray[np.uint8],
        cells: Cells,
        inputs: Inputs,
        scores: Scores,
        before_ms: NDArray[np.int64],
        run: slice,
    ) -> None:
        """Snapshot the transactions of a run of rows."""
        rows = run.start + np.flatnonzero(kinds[run] == Kind.TRANSACTION)
        events, times_ms = cells[Cell.EVENT_ID, rows], cells[Cell.TS_MS, rows]
        for name, pending in self.pending.items():
            pending.append(
                events, times_ms, inputs[name][rows], before_ms[rows], scores[name][rows]
            )

    def changes(self, generation: int) -> tuple[list[Write], list[bytes]]:
        """Return writes and deletes since the last call; `generation` is the number of these."""
        writes = [
            Write(CUSTOMER_PREFIX + hex_key(key), 0, value)
            for key, value in self.customers.changes(generation)
        ]
        deletes = []
        before_count = len(self._pending_keys)
        for model, pending in self.pending.items():
            for name, value in pending.changes():
                key = _pending_key(model, name)
                if value is None:
                    deletes.append(key)
                    self._pending_keys.pop(key, None)
                else:
                    writes.append(Write(key, 0, value))
                    self._pending_keys[key] = None
        if deletes or len(self._pending_keys) != before_count:
            writes.append(Write(PENDING_LIST_KEY, 0, b"\n".join(sorted(self._pending_keys))))
        if self.clock_ms != self._clock_written_ms:
            writes.append(Write(CLOCK_KEY, 0, b"%d" % self.clock_ms))
            self._clock_written_ms = self.clock_ms
        tracked = self.tracked.change()
        if tracked is not None:
            writes.append(Write(TRACKED_KEY, 0, tracked))
        return writes, deletes

    def restore(self, load: Load) -> None:
        """Take up the stored clock and pending labels; customers come when they are needed."""
        clock, pending_list, tracked = load([CLOCK_KEY, PENDING_LIST_KEY, TRACKED_KEY])
        if clock is not None:
            self.clock_ms = self._clock_written_ms = int(clock)
        self.tracked.restore(tracked, self.clock_ms)
        keys = (pending_list or b"").splitlines()
        stored = dict(zip(keys, load(keys), strict=True))
        self._pending_keys = dict.fromkeys(keys)
        for model, pending in self.pending.items():
            prefix = _pending_key(model, "")
            blobs = {
                key.removeprefix(prefix).decode(): blob
                for key, blob in stored.items()
                if key.startswith(prefix) and blob is not None
            }
            pending.load(blobs)


def hex_key(value: int) -> bytes:
    """Return an entity's hash as 16 hexadecimal digits."""
    return b"%016x" % (value & (2**64 - 1))


def unhex_key(text: bytes) -> int:
    """Return the entity's hash that `hex_key` wrote."""
    value = int(text, 16)
    return value - 2**64 if value >> 63 else value


def _pending_key(model: str, name: str) -> bytes:
    return PENDING_PREFIX + f"{model}:{name}".encode()
