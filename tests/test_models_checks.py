"""What every entry of the catalogue is held to, in the manner of River's own checks."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_streams import INPUTS, as_river_sees, built, examples, options, river_score, stream

from features.errors import RecordError
from online_models import catalog
from online_models.forms import compile_model
from online_models.trainer import Trainer
from online_models.versions import encode_version

PIPELINES = sorted(catalog.CATALOG)
every_entry = pytest.mark.parametrize("pipeline", PIPELINES)
LENGTH = 800
seeds = st.integers(0, 2**31)
ASKED = 25


def seen(row, pipeline):
    return as_river_sees(row, missing=catalog.find(pipeline).missing)


def asked_rows(seed):
    """Rows to score, with values that no model may stumble over."""
    rows, _ = stream(seed, ASKED)
    rows[0], rows[1, 0], rows[2, 1], rows[3, 2] = 0.0, math.nan, -math.inf, 1e101
    rows[4], rows[5] = 1e100, -1e30
    return rows


def expected_scores(pipeline, river, rows):
    return [river_score(pipeline, river, seen(row, pipeline)) for row in rows.tolist()]


@every_entry
@given(seed=seeds)
@settings(max_examples=2)
def test_compiled_equals_river_while_it_learns_and_the_pattern_changes(pipeline, seed):
    rows, frauds = stream(seed, LENGTH)
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    river = built(pipeline)
    asked = asked_rows(seed + 1)
    learned = examples(rows, frauds)
    for first in range(0, LENGTH, 200):
        trainer.learn(learned[first : first + 200])
        for e in learned[first : first + 200]:
            river.learn_one(seen(e.features, pipeline), e.fraud, w=e.weight)
        model = trainer.publish(first).to_compiled()
        score = model.score(asked)
        assert score == pytest.approx(expected_scores(pipeline, river, asked), abs=1e-9, rel=0)
        assert np.isfinite(score).all()
        log_odds = model.contributions(asked).sum(axis=1) + model.intercept
        assert 1.0 / (1.0 + np.exp(-np.clip(log_odds, -700, 700))) == pytest.approx(score, abs=1e-9)
        # Reading again what changed gives what reading everything gives.
        whole = compile_model(river, INPUTS).to_arrays()
        if catalog.find(pipeline).kernel is None:
            for name, array in model.to_arrays().items():
                assert array.tobytes() == whole[name].tobytes(), name


@every_entry
@given(seed=seeds, data=st.data())
@settings(max_examples=2)
def test_a_restart_leaves_no_trace_in_what_is_learned_later(pipeline, seed, data):
    rows, frauds = stream(seed, LENGTH)
    learned = examples(rows, frauds)
    stops = sorted(data.draw(st.sets(st.integers(0, LENGTH), min_size=1, max_size=5)))
    steady = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    stopped = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    steady.learn(learned)
    for first, last in zip([0, *stops], [*stops, LENGTH], strict=True):
        stopped.learn(learned[first:last])
        before = stopped.state()
        stopped = Trainer.restore(before)
        assert stopped.state() == before
    assert stopped.state() == steady.state()
    assert stopped.publish(1) == steady.publish(1)


@every_entry
def test_a_published_version_never_changes(pipeline):
    """What learning does not change is shared between versions, and never written to."""
    rows, frauds = stream(5, LENGTH)
    learned, asked = examples(rows, frauds), asked_rows(6)
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(learned[: LENGTH // 2])
    first = trainer.publish(1)
    model, wire = first.to_compiled(), encode_version(first)
    said = model.score(asked)
    again = trainer.publish(2)
    assert all(again.arrays[name] is array for name, array in first.arrays.items())
    trainer.learn(learned[LENGTH // 2 :])
    later = trainer.publish(3)
    assert any(later.arrays[name] != array for name, array in first.arrays.items())
    assert encode_version(first) == wire
    assert model.score(asked).tobytes() == said.tobytes()
    assert first.to_compiled().score(asked).tobytes() == said.tobytes()
    fresh = Trainer.restore(trainer.state())
    fresh.version = later.version - 1
    assert encode_version(fresh.publish(3)) == encode_version(later)


@every_entry
def test_learning_is_deterministic(pipeline):
    rows, frauds = stream(3, LENGTH)
    trainers = [Trainer("fraud", pipeline, INPUTS, options(pipeline)) for _ in range(2)]
    for trainer in trainers:
        trainer.learn(examples(rows, frauds))
    assert trainers[0].state() == trainers[1].state()


@every_entry
@given(seed=seeds)
@settings(max_examples=2)
def test_inputs_that_were_missing_and_emerge_later(pipeline, seed):
    # The engine always gives all inputs; River alone may have learned from fewer.
    rows, frauds = stream(seed, 400)
    river = built(pipeline)
    asked = asked_rows(seed + 1)
    for i, (row, fraud) in enumerate(zip(rows, frauds, strict=True)):
        values = seen(row, pipeline)
        if i < 200 or i % 7 == 0:
            del values["count"], values["amount"]
        river.learn_one(values, bool(fraud), w=1.0)
        if i in {0, 199, 200, 399}:
            score = compile_model(river, INPUTS).score(asked)
            assert score == pytest.approx(expected_scores(pipeline, river, asked), abs=1e-9, rel=0)


@every_entry
def test_nothing_that_is_given_is_changed(pipeline):
    rows, frauds = stream(5, 300)
    rows[7, 2] = math.nan
    learned = examples(rows, frauds)
    copies = repr([e.features for e in learned])  # NaN equals itself in words only
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(learned)
    assert repr([e.features for e in learned]) == copies
    model = trainer.publish(0).to_compiled()
    state = trainer.state()
    asked = asked_rows(6)
    before = asked.tobytes()
    model.score(asked)
    model.contributions(asked)
    assert asked.tobytes() == before
    assert trainer.state() == state


@every_entry
def test_a_rows_score_has_the_same_bits_in_any_batch_and_layout(pipeline):
    rows, frauds = stream(8, 600)
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(examples(rows, frauds))
    model = trainer.publish(0).to_compiled()
    asked = asked_rows(9)
    for answer in (model.score, model.contributions):
        whole = answer(asked)
        parts = [answer(asked[i : i + 1]) for i in range(ASKED)]
        assert whole.tobytes() == np.concatenate(parts).tobytes()
        assert whole.tobytes() == answer(np.asfortranarray(asked)).tobytes()
        assert whole.tobytes() == answer(np.repeat(asked, 2, axis=0)[::2]).tobytes()


@every_entry
def test_what_is_stored_stays_small(pipeline):
    rows, frauds = stream(12, 4_000)
    learned = examples(rows, frauds)
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    sizes_bytes = []
    for first in range(0, len(learned), 1_000):
        trainer.learn(learned[first : first + 1_000])
        sizes_bytes.append(len(trainer.state()))
    entry = catalog.find(pipeline)
    # Trees do, up to their depth; bins, until all that occur were met.
    grows = entry.reader is not None or entry.takes_bins
    assert sizes_bytes[-1] < (400_000 if entry.reader is not None else 20_000)
    if not grows:
        assert sizes_bytes[-1] - sizes_bytes[0] < 40  # counts with one more byte


@every_entry
def test_states_and_versions_are_plain_numbers(pipeline):
    rows, frauds = stream(4, 200)
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(examples(rows, frauds))
    header_bytes = 30
    state = msgspec.msgpack.decode(trainer.state()[header_bytes:])
    version = msgspec.msgpack.decode(msgspec.msgpack.encode(trainer.publish(0)))
    for arrays in (state["arrays"], version["arrays"]):
        assert arrays
        assert {array["dtype"] for array in arrays.values()} <= {"f8", "i8"}
    assert {type(value) for value in state.values()} <= {str, int, float, list, dict}


@every_entry
def test_arrays_that_are_not_finite_are_refused(pipeline):
    rows, frauds = stream(4, 400)
    trainer = Trainer("fraud", pipeline, INPUTS, options(pipeline))
    trainer.learn(examples(rows, frauds))
    form = catalog.find(pipeline).compiled
    arrays = trainer.publish(0).to_compiled().to_arrays()
    for name in (name for name, array in arrays.items() if array.dtype.kind == "f" and array.size):
        for bad in (math.nan, math.inf):
            broken = {key: array.astype(np.float64) for key, array in arrays.items()}
            broken[name].ravel()[-1] = bad
            with pytest.raises(RecordError, match="finite"):
                form.from_arrays(INPUTS, broken)


@every_entry
def test_states_that_are_not_finite_are_refused(pipeline):
    entry = catalog.find(pipeline)
    rows, frauds = stream(4, 400)
    river = built(pipeline)
    for e in examples(rows, frauds):
        river.learn_one(seen(e.features, pipeline), e.fraud, w=e.weight)
    arrays = entry.save(river, INPUTS)
    for name in (name for name, array in arrays.items() if array.dtype.kind == "f" and array.size):
        broken = {key: array.copy() for key, array in arrays.items()}
        broken[name].ravel()[0] = math.nan
        with pytest.raises(RecordError):
            entry.restore(built(pipeline), INPUTS, broken)
        del broken[name]
        with pytest.raises(RecordError):
            entry.restore(built(pipeline), INPUTS, broken)
