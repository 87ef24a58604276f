"""A sink that writes to Kafka: from the engine's thread, through a producer on an event loop."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError

from streams.emissions import Emission
from streams.partitioner import partitions_of
from streams.sinks import SinkError
from streams.topics import MODEL_MAX_BYTES
from streams.worker.lanes import Lane, Row, Ticket

WAITING_MAX_COUNT = 20_000  # emissions without acknowledgement; more make `write` wait
BATCH_MAX_BYTES = 1 << 18
TRANSACTION_MAX_MS = 60_000  # then Kafka aborts what a worker left open that nobody followed


def new_producer(
    options: Mapping[str, Any], transactional_id: str | None = None
) -> AIOKafkaProducer:
    """Return a producer that keeps order and writes each record once for as long as it lives."""
    return AIOKafkaProducer(
        acks="all",
        transactional_id=transactional_id,
        transaction_timeout_ms=TRANSACTION_MAX_MS,
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_MAX_BYTES,
        max_request_size=MODEL_MAX_BYTES,  # a version with all its contestants is one record
        **options,
    )


class KafkaSink:
    """Emissions as records of `prefix` + topic, keyed by customer, in the order of writing.

    `write` and `flush` may be called from any thread but the loop's. An emission that Kafka does
    not take in time is raised by the next of them as SinkError; the sink is of no use after that.

    `transactional`, for a producer with a transactional id: what is written between two flushes is
    a transaction, which the second flush commits. A checkpoint flushes before it stores state: a
    crash between the two makes `read_committed` consumers see a repeat, under the same id. The
    other order would lose what such a crash aborts. What a worker wrote that died before its
    checkpoint is never seen by them.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        loop: asyncio.AbstractEventLoop,
        prefix: str = "",
        *,
        transactional: bool = False,
    ) -> None:
        self._transactional = transactional
        self._producer = producer
        self._loop = loop
        self._prefix = prefix
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._waiting_count = 0
        self._closed = False
        self._is_open = False  # whether a transaction has begun
        self._turn = asyncio.Lock()  # beginning may wait: those of the next write stay behind it
        self._lanes: dict[tuple[str, int], Lane] = {}

    def write(self, emissions: Sequence[Emission]) -> None:
        """Hand emissions to the producer; wait only where too many are without an answer."""
        if self._closed:
            raise SinkError("KafkaSink is closed")
        sent = asyncio.run_coroutine_threadsafe(self._send(list(emissions)), self._loop)
        self._waiting.append((len(emissions), sent))
        self._waiting_count += len(emissions)
        while self._waiting and (
            self._waiting[0][1].done() or self._waiting_count > WAITING_MAX_COUNT
        ):
            self._settle()

    def flush(self) -> None:
        """Return once Kafka has acknowledged everything written before."""
        for _, sent in list(self._waiting):
            _result(sent)
        if self._transactional:
            _result(asyncio.run_coroutine_threadsafe(self._commit(), self._loop))

    def close(self) -> None:
        """Flush, and take no more; the producer stays open, it is the caller's."""
        if not self._closed:
            self._closed = True
            self.flush()

    def _settle(self) -> None:
        count, sent = self._waiting.popleft()
        self._waiting_count -= count
        _result(sent)

    async def _send(self, emissions: list[Emission]) -> None:
        ticket = Ticket(len(emissions))
        async with self._turn:
            if self._transactional and not self._is_open:
                await self._producer.begin_transaction()
                self._is_open = True
            by_topic: dict[str, list[Emission]] = {}
            for emission in emissions:
                by_topic.setdefault(emission.topic, []).append(emission)
            for topic, some in by_topic.items():
                await self._deal(self._prefix + topic, some, ticket)
        await ticket.done

    async def _deal(self, topic: str, emissions: Sequence[Emission], ticket: Ticket) -> None:
        """Give each record to the lane of its key's partition."""
        count = len(await self._producer.partitions_for(topic))
        numbers = partitions_of([emission.key for emission in emissions], count).tolist()
        dealt: dict[int, list[Row]] = {}
        for number, (_, key, value) in zip(numbers, emissions, strict=True):
            dealt.setdefault(number, []).append((key.encode() or None, value))
        for number, rows in dealt.items():
            lane = self._lanes.get((topic, number))
            if lane is None:
                lane = Lane(self._producer, topic, number, MODEL_MAX_BYTES)
                self._lanes[topic, number] = lane
            lane.add(rows, ticket)

    async def _commit(self) -> None:
        async with self._turn:  # nothing is added meanwhile
            for lane in self._lanes.values():
                await lane.drained()  # what was written after the flush began is in it too
            if self._is_open:
                self._is_open = False
                await self._producer.commit_transaction()


def _result(sent: "Future[None]") -> None:
    try:
        sent.result()
    except (KafkaError, IllegalOperation, asyncio.CancelledError) as error:
        raise SinkError(f"Kafka did not take an emission: {error!r}") from error
