"""Has every kernel compiled, or read from its cache, before a worker joins its group.

On a machine that never ran this version that takes a minute or more; with partitions in hand it
would look like a stall, and their records would wait.
"""

from collections.abc import Mapping, Sequence

from actions.policy import Policy
from features.raw import RawRecord
from features.records import ENCODER, ONE_TOPIC, Label, Transaction
from streams.engine import Engine, EngineSettings, Offsets, acquire_all
from streams.foreign_histories import ForeignHistories
from streams.partition import Write
from streams.partitioner import partitions_of
from streams.sinks import MemorySink
from streams.store import MemoryStore

EVENT_MS = 1_767_225_600_000


class _Journal:
    """Counts checkpoints; there is nothing else to store."""

    def __init__(self) -> None:
        self._count = 0

    def positions(self) -> Mapping[str, Offsets]:
        self._count += 1
        return {"0": {ONE_TOPIC: self._count}}

    def writes(self) -> Mapping[str, Sequence[Write]]:
        return {}


def warm_up(policy: Policy) -> None:
    """Decide a payment and a label thrice, in memory, with restarts in between.

    The third time as one of two workers: with a copy of what the other has of shared entities.
    """
    partitions_of(("C",), 1)  # of what is emitted
    store, journal = MemoryStore(), _Journal()
    for life, partition_count in enumerate((0, 0, 2)):
        owned = acquire_all(store, ["0"])
        settings = EngineSettings(partition_count=partition_count)
        engine = Engine(policy, store, MemorySink(), journal, [0], owned, settings)
        engine.processor.process(engine.read(_records(policy, life)))
        if engine.processor.foreign is not None:
            _copy(engine.processor.foreign, store)
        engine.checkpoint()
        engine.processor.residency.evict(1)
        engine.close()


def _copy(foreign: ForeignHistories, store: MemoryStore) -> None:
    """Take what partition 0 has stored of shared entities for what partition 1 has."""
    names = foreign.wanted()
    values = store.load([("0", name) for name in names])
    foreign.load(
        [(1, name, value) for name, value in zip(names, values, strict=True)], is_first=True
    )
    foreign.resident(names)
    for name in names:
        foreign.doubt(name)


def _records(policy: Policy, life: int) -> list[RawRecord]:
    event_id, ts_ms = f"T-{life}", EVENT_MS + life * 60_000
    payment = Transaction(
        event_id=event_id,
        ts_ms=ts_ms,
        customer_id="C",
        account_id="A",
        card_id="K",
        type="purchase",
        amount_minor=1_999,
        currency=policy.currency,
        direction="out",
        channel="online",
        merchant_id="M",
        terminal_id="P",
        device_id="D",
    )
    label = Label(event_id=event_id, ts_ms=ts_ms + 1, customer_id="C", verdict="fraud")
    values = [ENCODER.encode(payment), ENCODER.encode(label)]
    return [RawRecord(0, ONE_TOPIC, offset, value) for offset, value in enumerate(values)]
