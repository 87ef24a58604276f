"""The producers of a worker: one for the engine's emissions, one for the trainer's."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.worker.kafka_sink import KafkaSink, new_producer

STOP_MAX_S = 0.5
logger = logging.getLogger(__name__)


class Producers:
    """Makes sinks on Faust's loop; producers live until `drop`.

    With `transactions`, the engine's emissions are in transactions: of an id that begins so and
    ends with the worker's lowest partition, which is its own in the group. Whoever takes partitions
    aborts what was left open under the id of any of them. A worker that is dead can't, and
    consumers of `read_committed` would wait until its transaction times out.
    """

    def __init__(
        self, options: Mapping[str, Any], prefix: str, transactions: str | None = None
    ) -> None:
        self._options = options
        self._prefix = prefix
        self._transactions = transactions
        self._running: dict[str | None, AIOKafkaProducer] = {}
        self._turn = asyncio.Lock()  # engine and trainer ask each on its own

    async def sink(self, partitions: Sequence[int]) -> KafkaSink:
        """Return a sink for what is decided on these partitions."""
        if self._transactions is None or not partitions:
            return await self.plain_sink()
        own, *others = [f"{self._transactions}-{partition}" for partition in sorted(partitions)]
        async with self._turn:
            await self._stop([other for other in self._running if other is not None])
            sink = await self._new_sink(own)
            await asyncio.gather(*map(self._abort, others))
        return sink

    async def plain_sink(self) -> KafkaSink:
        """Return a sink without transactions."""
        async with self._turn:
            return await self._new_sink(None)

    async def _new_sink(self, name: str | None) -> KafkaSink:
        producer = self._running.get(name)
        if producer is None:
            producer = self._running[name] = await self._started(name)
        loop = asyncio.get_running_loop()
        return KafkaSink(producer, loop, self._prefix, transactional=name is not None)

    async def _started(self, name: str | None) -> AIOKafkaProducer:
        producer = new_producer(self._options, name)
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _abort(self, name: str) -> None:
        """Abort what is open under a transactional id, and refuse whoever still writes under it."""
        producer = await self._started(name)
        await producer.stop()

    async def drop(self) -> None:
        """Stop all producers; what they have not written is repeated by whoever comes next."""
        await self._stop(list(self._running))

    async def _stop(self, names: Sequence[str | None]) -> None:
        for name in names:
            try:
                await asyncio.wait_for(self._running.pop(name).stop(), STOP_MAX_S)
            except (KafkaError, TimeoutError) as error:
                logger.warning("a producer was dropped: %r", error)
