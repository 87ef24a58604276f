"""The embedded engine that nothing disturbs, fed the same records, slice by slice."""

import time
from collections.abc import Iterator

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from actions.policy import Policy
from bench.bank import EVENTS, PATIENCE_S, POLL_S, Bank, Lines, Records, State, state_of
from features.kernels.stored import Head
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Output
from streams.sinks import MemorySink, topic_family
from streams.store import MemoryStore
from streams.topics import output_topics
from streams.worker import decisions
from streams.worker.learning import SEQUENCE_KEY

# The byte of a history's header that tells the size of its block in memory: that of a shared entity
# depends on which partitions were together in a process.
CAPACITY_AT = 8 * Head.LACKING + 7
TRAINER = "trainer"


class Reference:
    """One embedded engine over all partitions."""

    def __init__(self, policy: Policy, partition_count: int) -> None:
        self._partition_count = partition_count
        self._store, self._sink = MemoryStore(), MemorySink()
        self._runtime = EmbeddedRuntime(
            policy,
            self._store,
            self._sink,
            EmbeddedSettings(partition_count),
            on_output=self._note,
        )

    def _note(self, output: Output) -> None:
        self._sink.write(decisions.emissions(output.decisions))

    def advance(self, records: Records) -> Lines:
        """Decide more records; return what they made come out."""
        _, keys, values = zip(*records, strict=True)
        self._runtime.submit([EVENTS] * len(keys), keys, values)
        self._runtime.checkpoint()
        lines: Lines = {}
        for topic, emissions in self._sink.by_topic.items():
            lines.setdefault(topic_family(topic), []).extend(e.value for e in emissions)
        self._sink.by_topic.clear()
        return lines

    def state(self) -> State:
        """Return all that is stored of the partitions."""
        return state_of(self._store, self._partition_count)

    def close(self) -> None:
        """Let go of the engine."""
        self._runtime.close()


def of_partitions(state: State) -> State:
    """Return state without the trainer's, and without what an embedded engine does not need."""
    return {
        place: value
        for place, value in state.items()
        if place[0] != TRAINER and place[1] != SEQUENCE_KEY
    }


def histories(state: State) -> State:
    """Return what follows from a partition's own records, however partitions interleave."""
    return {
        place: value[:CAPACITY_AT] + value[CAPACITY_AT + 1 :]
        for place, value in state.items()
        if place[1].startswith(b"history:")
    }


class Listener:
    """Reads what is new on the output topics of a bank; of transactions, those committed."""

    def __init__(self, bank: Bank) -> None:
        self._prefix = bank.settings.topic_prefix
        self._consumer = KafkaConsumer(
            auto_offset_reset="earliest",
            isolation_level="read_committed" if bank.settings.transactional else "read_uncommitted",
            **bank.client_options,
        )
        self._looker = KafkaConsumer(**bank.client_options)  # sees ends that are not committed yet
        names = [self._prefix + topic.name for topic in output_topics()]
        self._places = [
            TopicPartition(name, partition)
            for name in names
            for partition in self._consumer.partitions_for_topic(name)
        ]
        self._consumer.assign(self._places)
        self._consumer.seek_to_beginning(*self._places)

    def new_lines(self) -> Lines:
        """Return what the topics hold by now and did not hold the last time."""
        ends = self._ends()
        lines: Lines = {}
        for place, value in self._until(ends):
            family = topic_family(place.topic.removeprefix(self._prefix))
            lines.setdefault(family, []).append(value)
        return lines

    def _ends(self) -> dict[TopicPartition, int]:
        """Return the ends of all places, also where brokers were away and are still looked for."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                ends: dict[TopicPartition, int] = self._looker.end_offsets(self._places)
                return ends
            except KafkaError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(POLL_S)

    def _until(self, ends: dict[TopicPartition, int]) -> Iterator[tuple[TopicPartition, bytes]]:
        while any(self._consumer.position(place) < end for place, end in ends.items()):
            for place, records in self._consumer.poll(timeout_ms=500).items():
                yield from ((place, record.value) for record in records)

    def close(self) -> None:
        """Hang up."""
        self._consumer.close()
        self._looker.close()
