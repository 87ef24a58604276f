"""The learning state of Binner | LogisticRegression(AdaGrad) as arrays: learn, save and restore.

`save` and `restore` read and fill River's own pipeline, which is the oracle of the kernel that
learns in its place (`binned_learning`): both have the same arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.utils import VectorDict

from features.errors import RecordError
from online_models.binning import BinLayout, Binner
from online_models.entries import Learn
from online_models.framing import FloatArray, check_inputs, checked_array
from online_models.options import ModelOptions


def layout_of(pipeline: Any, inputs: tuple[str, ...]) -> BinLayout:
    """Return where the bins of a River pipeline's inputs have their places."""
    check_inputs(inputs)
    binner: Binner = next(iter(pipeline.steps.values()))
    options = ModelOptions(
        bins=tuple((binner.bins or {}).items()),
        crosses=tuple(binner.crosses),
        warm_up_count=binner.warm_up,
    )
    return BinLayout(inputs, options)


def learner(pipeline: Any, inputs: tuple[str, ...]) -> Learn:
    """Return learn(values, fraud, weight): `pipeline.learn_one(x, y, w=...)`; NaN is missing."""

    def learn(values: Sequence[float], fraud: bool, weight: float) -> None:
        pipeline.learn_one(dict(zip(inputs, values, strict=True)), fraud, w=weight)

    return learn


def edge_table(edges: Sequence[Sequence[float] | None], width: int) -> dict[str, NDArray[Any]]:
    """Return `edges` (k, width), filled up with 0.0, and `edge_counts` (k,), -1 for None."""
    table = np.zeros((len(edges), width))
    counts = np.full(len(edges), -1, dtype=np.int64)
    for row, found in enumerate(edges):
        if found is not None:
            table[row, : len(found)] = found
            counts[row] = len(found)
    return {"edges": table, "edge_counts": counts}


def save(pipeline: Any, inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return edges, the warm-up's values one input after another, and what the regression learned.

    `edges` (k, e), `edge_counts` (k,); of inputs without edges the first value and how often it
    came, `first_values` and `first_counts` (k,), and the others, `warm_values` (Σ warm_counts,)
    with `warm_counts` (k,); `weights` and AdaGrad's `squares` as `met_bins` has them; `intercept`
    and `iterations` (1,).
    """
    layout = layout_of(pipeline, inputs)
    binner, regression = pipeline.steps.values()
    table = edge_table([binner.edges.get(name) for name in inputs], layout.edge_count_max)
    warm = [binner.values.get(name, []) for name in inputs]
    firsts = [binner.firsts.get(name, (0.0, 0)) for name in inputs]
    places = layout.numbers(table["edge_counts"])
    return {
        **table,
        "first_values": np.array([value for value, _ in firsts], dtype=np.float64),
        "first_counts": np.array([count for _, count in firsts], dtype=np.int64),
        "warm_values": np.array([value for values in warm for value in values], dtype=np.float64),
        "warm_counts": np.array([len(values) for values in warm], dtype=np.int64),
        **met_bins(
            _spread(regression.weights, places, layout.bin_count),
            _spread(regression.optimizer.g2, places, layout.bin_count),
        ),
        "intercept": np.array([regression.intercept], dtype=np.float64),
        "iterations": np.array([regression.optimizer.n_iterations], dtype=np.int64),
    }


def met_bins(weights: FloatArray, squares: FloatArray) -> dict[str, NDArray[Any]]:
    """Return `met`, `weights` and `squares` of the bins that were met, as `only` has them.

    A bin that was met has a gradient behind it, however small.
    """
    met = (squares > 0.0) | (weights != 0.0)
    return only(met, {"weights": weights, "squares": squares})


def only(met: NDArray[np.bool_], columns: Mapping[str, FloatArray]) -> dict[str, NDArray[Any]]:
    """Return the places `met` (m,) where a bin was met, and there the values of columns (bins,).

    Few of a cross's pairs are ever met. Where more than half are, `met` is empty, and the columns
    are whole: a place takes as many bytes as a value.
    """
    places = np.flatnonzero(met)
    if 2 * len(places) > len(met):
        return {"met": places[:0], **columns}
    return {"met": places, **{name: column[places] for name, column in columns.items()}}


def _spread(values: Mapping[str, float], places: Mapping[str, int], bin_count: int) -> FloatArray:
    out = np.zeros(bin_count)
    for name, value in values.items():
        out[places[name]] = value
    return out


def restore(pipeline: Any, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put a saved state into a newly built pipeline.

    Raises RecordError where an array is missing, misshapen or not finite.
    """
    layout = layout_of(pipeline, inputs)
    state = checked_state(arrays, layout)
    binner, regression = pipeline.steps.values()
    end = 0
    for j, name in enumerate(inputs):
        count, warm_count = int(state["edge_counts"][j]), int(state["warm_counts"][j])
        if count >= 0:
            binner.edges[name] = state["edges"][j, :count].tolist()
        first_count = int(state["first_counts"][j])
        if first_count:
            binner.firsts[name] = float(state["first_values"][j]), first_count
            binner.values[name] = state["warm_values"][end : end + warm_count].tolist()
        end += warm_count
    weights, squares = state["weights"], state["squares"]
    met = [
        (name, place)
        for name, place in layout.numbers(state["edge_counts"]).items()
        if squares[place] > 0.0 or weights[place] != 0.0
    ]
    regression._weights = VectorDict({name: float(weights[place]) for name, place in met})
    regression.optimizer.g2.update((name, float(squares[place])) for name, place in met)
    regression.intercept = float(state["intercept"][0])
    regression.optimizer.n_iterations = int(state["iterations"][0])


def checked_state(arrays: Mapping[str, NDArray[Any]], layout: BinLayout) -> dict[str, NDArray[Any]]:
    """Return the arrays of `save` with their own types; raises RecordError where one is wrong.

    `weights` and `squares` are of all bins, in the layout's places.
    """
    k, bin_count = len(layout.inputs), layout.bin_count
    counts = checked_array(arrays, "warm_counts", (k,), minimum=0).astype(np.int64)
    return {
        "edges": checked_array(arrays, "edges", (k, layout.edge_count_max)),
        "edge_counts": checked_array(arrays, "edge_counts", (k,), minimum=-1).astype(np.int64),
        "first_values": checked_array(arrays, "first_values", (k,)),
        "first_counts": checked_array(arrays, "first_counts", (k,), minimum=0).astype(np.int64),
        "warm_values": checked_array(arrays, "warm_values", (int(counts.sum()),)),
        "warm_counts": counts,
        "weights": at_places(arrays, "weights", bin_count),
        "squares": at_places(arrays, "squares", bin_count, minimum=0),
        "intercept": checked_array(arrays, "intercept", (1,)),
        "iterations": checked_array(arrays, "iterations", (1,), minimum=0).astype(np.int64),
    }


def at_places(
    arrays: Mapping[str, NDArray[Any]], name: str, bin_count: int, minimum: float = -np.inf
) -> FloatArray:
    """Return a column of `only` as one of all bins (bin_count,), 0.0 where none was met.

    Raises RecordError where `met` or the array is missing, misshapen or out of range.
    """
    met = checked_array(arrays, "met", (-1,), minimum=0).astype(np.int64)
    if met.size and met.max() >= bin_count:
        raise RecordError("$.arrays.met", f"places below {bin_count}", f"{met.max()}")
    if not met.size and name in arrays and arrays[name].shape == (bin_count,):
        return checked_array(arrays, name, (bin_count,), minimum).copy()
    out = np.zeros(bin_count)
    out[met] = checked_array(arrays, name, met.shape, minimum)
    return out
