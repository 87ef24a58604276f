"""Challengers, promotions and reports through the whole engine."""

from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policies_streams import CHALLENGERS, JUDGING, bank_with
from strategies_streams import HOUR_MS, PARTITION_COUNT, START_MS, Sent, streams, transaction

from actions.policy import Policy
from features.records import (
    ENCODER,
    DeadLetter,
    Label,
    ModelPromoted,
    ModelReport,
    Promotion,
    TrainingExample,
)
from online_models.trainer import Trainer
from streams import training
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Decisions
from streams.policy_files import read_policy
from streams.sinks import MemorySink
from streams.store import MemoryStore, Store

DAY_MS = 24 * HOUR_MS


@pytest.fixture(scope="module")
def plain() -> Policy:
    return read_policy()


@pytest.fixture(scope="module")
def shadowed() -> Policy:
    return bank_with(CHALLENGERS)


@pytest.fixture(scope="module")
def judged() -> Policy:
    return bank_with(CHALLENGERS + JUDGING)


@pytest.fixture(autouse=True, scope="module")
def first_version_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FIRST_VERSION_FRAUD_COUNT", 0)
        patch.setattr(training, "FIRST_VERSION_COUNT", 1)
        yield


class Run:
    """What a runtime said, and what it left in its store."""

    def __init__(self, policy: Policy, store: Store) -> None:
        self.policy, self.store = policy, store
        self.sink = MemorySink()
        self.decisions: list[tuple[object, ...]] = []

    def play(self, sent: Sequence[Sent], batch_max_count: int = 512) -> "Run":
        runtime = EmbeddedRuntime(
            self.policy,
            self.store,
            self.sink,
            EmbeddedSettings(PARTITION_COUNT, batch_max_count, checkpoint_ms=10**9),
            on_output=lambda output: [self._take(d) for d in output.decisions] and None,
        )
        with closing(runtime):
            for start in range(0, len(sent), batch_max_count):
                part = sent[start : start + batch_max_count]
                topics, keys, values = zip(*((s.topic, s.key, s.value) for s in part), strict=True)
                runtime.submit(topics, keys, values)
        return self

    def _take(self, d: Decisions) -> None:
        columns = (d.ts_ms, d.scores, d.actions, d.rule_hits, d.sequence)
        rows = zip(d.event_ids, *(column.tolist() for column in columns), strict=True)
        self.decisions += [(*map(repr, row), d.model_versions) for row in rows]

    def of(self, topic: str) -> list[bytes]:
        return [emission.value for emission in self.sink.by_topic.get(topic, [])]

    def state(self) -> dict[tuple[str, bytes], bytes]:
        owners = [*map(str, range(PARTITION_COUNT)), "trainer"]
        return {(owner, k): bytes(v) for owner in owners for k, v in self.store.scan(owner)}


def order(challenger: str, ts_ms: int = START_MS, model: str = "fraud") -> Sent:
    record = Promotion(ts_ms=ts_ms, model=model, challenger=challenger)
    return Sent("promotions", "", ENCODER.encode(record))


@settings(max_examples=20)
@given(sent=streams())
def test_challengers_never_change_a_decision(
    plain: Policy, shadowed: Policy, sent: list[Sent]
) -> None:
    alone = Run(plain, MemoryStore()).play(sent)
    beside = Run(shadowed, MemoryStore()).play(sent)
    assert beside.decisions == alone.decisions or not alone.decisions
    for topic in ("alerts", "offers.sms", "offers.app_push", "dead-letters"):
        told = [value.replace(beside.policy.version.encode(), b"") for value in beside.of(topic)]
        expected = [value.replace(alone.policy.version.encode(), b"") for value in alone.of(topic)]
        assert told == expected


def orders() -> st.SearchStrategy[list[tuple[int, str]]]:
    names = st.sampled_from(["lean", "same", "scaled_logistic", "nobody"])
    return st.lists(st.tuples(st.integers(0, 60), names), max_size=3)


def mixed(sent: list[Sent], wanted: list[tuple[int, str]]) -> list[Sent]:
    found = list(sent)
    for place, challenger in wanted:
        found.insert(min(place, len(found)), order(challenger))
    return found


@settings(max_examples=20)
@given(sent=streams(), wanted=orders(), batch_max_count=st.integers(1, 30))
def test_no_cut_of_the_input_shows(
    judged: Policy, sent: list[Sent], wanted: list[tuple[int, str]], batch_max_count: int
) -> None:
    sent = mixed(sent, wanted)
    whole = Run(judged, MemoryStore()).play(sent)
    cut = Run(judged, MemoryStore()).play(sent, batch_max_count)
    assert cut.decisions == whole.decisions
    assert cut.state() == whole.state()
    for topic in whole.sink.by_topic.keys() | cut.sink.by_topic.keys():
        if topic == "training":
            assert sorted(cut.of(topic)) == sorted(whole.of(topic))
        else:
            assert cut.of(topic) == whole.of(topic)


@settings(max_examples=15)
@given(sent=streams(), wanted=orders(), place=st.integers(0, 60))
def test_a_restart_leaves_no_trace(
    judged: Policy, sent: list[Sent], wanted: list[tuple[int, str]], place: int
) -> None:
    sent = mixed(sent, wanted)
    place = min(place, len(sent) - 1)
    whole = Run(judged, MemoryStore()).play(sent)
    stopped = Run(judged, MemoryStore())
    if place:
        stopped.play(sent[:place])
    stopped.play(sent)  # the source is read again; what was committed is skipped
    assert stopped.state() == whole.state()
    for topic in whole.sink.by_topic.keys() - {"training"}:
        assert stopped.of(topic) == whole.of(topic)


PER_DAY_COUNT = 48


def payments(day_count: int, first_ms: int = START_MS) -> list[Sent]:
    """Payments of two customers; the large ones are labelled fraud an hour later."""
    sent = []
    for number in range(day_count * PER_DAY_COUNT):
        ts_ms = first_ms + number * DAY_MS // PER_DAY_COUNT
        customer, fraud = ("ada", "ben")[number % 2], number % 7 == 0
        amount_minor = 150_000 + number if fraud else 1_000 + number % 500
        record = transaction(first_ms // DAY_MS * 10**6 + number, ts_ms, customer,
                             amount_minor=amount_minor)  # fmt: skip
        sent.append(Sent("transactions", customer, ENCODER.encode(record)))
        if fraud:
            label = Label(
                event_id=record.event_id, ts_ms=ts_ms + HOUR_MS // 4, customer_id=customer,
                verdict="fraud",
            )  # fmt: skip
            sent.append(Sent("labels", customer, ENCODER.encode(label)))
    return sent


def test_a_promotion_is_decided_by_from_its_version_on_and_a_replay_repeats_it(
    judged: Policy,
) -> None:
    before, after = payments(17), payments(3, START_MS + 17 * DAY_MS)
    sent = [*before, order("lean"), *after]
    run = Run(judged, MemoryStore()).play(sent)
    [promoted] = [msgspec.json.decode(v, type=ModelPromoted) for v in run.of("model-promotions")]
    assert (promoted.champion, promoted.before) == ("lean", "scaled_logistic")
    assert promoted.by == "command"
    reports = [msgspec.json.decode(v, type=ModelReport) for v in run.of("model-reports")]
    assert [c.contestant for c in reports[-1].contestants] == ["scaled_logistic", "lean", "same"]
    assert {r.champion for r in reports if r.version < promoted.version} == {"scaled_logistic"}
    assert {r.champion for r in reports if r.version >= promoted.version} == {"lean"}
    again = Run(judged, MemoryStore()).play(sent, 37)
    assert again.decisions == run.decisions
    without = Run(judged, MemoryStore()).play([*before, *after])
    place = next(i for i, d in enumerate(run.decisions) if d[-1] == f"fraud:{promoted.version}")
    assert [d[:-1] for d in run.decisions[:place]] == [d[:-1] for d in without.decisions[:place]]
    scores = [d[2] for d in run.decisions[place:]]
    assert scores != [d[2] for d in without.decisions[place:]]


def test_examples_tell_the_scores_that_decided(judged: Policy) -> None:
    run = Run(judged, MemoryStore()).play(payments(20))
    examples = [msgspec.json.decode(v, type=TrainingExample) for v in run.of("training")]
    decided = {(int(d[1]), float(d[2])) for d in run.decisions}
    assert len(examples) > 100
    assert all(len(e.scores) == 3 for e in examples)
    assert {(e.ts_ms, e.scores[0]) for e in examples} <= decided
    # "same" is the champion's twin; "lean" sees two of the inputs.
    assert all(e.scores[0] == e.scores[2] for e in examples)
    assert any(e.scores[0] != e.scores[1] for e in examples)


def test_a_challenger_learns_what_it_would_alone(judged: Policy) -> None:
    run = Run(judged, MemoryStore())
    runtime = EmbeddedRuntime(judged, run.store, run.sink, EmbeddedSettings(PARTITION_COUNT))
    sent = payments(20)
    runtime.submit([s.topic for s in sent], [s.key for s in sent], [s.value for s in sent])
    desk = runtime.training.desks["fraud"]
    learned = [msgspec.json.decode(v, type=TrainingExample) for v in run.of("training")]
    learned = sorted(learned, key=lambda e: (e.matured_ms, e.event))[: desk.learned_count]
    names = [item.name for item in judged.models[0].inputs]
    columns = [names.index(name) for name in ("log_amount", "night")]
    alone = Trainer("fraud", "scaled_logistic", ["log_amount", "night"])
    alone.learn(
        [msgspec.structs.replace(e, features=[e.features[c] for c in columns]) for e in learned]
    )
    lean = desk.contest.state()
    assert alone.state()[50:].find(b"log_amount") > 0  # the frame's body, which has the numbers
    arrays = alone.publish(0).arrays
    assert arrays["weights"].data in lean
    assert arrays["means"].data in lean
    runtime.close()


def test_an_order_that_names_nobody_is_a_dead_letter(judged: Policy) -> None:
    run = Run(judged, MemoryStore()).play(
        [order("leen"), order("lean", model="froud"), *payments(1)]
    )
    letters = [msgspec.json.decode(v, type=DeadLetter) for v in run.of("dead-letters")]
    assert [(x.topic, x.path, x.got, x.nearest) for x in letters] == [
        ("promotions", "$.challenger", "`leen`", "lean"),
        ("promotions", "$.model", "`froud`", "fraud"),
    ]
    assert letters[0].expected == "one of: scaled_logistic, lean, same"


def test_an_order_does_not_move_event_time(judged: Policy) -> None:
    """Its time is when somebody wrote it: an engine that is behind would jump ahead."""
    sent = payments(9)
    far = order("scaled_logistic", START_MS + 10_000 * DAY_MS)
    with_order = Run(judged, MemoryStore()).play([sent[0], far, *sent[1:]])
    without = Run(judged, MemoryStore()).play(sent)
    assert [d[:5] for d in with_order.decisions] == [d[:5] for d in without.decisions]
    assert sorted(with_order.of("training")) == sorted(without.of("training"))
