"""Reasons: the right inputs, in the right order, in the policy's words."""

import math

import numpy as np
import pytest

from features.errors import RecordError
from features.records import Reason
from online_models.explain import Explainer

INPUTS = ("count_1d", "mean_7d", "terminal_risk", "night")
SENTENCES = {
    "count_1d": "{value} payments within a day",
    "terminal_risk": "{value:.0%} fraud at this terminal",
    "mean_7d": "spends {value} a week {{on average}}",
}


def texts(contributions, values, limit=3):
    explainer = Explainer("fraud", INPUTS, SENTENCES, limit)
    return [r.text for r in explainer.reasons(np.array(contributions), np.array(values))]


def test_reasons_are_the_largest_positive_contributions():
    explainer = Explainer("fraud", INPUTS, SENTENCES)
    reasons = explainer.reasons(np.array([0.5, -2.0, 1.5, 0.0]), np.array([9.0, 1.0, 0.25, 1.0]))
    assert reasons == (
        Reason(source="model:fraud:terminal_risk", text="25% fraud at this terminal", weight=1.5),
        Reason(source="model:fraud:count_1d", text="9 payments within a day", weight=0.5),
    )


def test_ties_keep_the_order_of_inputs_and_the_limit_holds():
    assert texts([1.0, 1.0, 1.0, 1.0], [1.0, 2.5, 0.0, 1.0], limit=2) == [
        "1 payments within a day",
        "spends 2.5 a week {on average}",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3.0, "3"),
        (-0.0, "0"),
        (0.123456, "0.1235"),
        (1234567.0, "1234567"),
        (1234.567, "1234.57"),
        (math.nan, "not known"),
        (math.inf, "inf"),
    ],
)
def test_values_read_well(value, shown):
    assert texts([1.0, 0, 0, 0], [value, 0, 0, 0]) == [f"{shown} payments within a day"]


def test_an_absent_value_ignores_the_number_format():
    assert texts([0, 0, 1.0, 0], [0, 0, math.nan, 0]) == ["not known fraud at this terminal"]


def test_an_input_without_a_sentence_is_named():
    assert texts([0, 0, 0, 1.0], [0, 0, 0, 1.0]) == ["night is 1"]
    odd = Explainer("fraud", ("a{b}",), {})
    assert odd.reasons(np.array([1.0]), np.array([2.0]))[0].text == "a{b} is 2"


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ({"count_1dd": "x"}, "did you mean `count_1d`"),
        ({"night": "{value.__class__}"}, "only the field {value}"),
        ({"night": "{amount}"}, "only the field {value}, got {amount}"),
        ({"night": "{value!r}"}, "only the field {value}"),
        ({"night": "{value:d}"}, "a text with {value}"),
        ({"night": "{value"}, "a text with {value}"),
    ],
)
def test_bad_sentences_are_refused(sentences, message):
    with pytest.raises(RecordError, match=message):
        Explainer("fraud", INPUTS, sentences)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"expected shape \(4,\)"):
        Explainer("fraud", INPUTS, {}).reasons(np.zeros(3), np.zeros(4))
