"""The processor and the embedded runtime: no cut of the input shows, and no restart does."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis
from strategies_streams import PARTITION_COUNT, Sent, as_raw, streams

from actions.policy import Policy
from features.hashing import IdHasher
from streams import training
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Output
from streams.policy_files import read_policy
from streams.processor import Processor
from streams.redis_store import RedisStore
from streams.sinks import MemorySink
from streams.store import MemoryStore, Store


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy()


@pytest.fixture(autouse=True, scope="module")
def first_version_at_once() -> Iterator[None]:
    """Short streams have no 20 frauds to learn from, and yet versions must matter in them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FIRST_VERSION_FRAUD_COUNT", 0)
        patch.setattr(training, "FIRST_VERSION_COUNT", 1)
        yield


@dataclass
class Told:
    """Everything that a run said, in order, in a form that compares byte by byte."""

    emissions: list[tuple[str, str, bytes]] = field(default_factory=list)
    decisions: list[tuple[object, ...]] = field(default_factory=list)
    training: dict[str, list[object]] = field(default_factory=dict)

    def take(self, output: Output) -> None:
        self.emissions += [tuple(emission) for emission in output.emissions]
        for d in output.decisions:
            columns = (d.ts_ms, d.scores, d.actions, d.rule_hits, d.sequence, d.amounts_minor)
            rows = zip(d.event_ids, *(column.tolist() for column in columns), strict=True)
            self.decisions += [(*map(repr, row), d.model_versions) for row in rows]
        for example in output.training:
            self.training.setdefault("all", []).append(repr(example))


def apply_changes(processor: Processor, stored: dict[tuple[int, bytes], bytes]) -> None:
    """Apply a processor's changes as a store would."""
    for partition, found in processor.changes().items():
        for key in found.deletes:
            stored.pop((partition, key), None)
        for key, offset, value in found.writes:
            old = stored.get((partition, key), b"") if offset else b""
            stored[partition, key] = (
                old[:offset].ljust(offset, b"\0") + value + old[offset + len(value) :]
            )


def run_processor(
    policy: Policy, sent: list[Sent], cuts: list[int]
) -> tuple[Told, dict[tuple[int, bytes], bytes]]:
    processor = Processor(policy, range(PARTITION_COUNT), IdHasher(), fresh=True)
    raws, told, stored = as_raw(sent), Told(), {}
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(raws)}), len(raws)]
    for start, stop in pairwise(edges):
        batch = processor.decode(raws[start:stop])
        batch.first = start
        told.take(processor.process(batch))
        apply_changes(processor, stored)
    return told, stored


def sorted_training(told: Told) -> list[object]:
    """Partitions mature side by side: only the order within one of them is a promise."""
    return sorted(map(str, told.training.get("all", [])))


@settings(max_examples=40)
@given(sent=streams(), cuts=st.lists(st.integers(1, 60), max_size=60))
def test_any_cut_gives_the_same_emissions_and_state(
    policy: Policy, sent: list[Sent], cuts: list[int]
) -> None:
    whole, whole_state = run_processor(policy, sent, [])
    told, state = run_processor(policy, sent, cuts)
    assert told.emissions == whole.emissions
    assert told.decisions == whole.decisions
    assert sorted_training(told) == sorted_training(whole)
    assert state == whole_state


def test_the_streams_of_this_file_reach_every_consequence(policy: Policy) -> None:
    """A property over streams that never alert or offer would prove nothing."""
    seen: set[str] = set()

    @settings(max_examples=150, database=None, derandomize=True)
    @given(sent=streams())
    def collect(sent: list[Sent]) -> None:
        told, _ = run_processor(policy, sent, [])
        seen.update(topic for topic, _, _ in told.emissions)
        if told.training:
            seen.add("training")

    collect()
    assert {"alerts", "dead-letters", "training", "offers.sms", "offers.app_push"} <= seen


def play(
    policy: Policy,
    store: Store,
    sent: list[Sent],
    batch_max_count: int = 512,
    crash_after: int | None = None,
    checkpoint_every: int = 1,
) -> MemorySink:
    """Play a stream, checkpointing after each `checkpoint_every` batches; crash if told to."""
    sink = MemorySink()
    runtime = EmbeddedRuntime(
        policy,
        store,
        sink,
        EmbeddedSettings(PARTITION_COUNT, batch_max_count, checkpoint_ms=10**9),
    )
    for number, start in enumerate(range(0, len(sent), batch_max_count)):
        if crash_after is not None and number == crash_after:
            return sink
        part = sent[start : start + batch_max_count]
        runtime.submit([s.topic for s in part], [s.key for s in part], [s.value for s in part])
        if number % checkpoint_every == checkpoint_every - 1:
            runtime.checkpoint()
    runtime.close()
    return sink


def state_of(store: Store) -> dict[tuple[str, bytes], bytes]:
    owners = [*map(str, range(PARTITION_COUNT)), "trainer"]
    return {(owner, key): value for owner in owners for key, value in store.scan(owner)}


def by_topic(sink: MemorySink) -> dict[str, list[bytes]]:
    return {topic: [e.value for e in found] for topic, found in sink.by_topic.items()}


@settings(max_examples=25)
@given(sent=streams(), batch_max_count=st.integers(1, 30))
def test_models_that_learn_on_the_way_do_not_see_the_cut_either(
    policy: Policy, sent: list[Sent], batch_max_count: int
) -> None:
    whole_store, store = MemoryStore(), MemoryStore()
    whole = by_topic(play(policy, whole_store, sent))
    told = by_topic(play(policy, store, sent, batch_max_count))
    training, whole_training = told.pop("training", []), whole.pop("training", [])
    assert told == whole
    assert sorted(training) == sorted(whole_training)
    assert state_of(store) == state_of(whole_store)


@settings(max_examples=25)
@given(
    sent=streams(),
    batch_max_count=st.integers(1, 9),
    crash_after=st.integers(0, 20),
    checkpoint_every=st.integers(1, 5),
)
def test_a_restart_in_mid_stream_leaves_no_trace(
    policy: Policy,
    redis_url: str,
    sent: list[Sent],
    batch_max_count: int,
    crash_after: int,
    checkpoint_every: int,
) -> None:
    whole_store = MemoryStore()
    whole = by_topic(play(policy, whole_store, sent))
    prefix = f"test-{uuid4().hex}"
    with closing(RedisStore(redis_url, prefix)) as store, closing(Redis.from_url(redis_url)) as raw:
        first = play(policy, store, sent, batch_max_count, crash_after, checkpoint_every)
        second = play(policy, store, sent, batch_max_count, None, checkpoint_every)
        state = state_of(store)
        for key in raw.scan_iter(match=f"{prefix}*", count=1000):
            raw.delete(key)
    assert state == state_of(whole_store)
    for topic in {*whole, *first.by_topic, *second.by_topic}:
        told = [e.value for s in (first, second) for e in s.by_topic.get(topic, [])]
        # Since the last checkpoint records may repeat, byte for byte; none is lost, none is new.
        assert set(told) == set(whole.get(topic, []))
