"""When trainers learn and publish: the order, the grid, the first version, restarts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.policy_schema import ModelDeclaration, ModelInput
from actions.yaml_positions import Place
from features.expressions.parser import ExpressionText
from features.records import TrainingExample
from online_models.trainer import Trainer
from online_models.versions import encode_version, with_calibration
from streams import training
from streams.training import NEVER_MS, Training, TrainingDesk

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
INPUTS = ["amount", "night"]


def declaration(name="fraud", every_ms=HOUR_MS):
    inputs = tuple(ModelInput(i, ExpressionText("amount", "p.yaml", 1, 1), "why") for i in INPUTS)
    return ModelDeclaration(name, "scaled_logistic", Place("p.yaml", 1, 1), every_ms, inputs)


def example(number, fraud=False, model="fraud", matured_ms=None, event=None):
    return TrainingExample(
        model=model,
        event=number if event is None else event,
        ts_ms=0,
        matured_ms=number if matured_ms is None else matured_ms,
        fraud=fraud,
        weight=1.0 if fraud else 10.0,
        features=[float(number % 7), float(number % 3)],
    )


def lesson(fraud_count, legitimate_count, start=0):
    return [
        example(start + i, fraud=i < fraud_count) for i in range(fraud_count + legitimate_count)
    ]


def collect(desk, examples):
    for found in examples:
        desk.collect(found)


def taught(examples, point_ms, version=1, name="fraud"):
    """The version of a trainer that learned the examples in this very order."""
    trainer = Trainer(name, "scaled_logistic", INPUTS)
    trainer.version = version - 1
    trainer.learn(examples)
    return with_calibration(trainer.publish(point_ms), "scaled_logistic", None)


def set_thresholds(patch, fraud_count, count):
    patch.setattr(training, "FIRST_VERSION_FRAUD_COUNT", fraud_count)
    patch.setattr(training, "FIRST_VERSION_COUNT", count)


@pytest.fixture
def no_threshold(monkeypatch):
    set_thresholds(monkeypatch, 0, 1)


def test_examples_are_learned_by_the_time_they_matured_then_by_event(no_threshold):
    ordered = [
        example(0, matured_ms=5, event=-9),
        example(1, matured_ms=5, event=4, fraud=True),
        example(2, matured_ms=6, event=-20),
        example(3, matured_ms=80, event=1, fraud=True),
    ]
    expected = taught(ordered, HOUR_MS)
    assert taught(ordered[::-1], HOUR_MS) != expected  # the order makes a difference
    for arrived in (ordered, ordered[::-1], [ordered[i] for i in (2, 0, 3, 1)]):
        desk = TrainingDesk(declaration())
        collect(desk, arrived)
        assert desk.publish(HOUR_MS).version == expected


def test_publication_keeps_to_the_grid(no_threshold):
    desk = TrainingDesk(declaration())
    assert desk.next_due_ms(3 * HOUR_MS) == 4 * HOUR_MS  # at a grid point: the next one
    assert desk.next_due_ms(9 * HOUR_MS) == 4 * HOUR_MS  # the first call set the grid
    collect(desk, [example(1)])
    assert (
        desk.publish(6 * HOUR_MS + 1).version.ts_ms == 6 * HOUR_MS
    )  # grid points without a record pass
    assert desk.next_due_ms(0) == 7 * HOUR_MS
    assert desk.publish(7 * HOUR_MS).version is None  # nothing was learned since
    assert desk.next_due_ms(0) == 8 * HOUR_MS
    collect(desk, [example(2)])
    second = taught([example(1), example(2)], 8 * HOUR_MS, version=2)
    assert desk.publish(8 * HOUR_MS).version == second


@pytest.mark.parametrize(
    ("fraud_count", "legitimate_count", "lacking"),
    [
        (19, 400, [example(1000, fraud=True)]),  # a fraud is lacking
        (20, 179, [example(1000)]),  # an example is lacking
        (199, 0, [example(1000, fraud=True)]),
    ],
)
def test_the_first_version_waits_for_20_frauds_and_200_examples(
    fraud_count, legitimate_count, lacking
):
    desk = TrainingDesk(declaration())
    early = lesson(fraud_count, legitimate_count)
    half = len(early) // 2
    collect(desk, early[:half])
    assert desk.publish(HOUR_MS).version is None
    collect(desk, early[half:])
    assert desk.publish(2 * HOUR_MS).version is None
    assert desk.learned_count == len(early)  # it did learn
    assert desk.learned_fraud_count == fraud_count
    assert "fraud:version" not in {write.key.decode() for write in desk.changes(b"fraud:")}
    collect(desk, lacking)
    assert desk.publish(3 * HOUR_MS).version == taught(early + lacking, 3 * HOUR_MS)
    collect(desk, [example(2000)])
    assert desk.publish(4 * HOUR_MS).version.version == 2  # from now on any example is enough


def versions(desks, clock_ms):
    return [found.version for found in desks.publish(clock_ms) if found.version is not None]


class Stored(dict):
    """What a store keeps of the trainer's partition."""

    def take(self, writes):
        for key, offset, value in writes:
            assert offset == 0
            self[key] = bytes(value)

    def load(self, keys):
        return [self.get(key) for key in keys]


def models():
    return [declaration(), declaration("mule", 25 * MINUTE_MS)]


def drive(steps, stops=frozenset()):
    """Run the steps with thresholds so low that short ones get past them."""
    with pytest.MonkeyPatch.context() as patch:
        set_thresholds(patch, 2, 6)
        return run(steps, stops)


def run(steps, stops):
    """Feed steps of (time passed, examples) to a runtime's loop; start again at the stops."""
    desks, stored, published, clock_ms = Training(models()), Stored(), [], 0
    for number, (passed_ms, found) in enumerate(steps):
        if number in stops:
            stored.take(desks.changes())
            assert desks.changes() == []
            desks = Training(models())
            newest = {version.name: version for version in published}
            assert desks.restore(stored.load) == [
                newest[m.name] for m in models() if m.name in newest
            ]
        clock_ms += passed_ms
        if desks.next_due_ms(clock_ms) <= clock_ms:
            published += versions(desks, clock_ms)
        desks.collect(found)
    stored.take(desks.changes())
    return [encode_version(version) for version in published], stored


steps = st.lists(
    st.tuples(
        st.sampled_from([0, 7, 25, 60, 130]).map(lambda minutes: minutes * MINUTE_MS),
        st.lists(
            st.builds(
                example,
                st.integers(0, 50),
                fraud=st.booleans(),
                model=st.sampled_from(["fraud", "mule"]),
                event=st.integers(-(2**63), 2**63 - 1),
            ),
            max_size=6,
        ),
    ),
    min_size=1,
    max_size=14,
)


@given(steps=steps, stops=st.frozensets(st.integers(0, 14)))
def test_a_restart_leaves_no_trace(steps, stops):
    assert drive(steps, stops) == drive(steps)


def test_the_steps_of_this_file_come_to_versions_after_restarts_below_the_threshold():
    found = [example(1, fraud=True), example(2), example(3)]
    steady = drive([(HOUR_MS, found), (HOUR_MS, found), (HOUR_MS, [])], stops={1, 2})
    assert len(steady[0]) == 1
    assert sorted(steady[1]) == [
        b"fraud:trainer", b"fraud:version", b"fraud:waiting", b"mule:waiting",
    ]  # fmt: skip


def test_models_publish_each_on_its_own_grid(no_threshold):
    desks = Training(models())
    assert desks.next_due_ms(0) == 25 * MINUTE_MS
    mine, other = example(1), example(2, model="mule")
    desks.collect([other, mine])
    assert versions(desks, 24 * MINUTE_MS) == []
    assert desks.heartbeat_ms(30 * MINUTE_MS) == 25 * MINUTE_MS
    expected = taught([other], 25 * MINUTE_MS, name="mule")
    assert versions(desks, 30 * MINUTE_MS) == [expected]
    assert desks.next_due_ms(0) == 50 * MINUTE_MS
    # At 1:20 both are due, for 1:00 and 1:15: every partition passes the later one first.
    assert desks.heartbeat_ms(80 * MINUTE_MS) == 75 * MINUTE_MS
    assert versions(desks, 80 * MINUTE_MS) == [taught([mine], HOUR_MS)]
    assert desks.next_due_ms(0) == 100 * MINUTE_MS


def test_without_models_nothing_is_ever_due_and_nothing_stored_is_nothing_restored():
    assert Training([]).next_due_ms(0) == NEVER_MS
    fresh = Training(models())
    assert fresh.restore(Stored().load) == []
    assert fresh.next_due_ms(0) == 25 * MINUTE_MS
