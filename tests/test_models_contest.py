"""Champion and challengers: judged by what they said when deciding, promoted, reset, restored."""

from functools import cache

import numpy as np
import pytest
from contest_lessons import (
    BLIND,
    DAY_MS,
    GOOD,
    HOUR_MS,
    INPUTS,
    Bank,
    falling,
    new_contest,
    reports,
    stepping,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from features.errors import RecordError
from features.records import Drift, ModelPromoted, ModelReport
from online_models.catalog import CATALOG
from online_models.contest import Contest
from online_models.contestants import Evidence
from online_models.drift import StreamState
from online_models.framing import seal
from online_models.judging import Contestant, DriftSettings, JudgingSettings, PromotionSettings
from online_models.trainer import Trainer
from online_models.versions import encode_version

DAYS = 24


def test_reports_are_scikit_learns_measures_of_the_scores_given_when_deciding():
    contest = new_contest(window_count=700, alerts_per_day=20.0, calibration="sigmoid")
    judged = []
    bank = Bank(contest)

    def remember(before):
        due = [e for e in before.waiting if e.matured_ms < (before.hour + 1) * HOUR_MS]
        judged.extend(sorted(due, key=lambda e: (e.matured_ms, e.event)))

    told = bank.live(9 * DAYS, remember)
    first = next(found.version for found in told if found.version is not None)
    report = reports(told, ModelReport)[-1]
    counted = [e for e in judged if e.ts_ms >= first.ts_ms and e.matured_ms < report.ts_ms][-700:]
    fraud = np.array([e.fraud for e in counted])
    weight = np.array([e.weight for e in counted])
    assert (report.example_count, report.fraud_count) == (700, fraud.sum())
    assert (report.from_ms, report.to_ms) == (counted[0].ts_ms, counted[-1].ts_ms)
    for place, measures in enumerate(report.contestants):
        score = np.array([e.scores[place] for e in counted])
        expected = roc_auc_score(fraud, score, sample_weight=weight)
        assert measures.auc == pytest.approx(expected, abs=1e-9)
        expected = average_precision_score(fraud, score, sample_weight=weight)
        assert measures.average_precision == pytest.approx(expected, abs=1e-9)
        expected = log_loss(fraud, score, sample_weight=weight)
        assert measures.log_loss == pytest.approx(expected, abs=1e-9)
        # The budget by hand: alerts of the whole span, from the highest score down.
        budget = 20.0 * (report.to_ms - report.from_ms) / DAY_MS
        order = np.argsort(-score, kind="stable")
        inside = np.cumsum(weight[order]) <= budget
        found = fraud[order][inside].sum() / fraud.sum()
        assert found <= measures.recall_at_budget <= found + 1 / fraud.sum() + 1e-9
    good, blind = report.contestants
    assert (good.contestant, blind.contestant) == ("good", "blind")
    assert good.auc > 0.8 > 0.6 > blind.auc
    assert good.recall_at_budget > 2 * blind.recall_at_budget


def test_reports_come_on_their_grid():
    told = Bank(new_contest(every_ms=6 * HOUR_MS)).live(6 * DAYS)
    times = [report.ts_ms for report in reports(told, ModelReport)]
    assert all(time % (6 * HOUR_MS) == 0 for time in times[1:])
    assert np.diff(times[1:]).tolist() == [6 * HOUR_MS] * (len(times) - 2)
    assert len(times) > 8


def test_every_contestant_learns_the_same_examples_with_its_own_inputs():
    bank = Bank(new_contest())
    told, learned = [], []

    def remember(before):
        due = [e for e in before.waiting if e.matured_ms < (before.hour + 1) * HOUR_MS]
        learned.extend(sorted(due, key=lambda e: (e.matured_ms, e.event)))

    told = bank.live(4 * DAYS, remember)
    version = [found.version for found in told if found.version is not None][-1]
    [challenger] = version.challengers
    assert (version.contestant, challenger.contestant) == ("good", "blind")
    assert (version.inputs, challenger.inputs) == (INPUTS, ("noise",))
    alone = Trainer("fraud", "scaled_logistic", ["noise"])
    for example in learned:
        noise = example.features[INPUTS.index("noise")]
        alone.learn([type(example)(**{**_fields(example), "features": [noise]})])
    expected = alone.publish(0)
    assert challenger.arrays == expected.arrays
    assert challenger.learned_count == len(learned)


def _fields(example):
    return {name: getattr(example, name) for name in example.__struct_fields__}


def test_a_challenger_changes_nothing_about_the_champion():
    alone = Bank(new_contest(GOOD, calibration="sigmoid")).live(7 * DAYS)
    shadowed = Bank(new_contest(calibration="sigmoid")).live(7 * DAYS)
    for mine, other in zip(alone, shadowed, strict=True):
        assert (mine.version is None) == (other.version is None)
        if mine.version is not None:
            assert mine.version.arrays == other.version.arrays
            assert mine.version.calibration == other.version.calibration
            assert mine.version.version == other.version.version
    assert alone[-1].version.calibration


def test_calibration_learns_from_examples_before_the_model_does():
    """It makes probabilities of what a model says of a truth that it has no form for."""
    last = {}
    for method in ("none", "isotonic"):
        bank = Bank(new_contest(GOOD, calibration=method), seed=5)
        bank.chance = stepping
        last[method] = reports(bank.live(30 * DAYS), ModelReport)[-1].contestants[0]
    error = {method: measures.calibration_error for method, measures in last.items()}
    assert error["isotonic"] < error["none"] / 2
    assert last["isotonic"].log_loss < last["none"].log_loss
    assert last["isotonic"].auc == pytest.approx(last["none"].auc, abs=0.01)


def test_a_promotion_takes_effect_with_the_next_version():
    bank = Bank(new_contest(BLIND, GOOD))
    bank.live(5 * DAYS)
    before = bank.contest.version
    bank.contest.promote("good")
    [found] = bank.live(1)
    assert found.version.version == before + 1
    assert found.version.contestant == "good"
    assert [v.contestant for v in found.version.challengers] == ["blind"]
    [told] = [report for report in found.reports if isinstance(report, ModelPromoted)]
    assert told == ModelPromoted(
        model="fraud",
        ts_ms=bank.hour * HOUR_MS,
        version=before + 1,
        champion="good",
        before="blind",
        by="command",
    )
    [found] = bank.live(1)
    assert found.version.contestant == "good"
    assert reports([found], ModelPromoted) == []


def test_a_promotion_of_the_champion_changes_nothing_and_an_unknown_one_is_refused():
    bank = Bank(new_contest())
    bank.live(5 * DAYS)
    bank.contest.promote("good")
    assert reports(bank.live(2), ModelPromoted) == []
    with pytest.raises(RecordError, match=r"\$\.challenger: .*did you mean `blind`"):
        bank.contest.promote("blnd")


def test_a_promotion_waits_until_the_challenger_is_ready():
    contest = new_contest(BLIND, GOOD)
    contest.promote("good")
    told = Bank(contest).live(6 * DAYS)
    [promoted] = reports(told, ModelPromoted)
    assert promoted.version == 2  # the first version is the champion's that was declared
    versions = [found.version for found in told if found.version is not None]
    assert [v.contestant for v in versions[:3]] == ["blind", "good", "good"]


@pytest.mark.parametrize(("better_by", "is_promoted"), [(0.1, True), (0.9, False)])
def test_the_policy_promotes_a_challenger_that_is_better_by_enough(better_by, is_promoted):
    rule = PromotionSettings(better_by=better_by, over_count=500)
    told = Bank(new_contest(BLIND, GOOD, promotion=rule)).live(8 * DAYS)
    promoted = reports(told, ModelPromoted)
    assert [(p.champion, p.by) for p in promoted] == [("good", "policy")] * is_promoted
    if promoted:
        seen = next(r for r in reports(told, ModelReport) if r.ts_ms >= promoted[0].ts_ms)
        assert seen.example_count >= 500
        assert seen.champion == "good"


def shift(at_hour):
    def between(bank):
        if bank.hour == at_hour:
            bank.chance = falling  # what was a sign of fraud is now a sign of none

    return between


@cache
def drifting(response, **more):
    drift = DriftSettings(watch=("error",), every_ms=DAY_MS, response=response, **more)
    contest = new_contest(GOOD, drift=drift, window_count=3_000)
    bank = Bank(contest, seed=3, per_hour_count=120)
    bank.evidence = Evidence(50, 500)  # half a day
    told = bank.live(20 * DAYS, shift(10 * DAYS))
    return contest, told


def test_an_error_that_rises_is_told_and_a_stationary_bank_is_not():
    contest, told = drifting("alert")
    alarms = reports(told, Drift)
    assert alarms
    found = alarms[0]
    assert (found.what, found.detector, found.response) == ("error:good", "adwin", "alert")
    assert found.after > found.before
    # Shifted on day 10, known after two days: found within three days of examples more.
    assert 12 * DAY_MS < found.ts_ms <= 15 * DAY_MS
    assert contest.drift_count == len(alarms)
    # What a model says moves while it learns; what it sees and gets wrong has to stand still.
    quiet = new_contest(GOOD, drift=DriftSettings(watch=("error", "inputs"), every_ms=DAY_MS))
    assert reports(Bank(quiet, seed=3, per_hour_count=120).live(20 * DAYS), Drift) == []


def first_after(told):
    alarm = next(report for report in reports(told, Drift))
    place = next(i for i, found in enumerate(told) if alarm in found.reports)
    return told[place:], alarm


def test_a_reset_starts_a_new_model_and_the_old_one_decides_until_it_is_ready():
    _, told = drifting("reset")
    after, alarm = first_after(told)
    assert alarm.response == "reset"
    learned = [found.version.learned_count for found in after]
    drop = next(i for i in range(1, len(learned)) if learned[i] < learned[i - 1])
    assert learned[0] > 1_000  # the old one goes on for a while
    assert drop > 5
    assert 500 <= learned[drop] < 600
    assert learned[drop + 5] > learned[drop]


def test_faster_counts_the_next_examples_several_times():
    _, steady = drifting("alert")
    _, faster = drifting("faster", faster_factor=5.0, faster_over_count=300)
    after, alarm = first_after(faster)
    place = len(faster) - len(after)
    assert alarm.response == "faster"
    assert faster[place - 1].version.arrays == steady[place - 1].version.arrays
    assert faster[place].version.arrays != steady[place].version.arrays


def test_responses_bring_the_model_back_sooner():
    def last(response, **more):
        _, told = drifting(response, **more)
        [measures] = reports(told, ModelReport)[-1].contestants
        return measures.log_loss

    # The last three days, of which all labels are from after the shift.
    assert last("reset") < last("alert")
    assert last("faster", faster_factor=5.0, faster_over_count=300) < last("alert")


def run(hours, stops, orders, **more):
    contestants = (GOOD, BLIND, Contestant("second", "scaled_logistic", ("noise", "signal")))
    drift = DriftSettings(every_ms=6 * HOUR_MS, response="reset")
    rule = PromotionSettings(better_by=0.01, over_count=200)
    declared = JudgingSettings(
        calibration="sigmoid", every_ms=5 * HOUR_MS, window_count=400, drift=drift, promotion=rule
    )
    contest = Contest("fraud", INPUTS, contestants, declared)
    bank, blobs = Bank(contest, seed=2), []

    def between(bank):
        if bank.hour in orders:
            bank.contest.promote(orders[bank.hour])
        if bank.hour in stops:
            blob = bank.contest.state()
            bank.contest = Contest("fraud", INPUTS, contestants, declared)
            bank.contest.restore(blob, bank.version)
            assert bank.contest.state() == blob
        if bank.hour % 24 == 0:
            blobs.append(bank.contest.state())
        if bank.hour == 4 * DAYS:
            bank.chance = falling

    told = bank.live(hours, between)
    versions = [None if f.version is None else encode_version(f.version) for f in told]
    return versions, [f.reports for f in told], blobs


ORDERS = {80: "second", 110: "blind", 111: "good"}
HOURS = 7 * DAYS


@settings(max_examples=5)
@given(st.sets(st.integers(0, HOURS), max_size=12))
def test_a_restart_leaves_no_trace(stops):
    assert run(HOURS, stops, ORDERS) == run(HOURS, set(), ORDERS)


def test_the_run_of_this_file_has_everything_in_it():
    versions, told, _ = run(HOURS, set(), ORDERS)
    kinds = {type(report) for found in told for report in found}
    assert kinds == {ModelReport, ModelPromoted, Drift}
    assert len({version for version in versions if version}) > 50


def test_contestants_come_and_go_with_the_policy():
    bank = Bank(new_contest(GOOD, BLIND))
    bank.live(5 * DAYS)
    blob = bank.contest.state()
    other = new_contest(Contestant("third", "scaled_logistic", ("signal",)), GOOD)
    other.restore(blob, bank.version)
    assert other.champion == "good"
    assert other.version == bank.contest.version
    assert other.learned_count == bank.contest.learned_count
    dropped = new_contest(Contestant("third", "scaled_logistic", ("signal",)))
    dropped.restore(blob, bank.version)
    assert (dropped.champion, dropped.learned_count) == ("third", 0)
    # The same name for something else is another model.
    renamed = new_contest(Contestant("good", "scaled_logistic", ("signal",)))
    renamed.restore(blob, bank.version)
    assert renamed.learned_count == 0


def test_foreign_state_is_refused():
    contest = new_contest()
    blob = contest.state()
    with pytest.raises(RecordError, match="contest of `fraud`: expected a frame"):
        new_contest().restore(b"pickle", None)
    with pytest.raises(RecordError, match="checksum"):
        new_contest().restore(blob[:-1], None)
    with pytest.raises(RecordError, match="kind `contest`"):
        new_contest().restore(seal("trainer", 1, StreamState("x", {})), None)
    mule = Contest("mule", INPUTS, (GOOD,), JudgingSettings())
    with pytest.raises(RecordError, match="model `mule`, got `fraud`"):
        mule.restore(blob, None)


@pytest.mark.parametrize("pipeline", sorted(CATALOG))
def test_any_pipeline_of_the_catalogue_can_be_a_challenger(pipeline):
    """It learns, is scored, judged and calibrated beside the champion, over restarts."""
    challenger = Contestant("other", pipeline, INPUTS)

    def live(stops):
        contest = new_contest(GOOD, challenger, calibration="sigmoid")
        bank = Bank(contest, per_hour_count=12)

        def between(bank):
            if bank.hour in stops:
                blob = bank.contest.state()
                bank.contest = new_contest(GOOD, challenger, calibration="sigmoid")
                bank.contest.restore(blob, bank.version)

        told = bank.live(5 * DAYS, between)
        return told, bank.contest.state()

    told, state = live(set())
    [good, other] = reports(told, ModelReport)[-1].contestants
    assert (other.pipeline, other.learned_count) == (pipeline, good.learned_count)
    assert other.auc is not None
    assert live({70, 101}) == (told, state)
