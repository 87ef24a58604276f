"""Records to Kafka, a batch at a time: aiokafka's own `send` costs some 40 us a record."""

import asyncio
from collections import deque
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

Row = tuple[bytes | None, bytes]  # key, value


class Ticket:
    """Tells when all of a number of records are acknowledged, or that one can't be."""

    def __init__(self, count: int) -> None:
        self._left_count = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.acknowledge(0)

    def acknowledge(self, count: int) -> None:
        """Note that some more are."""
        self._left_count -= count
        if not self._left_count and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        """Note that one can't be."""
        if not self.done.done():
            self.done.set_exception(error)


class Lane:
    """What one partition of a topic gets, in order; on the producer's loop.

    A batch is under way at most, as with `send`; all that comes meanwhile is the next one. After a
    failure the lane takes nothing more.
    """

    def __init__(
        self, producer: AIOKafkaProducer, topic: str, partition: int, record_max_bytes: int
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._record_max_bytes = record_max_bytes
        self._rows: deque[Row] = deque()
        self._tickets: deque[tuple[Ticket, int]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    def add(self, rows: Sequence[Row], ticket: Ticket) -> None:
        """Send these behind all others; the ticket hears of it."""
        if self._error is not None:
            ticket.fail(self._error)
            return
        self._rows.extend(rows)
        self._tickets.append((ticket, len(rows)))
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def drained(self) -> None:
        """Return once Kafka has all rows; raise what went wrong."""
        if self._task is not None:
            await asyncio.wait({self._task})
        if self._error is not None:
            raise self._error

    async def _run(self) -> None:
        try:
            while self._rows:
                count = await self._send_some()
                for _ in range(count):
                    self._rows.popleft()
                self._acknowledge(count)
        except BaseException as error:
            self._error = error
            for ticket, _ in self._tickets:
                ticket.fail(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._task = None

    async def _send_some(self) -> int:
        """Send the first rows, as many as one batch holds; return how many, once Kafka has them."""
        batch = self._producer.create_batch()
        count = 0
        for key, value in self._rows:
            if len(value) > self._record_max_bytes:
                raise MessageSizeTooLargeError(
                    f"{self._topic}: expected at most {self._record_max_bytes} bytes, "
                    f"got {len(value)}"
                )
            if batch.append(key=key, value=value, timestamp=None) is None:
                break
            count += 1
        batch.close()
        await (await self._producer.send_batch(batch, self._topic, partition=self._partition))
        return count

    def _acknowledge(self, count: int) -> None:
        while count:
            ticket, waiting_count = self._tickets.popleft()
            done_count = min(count, waiting_count)
            ticket.acknowledge(done_count)
            count -= done_count
            if done_count < waiting_count:
                self._tickets.appendleft((ticket, waiting_count - done_count))
