"""Bins and what is learned over them: edges and weights known by hand, cuts, restarts, refusals."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from features.errors import RecordError
from online_models import catalog
from online_models.binned_state import at_places, only, restore, save
from online_models.binning import BinLayout, Binner, learned_edges
from online_models.compiled_binned import CompiledBinned
from online_models.options import InputBins, ModelOptions

INPUTS = ("amount", "age", "ratio")
OPTIONS = ModelOptions(
    bins=(("age", InputBins((0.0, 1.0, 2.0))), ("ratio", InputBins((), 2, 2, 0.5))),
    crosses=(("age", "amount"), ("ratio", "age")),
    warm_up_count=6,
)
number = st.floats(-1e3, 1e3) | st.sampled_from([math.nan, 0.0, 1.0, 2.0])
lessons = st.lists(
    st.tuples(st.tuples(number, number, number), st.booleans(), st.sampled_from([1.0, 10.0])),
    max_size=40,
)


def as_arrays(examples: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rows = np.array([row for row, _, _ in examples], dtype=np.float64).reshape(-1, len(INPUTS))
    frauds = np.array([fraud for _, fraud, _ in examples], dtype=np.bool_)
    return rows, frauds, np.array([weight for _, _, weight in examples], dtype=np.float64)


def bits(arrays: dict[str, NDArray[Any]]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in arrays.items()}


def test_edges_are_quantiles_and_then_equal_steps() -> None:
    values = np.arange(101.0)
    # Shares 0.25 and 0.5 of 0 … 100 are 25 and 50; two steps from there to 100.
    assert learned_edges(values, InputBins((), 2, 2, 0.5)).tolist() == [25.0, 50.0, 75.0, 100.0]
    assert learned_edges(values, InputBins((), 4, 0, 1.0)).tolist() == [25.0, 50.0, 75.0, 100.0]
    assert learned_edges(np.full(9, 7.0), InputBins()).tolist() == [7.0]
    # Three of four are 0: what is rare still gets bins of its own.
    rare = learned_edges(np.array([0.0, 0.0, 0.0, 8.0]), InputBins((), 1, 4, 0.5))
    assert rare.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]


@given(st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=60), st.integers(1, 9),
       st.integers(0, 9), st.floats(0.01, 1.0))  # fmt: skip
def test_edges_ascend_within_the_values(
    values: list[float], quantiles: int, tail: int, share: float
) -> None:
    bins = InputBins((), quantiles, tail, share)
    edges = learned_edges(np.array(values), bins)
    assert 1 <= len(edges) <= bins.edge_count_max
    assert (np.diff(edges) > 0).all()
    assert edges[0] >= min(values)
    assert edges[-1] <= max(values)


def test_an_edge_belongs_to_the_bin_below_and_missing_has_its_own() -> None:
    binner = Binner({"age": InputBins((0.0, 1.0))}, warm_up=2)
    cases = {-3.0: 1, 0.0: 1, 0.5: 2, 1.0: 2, 1.5: 3, math.nan: 0, math.inf: 0, 2e100: 0, None: 0}
    assert {value: binner.transform_one({"age": value}) for value in cases} == {
        value: {f"age={place}": 1.0} for value, place in cases.items()
    }
    assert binner.transform_one({}) == {"age=0": 1.0}


def test_an_input_has_no_bin_before_its_edges_and_may_come_late() -> None:
    binner = Binner({"age": InputBins((0.0,))}, [("age", "new")], warm_up=2)
    assert binner.transform_one({"age": 1.0, "new": 5.0}) == {"age=2": 1.0}
    for value in (math.nan, 5.0, None):
        binner.learn_one({"age": 1.0, "new": value})
    assert binner.transform_one({"age": 1.0, "new": 5.0}) == {"age=2": 1.0}
    binner.learn_one({"age": 1.0, "new": 9.0})
    # Of 5 and 9: quantiles from 5.38 to 8.8, then steps to 9.
    edges = binner.edges["new"]
    assert (edges[0], edges[9], edges[-1]) == pytest.approx((5.38, 8.8, 9.0))
    assert not binner.values
    assert not binner.firsts
    found = binner.transform_one({"age": 1.0, "new": 5.2})
    assert found == {"age=2": 1.0, "new=1": 1.0, "age=2&new=1": 1.0}


def test_what_is_always_the_same_waits_until_one_in_a_hundred_is_not() -> None:
    """The first 300 values are 0, as shares of known frauds are before the first label."""
    binner = Binner({"share": InputBins((), 1, 4, 0.5)}, warm_up=200)
    for _ in range(300):
        binner.learn_one({"share": 0.0})
    binner.learn_one({"share": 1.0})
    assert not binner.edges
    assert (binner.firsts, binner.values) == ({"share": (0.0, 300)}, {"share": [1.0]})
    binner.learn_one({"share": 0.5})
    assert binner.edges["share"] == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_weights_known_by_hand() -> None:
    # Two inputs, one edge each (bins: missing, up to the edge, beyond it), and their cross.
    arrays = {
        "edges": np.array([[0.0], [10.0]]),
        "edge_counts": np.array([1, 1]),
        "sizes": np.array([3, 3]),
        "crosses": np.array([[0, 1]]),
        "met": np.arange(15),
        "weights": np.concatenate([[0.5, 1.0, 2.0], [-0.5, 3.0, 4.0], np.arange(9.0) / 2]),
        "intercept": np.array([-5.0]),
    }
    model = CompiledBinned.from_arrays(("a", "b"), arrays)
    rows = np.array([[1.0, 10.0], [0.0, math.nan]])
    # Bins 2 and 1: weights 2 and 3, their cross 3 × 2 + 1 = place 7 of nine: 3.5.
    # Bins 1 and 0: weights 1 and -0.5, their cross place 3: 1.5.
    assert model.contributions(rows).tolist() == [[3.75, 4.75], [1.75, 0.25]]
    expected = [1 / (1 + math.exp(-3.5)), 1 / (1 + math.exp(3.0))]
    assert model.score(rows) == pytest.approx(expected, abs=1e-15)


@given(examples=lessons, cuts=st.sets(st.integers(0, 40)))
def test_no_cut_of_the_examples_changes_a_bit(examples: Any, cuts: set[int]) -> None:
    whole = catalog.learning("binned_logistic", INPUTS, OPTIONS)
    cut = catalog.learning("binned_logistic", INPUTS, OPTIONS)
    rows, frauds, weights = as_arrays(examples)
    whole.learn(rows, frauds, weights)
    bounds = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    for start, stop in pairwise(bounds):
        cut.learn(rows[start:stop], frauds[start:stop], weights[start:stop])
    assert bits(whole.arrays()) == bits(cut.arrays())


@given(examples=lessons, stop=st.integers(0, 40))
def test_river_goes_on_from_the_kernels_state(examples: Any, stop: int) -> None:
    learning = catalog.learning("binned_logistic", INPUTS, OPTIONS)
    rows, frauds, weights = as_arrays(examples)
    learning.learn(rows[:stop], frauds[:stop], weights[:stop])
    river = catalog.build("binned_logistic", INPUTS, OPTIONS)
    restore(river, INPUTS, learning.arrays())
    for row, fraud, weight in examples[stop:]:
        river.learn_one(dict(zip(INPUTS, row, strict=True)), fraud, w=weight)
    learning.learn(rows[stop:], frauds[stop:], weights[stop:])
    ours, rivers = learning.arrays(), save(river, INPUTS)
    for name, array in rivers.items():
        np.testing.assert_allclose(ours[name], array, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_published_form_does_not_change_when_learning_goes_on() -> None:
    learning = catalog.learning("binned_logistic", INPUTS, OPTIONS)
    rows = np.arange(60.0).reshape(20, 3)
    learning.learn(rows[:10], np.zeros(10, dtype=np.bool_), np.ones(10))
    form = learning.compiled()
    before = form.score(rows).tobytes()
    learning.learn(rows[10:], np.ones(10, dtype=np.bool_), np.ones(10))
    assert form.score(rows).tobytes() == before
    assert learning.compiled().score(rows).tobytes() != before


def test_what_was_learned_before_the_edges_of_another_input_stays() -> None:
    """Edges of `amount` come with the third example: `age` has learned from the first on."""
    options = ModelOptions(bins=(("age", InputBins((0.0,))),), warm_up_count=3)
    learning = catalog.learning("binned_logistic", ("amount", "age"), options)
    rows = np.array([[5.0, 1.0], [7.0, 1.0], [5.0, 1.0]])
    learning.learn(rows[:2], np.array([True, True]), np.ones(2))
    state = learning.arrays()
    assert state["edge_counts"].tolist() == [-1, 1]
    assert (state["first_values"].tolist(), state["first_counts"].tolist()) == ([5.0, 0.0], [1, 0])
    assert (state["warm_values"].tolist(), state["warm_counts"].tolist()) == ([7.0], [1, 0])
    assert np.count_nonzero(state["weights"]) == 1
    learning.learn(rows[2:], np.array([True]), np.ones(1))
    state = learning.arrays()
    assert state["edge_counts"].tolist() == [len(learned_edges(rows[:, 0], InputBins())), 1]
    assert (state["first_counts"].tolist(), len(state["warm_values"])) == ([0, 0], 0)
    assert np.count_nonzero(state["weights"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ModelOptions(bins=(("amuont", InputBins()),)), "did you mean `amount`"),
        (ModelOptions(crosses=(("amount", "agee"),)), "did you mean `age`"),
        (ModelOptions(bins=(("age", InputBins((1.0, 1.0))),)), "finite edges, ascending"),
        (ModelOptions(bins=(("age", InputBins((math.nan,))),)), "finite edges, ascending"),
        (ModelOptions(bins=(("age", InputBins((), 0)),)), "1 quantile or more"),
        (ModelOptions(bins=(("age", InputBins((), 990, 20)),)), "at most 1000 edges"),
        (ModelOptions(warm_up_count=0), "warm_up_count: expected 1 or more"),
        (
            ModelOptions(
                bins=tuple((name, InputBins((), 500, 499)) for name in INPUTS),
                crosses=(("age", "amount"), ("age", "ratio")),
            ),
            "at most 100000 bins",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options: ModelOptions, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        BinLayout(INPUTS, options)


def test_options_belong_to_pipelines_with_bins() -> None:
    with pytest.raises(RecordError, match="a pipeline that takes them: binned_logistic"):
        catalog.build("scaled_logistic", INPUTS, OPTIONS)


@pytest.mark.parametrize("met_count", [0, 1, 7, 8, 15])
def test_columns_come_back_whole_whether_few_or_many_bins_were_met(met_count: int) -> None:
    met = np.arange(15) % 15 < met_count
    columns = {"weights": np.where(met, 2.5, 0.0), "squares": np.where(met, 0.25, 0.0)}
    kept = only(met, columns)
    assert sum(map(len, kept.values())) == (3 * met_count if met_count <= 7 else 30)
    for name, column in columns.items():
        assert at_places(kept, name, 15).tolist() == column.tolist()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("weights", np.zeros(5), r"weights: expected shape \(15,\)"),
        ("edges", np.zeros((3, 1)), r"edges: expected shape \(2, -1\)"),
        ("edge_counts", np.array([2, 1]), "at most 1 edges"),
        ("edge_counts", np.array([-2, 1]), "values of -1 or more"),
        ("crosses", np.array([[0, 2]]), "inputs below 2"),
        ("sizes", np.array([1, 3]), "values of 2 or more"),
        ("met", np.arange(1, 16), "places below 15"),
        ("met", np.arange(14), r"shape \(14,\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, array: NDArray[Any], message: str) -> None:
    arrays = {
        "edges": np.zeros((2, 1)),
        "edge_counts": np.array([1, 1]),
        "sizes": np.array([3, 3]),
        "crosses": np.array([[0, 1]]),
        "met": np.arange(15),
        "weights": np.zeros(15),
        "intercept": np.zeros(1),
    }
    CompiledBinned.from_arrays(("a", "b"), arrays)
    with pytest.raises(RecordError, match=message):
        CompiledBinned.from_arrays(("a", "b"), {**arrays, name: array})
