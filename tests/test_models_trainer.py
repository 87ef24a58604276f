"""The trainer against River's own pipeline, across restarts and with damaged states."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import RecordError
from features.records import ENCODER, TrainingExample
from online_models import catalog
from online_models.framing import INPUT_MAX, pack_array, unpack_array
from online_models.options import NO_OPTIONS, InputBins, ModelOptions
from online_models.trainer import Trainer
from online_models.versions import encode_version

INPUTS = ("amount", "hour", "terminal_risk", "zeta", "alpha")
PIPELINES = sorted(catalog.CATALOG)
BINS = ModelOptions(
    bins=(("hour", InputBins((0.0, 6.0))),),
    crosses=(("amount", "hour"), ("zeta", "amount")),
    warm_up_count=4,
)
number = st.floats(-1e3, 1e3) | st.sampled_from([0.0, math.nan, math.inf, 2e100])


def options(pipeline):
    return BINS if catalog.find(pipeline).takes_bins else NO_OPTIONS


def example(features, fraud=False, weight=1.0, model="fraud"):
    return TrainingExample(
        model=model, event=1, ts_ms=1, matured_ms=2, fraud=fraud, weight=weight, features=features
    )


lessons = st.lists(
    st.builds(
        example,
        st.lists(number, min_size=len(INPUTS), max_size=len(INPUTS)),
        st.booleans(),
        st.floats(0.1, 100.0),
    ),
    max_size=30,
)


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(examples=lessons)
@settings(max_examples=30)
def test_learning_is_rivers_learning(pipeline, examples):
    """Bit for bit through River itself, to 1e-9 through a kernel."""
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(examples)
    entry = catalog.find(pipeline)
    river = catalog.build(pipeline, INPUTS, options(pipeline))
    for e in examples:
        clean = [v if abs(v) <= INPUT_MAX else entry.missing for v in e.features]
        river.learn_one(dict(zip(INPUTS, clean, strict=True)), e.fraud, w=e.weight)
    expected = entry.save(river, INPUTS)
    found = trainer._learning.arrays()
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        if entry.kernel is None:
            assert found[name].tobytes() == array.tobytes()
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9)
    assert trainer.learned_count == len(examples)


@pytest.mark.parametrize("pipeline", PIPELINES)
@given(examples=lessons, stops=st.sets(st.integers(0, 30)))
@settings(max_examples=20)
def test_a_restart_changes_no_bit(pipeline, examples, stops):
    steady = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    stopped = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    for i, e in enumerate(examples):
        if i in stops:
            assert steady.publish(i) == stopped.publish(i)
            stopped = Trainer.restore(stopped.state())
        steady.learn([e])
        stopped.learn([e])
        assert stopped.state() == steady.state()
    assert encode_version(steady.publish(99)) == encode_version(stopped.publish(99))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_absent_feature_is_null_on_the_wire_and_learned_alike(pipeline):
    lesson = [example([1.0, math.nan, 2.0, 3.0, float(i)], i % 3 == 0) for i in range(20)]
    wire = [ENCODER.encode(e) for e in lesson]
    assert b"[1.0,null,2.0" in wire[0]
    here = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    there = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    here.learn(lesson)
    there.learn(msgspec.json.decode(data, type=TrainingExample) for data in wire)
    assert here.state() == there.state()


def test_versions_count_up_from_one_and_over_restarts():
    trainer = Trainer("fraud", "scaled_logistic", INPUTS)
    assert trainer.version == 0
    assert [trainer.publish(5).version, trainer.publish(6).version] == [1, 2]
    assert Trainer.restore(trainer.state()).publish(7).version == 3


def test_a_weight_counts_as_so_much_gradient():
    # One step from the fresh model: River moves the intercept by rate × weight × p for a
    # legitimate example, and p is the same for both.
    def step(weight):
        trainer = Trainer("fraud", "scaled_logistic", INPUTS)
        before = trainer.publish(0).to_compiled().intercept
        trainer.learn([example([1.0] * 5, weight=weight)])
        return before - trainer.publish(0).to_compiled().intercept

    assert step(10.0) == pytest.approx(10 * step(1.0), rel=1e-9)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (example([1.0] * 5, model="froud"), r"\$\.model: expected `fraud`, got `froud`"),
        (example([1.0] * 4), r"\$\.features: expected 5 values"),
        (example([1.0] * 5, weight=0.0), r"\$\.weight: expected a positive"),
        (example([1.0] * 5, weight=math.nan), r"\$\.weight"),
        (example([1.0] * 5, weight=math.inf), r"\$\.weight"),
    ],
)
def test_a_bad_example_is_refused_and_those_before_it_count(bad, message):
    trainer = Trainer("fraud", "scaled_logistic", INPUTS)
    with pytest.raises(RecordError, match=message):
        trainer.learn([example([1.0] * 5), bad, example([2.0] * 5)])
    assert trainer.learned_count == 1


def test_huge_inputs_do_not_poison_the_model():
    trainer = Trainer("fraud", "scaled_logistic", INPUTS)
    trainer.learn([example([1e99, -1e100, 1e300, -math.inf, math.nan], i % 2 == 0)
                   for i in range(50)])  # fmt: skip
    trainer.learn([example([float(i)] * 5, i % 2 == 0) for i in range(50)])
    score = trainer.publish(0).to_compiled().score(np.zeros((1, 5)))
    assert 0.0 <= score[0] <= 1.0


def state():
    trainer = Trainer("fraud", "scaled_logistic", INPUTS)
    trainer.learn([example([1.0, 2.0, 3.0, 4.0, 5.0], True), example([0.0] * 5)])
    return trainer.state()


@given(place=st.integers(0, len(state()) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_noticed(place, bit):
    blob = bytearray(state())
    blob[place] ^= 1 << bit
    with pytest.raises(RecordError, match="trainer state"):
        Trainer.restore(bytes(blob))


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "a frame that begins with"),
        (b"\x80\x04\x95 a pickle, to be refused" * 3, "a frame that begins with"),
        (state()[:-1], "checksum"),
        (state()[:10] + b"\0\0" + state()[12:], "kind `trainer`"),
        (state()[:12] + b"\x63\0" + state()[14:], "schema version 2, got 99"),
    ],
)
def test_foreign_bytes_are_named(blob, message):
    with pytest.raises(RecordError, match=message):
        Trainer.restore(blob)


@given(
    st.lists(st.floats(allow_nan=False), max_size=12).map(np.array)
    | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=12).map(
        lambda v: np.array(v, dtype=np.int64)
    )
)
def test_packed_arrays_come_back(array):
    back = unpack_array(pack_array(array), "$")
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


def test_packed_arrays_that_lie_about_their_shape_are_refused():
    packed = pack_array(np.zeros(3))
    for shape in ((4,), (-3,), (3, 3)):
        with pytest.raises(RecordError, match="bytes for shape"):
            unpack_array(type(packed)(packed.dtype, shape, packed.data), "$.arrays.weights")
    with pytest.raises(RecordError, match="f8 or i8"):
        unpack_array(type(packed)("object", (3,), packed.data), "$.arrays.weights")
