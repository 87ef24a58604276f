"""Naive Bayes, half-space trees and the stack, with values known by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_streams import INPUTS, as_river_sees, examples, stream
from river.naive_bayes import GaussianNB

from features.errors import RecordError
from online_models import catalog
from online_models.champion import MEMBER_LOG_ODDS_MAX, CompiledChampion
from online_models.compiled import CompiledLinear
from online_models.half_spaces import CompiledHalfSpaces
from online_models.naive_bayes import CompiledBayes, WeightedBayes, save
from online_models.shares import base_log_odds, stretched, to_log_odds
from online_models.trainer import Trainer


def test_naive_bayes_known_by_hand():
    model = WeightedBayes()
    for value, fraud in [(0.0, False), (2.0, False), (4.0, True), (6.0, True), (1.0, False)]:
        model.learn_one({"amount": value}, fraud)
    compiled = CompiledBayes.from_river(model, ("amount",))
    # False: mean 1, variance 2/3, share 3/5; True: mean 5, variance 1, share 2/5.
    false = math.exp(-0.75) / math.sqrt(2 * math.pi * 2 / 3) + 1e-9
    true = math.exp(-8.0) / math.sqrt(2 * math.pi) + 1e-9
    row = np.array([[2.0 + 0.0]])
    assert compiled.intercept == pytest.approx(math.log(2 / 3))
    assert compiled.contributions(np.array([[1.0]]))[0, 0] == pytest.approx(
        math.log(true / (1 / math.sqrt(2 * math.pi * 2 / 3) + 1e-9))
    )
    true = math.exp(-4.5) / math.sqrt(2 * math.pi) + 1e-9
    assert compiled.score(row)[0] == pytest.approx(0.4 * true / (0.4 * true + 0.6 * false))


def test_weight_one_is_rivers_own_naive_bayes_and_three_is_three_times():
    rows, frauds = stream(4, 300)
    mine, rivers, heavy, repeated = WeightedBayes(), GaussianNB(), WeightedBayes(), WeightedBayes()
    for row, fraud in zip(rows, frauds, strict=True):
        values = as_river_sees(row)
        mine.learn_one(values, bool(fraud))
        rivers.learn_one(values, bool(fraud))
        assert mine.predict_proba_one(values) == rivers.predict_proba_one(values)
        heavy.learn_one(values, bool(fraud), w=3.0)
        for _ in range(3):
            repeated.learn_one(values, bool(fraud))
    for name, array in save(heavy, INPUTS).items():
        assert array == pytest.approx(save(repeated, INPUTS)[name], rel=1e-9), name


@pytest.mark.parametrize(("fraud", "answer"), [(False, 0.0), (True, 1.0)])
def test_naive_bayes_that_has_met_one_class(fraud, answer):
    model = WeightedBayes()
    model.learn_one({"amount": 1.0}, fraud)
    compiled = CompiledBayes.from_river(model, ("amount",))
    assert compiled.score(np.array([[9.0]])).tolist() == [answer]
    assert model.predict_proba_one({"amount": 9.0}) == {fraud: 1.0}


def one_split(**changes):
    """A tree of height 1: a row whose input is below 0.5 goes left, with 3 of the last 4."""
    arrays = {
        "scaling": np.array([[10.0], [2.0]]),
        "splits": np.array([[[0.0, 0.0, 0.0]], [[0.5, 0.0, 0.0]]]),
        "masses": np.array([[4.0, 3.0, 1.0]]),
        "window": np.array([0.4, 12.0]),  # 0.1 × 4 rows; 1 tree × 4 rows × (1 + 2)
    }
    return CompiledHalfSpaces.from_arrays(("amount",), arrays | changes)


def test_half_spaces_known_by_hand():
    model = one_split()
    # (11 - 10) / 2 is not below 0.5: 1 - (4 + 2 × 1) / 12; 9 is: 1 - (4 + 2 × 3) / 12.
    assert model.score(np.array([[11.0], [9.0]])) == pytest.approx([0.5, 1 / 6])
    # The mean of the last window's sums: (3 × 10 + 1 × 6) / 4 = 9.
    assert model.intercept == pytest.approx(base_log_odds(1 - 9 / 12))
    shares = model.contributions(np.array([[11.0], [9.0]]))
    assert shares[:, 0] == pytest.approx(
        [base_log_odds(0.5) - base_log_odds(0.25), base_log_odds(1 / 6) - base_log_odds(0.25)]
    )


def test_half_spaces_stop_at_a_node_with_little_mass():
    model = one_split(masses=np.array([[4.0, 3.0, 1.0]]), window=np.array([4.5, 12.0]))
    assert model.score(np.array([[11.0], [9.0]])) == pytest.approx([1 - 4 / 12] * 2)
    assert model.contributions(np.array([[11.0]])).tolist() == [[0.0]]


def search(splits, masses, least_mass, row):
    """River's walk down one tree: masses times 2^depth, up to a leaf or a node with little mass."""
    node, depth, total = 0, 0, 0.0
    while True:
        total += masses[node] * 2.0**depth
        if node >= len(masses) // 2 or masses[node] < least_mass:
            return total
        node = 2 * node + (1 if row[int(splits[0][node])] < splits[1][node] else 2)
        depth += 1


@given(st.integers(1, 6), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 5.0, 25.0, 300.0]))
def test_half_spaces_have_the_bits_of_a_plain_search(height, seed, least_mass):
    rng = np.random.default_rng(seed)
    tree_count, node_count, input_count = 4, 2 ** (height + 1) - 1, 3
    masses = rng.integers(0, 250 >> rng.integers(0, 6), (tree_count, node_count)).astype(float)
    masses[:, 0] = 250.0
    splits = np.stack(
        [
            rng.integers(0, input_count, (tree_count, node_count)).astype(float),
            rng.integers(-2, 3, (tree_count, node_count)) / 2,
        ]
    )
    scaling = np.array([[1.0, 0.0, 2.0], [2.0, 1.0, 0.0]])  # the last input never varied
    score_max = tree_count * 250.0 * (2.0 ** (height + 1) - 1)
    model = CompiledHalfSpaces.from_arrays(
        ("a", "b", "c"),
        {
            "scaling": scaling, "splits": splits, "masses": masses,
            "window": np.array([least_mass, score_max]),
        },
    )  # fmt: skip
    rows = rng.integers(-4, 5, (20, input_count)) / 2
    rows[0, 1] = np.nan
    seen = np.where(np.isnan(rows), 0.0, rows)
    scaled = np.stack([(seen[:, 0] - 1.0) / 2.0, seen[:, 1], np.zeros(len(rows))], axis=1)
    expected = [
        1.0
        - sum(search(splits[:, t], masses[t], least_mass, row) for t in range(tree_count))
        / score_max
        for row in scaled
    ]
    assert model.score(rows).tolist() == expected


def test_half_spaces_are_silent_until_the_first_window_is_full():
    rows, frauds = stream(2, 260)
    trainer = Trainer("fraud", "half_space_trees", INPUTS)
    trainer.learn(examples(rows[:249], frauds[:249]))
    assert not trainer.publish(0).to_compiled().score(rows).any()
    trainer.learn(examples(rows[249:], frauds[249:]))
    assert (trainer.publish(1).to_compiled().score(rows) > 0.0).all()


def test_half_spaces_learn_the_same_whatever_the_labels():
    rows, frauds = stream(2, 600)
    states = []
    for labels in (frauds, ~frauds):
        trainer = Trainer("fraud", "half_space_trees", INPUTS)
        trainer.learn(examples(rows, labels))
        states.append(trainer.publish(0).arrays)
    assert states[0] == states[1]


def test_half_spaces_that_are_no_complete_trees_are_refused():
    with pytest.raises(RecordError, match=r"2\^h - 1 nodes a tree"):
        one_split(masses=np.ones((1, 4)), splits=np.zeros((2, 1, 4)))
    with pytest.raises(RecordError, match="numbers from 0 to 0"):
        one_split(splits=np.ones((2, 1, 3)))


def linear(weight, intercept):
    return CompiledLinear(("amount", "hour"), np.zeros(2), np.ones(2), np.array(weight), intercept)


def test_a_stack_known_by_hand():
    members = {"one": linear([1.0, 0.0], -2.0), "two": linear([0.0, 2.0], -1.0)}
    model = CompiledChampion(("amount", "hour"), members, np.array([0.5, 0.25]), 0.125)
    row = np.array([[3.0, 1.5]])
    # Members' log-odds 1 and 2: 0.5 × 1 + 0.25 × 2 + 0.125
    assert model.score(row)[0] == pytest.approx(1 / (1 + math.exp(-1.125)))
    assert model.intercept == pytest.approx(0.125 + 0.5 * -2.0 + 0.25 * -1.0)
    assert model.contributions(row)[0] == pytest.approx([1.5, 0.75])
    # A member that is surer than ±10 is held there, and its contributions with it.
    far = np.array([[100.0, 0.0]])
    assert model.contributions(far)[0] == pytest.approx([0.5 * (MEMBER_LOG_ODDS_MAX + 2.0), 0.0])


def test_a_stack_begins_as_the_mean_of_its_members_and_learns_their_worth():
    rows, frauds = stream(3, 600)
    river = catalog.build("stacked_champion", INPUTS)
    assert set(river.judge.weights.values()) == {1 / 3}
    values = as_river_sees(rows[0])
    logistic = river.members["logistic"].predict_proba_one(values)[True]
    # Forest and naive Bayes have nothing to say yet: 0.0, held at -10.
    mean = (base_log_odds(logistic) - 2 * MEMBER_LOG_ODDS_MAX) / 3
    assert river.predict_proba_one(values)[True] == pytest.approx(1 / (1 + math.exp(-mean)))
    for row, fraud in zip(rows, frauds, strict=True):
        river.learn_one(as_river_sees(row), bool(fraud))
    assert len(set(river.judge.weights.values())) == 3


def test_a_stack_of_an_unknown_form_is_refused():
    model = CompiledChampion(("amount", "hour"), {"one": linear([1.0, 0.0], 0.0)}, np.ones(1), 0.0)
    arrays = {k.replace("CompiledLinear", "os"): v for k, v in model.to_arrays().items()}
    with pytest.raises(RecordError, match=r"a member of form CompiledLinear, .* got `os`"):
        CompiledChampion.from_arrays(("amount", "hour"), arrays)


@given(
    st.lists(st.floats(-0.2, 0.2), min_size=3, max_size=3),
    st.floats(0.2, 0.8),
)
def test_contributions_keep_signs_and_order_on_the_scale_of_log_odds(parts, base):
    score = base + sum(parts)
    if not 0.0 < score < 1.0:
        return
    shares = to_log_odds(np.array([parts]), np.array([score]), base)[0]
    assert shares.sum() == pytest.approx(base_log_odds(score) - base_log_odds(base), abs=1e-9)
    assert np.sign(shares).tolist() == np.sign(parts).tolist()
    assert np.argsort(shares, kind="stable").tolist() == np.argsort(parts, kind="stable").tolist()


def test_contributions_that_cancel_are_not_stretched():
    shares = stretched(np.array([[1.0, -1.0], [2.0, 1.0]]), np.array([0.0, 6.0]))
    assert shares.tolist() == [[1.0, -1.0], [4.0, 2.0]]
