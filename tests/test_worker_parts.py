"""Parts of the worker by themselves: the trainer's bookkeeping, the grid, watchdog and health."""

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from policies_streams import bank_with

from actions.policy import Policy
from features.errors import MillraceError
from features.records import (
    ENCODER,
    TS_MS_MIN,
    ContestantMeasures,
    Drift,
    ModelPromoted,
    ModelRefused,
    ModelReport,
    Promotion,
    TrainingExample,
)
from online_models.versions import ModelVersion
from streams.emissions import Emission, Output
from streams.foreign import ForeignState
from streams.metrics import Metrics
from streams.policy_files import read_policy
from streams.worker.control import parse
from streams.worker.failures import Failures
from streams.worker.health import EXIT_STALLED, HealthServer, Watchdog
from streams.worker.learning import Clock, Learner, Outbox, Point, Reach
from streams.worker.status import Phase, Status
from streams.worker.waiting import Grid

HOUR_MS = 3_600_000
INPUTS_COUNT = len(read_policy().models[0].inputs)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy()


def test_copies_of_shared_histories_are_told_in_seconds_and_counts() -> None:
    metrics = Metrics()
    metrics.note_shared(ForeignState(1_500.0, 250, 1, 2, 3, 4, 5, 6))
    names = (
        "staleness_seconds", "lag_seconds", "waiting", "stale_rows", "reads", "read_bytes",
        "read_failures", "refusals",
    )  # fmt: skip
    for name, value in zip(names, (1.5, 0.25, 1, 2, 3, 4, 5, 6), strict=True):
        assert f"millrace_shared_{name} {float(value)}\n" in metrics.text().decode()
    metrics.note_shared(None)
    text = metrics.text().decode()
    assert "millrace_shared_lag_seconds 0.0\n" in text
    assert "millrace_shared_reads 3.0\n" in text


class Clockwork:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def example(event: int, matured_ms: int, fraud: bool = False) -> TrainingExample:
    return TrainingExample(
        model="fraud",
        event=event,
        ts_ms=0,
        matured_ms=matured_ms,
        fraud=fraud,
        weight=1.0,
        features=[float(event % 7)] * INPUTS_COUNT,
    )


def tell(learner: Learner, *emissions: Emission) -> None:
    for emission in emissions:
        learner.take(emission.key, emission.value)


def clock(partition: int, hour: int) -> Emission:
    return Emission(
        "training", f"clock:{partition}", ENCODER.encode(Clock(partition, hour * HOUR_MS))
    )


def sent(partition: int, number: int, taught: TrainingExample) -> Emission:
    return Emission("training", f"fraud:{partition}:{number}", ENCODER.encode(taught))


def learned(learner: Learner) -> tuple[list[ModelVersion], list[Point]]:
    """Have it learn; return the versions that go out, and the points that were got past."""
    published, points = learner.learn()
    return [each.version for each in published if each.version is not None], points


def test_examples_are_numbered_within_partition_and_model_and_go_on_after_a_restart(
    policy: Policy,
) -> None:
    outbox = Outbox(policy.models)
    outbox.restore(2, None, 0)
    outbox.restore(5, None, 0)
    output = Output()
    output.add_training(2, [example(1, 10), example(2, 20)])
    output.add_training(5, [example(3, 10)])
    assert [e.key for e in outbox.examples(output)] == ["fraud:2:0", "fraud:2:1", "fraud:5:0"]
    stored = outbox.writes()
    assert set(stored) == {"2", "5"}
    assert outbox.writes() == {}
    again = Outbox(policy.models)
    again.restore(2, bytes(stored["2"][0].value), 0)
    more = Output()
    more.add_training(2, [example(4, 30)])
    assert [e.key for e in again.examples(more)] == ["fraud:2:2"]


def test_a_clock_is_told_once_for_each_point_that_is_passed(policy: Policy) -> None:
    outbox = Outbox(policy.models)
    outbox.restore(0, None, 7 * HOUR_MS + 1)
    assert outbox.clocks([(0, 7 * HOUR_MS + 99)]) == []
    (told,) = outbox.clocks([(0, 9 * HOUR_MS)])
    assert msgspec.json.decode(told.value, type=Clock) == Clock(0, 9 * HOUR_MS)
    assert outbox.clocks([(0, 9 * HOUR_MS + 5)]) == []


def test_models_learn_what_all_partitions_have_passed_and_drop_repeats(policy: Policy) -> None:
    learner = Learner(policy.models, 2, 60.0, monotonic_s=Clockwork())
    frauds = [sent(0, i, example(i, i, fraud=i < 30)) for i in range(250)]
    tell(learner, clock(0, 1), *frauds, *frauds, clock(0, 2))
    assert learned(learner) == ([], [])  # partition 1 has said nothing
    tell(learner, clock(1, 1))
    assert learned(learner) == ([], [Point("fraud", HOUR_MS, 0)])
    tell(learner, sent(0, 250, example(999, 2 * HOUR_MS + 1)), clock(1, 2))
    (version,), points = learned(learner)
    assert (version.version, version.ts_ms, version.learned_count) == (1, 2 * HOUR_MS, 250)
    assert points == [Point("fraud", 2 * HOUR_MS, 1)]
    tell(learner, clock(0, 3), clock(1, 3))
    (version,), points = learned(learner)
    assert version.learned_count == 251  # what matured after the point before waited for this one
    assert points == [Point("fraud", 3 * HOUR_MS, 2)]


def test_an_order_to_promote_reaches_the_trainer_once_and_waits_in_its_state() -> None:
    shadowed = bank_with("challengers: [{pipeline: scaled_logistic, id: twin}]")
    outbox = Outbox(shadowed.models)
    outbox.restore(3, None, 0)
    order = Promotion(ts_ms=TS_MS_MIN, model="fraud", challenger="twin")
    (told,) = outbox.examples(Output(promotions=[(3, order)]))
    assert set(outbox.writes()) == {"3"}  # its number is the partition's state, as an example's
    learner = Learner(shadowed.models, 1, 60.0)
    frauds = [sent(0, i, example(i, i, fraud=i < 30)) for i in range(250)]
    order_key = told.key.replace(":3:", ":0:")
    tell(learner, clock(0, 1), *frauds)
    assert learned(learner) == ([], [Point("fraud", HOUR_MS, 0)])  # the grid begins
    tell(learner, clock(0, 2))
    (version,), _ = learned(learner)
    assert version.contestant == "scaled_logistic"
    learner.take(order_key, told.value)
    stored = {write.key: bytes(write.value) for write in learner.writes()}
    second = Learner(shadowed.models, 1, 60.0)
    second.restore(lambda keys: [stored.get(key) for key in keys])
    second.take(order_key, told.value)  # a repeat
    tell(second, clock(0, 3))
    (version,), _ = learned(second)
    assert (version.version, version.contestant) == (2, "twin")
    assert [own.contestant for own in version.challengers] == ["scaled_logistic"]
    tell(second, clock(0, 4))
    assert learned(second) == ([], [Point("fraud", 4 * HOUR_MS, 2)])


def test_a_trainer_goes_on_from_what_is_stored(policy: Policy) -> None:
    first = Learner(policy.models, 1, 60.0)
    examples = [sent(0, i, example(i, i, fraud=i < 30)) for i in range(250)]
    tell(first, clock(0, 1), *examples)
    first.learn()
    stored = {write.key: bytes(write.value) for write in first.writes()}
    assert first.writes() == []
    second = Learner(policy.models, 1, 60.0)
    assert second.restore(lambda keys: [stored.get(key) for key in keys]) == []
    tell(second, *examples, clock(0, 2))  # all but the clock are repeats
    (version,), _ = learned(second)
    assert version.learned_count == 250


def test_idle_partitions_are_asked_then_left_behind(policy: Policy) -> None:
    now = Clockwork()
    learner = Learner(policy.models, 2, 60.0, monotonic_s=now)
    tell(learner, clock(0, 1), clock(1, 1))
    learner.learn()
    tell(learner, clock(0, 2))
    assert learner.reach() is None
    now.now_s += 61
    assert learner.reach() == Reach(2 * HOUR_MS)
    assert learner.reach() is None  # once is enough
    assert learned(learner) == ([], [])
    now.now_s += 60
    assert learned(learner) == ([], [Point("fraud", 2 * HOUR_MS, 0)])


def test_a_grid_opens_up_to_the_next_point(policy: Policy) -> None:
    grid = Grid(policy.models)
    # Nobody passes the point 0: a model that publishes every 1,000 years has no other.
    assert grid.open_until_ms() == HOUR_MS
    grid.pass_point(Point("another", 5 * HOUR_MS, 1))
    assert grid.open_until_ms() == HOUR_MS
    grid.pass_point(Point("fraud", 5 * HOUR_MS, 1))
    grid.pass_point(Point("fraud", 4 * HOUR_MS, 1))
    assert grid.open_until_ms() == 6 * HOUR_MS


@pytest.mark.parametrize(
    ("key", "value"),
    [(None, b"{}"), (b"version:fraud", b"x"), (b"point:fraud", b"{}"), (b"other", b"{}")],
)
def test_what_is_no_control_record_is_passed_over(key: bytes | None, value: bytes) -> None:
    assert parse(key, value) is None


def test_control_records_are_read() -> None:
    point = Point("fraud", 5, 1)
    assert parse(b"point:fraud", ENCODER.encode(point)) == point
    assert parse(b"reach", ENCODER.encode(Reach(7))) == Reach(7)


def watched(status: Status, leaves: bool) -> tuple[list[str], list[int]]:
    """Let a watchdog find a stall; return what it asked for, and how it ended the process."""
    asked: list[str] = []
    ended: list[int] = []
    over = threading.Event()

    def on_stall(reason: str) -> None:
        asked.append(reason)
        if leaves:
            watchdog.stop()
            over.set()

    def end(code: int) -> None:
        ended.append(code)
        over.set()

    watchdog = Watchdog(status, 0.05, on_stall, leave_max_s=0.05, end=end)
    watchdog.start()
    assert over.wait(10)
    return asked, ended


@pytest.mark.parametrize("leaves", [True, False])
def test_the_watchdog_ends_a_worker_that_does_nothing(leaves: bool) -> None:
    status = Status()
    status.lag_count = 7
    asked, ended = watched(status, leaves)
    assert "7 records wait" in asked[0]
    assert ended == ([] if leaves else [EXIT_STALLED])


def test_the_watchdog_leaves_a_worker_alone_that_knows_what_it_waits_for() -> None:
    status, asked = Status(), []
    watchdog = Watchdog(status, 0.2, asked.append)
    watchdog.start()
    for _ in range(20):
        status.progress()
        threading.Event().wait(0.02)
    watchdog.stop()
    assert asked == []


@pytest.fixture
def served() -> Iterator[tuple[Status, Metrics, HealthServer]]:
    status, metrics = Status(), Metrics()
    yield status, metrics, HealthServer("127.0.0.1:0", status, metrics, 60.0)


def ask(server: HealthServer, *paths: str) -> list[tuple[int, bytes]]:
    """Return status and body of each path, asked while the server runs."""

    def get(path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"http://{server.address}{path}") as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    async def run() -> list[tuple[int, bytes]]:
        await server.start()
        found = [await asyncio.to_thread(get, path) for path in paths]
        await server.stop()
        return found

    return asyncio.run(run())


def test_health_says_why(served: tuple[Status, Metrics, HealthServer]) -> None:
    status, metrics, server = served
    status.enter(Phase.STORE_AWAY)
    status.kafka_fault = "no answer"
    metrics.note_emissions([Emission("alerts", "C", b""), Emission("offers.sms", "C", b"")])
    live, ready, text = ask(server, "/health/live", "/health/ready", "/metrics")
    assert live[0] == 200
    assert ready[0] == 503
    assert msgspec.json.decode(ready[1])["reasons"] == [str(Phase.STORE_AWAY), "Kafka: no answer"]
    assert b'millrace_emissions_total{topic="offers.sms"} 1.0' in text[1]
    status.enter(Phase.DECIDING)
    status.kafka_fault = ""
    assert ask(server, "/health/ready")[0][0] == 200
    status.progressed_s -= 61
    assert ask(server, "/health/live")[0][0] == 503


def test_what_is_told_of_models_is_counted_and_shown(
    served: tuple[Status, Metrics, HealthServer],
) -> None:
    _, metrics, server = served
    told: dict[str, Any] = {"model": "fraud", "ts_ms": TS_MS_MIN, "version": 3}
    alarm = Drift(
        **told, what="error:lean", detector="adwin", before=0.1, after=0.2, response="reset"
    )
    refused = ModelRefused(
        **told, contestant="timid", pipeline="adaptive_tree", role="challenger", fraud_share=0.005,
        expected="more", got="0.99",
    )  # fmt: skip
    promoted = ModelPromoted(**told, champion="lean", before="old", by="command")
    measures = ContestantMeasures(
        contestant="lean", pipeline="scaled_logistic", learned_count=9, auc=0.875,
        average_precision=None, recall_at_budget=0.5, log_loss=0.1, calibration_error=0.25,
        calibration=(),
    )  # fmt: skip
    report = ModelReport(
        **told, champion="lean", from_ms=TS_MS_MIN, to_ms=TS_MS_MIN, example_count=9,
        fraud_count=1, alerts_per_day=5.0, contestants=(measures,),
    )  # fmt: skip
    metrics.models.note([alarm, alarm, refused, promoted, report])
    [(_, text)] = ask(server, "/metrics")
    for line in (
        b'millrace_drift_total{model="fraud",response="reset",what="error:lean"} 2.0',
        b'millrace_models_refused_total{contestant="timid",model="fraud"} 1.0',
        b'millrace_models_promoted_total{model="fraud"} 1.0',
        b'millrace_model_auc{contestant="lean",model="fraud"} 0.875',
        b'millrace_model_calibration_error{contestant="lean",model="fraud"} 0.25',
    ):
        assert line in text.splitlines()
    assert b"millrace_model_average_precision{" not in text  # not known yet


@pytest.mark.parametrize("listen", ["6066", ":x", "host:port"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(MillraceError, match="MILLRACE_LISTEN: expected `host:port`"):
        HealthServer(listen, Status(), Metrics(), 60.0)


def test_failures_in_a_row_are_those_between_which_nothing_was_stored() -> None:
    failures = Failures()
    assert [failures.note(stored_count) for stored_count in (0, 0, 0, 7, 7, 8, 8, 8)] == [
        1, 2, 3, 1, 2, 1, 2, 3,
    ]  # fmt: skip
