"""Bad records in a running engine: each becomes one dead letter, and nothing else changes."""

import json
from base64 import b64decode
from collections import Counter

import pytest
from bad_records import ALL_BAD, FIELDS, TS_MS, as_json
from hypothesis import given, settings
from hypothesis import strategies as st
from test_features_decode import ANY_JSON

from actions.policy import Policy
from features.records import TAKEN_RECORDS
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Output
from streams.partitioner import partition_of
from streams.policy_files import read_policy
from streams.sinks import MemorySink
from streams.store import MemoryStore

PARTITION_COUNT = 3
CUSTOMERS = ("ada", "ben", "zoë")
Sent = tuple[str, str, bytes]  # topic, key, value


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy()


class Engine:
    """An embedded engine that checkpoints after every batch, and what it said."""

    def __init__(self, policy: Policy, store: MemoryStore, batch_max_count: int = 5) -> None:
        self.sink = MemorySink()
        self.decided: list[str] = []
        self.runtime = EmbeddedRuntime(
            policy,
            store,
            self.sink,
            EmbeddedSettings(PARTITION_COUNT, batch_max_count, checkpoint_ms=0),
            on_output=self._take,
        )

    def _take(self, output: Output) -> None:
        self.decided += [event for d in output.decisions for event in d.event_ids]

    def send(self, sent: list[Sent]) -> None:
        topics, keys, values = zip(*sent, strict=True)
        self.runtime.submit(topics, keys, values)
        self.runtime.checkpoint()  # waits for the commits that are under way

    def letters(self) -> list[dict[str, object]]:
        return [json.loads(e.value) for e in self.sink.by_topic.get("dead-letters", [])]


def good(number: int) -> Sent:
    customer = CUSTOMERS[number % len(CUSTOMERS)]
    value = as_json(
        "transactions",
        event_id=f"good-{number}",
        customer_id=customer,
        card_id=f"card-{customer}",
        ts_ms=TS_MS + number * 60_000,
    )
    return "transactions", customer, value


def mixed() -> tuple[list[Sent], list[tuple[str, int, int]]]:
    """Return good and bad records by turns, and the bad ones' (topic, partition, offset)."""
    sent, places = [], []
    ends: Counter[tuple[str, int]] = Counter()
    for number, bad in enumerate(ALL_BAD):
        key = CUSTOMERS[number * 2 % len(CUSTOMERS)]
        for topic, owner, value in (good(number), (bad.topic, key, bad.value)):
            place = (topic, partition_of(owner, PARTITION_COUNT))
            if value == bad.value:
                places.append((*place, ends[place]))
            ends[place] += 1
            sent.append((topic, owner, value))
    return sent, places


def test_every_bad_record_becomes_one_dead_letter(policy: Policy) -> None:
    engine = Engine(policy, MemoryStore())
    sent, places = mixed()
    engine.send(sent)
    letters = engine.letters()
    assert len(letters) == len(ALL_BAD)
    for letter, bad, place in zip(letters, ALL_BAD, places, strict=True):
        assert letter["kind"] == "dead_letter"
        assert b64decode(str(letter["raw"]), validate=True) == bad.value
        assert (letter["topic"], letter["partition"], letter["offset"]) == place
        assert letter["path"] == bad.path
        assert letter["nearest"] == bad.nearest
        assert letter["expected"]
        assert letter["got"]
    assert {partition for _, partition, _ in places} == set(range(PARTITION_COUNT))


def test_the_stream_goes_on_as_if_the_bad_records_were_not_there(policy: Policy) -> None:
    engine, clean = Engine(policy, MemoryStore()), Engine(policy, MemoryStore())
    engine.send(mixed()[0])
    clean.send([good(number) for number in range(len(ALL_BAD))])
    later = [good(number) for number in range(1_000, 1_010)]
    engine.send(later)
    clean.send(later)
    numbers = [*range(len(ALL_BAD)), *range(1_000, 1_010)]
    assert engine.decided == clean.decided == [f"good-{number}" for number in numbers]
    told = {t: e for t, e in engine.sink.by_topic.items() if t != "dead-letters"}
    assert told == clean.sink.by_topic


def test_dead_letters_are_part_of_what_a_checkpoint_covers(policy: Policy) -> None:
    """A second engine that is fed the same input again skips the bad records too."""
    store = MemoryStore()
    sent, _ = mixed()
    Engine(policy, store).send(sent)
    second = Engine(policy, store)
    second.send([*sent, ("labels", "ada", b"new")])
    (letter,) = second.letters()
    assert (letter["topic"], letter["raw"]) == ("labels", "bmV3")
    assert second.decided == []


@pytest.mark.parametrize(
    "since_ms", [10**30, -(10**30), 10**400], ids=["large", "small", "larger than any float"]
)
def test_no_profile_that_is_taken_can_stop_the_checkpoints(policy: Policy, since_ms: int) -> None:
    """MessagePack has no room for such integers: a record with one may not become state."""
    engine = Engine(policy, MemoryStore())
    value = as_json("profiles", customer_since_ms=since_ms)
    engine.send([good(0), ("profiles", "ada", value), good(3)])
    assert [letter["path"] for letter in engine.letters()] == ["$.customer_since_ms"]
    assert engine.decided == ["good-0", "good-3"]


@st.composite
def nearly_good(draw: st.DrawFn) -> Sent:
    """Draw a record of which one field was replaced by anything."""
    topic = draw(st.sampled_from(sorted(FIELDS)))
    name = draw(st.sampled_from(sorted(TAKEN_RECORDS[topic].__struct_fields__)))
    return topic, "ada", as_json(topic, **{name: draw(ANY_JSON)})


@settings(max_examples=15)
@given(sent=st.lists(nearly_good(), min_size=10, max_size=30))
def test_nothing_that_is_sent_stops_the_engine(policy: Policy, sent: list[Sent]) -> None:
    engine = Engine(policy, MemoryStore())
    engine.send([*sent, good(0)])
    assert engine.decided[-1] == "good-0"
    assert all(letter["path"] for letter in engine.letters())
