"""Copies of other processes' shared histories, kept up to date in the background.

    reader = ForeignReader(store, processor)
    reader.start()
    ...
    reader.apply()  # between batches, and now and then when there are none
    ...
    reader.stop()

A thread asks the store what changed in the foreign partitions, and reads what of it is in memory
here; entities that became resident are read as soon as they are known. It never touches the
processor: what it has for it waits until `apply`. The store may be away: copies then grow old,
which `staleness_ms` and the status of values say, and nothing stops.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from features.histories import HistoryError
from streams.history_names import history_name
from streams.partition import CLOCK_KEY
from streams.processor import Processor
from streams.store import SharedChanges, SharedMark, Store, StoreError

NS_PER_MS = 1_000_000
WAITING_MAX_COUNT = 2  # portions read ahead of `apply`
LOOK_S = 0.1  # how often a wait looks whether it is to end
FIRST_PORTION_COUNT = 64  # before it is known how large values are
RETRIED_COUNT = 64  # unreadable histories that are tried again in a round
Item = tuple[int, bytes, bytes | None]  # partition, name, stored value

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ForeignSettings:
    """How copies are kept up to date.

    A value is stale where its copies were last compared with the store more than
    `staleness_ms_max` ago. About `portion_bytes` are read, and taken in by one `apply`, at once.
    """

    refresh_ms: int = 500
    staleness_ms_max: int = 2_000
    portion_bytes: int = 1 << 20
    portion_max_count: int = 1_024  # values


class ForeignState(NamedTuple):
    """How it stands with the copies: see the properties and counters of `ForeignReader`."""

    staleness_ms: float
    lag_ms: int
    waiting_count: int
    stale_count: int
    read_count: int
    read_bytes: int
    failed_count: int
    refused_count: int


class _StoppedError(Exception):
    """The reader is to stop."""


class ForeignReader:
    """Keeps a processor's copies of other processes' shared histories.

    `start`, `apply` and `stop` belong to the thread that drives the processor. Counters:
    `round_count` (comparisons with all foreign partitions), `read_count` and `read_bytes` (values
    read), `failed_count` (calls that the store did not answer), `refused_count` (values that are
    no histories to this version).
    """

    def __init__(
        self,
        store: Store,
        processor: Processor,
        settings: ForeignSettings | None = None,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if processor.foreign is None:
            raise ValueError("expected a processor with foreign partitions, got none")
        self._store = store
        self._processor = processor
        self._histories = processor.foreign
        self._settings = settings or ForeignSettings()
        self._now_ns = monotonic_ns
        self._partitions = self._histories.partitions
        self._refreshed_ns = dict.fromkeys(self._partitions, monotonic_ns())
        self._clocks_ms: dict[int, int] = {}
        self._marks: dict[int, SharedMark] = {}
        self._first: dict[bytes, None] = {}  # to be read for the first time
        self._value_bytes = self._settings.portion_bytes / FIRST_PORTION_COUNT
        self._is_away = False  # the store did not answer since the last whole round
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="foreign", daemon=True)
        # To the thread: names to be read first, and which of the changed ones are kept here.
        self._wanted: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self._kept: queue.SimpleQueue[dict[int, list[bytes]]] = queue.SimpleQueue()
        self._refused: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # From the thread: calls for `apply`, each returning how many bytes it took in.
        self._calls: queue.Queue[Callable[[], int]] = queue.Queue(WAITING_MAX_COUNT)
        self.round_count = 0
        self.read_count = 0
        self.read_bytes = 0
        self.failed_count = 0
        self.refused_count = 0

    @property
    def staleness_ms(self) -> float:
        """How long ago the copies of a foreign partition were compared with the store, at most."""
        return (self._now_ns() - min(self._refreshed_ns.values())) / NS_PER_MS

    @property
    def lag_ms(self) -> int:
        """How far the slowest foreign partition is behind ours in event time; 0 if unknown."""
        own_ms = max(state.clock_ms for state in self._processor.partitions.values())
        return max(0, own_ms - min(list(self._clocks_ms.values()), default=own_ms))

    @property
    def waiting_count(self) -> int:
        """How many entities wait for their first read."""
        return len(self._first)

    @property
    def stale_count(self) -> int:
        """How many rows met a shared entity whose copies were old, or not read yet."""
        return self._histories.stale_count

    @property
    def now(self) -> ForeignState:
        """How it stands; any thread may ask."""
        return ForeignState(
            self.staleness_ms,
            self.lag_ms,
            self.waiting_count,
            self.stale_count,
            self.read_count,
            self.read_bytes,
            self.failed_count,
            self.refused_count,
        )

    @property
    def is_running(self) -> bool:
        """Whether the thread is there."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after the call to the store that it may be waiting for."""
        self._is_stopping.set()
        self._wanted.put([])
        if self._thread.is_alive():
            self._thread.join()

    def apply(self) -> None:
        """Hand over what was read, up to a portion, and say how old the copies are. Never waits."""
        wanted = self._histories.wanted()
        if wanted:
            self._wanted.put(wanted)
        taken_bytes = 0
        while taken_bytes < self._settings.portion_bytes:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                break
            taken_bytes += call()
        age_ms = self.staleness_ms
        is_old = age_ms > self._settings.staleness_ms_max
        self._histories.set_age_ms(age_ms if is_old else 0.0)

    # What follows up to `_run` is called by `apply`.

    def _answer(self, changed: dict[int, list[bytes] | None]) -> int:
        """Tell the thread which of the changed histories are kept here; None: any may be."""
        kept = {}
        for partition, names in changed.items():
            if names is None:
                kept[partition] = self._histories.all_resident()
            else:
                kept[partition] = self._histories.resident(names)
        self._kept.put(kept)
        return 0

    def _take(self, items: list[Item], is_first: bool) -> int:
        """Take values in; one that can't be read leaves its entity unread, to be tried again."""
        taken_bytes = sum(len(value) for _, _, value in items if value)
        self._processor.residency.make_room(0, taken_bytes)
        while items:
            try:
                self._histories.load(items, is_first=is_first)
                break
            except HistoryError as error:
                refused = history_name(error.owner.entity, error.owner.key)
                items = [item for item in items if item[1] != refused]
                self._histories.doubt(refused)
                self._refused.put(refused)
                if not self.refused_count:
                    logger.warning("a copy of another process's history can't be read: %s", error)
                self.refused_count += 1
        return taken_bytes

    def _note_refreshed(self, partition: int, asked_ns: int, clock_ms: int | None) -> int:
        self._refreshed_ns[partition] = asked_ns
        if clock_ms is not None:
            self._clocks_ms[partition] = clock_ms
        return 0

    def _run(self) -> None:
        """Read until it is told to stop; all that follows is the thread's."""
        due_ns = self._now_ns()
        try:
            while True:
                self._await_wanted(max(0, due_ns - self._now_ns()) / 1e9)
                failed_count = self.failed_count
                self._read_first()
                if failed_count != self.failed_count:
                    self._is_stopping.wait(self._settings.refresh_ms / 1e3)
                if self._now_ns() >= due_ns:
                    due_ns = self._now_ns() + self._settings.refresh_ms * NS_PER_MS
                    self._refresh()
        except _StoppedError:
            pass

    def _await_wanted(self, timeout_s: float) -> None:
        """Wait until there are names to be read first, or until the time is over."""
        try:
            names = self._wanted.get(timeout=timeout_s) if timeout_s else self._wanted.get_nowait()
            while True:
                self._first |= dict.fromkeys(names)
                names = self._wanted.get_nowait()
        except queue.Empty:
            pass
        if self._is_stopping.is_set():
            raise _StoppedError

    def _read_first(self) -> None:
        """Read the entities that became resident from all foreign partitions, as far as it goes."""
        for names in self._portions(list(self._first), len(self._partitions)):
            items: list[Item] = []
            for partition in self._partitions:
                found = self._load(partition, names)
                if found is None:
                    return
                items += found
            for name in names:
                del self._first[name]
            self._hand_over(partial(self._take, items, True))

    def _refresh(self) -> None:
        """Compare the copies with all foreign partitions, and read what has changed."""
        for _ in range(min(RETRIED_COUNT, self._refused.qsize())):
            self._first[self._refused.get()] = None
        asked: dict[int, tuple[int, SharedChanges, int | None]] = {}
        for partition in self._partitions:
            asked_ns = self._now_ns()
            if (found := self._ask(partition)) is not None:
                asked[partition] = (asked_ns, *found)
        self._hand_over(
            partial(self._answer, {p: changes.keys for p, (_, changes, _) in asked.items()})
        )
        kept = self._await_kept()
        done_count = 0
        for partition, (asked_ns, changes, clock_ms) in asked.items():
            if self._read_changed(partition, kept[partition]):
                self._marks[partition] = changes.mark
                self._hand_over(partial(self._note_refreshed, partition, asked_ns, clock_ms))
                done_count += 1
        if done_count == len(self._partitions):
            self.round_count += 1
            if self._is_away:
                logger.warning("copies of other processes' histories are kept up to date again")
            self._is_away = False

    def _ask(self, partition: int) -> tuple[SharedChanges, int | None] | None:
        """Return what changed in a partition, and its clock; None where the store won't tell."""
        try:
            changes = self._store.shared_changes(str(partition), self._marks.get(partition))
            clock = self._store.load([(str(partition), CLOCK_KEY)])[0]
        except StoreError as error:
            self._note_failure(error)
            return None
        return changes, None if clock is None else int(clock)

    def _read_changed(self, partition: int, names: Sequence[bytes]) -> bool:
        """Read histories of one partition; False where the store gave out before the end."""
        for some in self._portions(names, 1):
            items = self._load(partition, some)
            if items is None:
                return False
            self._hand_over(partial(self._take, items, False))
        return True

    def _portions(self, names: Sequence[bytes], partition_count: int) -> Iterator[Sequence[bytes]]:
        """Cut names so that about a portion of bytes is read of each piece."""
        start = 0
        while start < len(names):
            bytes_each = self._value_bytes * partition_count
            count = int(self._settings.portion_bytes / max(bytes_each, 1.0))
            count = min(max(count, 1), self._settings.portion_max_count)
            yield names[start : start + count]
            start += count

    def _load(self, partition: int, names: Sequence[bytes]) -> list[Item] | None:
        """Return what a partition has stored under these names, None where the store is away."""
        if self._is_stopping.is_set():
            raise _StoppedError
        try:
            values = self._store.load([(str(partition), name) for name in names])
        except StoreError as error:
            self._note_failure(error)
            return None
        read_bytes = sum(len(value) for value in values if value)
        self.read_count += len(names)
        self.read_bytes += read_bytes
        # Half the weight on the newest: what is hot now is large, and what comes next may not be.
        self._value_bytes = (self._value_bytes + read_bytes / len(names)) / 2
        return [(partition, name, value) for name, value in zip(names, values, strict=True)]

    def _note_failure(self, error: StoreError) -> None:
        if self._is_stopping.is_set():
            raise _StoppedError
        self.failed_count += 1
        if not self._is_away:
            logger.warning("copies of other processes' histories grow old: %s", error)
        self._is_away = True

    def _hand_over(self, call: Callable[[], int]) -> None:
        """Leave a call to `apply`, once there is room for it."""
        while not self._is_stopping.is_set():
            try:
                self._calls.put(call, timeout=LOOK_S)
                return
            except queue.Full:
                continue
        raise _StoppedError

    def _await_kept(self) -> dict[int, list[bytes]]:
        """Return what `apply` answered."""
        while not self._is_stopping.is_set():
            try:
                return self._kept.get(timeout=LOOK_S)
            except queue.Empty:
                continue
        raise _StoppedError
