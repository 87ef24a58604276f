"""The control topics, which every worker reads whole before it joins, and goes on reading."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import ge
from typing import Any, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from features.errors import RecordError
from features.raw import RawRecord
from features.records import ENCODER, TS_MS_MIN, ListChange
from online_models.versions import ModelVersion, decode_version
from streams.topics import LISTS, MODELS, POLICIES
from streams.worker.learning import Point, Reach
from streams.worker.trainer import POINT_KEY, REACH_KEY, VERSION_KEY

RETRY_S = 1.0
POLL_MS = 1_000
FETCH_MAX_BYTES = 16 << 20  # a version is one record, and has to fit
logger = logging.getLogger(__name__)

Control = ModelVersion | Point | Reach
Found = Mapping[Any, Sequence[Any]]  # place in Kafka -> records


class OnChanges(Protocol):
    """What takes records of `policies` and `lists`."""

    async def __call__(self, raws: Sequence[RawRecord], *, is_new: bool) -> None:
        """Take them in this order; `is_new`: they came while the worker ran."""


class ControlReader:
    """Hands on what the control topics say: first all that is there, then what comes.

    Models and changes of the policy go their own ways, each in its order. A list comes after every
    policy that was published before it: who publishes both expects that.
    """

    def __init__(
        self,
        prefix: str,
        options: Mapping[str, Any],
        on_control: Callable[[list[Control]], Awaitable[None]],
        on_changes: OnChanges,
    ) -> None:
        self._models = TopicPartition(prefix + MODELS, 0)
        self._policies = TopicPartition(prefix + POLICIES, 0)
        self._lists = TopicPartition(prefix + LISTS, 0)
        self._options = options
        self._on_control = on_control
        self._on_changes = on_changes
        self._taken = {self._policies: 0, self._lists: 0}  # next offsets; they outlive a reader
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Read for ever; wait where Kafka is away."""
        while True:
            try:
                await self._read()
            except KafkaError as error:
                logger.warning("the control topics can't be read: %r", error)
                await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            # Not by `seek_to_beginning`: a reset to the end that is under way would undo it.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=POLL_MS,
            max_partition_fetch_bytes=FETCH_MAX_BYTES,
            **self._options,
        )
        try:
            await consumer.start()
            places = [self._models, self._policies, self._lists]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while True:
                if not self.caught_up.is_set() and await _reached(consumer, ends):
                    self.caught_up.set()
                await self._hand_on(consumer, await consumer.getmany(timeout_ms=POLL_MS), ends)
        finally:
            await consumer.stop()

    async def _hand_on(self, consumer: Any, found: Found, ends: Mapping[Any, int]) -> None:
        changes: dict[Any, list[Any]] = {self._policies: [], self._lists: []}
        _join(changes, found)
        if not self.caught_up.is_set():  # all that is there is judged together
            behind = {place: ends[place] for place in changes}
        elif changes[self._lists]:
            behind = await consumer.end_offsets([self._policies])
        else:
            behind = {}
        while not await _reached(consumer, behind):
            _join(changes, await consumer.getmany(*behind, timeout_ms=POLL_MS))
        controls = [
            c for r in found.get(self._models, ()) if (c := parse(r.key, r.value)) is not None
        ]
        if controls:
            await self._on_control(controls)
        raws = [raw for place, records in changes.items() for raw in self._new(place, records)]
        if raws:
            await self._on_changes(raws, is_new=self.caught_up.is_set())

    def _new(self, place: Any, records: Sequence[Any]) -> list[RawRecord]:
        """Return the records that were not handed on before, in their order."""
        fresh = [record for record in records if record.offset >= self._taken[place]]
        if fresh:
            self._taken[place] = fresh[-1].offset + 1
        name = POLICIES if place == self._policies else LISTS
        raws = [RawRecord(0, name, record.offset, _value(record, name)) for record in fresh]
        return [raw for raw in raws if raw.value]


def _value(record: Any, topic: str) -> bytes:
    """Return the bytes of a record; of a list's tombstone those that give it back."""
    if record.value is not None:
        return bytes(record.value)
    if topic == POLICIES:
        return b""  # a version that is forgotten: it still decides if it was the newest
    name = (record.key or b"?").decode(errors="replace")
    return ENCODER.encode(ListChange(ts_ms=TS_MS_MIN, name=name, entries=None))


async def _reached(consumer: Any, ends: Mapping[Any, int]) -> bool:
    positions = [await consumer.position(place) for place in ends]
    return all(map(ge, positions, ends.values()))


def _join(changes: dict[Any, list[Any]], found: Found) -> None:
    for place, records in found.items():
        if place in changes:
            changes[place] += records


def parse(key: bytes | None, value: bytes | None) -> Control | None:
    """Return what a record of `models` says; None, with a line in the log, for any other."""
    kind = (key or b"").decode(errors="replace").partition(":")[0]
    try:
        if kind == VERSION_KEY:
            return decode_version(value or b"")
        if kind in (POINT_KEY, REACH_KEY):
            return msgspec.json.decode(value or b"", type=Point | Reach)
    except (RecordError, msgspec.MsgspecError) as error:
        logger.error("a record of `models` with key %r can't be read: %s", key, error)
        return None
    logger.warning("a record of `models` with key %r is none that this version knows", key)
    return None
