"""What a policy says of challengers, calibration, reports, drift and promotion."""

import pytest
from policies_streams import CHALLENGERS, JUDGING, bank_with

from features.errors import SourceError
from online_models.catalog import CATALOG
from online_models.judging import (
    DAY_MS,
    Contestant,
    DriftSettings,
    JudgingSettings,
    PromotionSettings,
)
from streams.policy_files import read_policy


def model(more: str):
    [found] = bank_with(more).models
    return found


def test_without_a_word_a_model_has_no_challengers_and_the_defaults():
    [found] = read_policy().models
    inputs = tuple(item.name for item in found.inputs)
    assert found.contestants == (Contestant("scaled_logistic", "scaled_logistic", inputs),)
    assert found.judging == JudgingSettings()


def test_everything_can_be_said():
    found = model(
        """
        challengers:
          - pipeline: scaled_logistic
            id: lean
            inputs: [night, log_amount]
        calibration: isotonic
        report: {every: 6h, over: 5000, alerts_per_day: 12.5}
        drift:
          detector: kswin
          watch: [inputs, error]
          every: 7d
          response: faster
          faster: {factor: 4, over: 300}
        promote: {better_by: 0.05, over: 4000}
        """
    )
    assert found.challengers == (Contestant("lean", "scaled_logistic", ("night", "log_amount")),)
    assert found.judging == JudgingSettings(
        calibration="isotonic",
        every_ms=DAY_MS // 4,
        window_count=5_000,
        alerts_per_day=12.5,
        # In the order of the settings, however they are written.
        drift=DriftSettings("kswin", ("error", "inputs"), 7 * DAY_MS, "faster", 4.0, 300),
        promotion=PromotionSettings(better_by=0.05, over_count=4_000),
    )


def test_a_challenger_without_inputs_sees_all_of_them():
    found = model("challengers: [{pipeline: scaled_logistic, id: twin}]")
    assert found.contestants[1].inputs == found.contestants[0].inputs


def test_these_are_content_of_the_policy_and_layout_is_not():
    plain, judged = bank_with(CHALLENGERS), bank_with(CHALLENGERS + JUDGING)
    assert len({read_policy().version, plain.version, judged.version}) == 3
    assert bank_with(CHALLENGERS + "\n    # a comment\n").version == plain.version


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("calibration: platt", "calibration: one of none, sigmoid, isotonic, got `platt`"),
        ("calibration: sigmoyd", "did you mean `sigmoid`"),
        ("challengers: [{id: x}]", "a challenger with key `pipeline`, got none"),
        ("challengers: [{pipeline: scaled_logistic}]", "neither the champion's pipeline nor"),
        (
            "challengers: [{pipeline: a, id: x}, {pipeline: b, id: x}]",
            "nor another challenger has, got `x` again",
        ),
        (
            "challengers: [{pipeline: a, inputs: [log_amont]}]",
            "input: one of .*did you mean `log_amount`",
        ),
        ("challengers: [{pipeline: a, inputs: []}]", "at least one input, got an empty list"),
        ("report: {every: soon}", "every: a duration"),
        ("report: {over: 5}", "over: examples: an integer from 100"),
        ("report: {alerts: 5}", "a key of report, got `alerts`"),
        ("drift: {detector: adwim}", "detector: one of adwin.*did you mean `adwin`"),
        ("drift: {watch: []}", "at least one of error, score, inputs"),
        ("drift: {watch: [errors]}", "did you mean `error`"),
        ("drift: {response: panic}", "response: one of alert, reset, faster"),
        ("drift: {faster: {factor: 2, over: 5}}", "only with `response: faster`, got `alert`"),
        ("promote: {better_by: 0.1}", "promote with key `over`"),
        ("promote: {better_by: 2, over: 500}", "better_by: a number of at least 0, at most 1"),
        (
            "{report: {over: 200}, promote: {better_by: 0.1, over: 500}}"[1:-1].replace(
                ", p", "\np"
            ),
            "over: examples: an integer from 100 to 200",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(more: str, message: str):
    with pytest.raises(SourceError, match=message) as caught:
        bank_with(more)
    assert caught.value.file == "models.yaml"
    # The line of the fault is among those that were put in, below `publish_every`.
    assert 7 <= caught.value.line <= 9


def test_a_challengers_pipeline_has_to_be_in_the_catalogue():
    policy = bank_with("challengers:\n  - id: x\n    pipeline: scaled_logistik")
    with pytest.raises(SourceError, match="did you mean `scaled_logistic`") as caught:
        policy.check_pipelines(CATALOG)
    assert (caught.value.line, caught.value.column) == (10, 19)
