"""The control topic `models`, which every worker reads whole and goes on reading."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from features.errors import RecordError
from online_models.versions import ModelVersion, decode_version
from streams.worker.learning import Point, Reach
from streams.worker.trainer import POINT_KEY, REACH_KEY, VERSION_KEY

RETRY_S = 1.0
POLL_MS = 1_000
FETCH_MAX_BYTES = 16 << 20  # a version is one record, and has to fit
logger = logging.getLogger(__name__)

Control = ModelVersion | Point | Reach


class ControlReader:
    """Hands on what `models` says, in order: first all that is there, then what comes."""

    def __init__(
        self,
        topic: str,
        options: Mapping[str, Any],
        on_control: Callable[[list[Control]], Awaitable[None]],
    ) -> None:
        self._place = TopicPartition(topic, 0)
        self._options = options
        self._on_control = on_control
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Read for ever; wait where Kafka is away."""
        while True:
            try:
                await self._read()
            except KafkaError as error:
                logger.warning("the topic %s can't be read: %r", self._place.topic, error)
                await asyncio.sleep(RETRY_S)

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(
            fetch_max_wait_ms=POLL_MS, max_partition_fetch_bytes=FETCH_MAX_BYTES, **self._options
        )
        try:
            await consumer.start()
            consumer.assign([self._place])
            end = (await consumer.end_offsets([self._place]))[self._place]
            await consumer.seek_to_beginning(self._place)
            while True:
                if await consumer.position(self._place) >= end:
                    self.caught_up.set()
                found = await consumer.getmany(timeout_ms=POLL_MS)
                records = [record for some in found.values() for record in some]
                controls = [c for r in records if (c := parse(r.key, r.value)) is not None]
                if controls:
                    await self._on_control(controls)
        finally:
            await consumer.stop()


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
