"""Compiled trees and forests against River, with settings under which they grow and drift fast."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_streams import INPUTS, as_river_sees, stream
from river.drift import ADWIN
from river.forest import ARFClassifier
from river.tree import HoeffdingAdaptiveTreeClassifier, HoeffdingTreeClassifier

from features.errors import RecordError
from features.records import TrainingExample
from online_models import catalog
from online_models.forms import compile_model
from online_models.trainer import Trainer
from online_models.trees.compiled import CompiledTrees
from online_models.trees.detectors import detector_numbers, detector_of
from online_models.trees.forest import (
    NEVER,
    TreesReader,
    WeightedForest,
    refuse_share,
    restore,
    save,
)

seeds = st.integers(0, 2**31)
LENGTH = 1_000
FAST = {
    "grace_period": 30,
    "delta": 0.05,
    "max_depth": 5,
    "max_share_to_split": 1.0,
    "min_branch_fraction": 1e-4,
    "memory_estimate_period": NEVER,
}


def forest(leaf_prediction, seed=1):
    return WeightedForest(
        n_models=3, lambda_value=2, leaf_prediction=leaf_prediction, seed=seed, **FAST
    )


def adaptive(leaf_prediction, seed=1):
    return HoeffdingAdaptiveTreeClassifier(
        drift_window_threshold=50, leaf_prediction=leaf_prediction, seed=seed, **FAST
    )


def plain(leaf_prediction, seed=1):
    return HoeffdingTreeClassifier(leaf_prediction=leaf_prediction, nb_threshold=40, **FAST)


def river_scores(model, rows):
    return [model.predict_proba_one(as_river_sees(row)).get(True, 0.0) for row in rows]


every_leaf = pytest.mark.parametrize("leaf_prediction", ["mc", "nb", "nba"])


@every_leaf
@pytest.mark.parametrize("make", [forest, adaptive, plain])
@given(seed=seeds)
@settings(max_examples=2)
def test_growth_drift_and_alternate_trees(make, leaf_prediction, seed):
    rows, frauds = stream(seed, LENGTH)
    asked, _ = stream(seed + 1, 30)
    asked[0, 0], asked[1] = math.nan, 1e100
    model = make(leaf_prediction, seed)
    reader = TreesReader(model, INPUTS)
    heights = set()
    for i, (row, fraud) in enumerate(zip(rows, frauds, strict=True)):
        model.learn_one(as_river_sees(row), bool(fraud), w=1.0 + i % 3)
        if i < 3 or i % 100 == 0 or (500 < i < 650 and i % 30 == 0):
            compiled = reader.compiled()
            heights.add(max((t.height for t in getattr(model, "data", [model])), default=0))
            assert compiled.score(asked) == pytest.approx(
                river_scores(model, asked), abs=1e-9, rel=0
            )
            whole = CompiledTrees.from_river(model, INPUTS).to_arrays()
            for name, array in compiled.to_arrays().items():
                assert array.tobytes() == whole[name].tobytes()
            log_odds = compiled.contributions(asked).sum(axis=1) + compiled.intercept
            assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(compiled.score(asked), abs=1e-9)
    assert max(heights) > 2


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        assert array.tobytes() == expected[name].tobytes(), name


@every_leaf
@pytest.mark.parametrize("make", [forest, adaptive])
@given(seed=seeds, data=st.data())
@settings(max_examples=2)
def test_what_was_restored_goes_on_as_if_nothing_had_happened(make, leaf_prediction, seed, data):
    rows, frauds = stream(seed, LENGTH)
    stops = data.draw(st.sets(st.integers(0, LENGTH - 1), min_size=3, max_size=12))
    steady, stopped = make(leaf_prediction, seed), make(leaf_prediction, seed)
    for i, (row, fraud) in enumerate(zip(rows, frauds, strict=True)):
        if i in stops:
            arrays = save(stopped, INPUTS)
            stopped = make(leaf_prediction, seed)
            restore(stopped, INPUTS, arrays)
            same(save(stopped, INPUTS), arrays)
        values = as_river_sees(row)
        for model in (steady, stopped):
            model.learn_one(values, bool(fraud), w=float(1 + i % 2))
        assert steady.predict_proba_one(values) == stopped.predict_proba_one(values)
    same(save(stopped, INPUTS), save(steady, INPUTS))


def test_an_alternate_tree_is_scored_saved_and_restored():
    # Seeds of which the adaptive tree holds an alternate leaf at some time.
    met = 0
    asked, _ = stream(99, 20)
    for seed in range(4):
        model = adaptive("nba", seed)
        rows, frauds = stream(seed, LENGTH)
        for i, (row, fraud) in enumerate(zip(rows, frauds, strict=True)):
            model.learn_one(as_river_sees(row), bool(fraud))
            if i < LENGTH // 2 or i % 5:
                continue
            arrays = save(model, INPUTS)
            if (arrays["nodes.links"][:, 3] >= 0).any():
                met += 1
                compiled = CompiledTrees.from_river(model, INPUTS)
                score = compiled.score(asked)
                assert score == pytest.approx(river_scores(model, asked), abs=1e-9, rel=0)
                log_odds = compiled.contributions(asked).sum(axis=1) + compiled.intercept
                assert 1 / (1 + np.exp(-log_odds)) == pytest.approx(score, abs=1e-9)
    assert met


def test_paths_known_by_hand():
    # The root has seen 8 legitimate and 2 frauds; amount <= 1 goes to a leaf with shares 7 : 1,
    # more to a branch 1 : 1 that hour <= 5 splits into 1 : 0 and 0 : 1.
    from online_models.trees.kernels import MAJORITY, MODE, NODE_COLUMNS, SHARE, THRESHOLD, VOTE

    nodes = np.zeros((5, NODE_COLUMNS))
    nodes[:, VOTE] = 1.0
    nodes[:, SHARE] = [0.2, 0.125, 0.5, 0.0, 1.0]
    nodes[[1, 3, 4], MODE] = MAJORITY
    nodes[[0, 2], THRESHOLD] = [1.0, 5.0]
    links = np.array([[0, 1, 2, -1], [-1, 0, 0, -1], [1, 3, 4, -1], [-1, 0, 0, -1], [-1, 0, 0, -1]])
    arrays = {
        "roots": np.array([0]), "tree_weights": np.array([0.9]), "links": links, "nodes": nodes,
        "entries": np.zeros((0, 7)),
    }  # fmt: skip
    model = CompiledTrees.from_arrays(("amount", "hour"), arrays)
    rows = np.array([[1.0, 9.0], [1.5, 6.0], [2.0, 5.0]])
    assert model.score(rows).tolist() == [0.125, 1.0, 0.0]
    assert model.intercept == pytest.approx(math.log(0.2 / 0.8))
    shares = model.contributions(rows)
    # First row: amount took all of log(1/7) - log(1/4); hour was not asked.
    assert shares[0] == pytest.approx([math.log(1 / 7) - math.log(1 / 4), 0.0])
    # Second: 0.2 -> 0.5 by amount and 0.5 -> 1.0 by hour, 3 : 5 of what leads to log-odds 30.
    assert shares[1] == pytest.approx(np.array([3, 5]) / 8 * (30 - math.log(1 / 4)))
    # Third: + 0.3 by amount, - 0.5 by hour: together down to log-odds -30.
    assert shares[2] == pytest.approx(np.array([0.3, -0.5]) / -0.2 * (-30 - math.log(1 / 4)))


def test_the_depth_bounds_a_forest():
    rows, frauds = stream(2, 3_000)
    model = forest("mc")
    for row, fraud in zip(rows, frauds, strict=True):
        model.learn_one(as_river_sees(row), bool(fraud))
    assert max(tree.height for tree in model) == FAST["max_depth"] + 1
    node_count = len(save(model, INPUTS)["nodes.links"])
    assert node_count <= 2 * 3 * (2 ** (FAST["max_depth"] + 1) - 1)


def test_weight_one_is_rivers_own_forest():
    rows, frauds = stream(5, 600)
    mine = forest("mc")
    rivers = ARFClassifier(n_models=3, lambda_value=2, leaf_prediction="mc", seed=1, **FAST)
    for row, fraud in zip(rows, frauds, strict=True):
        values = as_river_sees(row)
        mine.learn_one(values, bool(fraud))
        rivers.learn_one(values, bool(fraud))
        assert mine.predict_proba_one(values) == rivers.predict_proba_one(values)


def test_a_weight_is_so_many_examples_on_average():
    # 400 examples of weight 5 leave each tree with about λ × 5 × 400 of weight, give or take 5 %.
    model = forest("mc")
    for row, fraud in zip(*stream(6, 400), strict=True):
        model.learn_one(as_river_sees(row), bool(fraud), w=5.0)
    weights = [tree._train_weight_seen_by_model for tree in model if not model.n_drifts_detected()]
    assert weights == pytest.approx([4_000.0] * len(weights), rel=0.1)
    assert model.lambda_value == 2


def rare(model, share):
    return [
        TrainingExample(
            model=model, event=i, ts_ms=i, matured_ms=i, fraud=i % share == 0, weight=1.0,
            features=[float(i % share == 0), float(i % 7), 0.0, 0.0, 0.0],
        )
        for i in range(2_000)
    ]  # fmt: skip


def test_a_tree_that_cannot_split_at_the_observed_rate_is_refused(monkeypatch):
    def rivers_defaults(inputs):
        return HoeffdingAdaptiveTreeClassifier(seed=1)

    entry = catalog.find("adaptive_tree")
    naive = type(entry)(
        **{f: getattr(entry, f) for f in entry.__slots__} | {"build": rivers_defaults}
    )
    monkeypatch.setitem(catalog.CATALOG, "adaptive_tree", naive)
    trainer = Trainer("fraud", "adaptive_tree", INPUTS)
    trainer.learn(rare("fraud", share=200))
    refusal = trainer.refusal()
    assert refusal is not None
    assert re.search(r"max_share_to_split of at least 0\.995.*0\.005.*got 0\.99", str(refusal))
    # It is right to refuse: a perfect sign of fraud, and River's defaults do not split on it.
    assert trainer._learning._pipeline.n_branches == 0
    plenty = Trainer("fraud", "adaptive_tree", INPUTS)
    plenty.learn(rare("fraud", share=20))
    assert plenty.refusal() is None


@pytest.mark.parametrize("pipeline", ["adaptive_tree", "adaptive_forest", "stacked_champion"])
def test_the_shipped_presets_split_where_one_in_a_thousand_is_fraud(pipeline):
    trainer = Trainer("fraud", pipeline, INPUTS)
    for _ in range(3):
        trainer.learn(rare("fraud", share=1_000))
    model = trainer.publish(0).to_compiled()
    rows = np.zeros((2, len(INPUTS)))
    rows[1, 0] = 1.0
    legitimate, fraud = model.score(rows)
    assert fraud > 10 * legitimate
    with pytest.raises(RecordError, match="max_share_to_split"):
        refuse_share(plain_defaults(), 0.001)


def plain_defaults():
    return HoeffdingTreeClassifier()


def test_a_split_on_something_that_is_no_input_is_refused():
    rows, frauds = stream(1, 900)
    model = plain("mc")
    for row, fraud in zip(rows, frauds, strict=True):
        model.learn_one(as_river_sees(row), bool(fraud))
    assert model.n_branches > 1
    with pytest.raises(RecordError, match="splits on one of: amout, hours"):
        compile_model(model, ("amout", "hours"))


def test_other_classes_are_refused():
    model = plain("mc")
    model.learn_one(as_river_sees([0.0] * 5), "fraud")
    with pytest.raises(RecordError, match="the classes False and True"):
        compile_model(model, INPUTS)


def damaged(arrays, name, place, value):
    broken = {key: array.copy() for key, array in arrays.items()}
    broken[name][place] = value
    return broken


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("nodes.links", (0, 1), 0),  # a circle
        ("nodes.links", (0, 1), 10_000),  # outside
        ("nodes.links", (0, 2), 1),  # one node twice
        ("nodes.links", (0, 0), 7),  # an input that isn't there
        ("nodes.roots", 0, 5),
        ("nodes.entries", (0, 0), -1),
        ("nodes.entries", (0, 1), 5),
        ("nodes.facts", (0, 2), 0.5),
        ("nodes.detector_ends", 0, 10**9),
        ("nodes.detectors", 5, -1.0),
        ("nodes.detectors", 9, 1e6),
        ("random", 624, 10**6),
        ("random", 0, 2**33),
    ],
)
def test_tables_that_are_no_trees_are_refused(name, place, value):
    rows, frauds = stream(1, 900)
    model = adaptive("nba")
    for row, fraud in zip(rows, frauds, strict=True):
        model.learn_one(as_river_sees(row), bool(fraud))
    arrays = save(model, INPUTS)
    restore(adaptive("nba"), INPUTS, arrays)
    with pytest.raises(RecordError):
        restore(adaptive("nba"), INPUTS, damaged(arrays, name, place, value))


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("links", (0, 1), 0),
        ("links", (0, 2), 10_000),
        ("links", (0, 0), 7),
        ("roots", 0, -1),
        ("nodes", (0, 7), 9.0),
        ("entries", (0, 0), 5),
        ("tree_weights", 0, -1.0),
    ],
)
def test_compiled_tables_that_are_no_trees_are_refused(name, place, value):
    rows, frauds = stream(1, 900)
    model = forest("nb")
    for row, fraud in zip(rows, frauds, strict=True):
        model.learn_one(as_river_sees(row), bool(fraud))
    arrays = compile_model(model, INPUTS).to_arrays()
    CompiledTrees.from_arrays(INPUTS, arrays)
    with pytest.raises(RecordError):
        CompiledTrees.from_arrays(INPUTS, damaged(arrays, name, place, value))


@given(
    seed=seeds,
    delta=st.sampled_from([0.002, 0.3]),
    clock=st.integers(1, 40),
    max_buckets=st.integers(2, 6),
)
@settings(max_examples=20)
def test_a_detector_goes_on_bit_for_bit(seed, delta, clock, max_buckets):
    rng = np.random.default_rng(seed)
    steady = ADWIN(delta=delta, clock=clock, max_buckets=max_buckets)
    prototype, stopped = steady.clone(), steady.clone()
    for i in range(1_500):
        value = int(rng.random() < (0.02 if i < 700 else 0.4))
        steady.update(value)
        stopped.update(value)
        if rng.random() < 0.02:
            stopped = detector_of(prototype, detector_numbers(stopped))
        assert stopped.drift_detected == steady.drift_detected
        assert stopped._helper.__getstate__() == steady._helper.__getstate__()
