"""Workers that share terminals: each a processor over some partitions, and a reader of the others.

As a program, `python foreign_workers.py REDIS_URL PREFIX PARTITION COUNT`: pays at the terminal so
many times, commits after each payment, says `committed N`, and goes on living until it is killed.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing

import msgspec

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from actions.policy import Policy
from features.hashing import IdHasher
from features.raw import RawRecord
from features.records import ENCODER, Alert
from streams.foreign import ForeignReader, ForeignSettings
from streams.processor import Processor
from streams.redis_store import RedisStore
from streams.store import PartitionChange, Store
from tests.strategies_streams import START_MS, transaction

PARTITIONS = (0, 1, 2)
TOPIC = "transactions"
SETTINGS = ForeignSettings(refresh_ms=5)
PATIENCE_S = 20.0
POLICY = """\
name: terminals
currency: EUR
entities:
  customer: {key: customer_id, scope: local}
  terminal: {key: terminal_id, scope: shared, keep: [amount]}
rules:
  - id: each
    risk: size
    when: amount > 0
    action: review
    reason: "{terminal.count('30d')} payments of {terminal.sum(amount, '30d')}, {terminal.distinct(customer_id, '1h')} lately"
"""  # noqa: E501 - one line of YAML


def policy() -> Policy:
    return Policy.parse({"policy.yaml": POLICY})


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds that another thread or process brings about."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain until {what}"
        time.sleep(0.001)


class Worker:
    """Decides payments of its partitions and commits them; `others` reads from the rest."""

    def __init__(
        self, store: Store, owned: Sequence[int], settings: ForeignSettings = SETTINGS
    ) -> None:
        self.store = store
        self._owned = {partition: store.acquire(str(partition)) for partition in owned}
        self._committed = {p: offsets.get(TOPIC, 0) for p, (_, offsets) in self._owned.items()}
        self._positions = dict(self._committed)
        foreign = [partition for partition in PARTITIONS if partition not in owned]
        fresh = not any(self._committed.values())
        self.processor = Processor(
            policy(), list(owned), IdHasher(), fresh=fresh, foreign_partitions=foreign
        )
        self.others = ForeignReader(store, self.processor, settings) if foreign else None
        if self.others is not None:
            self.others.start()

    def pay(
        self, partition: int, number: int, minute: int, amount: int, terminal: str = "t"
    ) -> str:
        """Decide one payment; return what its alert says of the terminal."""
        record = transaction(
            number, START_MS + 60_000 * minute, f"c{partition}", terminal_id=terminal,
            amount_minor=100 * amount,
        )  # fmt: skip
        raw = RawRecord(partition, TOPIC, self._positions[partition], ENCODER.encode(record))
        batch = self.processor.decode([raw])
        while keys := self.processor.missing(batch):
            values = self.store.load([(str(key.partition), key.key) for key in keys])
            self.processor.load(zip(keys, values, strict=True))
        (emission,) = self.processor.process(batch).emissions
        self._positions[partition] += 1
        return msgspec.json.decode(emission.value, type=Alert).reasons[0].text

    def commit(self) -> None:
        changes = [
            PartitionChange(
                str(partition), self._owned[partition][0],
                {TOPIC: (self._committed[partition], self._positions[partition])},
                found.writes, found.deletes, found.shared,
            )
            for partition, found in self.processor.changes().items()
        ]  # fmt: skip
        self.store.commit(changes)
        self._committed = dict(self._positions)
        self.processor.residency.confirmed(self.processor.residency.generation)

    def overwrite(self, partition: int, name: bytes, value: bytes) -> None:
        """Store a value of a shared history as if it had been decided."""
        at = self._committed[partition]
        self._committed[partition] = self._positions[partition] = at + 1
        epoch, offsets = self._owned[partition][0], {TOPIC: (at, at + 1)}
        self.store.commit([
            PartitionChange(str(partition), epoch, offsets, [(name, 0, value)], [], [name])
        ])  # fmt: skip

    def apply(self) -> ForeignReader:
        """Take in what was read."""
        assert self.others is not None
        self.others.apply()
        return self.others

    def read_others(self) -> None:
        """Return when all that the others have committed by now is here."""
        others = self.apply()  # says what is wanted
        after = others.round_count + 2  # a round that is under way may have asked before
        wait_until(
            lambda: self.apply().round_count >= after and not others.waiting_count,
            "the others' histories were read",
        )
        others.apply()

    def close(self) -> None:
        if self.others is not None:
            self.others.stop()


def main() -> None:
    url, prefix, partition, count = sys.argv[1:]
    with (
        closing(RedisStore(url, prefix)) as store,
        closing(Worker(store, [int(partition)])) as worker,
    ):
        for number in range(int(count)):
            worker.pay(int(partition), 1_000 + number, number, 1)
            worker.commit()
        sys.stdout.write(f"committed {count}\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
