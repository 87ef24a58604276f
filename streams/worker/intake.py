"""Between Faust's loop and the engine's thread: batches in, positions out, faults told apart."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from actions.policy import Policy
from features.raw import RawRecord
from online_models.versions import ModelVersion
from streams.emissions import Emission
from streams.foreign import ForeignState
from streams.metrics import Metrics
from streams.residency import Resident
from streams.settings import Settings
from streams.sinks import SinkError
from streams.store import FencedError
from streams.topics import TRAINING, input_topics
from streams.worker.arrival import by_arrival, by_place
from streams.worker.control import Control
from streams.worker.deciding import AbandonedError, Deciding, WorkerError
from streams.worker.failures import Failures
from streams.worker.learning import Point, Reach
from streams.worker.producers import Producers
from streams.worker.status import Phase, Status
from streams.worker.trainer import TrainerPart
from streams.worker.transport import Batches, Bounds, Outcome

RETRY_S = 0.5
FAILURES_MAX_COUNT = 5  # losses of the engine in a row, with nothing stored in between
FENCED_MAX_S = 60.0  # how long the group may take to notice what the store has told us
IDLE_S = 0.2
LESSONS_MAX_COUNT = 8  # batches that wait for the trainer; more make the input wait
logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class EngineIntake:
    """Gives batches to the engine on a thread of its own, so that Faust's loop is always free.

    Whatever goes wrong in the engine has one remedy: drop it, own the partitions again and go on
    from what is stored. Raises WorkerError where that would not help.
    """

    def __init__(
        self,
        deciding: Deciding,
        trainer: TrainerPart,
        settings: Settings,
        kafka_options: Mapping[str, Any],
        status: Status,
        metrics: Metrics,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deciding = deciding
        self._trainer = trainer
        self._prefix = settings.topic_prefix
        self._skips_lost = settings.lost_records == "skip"
        self._checkpoint_s = settings.checkpoint_ms / 1000
        self._idle_s = min(IDLE_S, settings.shared_refresh_ms / 1000)  # copies come in meanwhile
        name = f"{self._prefix}{settings.group}" if settings.transactional else None
        self._producers = Producers(kafka_options, self._prefix, name)
        self._status = status
        self._metrics = metrics
        self._now_s = monotonic_s
        self._names = [self._prefix + topic.name for topic in input_topics(settings.inputs)]
        self._training = TopicPartition(self._prefix + TRAINING, 0)
        self.topics = frozenset([*self._names, self._training.topic])
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._trainer_thread = ThreadPoolExecutor(1, thread_name_prefix="trainer")
        self._lessons: deque[asyncio.Future[None]] = deque()
        self._engine_failures, self._trainer_failures = Failures(), Failures()
        self._fenced_s: float | None = None
        self._has_uncommitted = False
        self._fault: BaseException | None = None  # of a call between batches
        self.idle_partitions: frozenset[int] = frozenset()  # where nothing waits in Kafka
        self.oldest_s: float | None = None  # when the first record of the last batch was written

    async def take(
        self, bounds: Mapping[TopicPartition, Bounds], partition_count: int
    ) -> Mapping[TopicPartition, int] | None:
        """Own the partitions and return from where to read them; None where it did not work."""
        self._status.enter(Phase.TAKING)
        partitions = self._partitions(bounds)
        self._deciding.patience.reset()
        self._fenced_s = None
        try:
            sink = await self._producers.sink(partitions)
            stored = await self._on_thread(self._deciding.take, partitions, sink)
            learned = await self._take_trainer(bounds, partition_count)
        except (AbandonedError, KafkaError) as error:
            logger.warning("partitions can't be taken yet: %s", error)
            if isinstance(error, KafkaError):
                self._status.enter(Phase.KAFKA_AWAY)
                self._status.progress()
            await asyncio.sleep(RETRY_S)
            return None
        found = {
            place: stored[str(place.partition)].get(self._bare(place), bound.first)
            for place, bound in bounds.items()
            if place != self._training
        } | learned
        found = self._within(bounds, found)
        logger.info("took partitions %s", ", ".join(map(str, partitions)) or "none")
        self._status.progress()
        self._status.enter(Phase.DECIDING if partitions or learned else Phase.STANDBY)
        return found

    async def _take_trainer(
        self, bounds: Mapping[TopicPartition, Bounds], partition_count: int
    ) -> dict[TopicPartition, int]:
        """Be the trainer where `training` is ours; return from where to read it."""
        if self._training not in bounds:
            return {}
        call = partial(self._trainer.take, partition_count, await self._producers.plain_sink())
        loop = asyncio.get_running_loop()
        offset = await loop.run_in_executor(self._trainer_thread, call)
        return {self._training: bounds[self._training].first if offset is None else offset}

    def check(self, bounds: Mapping[TopicPartition, Bounds]) -> bool:
        """Return whether partitions have to be taken again, to go on behind what is lost.

        Raises WorkerError where nothing may be lost.
        """
        positions = self._deciding.positions()
        found = {
            place: positions.get(str(place.partition), {}).get(self._bare(place), bound.first)
            for place, bound in bounds.items()
            if place != self._training
        }
        return self._within(bounds, found) != found

    def _within(
        self, bounds: Mapping[TopicPartition, Bounds], found: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return from where to read on, behind what Kafka has lost, if that is allowed."""
        offsets = dict(found)
        for place, offset in found.items():
            first, end = bounds[place]
            if first <= offset <= end:
                continue
            message = (
                f"{place.topic}/{place.partition}: expected to go on at offset {offset}, Kafka "
                f"holds {first} to {end}: records were deleted before they were decided"
            )
            if offset > end:
                raise WorkerError(
                    f"{message}, or the topic was made anew; a new topic needs a new "
                    "MILLRACE_REDIS_PREFIX"
                )
            if not self._skips_lost:
                raise WorkerError(f"{message}; MILLRACE_LOST_RECORDS=skip goes on without them")
            logger.error("%s; going on at %d", message, first)
            offsets[place] = first
        return offsets

    def _bare(self, place: TopicPartition) -> str:
        return str(place.topic).removeprefix(self._prefix)

    def _partitions(self, places: Iterable[TopicPartition]) -> list[int]:
        """Return the partitions that are ours; all input topics have to be divided alike."""
        by_topic: dict[str, set[int]] = {name: set() for name in self._names}
        for place in places:
            if place != self._training:
                by_topic[place.topic].add(place.partition)
        first, *others = by_topic
        for other in others:
            if by_topic[other] != by_topic[first]:
                raise WorkerError(
                    f"expected the same partitions of {first} and {other}, got "
                    f"{sorted(by_topic[first])} and {sorted(by_topic[other])}: input topics need "
                    "the same number of partitions"
                )
        return sorted(by_topic[first])

    async def decide(self, batches: Batches) -> Outcome:
        """Decide records on the engine's thread, learn from examples on the trainer's."""
        arrived_ns = time.monotonic_ns()
        examples = batches.get(self._training)
        if examples:
            outcome = await self._teach(examples)
            batches = {place: some for place, some in batches.items() if place != self._training}
            if outcome is not Outcome.GOOD or not batches:
                return outcome
        self.oldest_s = min(some[0].timestamp for some in batches.values()) / 1000
        raws, ends = self._raws(batches)
        outcome = await self._guarded(partial(self._deciding.decide, raws, ends, arrived_ns))
        if outcome is Outcome.GOOD:
            self._status.progress()
            self._has_uncommitted = True
            self._status.enter(Phase.DECIDING)
        return outcome

    async def idle(self) -> Outcome:
        """Store what is due, and take in what others stored, while nothing comes."""
        if self._fenced_s is not None:
            return self._still_fenced(self._fenced_s)
        if self._trainer.is_ours:
            outcome = await self._teach([])
            if outcome is not Outcome.GOOD:
                return outcome
        engine = self._deciding.engine
        self._has_uncommitted = engine is not None and engine.uncommitted_count > 0
        has_others = engine is not None and engine.others is not None
        if self._fault is None and not (self._has_uncommitted or has_others):
            return Outcome.GOOD
        return await self._guarded(self._deciding.idle)

    async def release(self) -> None:
        """Store what was decided; give up where the store is away."""
        self._status.enter(Phase.LEAVING if self._status.partitions else Phase.JOINING)
        await self._on_thread(self._deciding.release)
        await self._release_trainer()
        self._status.enter(Phase.JOINING)

    async def _release_trainer(self) -> None:
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._trainer_thread, self._trainer.release)
        await asyncio.wait({done, *self._lessons})
        self._lessons.clear()
        if done.exception() is not None:
            logger.warning(
                "the trainer left without storing what it learned last: %s", done.exception()
            )

    async def control(self, controls: list[Control]) -> None:
        """Take what `models` says."""
        versions = [control for control in controls if isinstance(control, ModelVersion)]
        points = [control for control in controls if isinstance(control, Point)]
        if versions:
            await self._on_thread(self._deciding.apply_models, versions)
        if points:
            await self._deal(partial(self._deciding.pass_points, points))
        for control in controls:
            if isinstance(control, Reach):
                await self._deal(
                    partial(self._deciding.reach, control.point_ms, self.idle_partitions)
                )

    async def change_policy(self, policy: Policy) -> None:
        """Decide and learn by another policy from here on; a fault is that of the next batch."""
        error = await self._error_of(partial(self._deciding.change_policy, policy))
        self._fault = self._fault or error
        self._have_trainer(partial(self._trainer.change, policy.models))

    async def refuse(self, letters: list[Emission]) -> None:
        """Write dead letters of control records; where that fails the log has to do."""
        try:
            sink = await self._producers.plain_sink()
            await asyncio.get_running_loop().run_in_executor(None, sink.write, letters)
            self._metrics.note_emissions(letters)
        except (KafkaError, SinkError) as error:
            logger.warning("a dead letter of a control record is not written: %s", error)

    async def _deal(self, call: Callable[[], None]) -> None:
        """Have the engine do something between two batches; a fault is that of the next batch."""
        self._fault = self._fault or await self._error_of(call)

    def paused(self) -> frozenset[TopicPartition]:
        """Return the places of which nothing should be fetched now."""
        full = self._deciding.full()
        return frozenset(TopicPartition(name, p) for name in self._names for p in full)

    def hurry(self) -> None:
        """Have the engine give up waiting for a store that is away."""
        self._deciding.patience.hurry()

    def wait_s(self) -> float:
        """Return how long a fetch may wait: not beyond what is to be done next."""
        return self._checkpoint_s if self._has_uncommitted else self._idle_s

    async def close(self) -> None:
        """Let go of the engine, its thread and the producer."""
        await self._on_thread(self._deciding.close)
        self._thread.shutdown()
        self._trainer.close()
        self._trainer_thread.shutdown()
        await self._producers.drop()

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return the next offset to decide of each partition of a topic that has one."""
        return self._places(self._deciding.positions()) | self._training_place()

    def stored_offsets(self) -> dict[TopicPartition, int]:
        """Return the offsets of the last checkpoint."""
        engine = self._deciding.engine
        stored = {} if engine is None else self._places(engine.committed)
        return stored | self._training_place()

    def _training_place(self) -> dict[TopicPartition, int]:
        return {self._training: self._trainer.offset} if self._trainer.is_ours else {}

    def _places(self, offsets: Mapping[str, Mapping[str, int]]) -> dict[TopicPartition, int]:
        return {
            TopicPartition(self._prefix + topic, int(partition)): offset
            for partition, topics in list(offsets.items())
            for topic, offset in list(topics.items())
        }

    def resident(self) -> Resident | None:
        """Return what is in memory."""
        return self._deciding.resident()

    def shared(self) -> ForeignState | None:
        """Return how it stands with our copies of other workers' shared histories."""
        return self._deciding.shared()

    async def _guarded(self, call: Callable[[], None]) -> Outcome:
        error = self._fault or await self._error_of(call)
        if error is None:
            return Outcome.GOOD
        return await self._failed(error, self._engine_failures, self._deciding.stored_count)

    async def _error_of(self, call: Callable[[], None]) -> BaseException | None:
        """Call on the engine's thread; return what it raised."""
        done = asyncio.get_running_loop().run_in_executor(self._thread, call)
        await asyncio.wait({done})
        return done.exception()

    async def _teach(self, records: Sequence[Any]) -> Outcome:
        """Have the trainer learn, beside the engine; wait only where it is far behind."""
        pairs = [((r.key or b"").decode(), r.value or b"") for r in records]
        end_offset = records[-1].offset + 1 if records else None
        self._have_trainer(partial(self._trainer.learn, pairs, end_offset))
        while self._lessons and (self._lessons[0].done() or len(self._lessons) > LESSONS_MAX_COUNT):
            lesson = self._lessons.popleft()
            await asyncio.wait({lesson})
            error = lesson.exception()
            if error is not None:
                stored_count = self._trainer.stored_count
                return await self._failed(error, self._trainer_failures, stored_count)
        return Outcome.GOOD

    def _have_trainer(self, call: Callable[[], None]) -> None:
        """Have the trainer do something, beside the engine; `_teach` sees what came of it."""
        loop = asyncio.get_running_loop()
        self._lessons.append(loop.run_in_executor(self._trainer_thread, call))

    async def _failed(self, error: BaseException, failures: Failures, stored_count: int) -> Outcome:
        """Drop all that is in memory; say whether to take it again or to wait for the group."""
        await self._on_thread(self._deciding.lose)
        self._trainer.lose()
        self._lessons.clear()
        self._fault = None
        why = "fenced" if isinstance(error, FencedError) else type(error).__name__
        self._metrics.losses.labels(why).inc()
        if isinstance(error, FencedError):
            logger.warning("fenced off, nothing was written: %s", error)
            self._fenced_s = self._now_s()
            self._status.enter(Phase.FENCED)
            return Outcome.FENCED
        await self._producers.drop()
        if isinstance(error, AbandonedError):
            return Outcome.LOST
        logger.error("the engine failed, going on from what is stored", exc_info=error)
        count = failures.note(stored_count)
        if count >= FAILURES_MAX_COUNT:
            raise WorkerError(
                f"the engine failed {count} times in a row, the last time with "
                f"{type(error).__name__}: {error}"
            ) from error
        await asyncio.sleep(RETRY_S * count)
        return Outcome.LOST

    def _still_fenced(self, since_s: float) -> Outcome:
        if self._now_s() - since_s > FENCED_MAX_S:
            raise WorkerError(
                "another worker owns our partitions in the store, and the group has not moved "
                "them: is there another group with the same MILLRACE_REDIS_PREFIX?"
            )
        return Outcome.FENCED

    async def _on_thread(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, call, *arguments)

    def _raws(self, batches: Batches) -> tuple[list[RawRecord], dict[tuple[str, int], int]]:
        """Return all records in one order, and the next offset of each topic's partition."""
        names = {place: self._bare(place) for place in sorted(batches)}
        ends = {(topic, p.partition): batches[p][-1].offset + 1 for p, topic in names.items()}
        return (by_arrival if len(self._names) > 1 else by_place)(batches, names), ends
