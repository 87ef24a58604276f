"""Commits to a store on a thread of their own, one at a time, in order."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from streams.store import PartitionChange, Store, StoreUnavailableError

RETRY_S = 0.2
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class Committer:
    """Lets the engine go on deciding while the store writes.

    One commit is under way at most: the next waits for it, so a slow store slows the input down
    instead of filling memory. What a commit raised (fenced off, a gap, a store away for longer
    than `patience_ms`) is raised by the next `begin` or `finish`. `on_commit` hears, on the thread
    of commits, the seconds from `before` to the store's answer, and the bytes of the values.
    """

    def __init__(
        self,
        store: Store,
        patience_ms: int,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        on_commit: Callable[[float, int], None] = lambda _s, _bytes: None,
    ) -> None:
        self._store = store
        self._patience_ms = patience_ms
        self._now_ns = monotonic_ns
        self._sleep = sleep
        self._on_commit = on_commit
        self._is_away = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._under_way: Future[None] | None = None

    def begin(
        self, changes: Sequence[PartitionChange], *, before: Callable[[], None] = lambda: None
    ) -> None:
        """Start a commit, after the one before it has ended well.

        `before` is called first, on the same thread; nothing is stored if it raises.
        """
        self.finish()
        self._under_way = self._thread.submit(self._commit, changes, before)

    def finish(self) -> None:
        """Wait until nothing is under way; raise what went wrong."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def close(self) -> None:
        """Finish, and let go of the thread."""
        try:
            self.finish()
        finally:
            self._thread.shutdown()

    def _commit(self, changes: Sequence[PartitionChange], before: Callable[[], None]) -> None:
        started_ns = self._now_ns()
        before()
        self.patiently(lambda: self._store.commit(changes))
        stored_bytes = sum(len(value) for c in changes for _, _, value in c.writes)
        self._on_commit((self._now_ns() - started_ns) / 1e9, stored_bytes)

    def patiently(self, call: Callable[[], Answer]) -> Answer:
        """Return what a call to the store answers, waiting for a store that is away.

        The call has to be one that may be repeated: a load, or the same commit again.
        """
        deadline_ns = self._now_ns() + self._patience_ms * 1_000_000
        while True:
            try:
                answer = call()
            except StoreUnavailableError as error:
                if self._now_ns() >= deadline_ns:
                    raise
                if not self._is_away:
                    logger.warning("the store is away, input waits: %s", error)
                self._is_away = True
                self._sleep(RETRY_S)
            else:
                if self._is_away:
                    logger.warning("the store is back")
                self._is_away = False
                return answer
