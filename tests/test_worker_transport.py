"""The batch consumer when an assignment comes while it waits for something."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NoOffsetForPartitionError

from streams.worker.transport import BatchConsumer, Batches, Bounds, Outcome

PLACE = TopicPartition("events", 0)


class Intake:
    """Takes whatever it is given, and has nothing to decide."""

    def __init__(self) -> None:
        self.taken_count = 0
        self.outcome = Outcome.GOOD
        self.topics = frozenset({"events"})

    async def take(
        self, bounds: Mapping[TopicPartition, Bounds], partition_count: int
    ) -> Mapping[TopicPartition, int]:
        self.taken_count += 1
        return {place: bound.first for place, bound in bounds.items()}

    def check(self, bounds: Mapping[TopicPartition, Bounds]) -> bool:
        return False  # Kafka has all that is to be read

    async def idle(self) -> Outcome:
        return self.outcome

    def wait_s(self) -> float:
        return 0.0


class Thread:
    """Answers at once."""

    def topic_partitions(self, topic: str) -> int:
        return 1

    async def seek_all(self, offsets: Mapping[TopicPartition, int]) -> None:
        pass

    async def on_own_loop(self, call: Any) -> Any:
        return await call


class Consumer(BatchConsumer):
    """The batch consumer without Faust's services; `during` comes while Kafka says its bounds."""

    intake: Intake  # type: ignore[assignment]

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.flow_active = True
        self._busy = asyncio.Lock()
        self._thread = Thread()  # type: ignore[assignment]
        self.position_is_known = False
        self.during: list[Any] = []
        self.turns_left = 5

    @property
    def should_stop(self) -> bool:
        self.turns_left -= 1
        return self.turns_left < 0

    def assignment(self) -> set[Any]:
        return {PLACE}

    async def bounds(self, places: Any) -> dict[TopicPartition, Bounds]:
        while self.during:
            await self.during.pop()()
        return dict.fromkeys(places, Bounds(0, 10))

    async def _fetch(self, wait_s: float) -> Batches:
        if not self.position_is_known:
            raise NoOffsetForPartitionError
        return {}


@pytest.fixture
def consumer() -> Consumer:
    return Consumer(Intake())


def taken_count(consumer: Consumer) -> int:
    """Return how often it takes what is assigned, until its turns are over."""

    class Fetcher:
        should_stop = False

    asyncio.run(consumer._drain_messages(Fetcher()))
    return consumer.intake.taken_count


def test_an_assignment_is_taken_that_comes_while_kafka_is_asked_for_its_bounds(
    consumer: Consumer,
) -> None:
    async def assign() -> None:
        consumer.position_is_known = True
        await consumer.perform_seek()

    consumer.during = [assign]
    assert taken_count(consumer) == 1


def test_an_assignment_is_taken_again_where_another_comes_meanwhile(consumer: Consumer) -> None:
    consumer.position_is_known = True
    consumer.during = [consumer.perform_seek]
    consumer._has_to_take = True
    assert taken_count(consumer) == 2


def test_an_engine_that_is_lost_is_taken_again(consumer: Consumer) -> None:
    consumer.position_is_known = True
    consumer.intake.outcome = Outcome.LOST
    consumer.turns_left = 3
    assert taken_count(consumer) == 1
