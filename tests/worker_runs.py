"""Workers as children of a test: topics filled, children started, what came out of them read."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import child_processes
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from actions.policy import Policy
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.redis_store import RedisStore
from streams.settings import Settings, kafka_python_options, variable
from streams.sinks import MemorySink, topic_family
from streams.store import MemoryStore, Store
from streams.topics import create_topics, output_topics

Records = list[tuple[str, str, bytes]]  # topic, key, value
State = dict[tuple[str, bytes], bytes]
Lines = dict[str, list[bytes]]  # topic family -> records in order
PATIENCE_S = 120.0  # on a machine that has much else to do, starting alone takes half a minute
EVENTS = "events"


def wait_until(done: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Look again and again until something is so."""
    deadline_s = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline_s, f"waited {patience_s:.0f} s in vain until {what}"
        time.sleep(0.05)


class Bank:
    """Topics, a store and workers of one test, and the records that were put in."""

    def __init__(self, settings: Settings, policy: Path, folder: Path) -> None:
        self.settings = settings
        self.policy = policy
        self.workers: list[Worker] = []
        self._folder = folder
        create_topics(settings)
        self._producer = KafkaProducer(linger_ms=5, **kafka_python_options(settings))
        self.ends: dict[int, int] = dict.fromkeys(range(settings.partitions_count), 0)

    def start_worker(self) -> "Worker":
        """Start one more worker of the group."""
        log = self._folder / f"worker{len(self.workers)}.log"
        worker = Worker(self.settings, self.policy, log)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """End whatever still runs."""
        self._producer.close()
        for worker in self.workers:
            worker.close()

    def produce(self, records: Records) -> None:
        """Put records into `events`, in their order."""
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
        return RedisStore(self.settings.redis, self.settings.redis_prefix)

    def decided(self) -> dict[int, int]:
        """Return the stored offset of each partition."""
        prefix = self.settings.redis_prefix
        with redis.Redis.from_url(self.settings.redis) as client:
            found = {
                p: client.hget(f"{prefix}:{{{p}}}:meta", f"offset:{EVENTS}") for p in self.ends
            }
        return {partition: int(offset or 0) for partition, offset in found.items()}

    def epochs(self) -> dict[int, int]:
        """Return how often each partition was taken."""
        prefix = self.settings.redis_prefix
        with redis.Redis.from_url(self.settings.redis) as client:
            found = {p: client.hget(f"{prefix}:{{{p}}}:meta", "epoch") for p in self.ends}
        return {partition: int(epoch or 0) for partition, epoch in found.items()}

    def is_decided(self) -> bool:
        """Whether everything that was put in is decided and stored; fail where no worker runs."""
        codes = [worker.process.poll() for worker in self.workers]
        assert None in codes, self.workers[-1].log.read_text()
        return self.decided() == self.ends

    def state(self) -> State:
        """Return all that is stored of the partitions."""
        with closing(self.store()) as store:
            state = state_of(store, len(self.ends))
            return state | {("trainer", key): value for key, value in store.scan("trainer")}

    def topic_end(self, name: str) -> int:
        """Return how many records a topic holds."""
        topic = self.settings.topic_prefix + name
        with closing(KafkaConsumer(**kafka_python_options(self.settings))) as consumer:
            places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)]
            return sum(consumer.end_offsets(places).values())

    def lines(self, isolation: str = "read_uncommitted") -> Lines:
        """Return what the output topics hold, repeats included."""
        prefix, found = self.settings.topic_prefix, {}
        with closing(
            KafkaConsumer(isolation_level=isolation, **kafka_python_options(self.settings))
        ) as consumer:
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


def embedded(policy: Policy, records: Records, partition_count: int) -> tuple[State, Lines]:
    """Return state and emissions of an embedded run over the same records."""
    store, sink = MemoryStore(), MemorySink()
    runtime = EmbeddedRuntime(policy, store, sink, EmbeddedSettings(partition_count))
    for start in range(0, len(records), 1000):
        _, keys, values = zip(*records[start : start + 1000], strict=True)
        runtime.submit([EVENTS] * len(keys), keys, values)
    runtime.close()
    lines: Lines = {}
    for topic, emissions in sink.by_topic.items():
        lines.setdefault(topic_family(topic), []).extend(e.value for e in emissions)
    state = state_of(store, partition_count)
    return state | {("trainer", key): value for key, value in store.scan("trainer")}, lines


def differing(found: State, expected: State) -> list[tuple[str, bytes]]:
    """Return where two states differ; pytest would take minutes to show the values."""
    places = {*found, *expected}
    return sorted(place for place in places if found.get(place) != expected.get(place))


class Worker:
    """A worker in a process of its own; its log goes to a file."""

    def __init__(self, settings: Settings, policy: Path, log: Path) -> None:
        given = {
            variable(field): str(getattr(settings, field.name))
            for field in settings.__dataclass_fields__.values()
            if getattr(settings, field.name) != field.default
        }
        environment = child_processes.environment(log.parent)
        del environment["PYTHONPYCACHEPREFIX"]  # compiling all libraries anew takes long
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "millrace", "worker", "--policy", str(policy)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=child_processes.ROOT,
                env=environment | given,
            )

    def says(self, text: str) -> bool:
        """Whether the log holds a text; fail where the worker has ended without being told to."""
        assert self.process.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ends(self, patience_s: float = PATIENCE_S) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait(patience_s)

    def close(self) -> None:
        """End it at once if it still runs."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()


def without_training(policy: Path, folder: Path) -> Path:
    """Copy a policy whose models never publish a version."""
    folder.mkdir()
    for file in policy.glob("*.yaml"):
        text = file.read_text()
        (folder / file.name).write_text(text.replace("publish_every: 1h", "publish_every: 9999d"))
    return folder
