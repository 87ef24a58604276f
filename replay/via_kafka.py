"""A replay through Kafka: records go to `events`, workers decide them, the answers are collected.

What comes out is put into the order of the source, so that it can be compared with an embedded
replay of one partition: the same decisions have the same hash.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hdrh.histogram import HdrHistogram
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from actions.policy import Policy
from features.errors import MillraceError
from features.records import ONE_TOPIC, DeadLetter
from replay.evaluation_log import Evaluated, EvaluationLog
from replay.model_log import MODEL_TOPICS
from replay.outputs import DecisionsWriter, MessagesWriter
from replay.player import Played, conclude, paced
from replay.sources import Source
from replay.summary import EvaluationWindow
from streams.partition import unhex_key
from streams.partitioner import partitions_of
from streams.redis_store import RedisStore
from streams.settings import Settings, kafka_python_options
from streams.sinks import topic_family
from streams.store import StoreUnavailableError
from streams.topics import DEAD_LETTERS, DECISIONS, output_topics
from streams.worker.decisions import Decision

POLL_S = 0.2
POLL_MS = 500
FLUSH_S = 120.0
QUIET_MAX_S = 120.0  # workers that decide nothing for so long won't
LAST = 2**62  # behind every position of the source
TRANSACTIONS = "transactions"


class KafkaReplayError(MillraceError):
    """Kafka or the workers did not do their part."""


class _Identified(msgspec.Struct, gc=False):
    """The part of a record that tells where it came from."""

    event_id: str = ""


@dataclass
class Produced:
    """Which records went where; positions count the source's records from 0."""

    partition_count: int
    record_count: int = 0
    positions: list[list[int]] = field(init=False)  # by partition, then by offset
    first_offsets: list[int] = field(init=False)
    rows: dict[str, list[int]] = field(default_factory=dict)  # event id -> of its transactions
    truth: dict[int, tuple[int, int]] = field(default_factory=dict)  # position -> truth, known_ms

    def __post_init__(self) -> None:
        self.positions = [[] for _ in range(self.partition_count)]
        self.first_offsets = [0] * self.partition_count

    def ends(self) -> dict[int, int]:
        """Return the offset after the last record of each partition that got one."""
        return {
            partition: self.first_offsets[partition] + len(own)
            for partition, own in enumerate(self.positions)
            if own
        }

    def position(self, partition: int, offset: int) -> int:
        """Return the source's position of a record of the topic."""
        return self.positions[partition][offset - self.first_offsets[partition]]


def produce(
    source: Source, settings: Settings, speed: float | None, progress: Callable[[int], None]
) -> Produced:
    """Send the source's records to `events`, in their order; return once Kafka has them all.

    Records carry the time of sending, not their own: by their own a broker would delete history
    at once, as too old to keep. Raises KafkaReplayError.
    """
    topic = settings.topic_prefix + ONE_TOPIC
    produced = Produced(settings.partitions_count)
    decode = msgspec.json.Decoder(_Identified).decode
    first_failure: list[Exception] = []
    try:
        produced.first_offsets = _first_offsets(settings, topic)
        producer = KafkaProducer(
            **kafka_python_options(settings), acks="all", enable_idempotence=True, linger_ms=5
        )
        with closing(producer):
            for chunk in paced(source, speed):
                keys = [record.key for record in chunk.records]
                partitions = partitions_of(keys, settings.partitions_count).tolist()
                for row, (record, partition) in enumerate(
                    zip(chunk.records, partitions, strict=True)
                ):
                    sent = producer.send(
                        topic, record.value, record.key.encode(), partition=partition
                    )
                    sent.add_errback(first_failure.append)
                    position = produced.record_count
                    produced.positions[partition].append(position)
                    produced.record_count += 1
                    if record.topic == TRANSACTIONS:
                        _note(produced, record.value, decode, position)
                        known = int(chunk.truth[row]), int(chunk.known_ms[row])
                        produced.truth[position] = known
                progress(len(chunk.records))
            producer.flush(timeout=FLUSH_S)
    except KafkaError as error:
        raise KafkaReplayError(f"{topic}: Kafka did not take the records: {error}") from error
    if first_failure:
        raise KafkaReplayError(f"{topic}: Kafka did not take a record: {first_failure[0]}")
    return produced


def _note(produced: Produced, value: bytes, decode: Callable[[bytes], Any], position: int) -> None:
    try:
        event_id = decode(value).event_id
    except msgspec.MsgspecError:
        return  # the engine refuses it, and the dead letter says which it was
    produced.rows.setdefault(event_id, []).append(position)


def _first_offsets(settings: Settings, topic: str) -> list[int]:
    with closing(KafkaConsumer(**kafka_python_options(settings))) as consumer:
        places = [TopicPartition(topic, p) for p in range(settings.partitions_count)]
        ends = consumer.end_offsets(places)
    return [ends[place] for place in places]


def wait_until_owned(
    store: RedisStore,
    partitions_count: int,
    check_workers: Callable[[], None],
    *,
    quiet_max_s: float = QUIET_MAX_S,
) -> None:
    """Wait until workers have taken all partitions; raise KafkaReplayError where they don't."""
    started_s = time.monotonic()
    while any(epoch == 0 for epoch, _ in _positions(store, range(partitions_count)).values()):
        check_workers()
        if time.monotonic() - started_s > quiet_max_s:
            raise KafkaReplayError(f"no worker took all partitions within {quiet_max_s:.0f} s")
        time.sleep(POLL_S)


def wait_until_decided(
    store: RedisStore,
    produced: Produced,
    check_workers: Callable[[], None],
    progress: Callable[[int], None],
    *,
    quiet_max_s: float = QUIET_MAX_S,
) -> None:
    """Wait until the stored offsets are behind everything that was produced.

    `check_workers` raises where a worker has ended. Raises KafkaReplayError where nothing moves.
    """
    ends, first_offsets = produced.ends(), produced.first_offsets
    reached_count, moved_s = 0, time.monotonic()
    while True:
        places = _positions(store, ends)
        stored = {p: offsets.get(ONE_TOPIC, 0) for p, (_, offsets) in places.items()}
        count = sum(max(offset - first_offsets[p], 0) for p, offset in stored.items())
        if count > reached_count:
            progress(count - reached_count)
            reached_count, moved_s = count, time.monotonic()
        if all(stored[p] >= end for p, end in ends.items()):
            return
        check_workers()
        if time.monotonic() - moved_s > quiet_max_s:
            raise KafkaReplayError(
                f"the workers decided nothing for {quiet_max_s:.0f} s: {reached_count:,} of "
                f"{produced.record_count:,} records are decided"
            )
        time.sleep(POLL_S)


def _positions(
    store: RedisStore, partitions: Iterable[int]
) -> dict[int, tuple[int, dict[str, int]]]:
    """Return epoch and offsets of each partition; nothing, as yet, where the store is away."""
    try:
        return {partition: store.position(str(partition)) for partition in partitions}
    except StoreUnavailableError:
        return {partition: (0, {}) for partition in partitions}


def collect(settings: Settings) -> dict[str, list[bytes]]:
    """Return what the output topics hold now, by family; repeats under one id only once.

    A worker that was killed repeats what it said since its last checkpoint, byte for byte.
    """
    found: dict[str, dict[bytes, None]] = {}
    prefix = settings.topic_prefix
    try:
        with closing(KafkaConsumer(**kafka_python_options(settings))) as consumer:
            for topic in output_topics():
                family = found.setdefault(topic_family(topic.name), {})
                family.update(dict.fromkeys(_whole(consumer, prefix + topic.name)))
    except KafkaError as error:
        raise KafkaReplayError(f"the answers can't be read from Kafka: {error}") from error
    return {family: list(values) for family, values in found.items()}


def _whole(consumer: Any, topic: str) -> Iterator[bytes]:
    """Yield the values of a topic, from its start to where it ends now."""
    places = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(places)
    ends = consumer.end_offsets(places)
    if not any(ends.values()):
        return
    consumer.seek_to_beginning(*places)
    while any(consumer.position(place) < ends[place] for place in places):
        for records in consumer.poll(timeout_ms=POLL_MS).values():
            yield from (record.value for record in records)


def play_via_kafka(
    source: Source,
    policy: Policy,
    store: RedisStore,
    directory: Path,
    settings: Settings,
    check_workers: Callable[[], None],
    *,
    speed: float | None = None,
    window: EvaluationWindow | None = None,
    title: str = "Replay",
    progress: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Have workers decide everything in `source`; write the outputs, return the summary.

    The topics are there and empty of answers; workers of these settings (with `decisions`) run or
    are about to. `progress` hears of each record twice: when it was sent, when it was decided.
    Raises IncompleteReplayError, after all outputs are written, where a record was neither decided
    nor dead-lettered.
    """
    directory.mkdir(parents=True, exist_ok=True)
    wait_until_owned(store, settings.partitions_count, check_workers)
    started_s = time.perf_counter()
    produced = produce(source, settings, speed, progress)
    wait_until_decided(store, produced, check_workers, progress)
    wall_s = time.perf_counter() - started_s
    answers = collect(settings)
    with ExitStack() as closing_files:
        decisions = closing_files.enter_context(DecisionsWriter(directory))
        messages = closing_files.enter_context(MessagesWriter(directory))
        dead = _write_messages(messages, answers, produced)
        rows = _placed(answers[DECISIONS], produced)
        log, versions, policies = _write_decisions(decisions, rows, policy, produced)
    undecided_count = len(produced.truth.keys() - dead - {position for position, _ in rows})
    played = Played(
        produced.record_count,
        produced.record_count - len(dead) - undecided_count,
        wall_s,
        HdrHistogram(1_000, 60_000_000_000, 3),
        log,
        versions,
        policies,
    )
    return conclude(
        played, decisions, messages, policy, directory,
        title=title, window=window or EvaluationWindow(),
    )  # fmt: skip


def _write_messages(
    messages: MessagesWriter, answers: dict[str, list[bytes]], produced: Produced
) -> set[int]:
    """Write messages in the order of the events they are about; return where the refused stand."""
    decode = msgspec.json.Decoder(_Identified).decode
    decode_dead = msgspec.json.Decoder(DeadLetter).decode
    dead: set[int] = set()
    for family in MessagesWriter.FILES:
        placed: list[tuple[int, bytes]] = []
        for value in answers.get(family, ()):
            if family == DEAD_LETTERS:
                letter = decode_dead(value)
                if letter.topic != ONE_TOPIC:
                    continue  # a control record that was refused, and none of ours
                position = produced.position(letter.partition, letter.offset)
                dead.add(position)
            else:
                position = produced.rows.get(decode(value).event_id, [LAST])[0]
            placed.append((position, value))
        for _, value in sorted(placed, key=lambda item: item[0]):
            messages.write(family, value)
    for topic in MODEL_TOPICS:  # each has one partition, so they are in order
        for value in answers.get(topic, ()):
            messages.write(topic, value)
    return dead


def _placed(values: list[bytes], produced: Produced) -> list[tuple[int, Decision]]:
    """Return decisions with their source's position, in that order."""
    decode = msgspec.json.Decoder(Decision).decode
    taken: dict[str, int] = {}
    placed = []
    for value in values:
        decision = decode(value)
        nth = taken.get(decision.event_id, 0)
        taken[decision.event_id] = nth + 1
        positions = produced.rows.get(decision.event_id, [])
        placed.append((positions[nth] if nth < len(positions) else LAST, decision))
    placed.sort(key=lambda item: item[0])
    return placed


def _write_decisions(
    writer: DecisionsWriter,
    placed: list[tuple[int, Decision]],
    policy: Policy,
    produced: Produced,
) -> tuple[Evaluated, str, tuple[str, ...]]:
    """Write the decisions; return what the evaluation looks at, the last models, all policies."""
    rule_ids = [rule.id for rule in policy.rules if not rule.shadow]
    rule_ids += [rule.id for rule in policy.rules if rule.shadow]
    # A policy that was published may have others.
    rule_ids += sorted({rule for _, d in placed for rule in d.rules} - set(rule_ids))
    columns = {name: i for i, name in enumerate(rule_ids)}
    log, versions, start = EvaluationLog(), "", 0
    while start < len(placed):
        decided_by, versions = placed[start][1].policy, placed[start][1].models
        stop = start
        while stop < len(placed) and (placed[stop][1].policy, placed[stop][1].models) == (
            decided_by,
            versions,
        ):
            stop += 1
        run = [decision for _, decision in placed[start:stop]]
        hits = np.zeros((len(run), len(rule_ids)), np.bool_)
        for row, decision in enumerate(run):
            hits[row, [columns[rule] for rule in decision.rules]] = True
        ts_ms = np.array([d.ts_ms for d in run], np.int64)
        scores = np.array([np.nan if d.score is None else d.score for d in run])
        actions = [d.action for d in run]
        writer.write(
            [d.event_id for d in run],
            ts_ms,
            scores,
            actions,
            hits,
            rule_ids,
            decided_by,
            versions,
        )
        known = [produced.truth.get(position, (-1, -1)) for position, _ in placed[start:stop]]
        log.append(
            ts_ms,
            np.array([unhex_key((d.card or d.customer).encode()) for d in run], np.int64),
            scores,
            np.array([truth for truth, _ in known], np.int8),
            np.array([known_ms for _, known_ms in known], np.int64),
            np.array([d.amount_minor for d in run], np.int64),
            np.array([action != "allow" for action in actions]),
        )
        start = stop
    return log.arrays(), versions, tuple(dict.fromkeys(d.policy for _, d in placed))
