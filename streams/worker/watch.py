"""Looks at Kafka every second: how far behind we are, and whether anybody still answers."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted

from streams.metrics import Metrics
from streams.worker.intake import EngineIntake
from streams.worker.status import Phase, Status
from streams.worker.transport import BatchConsumer

LOOK_S = 1.0
ANSWER_MAX_S = 10.0
logger = logging.getLogger(__name__)


class Watch:
    """Compares what is decided with the ends of the topics, which it asks Kafka for itself.

    What the fetcher knows would not do: in the silent stalls that Faust's users report (issues
    175, 523, 629, 640) it fetches no more, and so knows of nothing new.
    """

    def __init__(
        self,
        app: Any,
        intake: EngineIntake,
        status: Status,
        metrics: Metrics,
        *,
        time_s: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._intake = intake
        self._status = status
        self._metrics = metrics
        self._time_s = time_s
        self._shown: set[TopicPartition] = set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._app._consumer is None:  # asking Faust for it would make it
                self._status.progress()
                continue
            try:
                await asyncio.wait_for(self._look(self._app.consumer), ANSWER_MAX_S)
                self._status.kafka_fault = ""
            except ConsumerNotStarted:
                self._status.progress()  # it tells of its own faults
            except (KafkaError, TimeoutError) as error:
                self._status.kafka_fault = repr(error)
                self._status.progress()

    async def _look(self, consumer: BatchConsumer) -> None:
        assigned = consumer.assignment()
        bounds = await consumer.bounds(assigned)
        positions = self._intake.next_offsets()
        lags = {
            place: bound.end - positions.get(place, bound.first) for place, bound in bounds.items()
        }
        self._status.lag_count = sum(lags.values())
        if not self._status.lag_count and self._status.phase is not Phase.JOINING:
            self._status.progress()
        behind = {place.partition for place, lag_count in lags.items() if lag_count}
        self._intake.idle_partitions = frozenset(self._status.partitions) - behind
        self._show(lags)
        await consumer.hint(self._intake.stored_offsets())

    def _show(self, lags: Mapping[TopicPartition, int]) -> None:
        for place in self._shown - lags.keys():
            self._metrics.lag.remove(place.topic, str(place.partition))
        for place, lag_count in lags.items():
            self._metrics.lag.labels(place.topic, str(place.partition)).set(lag_count)
        self._shown = set(lags)
        oldest_s = self._intake.oldest_s
        waits = bool(self._status.lag_count) and oldest_s is not None
        self._metrics.oldest_s.set(max(self._time_s() - (oldest_s or 0.0), 0.0) if waits else 0.0)
        self._metrics.partitions.set(len(self._status.partitions))
        self._metrics.note_shared(self._intake.shared())
        resident = self._intake.resident()
        if resident is not None:
            self._metrics.note_resident(resident)
