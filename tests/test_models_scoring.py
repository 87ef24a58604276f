"""The catalogue's pipelines, their compiled forms and published versions, against River itself."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_streams import as_river_sees, river_score
from river.linear_model import LogisticRegression
from river.preprocessing import MinMaxScaler, StandardScaler

from features.errors import RecordError
from features.records import TrainingExample
from online_models import catalog
from online_models.compiled import CompiledLinear
from online_models.forms import FORMS, compile_model
from online_models.options import NO_OPTIONS, InputBins, ModelOptions
from online_models.trainer import Trainer
from online_models.versions import (
    ModelVersion,
    check_version,
    decode_version,
    encode_version,
    untrained_version,
    with_challengers,
)

INPUTS = ("amount", "hour", "terminal_risk")
PIPELINES = sorted(catalog.CATALOG)
# Bins that a few examples can fill: learned, given, and crossed.
BINS = ModelOptions(
    bins=(("amount", InputBins(quantile_count=3, tail_count=2)), ("hour", InputBins((0.0, 6.0)))),
    crosses=(("amount", "hour"), ("terminal_risk", "amount")),
    warm_up_count=5,
)

value = st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf, 1e101, 0.0])
rows = st.lists(st.tuples(value, value, value), min_size=1, max_size=30)


def seen(row, pipeline):
    return as_river_sees(row, INPUTS, catalog.find(pipeline).missing)


def options(pipeline):
    return BINS if catalog.find(pipeline).takes_bins else NO_OPTIONS


def taught(pipeline, examples):
    """A pipeline that learned (row, fraud, weight) by River's own call."""
    river = catalog.build(pipeline, INPUTS, options(pipeline))
    for row, fraud, weight in examples:
        river.learn_one(seen(row, pipeline), fraud, w=weight)
    return river


examples = st.lists(
    st.tuples(st.tuples(value, value, value), st.booleans(), st.sampled_from([1.0, 10.0])),
    max_size=40,
)


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(learned=examples, asked=rows)
@settings(max_examples=30)
def test_compiled_scores_equal_river(pipeline, learned, asked):
    river = taught(pipeline, learned)
    model = compile_model(river, INPUTS)
    expected = [river_score(pipeline, river, seen(row, pipeline)) for row in asked]
    assert model.score(np.array(asked)) == pytest.approx(expected, abs=1e-9, rel=0)


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(learned=examples, asked=rows)
@settings(max_examples=30)
def test_contributions_and_intercept_add_up_to_the_log_odds(pipeline, learned, asked):
    model = compile_model(taught(pipeline, learned), INPUTS)
    matrix = np.array(asked)
    shares = model.contributions(matrix)
    assert shares.shape == matrix.shape
    log_odds = [math.fsum([*row, model.intercept]) for row in shares]
    expected = [1.0 / (1.0 + math.exp(-min(max(z, -700.0), 700.0))) for z in log_odds]
    assert model.score(matrix) == pytest.approx(expected, abs=1e-9)


def test_a_scaler_and_weights_known_by_hand():
    arrays = {
        "means": np.array([10.0, 0.0, 1.0]),
        "variances": np.array([4.0, 0.0, 0.25]),
        "weights": np.array([0.5, 3.0, -1.0]),
        "intercept": np.array([-1.0]),
    }
    model = CompiledLinear.from_arrays(INPUTS, arrays)
    row = np.array([[14.0, 7.0, math.nan]])
    # (14-10)/2 * 0.5 = 1; no spread: 0; (0-1)/0.5 * -1 = 2; log-odds 1 + 0 + 2 - 1 = 2
    assert model.contributions(row).tolist() == [[1.0, 0.0, 2.0]]
    assert model.score(row)[0] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-15)


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(learned=examples, asked=rows)
def test_a_rows_score_has_the_same_bits_in_any_batch_and_layout(pipeline, learned, asked):
    model = compile_model(taught(pipeline, learned), INPUTS)
    matrix = np.array(asked)
    whole = model.score(matrix).tobytes()
    assert whole == b"".join(model.score(matrix[i : i + 1]).tobytes() for i in range(len(asked)))
    assert whole == model.score(np.asfortranarray(matrix)).tobytes()
    assert whole == model.score(np.repeat(matrix, 2, axis=0)[::2]).tobytes()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_untrained_model_scores_as_river_does_and_is_no_alarm(pipeline):
    version = untrained_version("fraud", pipeline, INPUTS)
    river = catalog.build(pipeline, INPUTS)
    row = {"amount": 3.0, "hour": 2.0, "terminal_risk": 0.0}
    score = version.to_compiled().score(np.array([list(row.values())]))[0]
    assert version.version == 0
    assert score == pytest.approx(river_score(pipeline, river, row), abs=1e-12)
    assert score < 0.05


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_entry_finds_rare_fraud_and_gives_probabilities_where_it_says_so(pipeline):
    rng = np.random.default_rng(11)
    matrix = rng.lognormal(size=(12_000, 3))
    signal = (matrix - matrix.mean(axis=0)) / matrix.std(axis=0) @ [1.0, 0.0, 0.7]
    fraud = rng.random(len(matrix)) < 1 / (1 + np.exp(5.5 - signal))
    assert 0.002 < fraud.mean() < 0.02
    trainer = Trainer("fraud", pipeline, INPUTS)
    trainer.learn(
        TrainingExample(
            model="fraud", event=i, ts_ms=i, matured_ms=i, fraud=bool(label), weight=1.0,
            features=row,
        )
        for i, (row, label) in enumerate(zip(matrix[:8000].tolist(), fraud[:8000], strict=True))
    )  # fmt: skip
    score = trainer.publish(0).to_compiled().score(matrix[8000:])
    held_out = fraud[8000:]
    frauds_ahead = np.mean(score[held_out][:, None] > score[~held_out][None, :])
    assert frauds_ahead > 0.6
    if catalog.find(pipeline).is_probability:
        assert 0.5 < score.mean() / held_out.mean() < 2.0


def test_unknown_pipeline_is_refused_with_the_nearest():
    with pytest.raises(RecordError, match="did you mean `scaled_logistic`"):
        catalog.build("scaled_logistics", INPUTS)


@pytest.mark.parametrize(
    ("inputs", "message"), [((), "at least one input"), (("a", "b", "a"), "`a` more than once")]
)
def test_bad_inputs_are_refused(inputs, message):
    with pytest.raises(RecordError, match=message):
        catalog.build("scaled_logistic", inputs)


@pytest.mark.parametrize(
    "pipeline",
    [
        MinMaxScaler() | LogisticRegression(),
        StandardScaler(window_size=5) | LogisticRegression(),
        LogisticRegression(),
    ],
)
def test_a_pipeline_that_no_form_reads_is_refused(pipeline):
    with pytest.raises(RecordError, match=r"one of CompiledLinear, .* reads"):
        compile_model(pipeline, INPUTS)


def test_every_entry_has_a_form_and_says_when_to_use_it():
    for name, entry in catalog.CATALOG.items():
        assert entry.name == name
        assert entry.compiled in FORMS
        assert entry.when.endswith(".")
        assert entry.build.__doc__


def test_rows_of_another_width_are_refused():
    model = untrained_version("fraud", "scaled_logistic", INPUTS).to_compiled()
    with pytest.raises(ValueError, match=r"expected shape \(n, 3\), got \(2, 4\)"):
        model.score(np.zeros((2, 4)))


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(learned=examples, asked=rows)
@settings(max_examples=15)
def test_a_version_survives_the_wire(pipeline, learned, asked):
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(
        TrainingExample(
            model="fraud", event=0, ts_ms=0, matured_ms=0, fraud=fraud, weight=weight,
            features=list(row),
        )
        for row, fraud, weight in learned
    )  # fmt: skip
    version = trainer.publish(1_700_000_000_000)
    assert (version.version, version.learned_count) == (1, len(learned))
    back = decode_version(encode_version(version))
    assert back == version
    assert msgspec.json.decode(msgspec.json.encode(version), type=ModelVersion) == version
    here = compile_model(taught(pipeline, learned), INPUTS).score(np.array(asked))
    there = back.to_compiled().score(np.array(asked))
    if catalog.find(pipeline).kernel is None:
        assert there.tobytes() == here.tobytes()
    assert there == pytest.approx(here, abs=1e-9, rel=0)


def test_a_changed_version_is_refused():
    version = untrained_version("fraud", "scaled_logistic", INPUTS)
    with pytest.raises(RecordError, match=r"\$\.checksum"):
        check_version(msgspec.structs.replace(version, version=3))
    with pytest.raises(RecordError, match=r"\$\.schema_version: expected 3, got 4"):
        check_version(msgspec.structs.replace(version, schema_version=4))
    with pytest.raises(RecordError, match=r"\$\.checksum"):
        msgspec.structs.replace(version, ts_ms=9).to_compiled()
    weights = version.arrays["weights"]
    other = msgspec.structs.replace(weights, data=bytes(7 ^ byte for byte in weights.data))
    damaged = msgspec.structs.replace(version, arrays=version.arrays | {"weights": other})
    for held in (damaged, with_challengers(version, [damaged])):
        with pytest.raises(RecordError, match=r"\$\.arrays\.weights\.digest"):
            decode_version(encode_version(held))
    resealed = msgspec.structs.replace(other, digest=b"x" * 16)
    with pytest.raises(RecordError, match=r"\$\.checksum"):
        check_version(
            msgspec.structs.replace(version, arrays=version.arrays | {"weights": resealed})
        )
    data = bytearray(encode_version(version))
    data[data.index(b"fraud")] ^= 1
    with pytest.raises(RecordError, match=r"\$\.checksum"):
        decode_version(bytes(data))
    with pytest.raises(RecordError, match="a model version in msgpack"):
        decode_version(b"not a version")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("weights", np.zeros(2), r"weights: expected shape \(3,\), got shape \(2,\)"),
        ("means", np.array([0.0, math.nan, 0.0]), "means: expected finite numbers"),
        ("variances", np.array([1.0, -1.0, 1.0]), r"variances: expected values of 0\.0 or more"),
        ("intercept", None, "intercept: expected an array"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, array, message):
    arrays = {
        "means": np.zeros(3),
        "variances": np.ones(3),
        "weights": np.ones(3),
        "intercept": np.zeros(1),
    }
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    with pytest.raises(RecordError, match=message):
        CompiledLinear.from_arrays(INPUTS, arrays)
