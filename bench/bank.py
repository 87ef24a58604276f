"""A bank under test: topics, a store and workers as children, and what came out of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams.child_process import die_with_parent
from streams.redis_store import RedisStore
from streams.settings import Settings, environment_of, kafka_python_options
from streams.sinks import topic_family
from streams.store import Store
from streams.topics import create_topics, output_topics

Records = list[tuple[str, str, bytes]]  # topic, key, value
State = dict[tuple[str, bytes], bytes]  # owner and key -> stored value
Lines = dict[str, list[bytes]]  # topic family -> records in order
ROOT = Path(__file__).parent.parent
PATIENCE_S = 120.0  # on a machine that has much else to do, starting alone takes half a minute
POLL_S = 0.05
LOOK_MAX_S = 5.0  # what one look may take, such as at a Redis that does not answer
EVENTS = "events"
TOOK = "took partitions "
MILLRACE = ("-m", "millrace")


class RunError(AssertionError):
    """A worker that ended on its own, or something that was waited for in vain."""


def wait_until(done: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Look again and again until something is so."""
    waited_s, looked_s = 0.0, time.monotonic()
    while not done():
        if waited_s > patience_s:
            raise RunError(f"waited {patience_s:.0f} s in vain until {what}")
        time.sleep(POLL_S)
        # A machine that slept, or a process that was stopped for a while, has not waited.
        waited_s += min(time.monotonic() - looked_s, LOOK_MAX_S)
        looked_s = time.monotonic()


class Worker:
    """A worker in a process of its own; its log goes to a file.

    `program` is what Python runs instead of the command line of Millrace.
    """

    def __init__(
        self, settings: Settings, policy: Path, log: Path, program: Sequence[str] = MILLRACE
    ) -> None:
        places = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        own = {
            "PYTHONPATH": os.pathsep.join(place for place in places if place),
            "COLUMNS": "200",  # no line of a message is wrapped
        }
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *program, "worker", "--policy", str(policy)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=os.environ | own | environment_of(settings),
                preexec_fn=die_with_parent(signal.SIGKILL),
            )

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def says(self, text: str) -> bool:
        """Whether the log holds a text; fail where the worker has ended without being told to."""
        if not self.is_running:
            raise RunError(self.last_words())
        return text in self.log.read_text()

    def last_words(self) -> str:
        """Return how the worker ended and why, and then its whole log."""
        log = self.log.read_text()
        end = log.splitlines()[-1:]
        return f"a worker ended, code {self.process.poll()}: {''.join(end)}\n{log}"

    def took(self) -> list[set[int]]:
        """Return the partitions of each of its assignments so far, as its log tells them."""
        lines = [line for line in self.log.read_text().splitlines() if TOOK in line]
        texts = [line.rpartition(TOOK)[2].split(", ") for line in lines]
        return [{int(text) for text in one if text.isdigit()} for one in texts]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ends(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(patience_s)

    def close(self) -> None:
        """End it at once if it still runs."""
        if self.is_running:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()


class Bank:
    """Topics, a store and workers, and the records that were put in.

    Workers get `settings`; `store_url` is another way to the same Redis, where theirs is one that
    faults are made on. `client_options` are further ones of our own clients of Kafka.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Path,
        folder: Path,
        *,
        store_url: str = "",
        program: Sequence[str] = MILLRACE,
        make_topics: Callable[[Settings], object] = create_topics,
        client_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.client_options = kafka_python_options(settings) | dict(client_options or {})
        self.settings = settings
        self.policy = policy
        self.workers: list[Worker] = []
        self.store_url = store_url or settings.redis
        self._folder = folder
        self._program = program
        make_topics(settings)
        self._producer = KafkaProducer(
            linger_ms=5, acks="all", enable_idempotence=True, **self.client_options
        )
        self.ends: dict[int, int] = dict.fromkeys(range(settings.partitions_count), 0)

    def start_worker(self) -> Worker:
        """Start one more worker of the group."""
        log = self._folder / f"worker{len(self.workers)}.log"
        worker = Worker(self.settings, self.policy, log, self._program)
        self.workers.append(worker)
        return worker

    def running(self) -> list[Worker]:
        """Return the workers that have not ended."""
        return [worker for worker in self.workers if worker.is_running]

    def close(self) -> None:
        """End whatever still runs."""
        self._producer.close(timeout=5)
        for worker in self.workers:
            worker.close()

    def produce(self, records: Records) -> None:
        """Put records into `events`, in their order; return once Kafka has them."""
        name = self.settings.topic_prefix + EVENTS
        sent = [
            self._producer.send(name, key=key.encode(), value=value) for _, key, value in records
        ]
        self._producer.flush()
        for answer in sent:
            place = answer.get()
            self.ends[place.partition] = max(self.ends[place.partition], place.offset + 1)

    def produce_by_kind(self, records: Records) -> None:
        """Put each record into the topic of its kind, in their order."""
        for topic, key, value in records:
            name = self.settings.topic_prefix + topic
            self._producer.send(name, key=key.encode(), value=value)
        self._producer.flush()

    def store(self) -> RedisStore:
        """Return the store that the workers write to."""
        return RedisStore(self.store_url, self.settings.redis_prefix)

    def _stored(self, field: str) -> dict[int, int]:
        prefix = self.settings.redis_prefix
        with redis.Redis.from_url(self.store_url, socket_timeout=5.0) as client:
            found = {p: client.hget(f"{prefix}:{{{p}}}:meta", field) for p in self.ends}
        return {partition: int(value or 0) for partition, value in found.items()}

    def decided(self) -> dict[int, int]:
        """Return the stored offset of each partition."""
        return self._stored(f"offset:{EVENTS}")

    def epochs(self) -> dict[int, int]:
        """Return how often each partition was taken."""
        return self._stored("epoch")

    def is_decided(self) -> bool:
        """Whether everything that was put in is decided and stored; fail where no worker runs."""
        if not self.running():
            raise RunError(self.workers[-1].last_words())
        return self.decided() == self.ends

    def is_shared_out(self) -> bool:
        """Whether the newest assignments of the workers that run divide the partitions."""
        newest = [worker.took()[-1:] for worker in self.running()]
        owned = [partition for sets in newest for own in sets for partition in own]
        return all(newest) and sorted(owned) == sorted(self.ends)

    def state(self) -> State:
        """Return all that is stored of the partitions."""
        with closing(self.store()) as store:
            state = state_of(store, len(self.ends))
            return state | {("trainer", key): value for key, value in store.scan("trainer")}

    def topic_end(self, name: str) -> int:
        """Return how many records a topic holds."""
        topic = self.settings.topic_prefix + name
        with closing(KafkaConsumer(**self.client_options)) as consumer:
            places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
            return sum(consumer.end_offsets(places).values())

    def lines(self, isolation: str = "read_uncommitted") -> Lines:
        """Return what the output topics hold, repeats included."""
        prefix, found = self.settings.topic_prefix, {}
        with closing(KafkaConsumer(isolation_level=isolation, **self.client_options)) as consumer:
            for topic in output_topics():
                records = list(whole_topic(consumer, prefix + topic.name))
                found.setdefault(topic_family(topic.name), []).extend(records)
        return {family: lines for family, lines in found.items() if lines}


def whole_topic(consumer: Any, topic: str) -> Iterator[bytes]:
    """Yield the values of a topic from its start to its present end."""
    places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    consumer.seek_to_beginning(*places)
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=1000).values():
            yield from (record.value for record in records)


def state_of(store: Store, partition_count: int) -> State:
    """Return all that a store holds of the partitions."""
    owners = map(str, range(partition_count))
    return {(owner, key): value for owner in owners for key, value in store.scan(owner)}


def differing(found: State, expected: State) -> list[tuple[str, bytes]]:
    """Return where two states differ."""
    places = {*found, *expected}
    return sorted(place for place in places if found.get(place) != expected.get(place))


def without_training(policy: Path, folder: Path, *, local: bool = False) -> Path:
    """Copy a policy whose models never publish a version; `local`: with no shared entities."""
    folder.mkdir()
    # So long that no point of the grid lies between 1970 and any event: an embedded engine lets
    # time pass to a point in all partitions at once, and a worker each on its own.
    for file in policy.glob("*.yaml"):
        text = file.read_text().replace("publish_every: 1h", "publish_every: 99999d")
        if local:
            text = text.replace("scope: shared", "scope: local")
        (folder / file.name).write_text(text)
    return folder
