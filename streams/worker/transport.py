"""Inside Faust: a consumer that hands on whole batches instead of one event at a time.

Faust's own loop costs some 80 us an event, and its commits can pass over records that nobody has
decided (its issue 606). Here Faust keeps membership, assignment and shutdown; positions come from
the intake, and batches go to it.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol, TypeVar

import aiokafka
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from faust.transport.drivers import aiokafka as driver

POLL_S = 0.2  # how long an idle fetch waits before it looks around
# How long the broker holds a fetch that finds nothing. While one is under way no other goes to the
# same broker, so a partition that comes back from a pause or a seek waits up to that long. Faust
# has 1,500 ms here, without a setting.
FETCH_MAX_WAIT_MS = 100
# A worker without partitions fetches nothing. After this time aiokafka would neither keep it in
# the group nor let it join again (Faust's issue 517), so it is as long as the protocol admits.
NEVER_MS = 2**31 - 1
RETRY_S = 0.5

Answer = TypeVar("Answer")
Batches = Mapping[TopicPartition, Sequence[Any]]


class Bounds(NamedTuple):
    """What a partition of a topic holds: offsets from `first` on, and before `end`."""

    first: int
    end: int


class Outcome(Enum):
    """What became of an intake's call."""

    GOOD = auto()
    LOST = auto()  # state in memory is gone: take the partitions again
    FENCED = auto()  # another worker owns them: wait for the group to say who has what


class Intake(Protocol):
    """Takes batches; called from Faust's loop, one call at a time but for `hurry`."""

    topics: frozenset[str]

    async def take(
        self, bounds: Mapping[TopicPartition, Bounds], partition_count: int
    ) -> Mapping[TopicPartition, int] | None:
        """Make what was assigned ours; return from where to read it, None to be asked again.

        `partition_count` is how many partitions the input topics have in all.
        """

    def check(self, bounds: Mapping[TopicPartition, Bounds]) -> bool:
        """Return whether to take again, since Kafka lacks what is to be read; or raise."""

    async def decide(self, batches: Batches) -> Outcome:
        """Decide records."""

    async def idle(self) -> Outcome:
        """Do what is due while nothing comes."""

    async def release(self) -> None:
        """Store what was decided and let go of all partitions."""

    def paused(self) -> frozenset[TopicPartition]:
        """Return the places of which nothing should be fetched now."""

    def wait_s(self) -> float:
        """Return how long a fetch may wait before `idle` is due."""

    def hurry(self) -> None:
        """Give up waiting for a store that is away: partitions have to be released."""


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that fetches and sends heartbeats; a busy engine doesn't hold it up."""

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=transport.instance or None,
            # A range for each topic: topics with as many partitions are divided alike.
            partition_assignment_strategy=[RangePartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="none",  # nothing is skipped in silence
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=NEVER_MS,
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            retry_backoff_ms=100,
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **transport.kafka_options,
        )

    async def on_own_loop(self, call: Coroutine[Any, Any, Answer]) -> Answer:
        """Await something on the thread's loop, beside all else that waits there."""
        # Faust's own queue has two places, and fetches that wait out a rebalance can fill both.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self.thread_loop))

    async def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return what each partition of a topic holds now; on the thread's loop."""
        wanted = list(places)
        consumer = self._ensure_consumer()
        first = await consumer.beginning_offsets(wanted)
        end = await consumer.end_offsets(wanted)
        return {place: Bounds(first[place], end[place]) for place in wanted}

    async def seek_all(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Read each partition from its offset on; on the thread's loop."""
        consumer = self._ensure_consumer()
        for place, offset in offsets.items():
            consumer.seek(TopicPartition(*place), offset)

    async def commit_hint(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the offsets of those partitions that are ours; on the thread's loop."""
        ours = {place: offset for place, offset in offsets.items() if place in self.assignment()}
        if ours:
            await self._ensure_consumer().commit(ours)

    async def fetch(self, places: set[Any], wait_s: float) -> Batches:
        """Return whatever has arrived; on the thread's loop."""
        consumer = self._ensure_consumer()
        batches: Batches = await self._fetch_records(
            consumer, places, timeout=wait_s, max_records=consumer._max_poll_records
        )
        return batches


class BatchConsumer(driver.Consumer):
    """Membership by Faust, positions and batches by the intake."""

    _thread: BatchConsumerThread
    _has_to_take = False
    _is_fenced = False
    _assignment_count = 0  # of assignments so far: what was fetched under another is dropped
    _busy: asyncio.Lock

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport: Any = self.transport
        self.intake: Intake = transport.intake
        self._busy = asyncio.Lock()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to the agents' topics and to the intake's."""
        await super().subscribe(set(topics) | self.intake.topics)

    async def perform_seek(self) -> None:
        """Faust would go to the offsets that were committed to Kafka; the next drain takes ours."""
        self._note_assignment()

    def resume_flow(self) -> None:
        """Take what was assigned where that is nothing, too: Faust does not seek then."""
        if not self.assignment():
            self._note_assignment()
        super().resume_flow()

    def _note_assignment(self) -> None:
        self._assignment_count += 1
        self._has_to_take = True
        self._is_fenced = False

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """Store what was decided before another worker may have the partitions."""
        self._assignment_count += 1
        self.flow_active = False
        await self._let_go()
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Store what was decided, then leave the group."""
        self._assignment_count += 1
        self.flow_active = False
        await self._let_go()
        await super().on_stop()

    async def _let_go(self) -> None:
        self.intake.hurry()
        async with self._busy:
            self._has_to_take = False
            await self.intake.release()

    async def commit(self, *args: Any, **kwargs: Any) -> bool:
        """Commit nothing: Faust's offsets are not ours, see `hint`."""
        return False

    async def verify_all_partitions_active(self) -> None:
        """Leave this to the watchdog, which knows what was decided."""

    async def _drain_messages(self, fetcher: Any) -> None:
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.can_resume_flow.wait(), POLL_S)
                continue
            try:
                await self._turn()
            except ConsumerStoppedError:
                if self.app.should_stop:
                    return
                raise
            except (NoOffsetForPartitionError, OffsetOutOfRangeError):
                # Kafka's own position of a partition just assigned, or one that retention overtook.
                if not self._has_to_take:
                    bounds = await self.bounds(self.assignment())
                    if self.intake.check(bounds):  # else leave it: we may be told so meanwhile
                        self._has_to_take = True
            except KafkaError as error:
                self.log.warning("Kafka does not answer as it should, input waits: %r", error)
                await asyncio.sleep(RETRY_S)

    async def _turn(self) -> None:
        """Take partitions that were assigned, or fetch once and decide what came."""
        count = self._assignment_count
        if self._has_to_take:
            async with self._busy:
                if self._assignment_count == count and await self._take():
                    self._has_to_take = self._assignment_count != count
            return
        batches = await self._fetch(self.intake.wait_s())
        async with self._busy:
            if self._assignment_count != count or not self.flow_active:
                return  # fetched for an assignment that is over
            outcome = await (self.intake.decide(batches) if batches else self.intake.idle())
            if self._assignment_count == count:
                self._has_to_take = outcome is Outcome.LOST
                self._is_fenced = outcome is Outcome.FENCED

    async def _take(self) -> bool:
        """Take what is assigned now; return whether it is ours."""
        assigned = self.assignment()
        bounds = await self.bounds(assigned)
        counts = [self._thread.topic_partitions(topic) or 0 for topic in self.intake.topics]
        positions = await self.intake.take(bounds, max(counts))
        if positions is None:
            return False
        await self._thread.on_own_loop(self._thread.seek_all(positions))
        return True

    async def _fetch(self, wait_s: float) -> Batches:
        active = self._get_active_partitions() - self.intake.paused()
        if not active or self._is_fenced:
            await asyncio.sleep(min(wait_s, POLL_S))
            return {}
        return await self._thread.on_own_loop(self._thread.fetch(active, wait_s))

    async def bounds(self, places: Iterable[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return what each partition of a topic holds now."""
        return await self._thread.on_own_loop(self._thread.bounds(places)) if places else {}

    async def hint(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell Kafka where we stand, for its lag tools; nothing here ever reads it back."""
        await self._thread.on_own_loop(self._thread.commit_hint(offsets))


class BatchTransport(driver.Transport):
    """Faust's Kafka driver with the batch consumer."""

    Consumer = BatchConsumer
    intake: Intake
    kafka_options: Mapping[str, Any]
    instance: str  # our lasting name in the group; empty for none
