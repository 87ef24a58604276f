"""Records that flow into a bank while faults are made, and how fast it stores what it decided."""

import threading
import time
from typing import NamedTuple

import redis

from bench.bank import Bank, Records

CHUNK_S = 0.05
LOOK_S = 0.05


class Feeder(threading.Thread):
    """Puts records in, spread over a time; `finish` waits for the last and raises what failed."""

    def __init__(self, bank: Bank, records: Records, duration_s: float) -> None:
        super().__init__(daemon=True)
        self._bank = bank
        self._records = records
        self._duration_s = duration_s
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Put the records in."""
        try:
            self._feed()
        except BaseException as error:  # noqa: BLE001 - raised by `finish`, on another thread
            self._error = error

    def _feed(self) -> None:
        chunk_count = max(round(self._duration_s / CHUNK_S), 1)
        size_count = -(-len(self._records) // chunk_count)
        started_s = time.monotonic()
        for number, start in enumerate(range(0, len(self._records), size_count)):
            time.sleep(max(started_s + number * CHUNK_S - time.monotonic(), 0.0))
            self._bank.produce(self._records[start : start + size_count])

    def finish(self) -> None:
        """Return once all is put in."""
        self.join()
        if self._error is not None:
            raise self._error


class Look(NamedTuple):
    """What was stored at a time: epoch and offset of each partition."""

    at_s: float
    epochs: dict[int, int]
    offsets: dict[int, int]


class Lookout:
    """Looks at what is stored, twenty times a second, until it is stopped."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._looks: list[Look] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                look = Look(time.monotonic(), self._bank.epochs(), self._bank.decided())
            except redis.exceptions.RedisError:
                pass  # it is away
            else:
                self._looks.append(look)
            self._over.wait(LOOK_S)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def recovery_s(self, since_s: float, moved: set[int]) -> float | None:
        """Return how long it took until each partition that had something to do had done some.

        Of those that had to move it is their next owner that counts. None where nothing was left
        to do.
        """
        before = [look for look in self._looks if look.at_s <= since_s]
        after = [look for look in self._looks if look.at_s > since_s]
        if not before or not after:
            return None
        base, firsts_s = before[-1], []
        for p, offset in base.offsets.items():
            times_s = [
                look.at_s - since_s
                for look in after
                if look.offsets[p] > offset and (p not in moved or look.epochs[p] > base.epochs[p])
            ]
            firsts_s += times_s[:1]
        return max(firsts_s, default=None)
