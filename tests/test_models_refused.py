"""Contestants whose preset can't split at the observed share of fraud: out, and told."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from contest_lessons import BLIND, EVIDENCE, GOOD, HOUR_MS, INPUTS, Bank, reports
from hypothesis import given, settings
from hypothesis import strategies as st
from policies_streams import JUDGING, bank_files
from river.tree import HoeffdingAdaptiveTreeClassifier
from test_streams_contest import Run, order, payments

from actions.policy import Policy
from features.records import Drift, ModelPromoted, ModelRefused, ModelReport, TrainingExample
from online_models import catalog
from online_models.contest import Contest
from online_models.contestants import ContestantDesk, Evidence, Lesson
from online_models.judging import Contestant, DriftSettings, JudgingSettings, PromotionSettings
from online_models.versions import encode_version, untrained_version
from streams import training
from streams.model_reading import read_models
from streams.store import MemoryStore

DAYS = 24
TIMID = Contestant("timid", "timid_tree", INPUTS)
SHARE_MAX = 0.6  # of one class, for a split: refused below 40 % fraud


@pytest.fixture(autouse=True, scope="module")
def a_preset_that_is_wrong_for_rare_fraud() -> Iterator[None]:
    def build(inputs: tuple[str, ...]) -> HoeffdingAdaptiveTreeClassifier:
        return HoeffdingAdaptiveTreeClassifier(seed=1, max_share_to_split=SHARE_MAX)

    with pytest.MonkeyPatch.context() as patch:
        entry = replace(catalog.find("adaptive_tree"), name="timid_tree", build=build)
        patch.setitem(catalog.CATALOG, "timid_tree", entry)
        yield


def contest_of(*contestants: Contestant, **more: object) -> Contest:
    drift = DriftSettings(every_ms=6 * HOUR_MS, response="reset")
    return Contest("fraud", INPUTS, contestants, JudgingSettings(drift=drift, **more))


def test_a_challenger_that_cannot_learn_is_out_and_the_others_go_on_as_without_it():
    alone = Bank(contest_of(GOOD, BLIND)).live(6 * DAYS)
    told = Bank(contest_of(GOOD, TIMID, BLIND)).live(6 * DAYS)
    [refused] = reports(told, ModelRefused)
    assert (refused.contestant, refused.role, refused.pipeline) == (
        "timid", "challenger", "timid_tree",
    )  # fmt: skip
    assert refused.got == f"{SHARE_MAX}"
    assert 0.05 < refused.fraud_share < 0.2  # of the weighted examples: the bank's is about 0.11
    assert f"max_share_to_split of at least {1 - refused.fraud_share:.6g}" in refused.expected
    for mine, other in zip(told, alone, strict=True):
        assert (mine.version is None) == (other.version is None)
        if mine.version is None:
            continue
        assert mine.version.arrays == other.version.arrays
        timid, blind = mine.version.challengers
        assert blind.arrays == other.version.challengers[0].arrays
        if mine.version.ts_ms >= refused.ts_ms:
            assert timid.arrays == untrained_version("fraud", "timid_tree", INPUTS).arrays
            assert timid.learned_count == 0
    last = reports(told, ModelReport)[-1]
    assert last.contestants == reports(alone, ModelReport)[-1].contestants
    assert not [d for d in reports(told, Drift) if d.what.endswith(":timid")]


def test_an_order_to_promote_one_that_is_out_is_answered_by_why_it_is():
    bank = Bank(contest_of(GOOD, TIMID))
    [first] = reports(bank.live(5 * DAYS), ModelRefused)
    bank.contest.promote("timid")
    told = bank.live(2)
    [again] = reports(told, ModelRefused)
    newest = told[0].version.version - 1
    assert again == msgspec.structs.replace(first, ts_ms=again.ts_ms, version=newest)
    assert not reports(told, ModelPromoted)
    assert told[-1].version.contestant == "good"


def test_a_champion_that_cannot_learn_says_what_an_untrained_one_says():
    told = Bank(contest_of(TIMID)).live(5 * DAYS)
    [refused] = reports(told, ModelRefused)
    assert (refused.role, refused.version) == ("champion", 0)
    assert not any(found.version for found in told)  # version 0 is that of the untrained
    assert not reports(told, ModelReport)


def test_beside_a_champion_that_is_out_challengers_are_compared_and_can_be_promoted():
    bank = Bank(contest_of(TIMID, BLIND, GOOD))
    told = bank.live(6 * DAYS)
    version = told[-1].version
    assert (version.contestant, version.learned_count) == ("timid", 0)
    assert [v.contestant for v in version.challengers] == ["blind", "good"]
    last = reports(told, ModelReport)[-1]
    assert [c.contestant for c in last.contestants] == ["blind", "good"]
    assert last.champion == "timid"
    assert last.contestants[1].auc > 0.8
    bank.contest.promote("good")
    [found] = bank.live(1)
    [promoted] = reports([found], ModelPromoted)
    assert (promoted.champion, promoted.before, promoted.by) == ("good", "timid", "command")
    assert found.version.contestant == "good"


def test_a_policy_that_promotes_by_itself_gets_past_a_champion_that_is_out():
    rule = PromotionSettings(better_by=0.1, over_count=300)
    told = Bank(contest_of(TIMID, GOOD, promotion=rule)).live(7 * DAYS)
    [promoted] = reports(told, ModelPromoted)
    assert (promoted.champion, promoted.by) == ("good", "policy")


def lesson(fraud_every: int, first: int = 0) -> Lesson:
    examples = [
        TrainingExample(
            model="fraud", event=i, ts_ms=i, matured_ms=i, fraud=i % fraud_every == 0,
            weight=1.0, features=[float(i % fraud_every == 0), 0.0], scores=[0.1],
        )
        for i in range(first, first + 400)
    ]  # fmt: skip
    return Lesson.of(examples, 1)


def test_a_successor_that_cannot_learn_is_dropped_and_the_old_one_goes_on():
    evidence, reset = Evidence(5, 50), DriftSettings(response="reset")
    desk = ContestantDesk("fraud", INPUTS, TIMID, JudgingSettings())
    desk.learn(lesson(fraud_every=2))
    assert desk.admit(evidence) is None
    desk.respond(reset)
    desk.learn(lesson(fraud_every=20, first=400))
    refusal = desk.succeed(evidence)
    assert refusal is not None
    assert refusal.fraud_share == pytest.approx(1 / 20)
    assert (desk.refusal, desk.learned_count) == (None, 800)
    assert desk.succeed(evidence) is None  # told once
    desk.respond(reset)
    desk.learn(lesson(fraud_every=2, first=800))
    assert desk.succeed(evidence) is None
    assert desk.learned_count == 400  # this one took over


def test_a_repaired_preset_begins_anew(monkeypatch):
    contestants = (GOOD, TIMID)
    bank = Bank(contest_of(*contestants))
    bank.live(4 * DAYS)
    assert list(bank.contest.out) == ["timid"]
    blob = bank.contest.state()
    kept = contest_of(*contestants)
    kept.restore(blob, bank.version)
    assert kept.out == bank.contest.out
    repaired = replace(catalog.find("adaptive_tree"), name="timid_tree")
    monkeypatch.setitem(catalog.CATALOG, "timid_tree", repaired)
    bank.contest = contest_of(*contestants)
    bank.contest.restore(blob, bank.version)
    assert bank.contest.out == {}
    told = bank.live(2 * DAYS)
    assert not reports(told, ModelRefused)
    assert told[-1].version.challengers[0].learned_count > EVIDENCE.example_count


def run(hours: int, stops: set[int]) -> tuple[list, list, list]:
    contestants, blobs = (TIMID, GOOD, BLIND), []
    bank = Bank(contest_of(*contestants), seed=2)

    def between(bank: Bank) -> None:
        if bank.hour in (80, 100):
            bank.contest.promote({80: "timid", 100: "good"}[bank.hour])
        if bank.hour in stops:
            blob = bank.contest.state()
            bank.contest = contest_of(*contestants)
            bank.contest.restore(blob, bank.version)
        if bank.hour % 12 == 0:
            blobs.append(bank.contest.state())

    told = bank.live(hours, between)
    versions = [None if f.version is None else encode_version(f.version) for f in told]
    return versions, [f.reports for f in told], blobs


@settings(max_examples=5)
@given(st.sets(st.integers(40, 120), max_size=8))
def test_a_restart_leaves_no_trace(stops):
    assert run(120, stops) == run(120, set())


CHALLENGER = """
    challengers:
      - pipeline: timid_tree
      - pipeline: scaled_logistic
        id: lean
        inputs: [log_amount, night]
"""
CHAMPION = """
    challengers:
      - pipeline: scaled_logistic
        id: lean
        inputs: [log_amount, night]
"""


def policy_with(model: str, champion: str = "scaled_logistic") -> Policy:
    files = bank_files(model + JUDGING)
    head = "    pipeline: scaled_logistic\n    publish_every"
    assert files["models.yaml"].count(head) == 1
    files["models.yaml"] = files["models.yaml"].replace(
        head, head.replace("scaled_logistic", champion)
    )
    return Policy.parse(files)


@pytest.fixture(autouse=True, scope="module")
def first_version_soon() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "FIRST_VERSION_FRAUD_COUNT", 2)
        patch.setattr(training, "FIRST_VERSION_COUNT", 20)
        yield


@pytest.mark.parametrize(
    ("policy", "role", "who"),
    [
        ((CHALLENGER,), "challenger", "scaled_logistic"),
        ((CHAMPION, "timid_tree"), "champion", None),
    ],
)
def test_the_engine_goes_on_and_neither_cuts_nor_restarts_show(policy, role, who):
    declared = policy_with(*policy)
    sent = payments(18)
    whole = Run(declared, MemoryStore()).play(sent)
    [refused] = [msgspec.json.decode(v, type=ModelRefused) for v in whole.of("model-refusals")]
    assert (refused.contestant, refused.role) == ("timid_tree", role)
    scores = [float(row[2]) for row in whole.decisions]
    assert np.isfinite(scores).all()
    if who is None:  # the untrained prior decides, and rules beside it
        inputs = [item.name for item in declared.models[0].inputs]
        untrained = untrained_version("fraud", "timid_tree", inputs).to_compiled()
        assert set(scores) == set(untrained.score(np.zeros((1, len(inputs)))).tolist())
    else:
        assert len(set(scores[-200:])) > 5
    cut = Run(declared, MemoryStore()).play(sent, 37)
    stopped = Run(declared, MemoryStore())
    for stop in (len(sent) // 3, len(sent) * 9 // 10, len(sent)):
        stopped.play(sent[:stop])
    for other in (cut, stopped):
        assert other.state() == whole.state()
        assert other.of("model-refusals") == whole.of("model-refusals")
    assert cut.decisions == whole.decisions
    [found] = read_models(declared, whole.store)
    assert list(found["out"]) == ["timid_tree"]
    # An order to promote it changes no decision.
    ordered = Run(declared, MemoryStore()).play([*sent, order("timid_tree")])
    assert ordered.decisions == whole.decisions
