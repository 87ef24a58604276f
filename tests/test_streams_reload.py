"""Lists and policies that change while the engine runs: repeatable, exact at once, or refused."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reload_policies import FILES, VARIANTS, listed, policy, published, withdrawn
from strategies_streams import HOUR_MS, START_MS, Sent, streams, transaction
from test_streams_contest import Run

from features.records import ENCODER, Alert, DeadLetter
from streams import training
from streams.store import MemoryStore


@pytest.fixture(autouse=True, scope="module")
def first_version_at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FIRST_VERSION_FRAUD_COUNT", 0)
        patch.setattr(training, "FIRST_VERSION_COUNT", 1)
        yield


def payment(number: int, customer: str = "ada", **fields: object) -> Sent:
    record = transaction(number, START_MS + number * HOUR_MS, customer, **fields)
    return Sent("transactions", customer, ENCODER.encode(record))


def alerted(run: Run) -> dict[str, str]:
    """Return event -> version of the policy that raised the alert."""
    alerts = [msgspec.json.decode(value, type=Alert) for value in run.of("alerts")]
    return {alert.event_id: alert.versions.policy for alert in alerts}


def refusals(run: Run) -> list[DeadLetter]:
    return [msgspec.json.decode(value, type=DeadLetter) for value in run.of("dead-letters")]


def test_a_list_changes_who_alerts_from_its_record_on() -> None:
    start = policy("plain")
    run = Run(start, MemoryStore()).play(
        [
            payment(0, terminal_id="t1"),
            payment(1, terminal_id="t2"),
            listed("watched", "t2"),
            payment(2, terminal_id="t1"),
            payment(3, terminal_id="t2"),
            withdrawn("watched"),
            payment(4, terminal_id="t1"),
            payment(5, terminal_id="t2"),
        ]
    )
    assert list(alerted(run)) == ["e0", "e3", "e4"]
    changed = start.with_lists({"watched": ("t2",)}).version
    assert changed != start.version
    assert list(alerted(run).values()) == [start.version, changed, start.version]
    assert refusals(run) == []


def test_a_new_rule_is_exact_at_once() -> None:
    # Two payments at t2 before anybody asks for them; the third raises the count to 3.
    run = Run(policy("plain"), MemoryStore()).play(
        [
            payment(0, terminal_id="t2"),
            payment(1, terminal_id="t2"),
            listed("watched", "t2"),
            published(VARIANTS["counted"]),
            payment(2, terminal_id="t2"),
        ]
    )
    (alert,) = [msgspec.json.decode(value, type=Alert) for value in run.of("alerts")]
    assert alert.event_id == "e2"
    assert alert.action == "hold"
    assert "3 times at watched terminals" in [reason.text for reason in alert.reasons]


def test_a_list_in_a_window_counts_what_came_before_it_was_published() -> None:
    run = Run(policy("counted"), MemoryStore()).play(
        [
            *(payment(n, terminal_id="t2") for n in range(3)),
            payment(3, terminal_id="t1"),  # the first at a watched terminal: reviewed
            listed("watched", "t2"),
            payment(4, terminal_id="t1"),  # three at t2: held, though t1 is no longer watched
        ]
    )
    alerts = [msgspec.json.decode(value, type=Alert) for value in run.of("alerts")]
    assert [(a.event_id, a.action) for a in alerts] == [("e3", "review"), ("e4", "hold")]
    assert "3 times at watched terminals" in [reason.text for reason in alerts[1].reasons]


def test_a_published_list_stands_through_policies_and_an_empty_one_holds_nothing() -> None:
    run = Run(policy("plain"), MemoryStore()).play(
        [
            listed("watched"),
            payment(0, terminal_id="t1"),
            published(VARIANTS["counted"]),
            payment(1, terminal_id="t1"),
            listed("watched", "t1"),
            payment(2, terminal_id="t1"),
        ]
    )
    assert list(alerted(run)) == ["e2"]
    assert refusals(run) == []


BAD = [
    (listed("wached", "t9"), "$.name", "one of: watched, near", "`wached`", "watched"),
    (listed("near", "Germany"), "$.entries", "a country of the form", '"Germany"', None),
    (listed("watched", "t1", "t2", "t1"), "$.entries[2]", "each text once", "`t1` again", None),
    (published(FILES, version="0123"), "$.version", policy("plain").version, "0123", None),
    (
        published(FILES | {"rules.yaml": FILES["rules.yaml"].replace("terminal_id", "terminal")}),
        "$.files['rules.yaml']:6:11",
        "an aggregate such as terminal.count",
        "the entity `terminal` alone",
        None,
    ),
    (
        published(FILES | {"policy.yaml": FILES["policy.yaml"].replace("EUR", "CHF")}),
        "$.files",
        "currency EUR",
        "CHF",
        None,
    ),
    (
        published(FILES | {"models.yaml": FILES["models.yaml"].replace("count_7d", "count_week")}),
        "$.files",
        "model `fraud` with the inputs that it has learned from, log_amount, count_7d",
        "log_amount, count_week",
        None,
    ),
    (
        published(
            FILES
            | {"policy.yaml": FILES["policy.yaml"].replace("key: terminal_id", "key: device_id")}
        ),
        "$.files",
        "entity `terminal` with the key `terminal_id`",
        "`device_id`",
        None,
    ),
    (Sent("policies", "", b'{"files": {"a": ""}}'), "$.ts_ms", "a required field", "none", None),
]


@pytest.mark.parametrize(("bad", "path", "expected", "got", "nearest"), BAD)
def test_a_bad_record_is_a_dead_letter_and_the_old_policy_goes_on(
    bad: Sent, path: str, expected: str, got: str, nearest: str | None
) -> None:
    start = policy("large")
    run = Run(start, MemoryStore()).play(
        [payment(0, terminal_id="t1"), bad, payment(1, terminal_id="t1")]
    )
    assert alerted(run) == {"e0": start.version, "e1": start.version}
    (letter,) = refusals(run)
    assert letter.raw == bad.value
    assert (letter.path, letter.nearest) == (path, nearest)
    assert expected in letter.expected
    assert got in letter.got


def changes() -> st.SearchStrategy[list[tuple[int, Sent]]]:
    terminals = st.lists(st.sampled_from(["t1", "t2", "t3"]), unique=True)
    lists = st.builds(lambda found: listed("watched", *found), terminals)
    policies = st.sampled_from([published(files) for files in VARIANTS.values()])
    others = st.sampled_from([withdrawn("watched"), listed("near", "US"), *(b[0] for b in BAD)])
    return st.lists(st.tuples(st.integers(0, 60), lists | policies | others), max_size=5)


def mixed(sent: Sequence[Sent], wanted: list[tuple[int, Sent]]) -> list[Sent]:
    found = list(sent)
    for place, change in wanted:
        found.insert(min(place, len(found)), change)
    return found


def same(run: Run, other: Run) -> None:
    assert run.decisions == other.decisions
    for topic in run.sink.by_topic.keys() | other.sink.by_topic.keys():
        if topic == "training":  # in order within a partition alone
            assert sorted(run.of(topic)) == sorted(other.of(topic))
        else:
            assert run.of(topic) == other.of(topic)


@settings(max_examples=40)
@given(sent=streams(), wanted=changes(), batch_max_count=st.integers(1, 30))
def test_no_cut_of_the_input_shows(
    sent: list[Sent], wanted: list[tuple[int, Sent]], batch_max_count: int
) -> None:
    sent = mixed(sent, wanted)
    whole = Run(policy(), MemoryStore()).play(sent)
    cut = Run(policy(), MemoryStore()).play(sent, batch_max_count)
    same(cut, whole)
    assert cut.state() == whole.state()


@settings(max_examples=30)
@given(sent=streams(), wanted=changes(), place=st.integers(1, 60))
def test_a_restart_comes_back_with_the_policy_that_was_published(
    sent: list[Sent], wanted: list[tuple[int, Sent]], place: int
) -> None:
    sent = mixed(sent, wanted)
    place = min(place, len(sent) - 1)
    whole = Run(policy(), MemoryStore()).play(sent)
    stopped = Run(policy(), MemoryStore()).play(sent[:place])
    resumed = Run(policy(), stopped.store).play(sent)
    assert [row[:4] for row in stopped.decisions + resumed.decisions] == [
        row[:4] for row in whole.decisions
    ]
    for topic in whole.sink.by_topic:
        if topic != "training":
            assert stopped.of(topic) + resumed.of(topic) == whole.of(topic)
    assert resumed.state() == whole.state()
