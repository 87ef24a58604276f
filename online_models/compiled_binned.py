"""The compiled form of Binner | LogisticRegression: tables of weights that a kernel looks up."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from river.linear_model import LogisticRegression
from river.optim.losses import Log

from features.errors import RecordError
from online_models.binned_state import at_places, checked_state, layout_of, only, save
from online_models.binning import Binner, places
from online_models.framing import (
    INPUT_MAX,
    FloatArray,
    check_inputs,
    checked_array,
    checked_rows,
)
from online_models.kernels import contributions_binned, score_binned

IntArray = NDArray[np.int64]


class CompiledBinned:
    """Log-odds = intercept + the weights of the bins that a row falls into, crosses included.

    `edges` (k, e) with `edge_counts` (k,), -1 while an input's edges are not known and it has no
    bins; `sizes` (k,), the bins that each input has room for; `crosses` (c, 2), pairs of inputs by
    number; `weights` of all bins, laid out as `BinLayout` says. A cross's weight is shared out to
    its two inputs in equal halves.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        edges: FloatArray,
        edge_counts: IntArray,
        sizes: IntArray,
        crosses: IntArray,
        weights: FloatArray,
        intercept: float,
    ) -> None:
        self.inputs = inputs
        self.intercept = intercept
        self._weights = weights
        offsets, cross_offsets, _ = places(sizes, crosses)
        self._tables = (
            edges, edge_counts, crosses, sizes, np.concatenate([offsets, cross_offsets]), weights,
        )  # fmt: skip

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the probabilities of fraud, shape (n,), of `rows`, shape (n, k).

        Raises ValueError for another number of columns.
        """
        rows = checked_rows(rows, len(self.inputs))
        out = np.empty(rows.shape[0])
        score_binned(rows, *self._tables, self.intercept, INPUT_MAX, self._room(), out)
        return out

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return each input's share of the log-odds, shape (n, k): bins, and halves of crosses."""
        rows = checked_rows(rows, len(self.inputs))
        out = np.empty(rows.shape)
        contributions_binned(rows, *self._tables, INPUT_MAX, self._room(), out)
        return out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return edges, sizes and crosses as the constructor has them, intercept, and weights.

        Of the weights only those that are not 0.0, with their places, as `only` has them.
        """
        edges, edge_counts, crosses, sizes, _, weights = self._tables
        return {
            "edges": edges,
            "edge_counts": edge_counts,
            "sizes": sizes,
            "crosses": crosses,
            **only(weights != 0.0, {"weights": weights}),
            "intercept": np.array([self.intercept]),
        }

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where one does not fit."""
        names = tuple(inputs)
        check_inputs(names)
        k = len(names)
        sizes = checked_array(arrays, "sizes", (k,), minimum=2).astype(np.int64)
        crosses = checked_array(arrays, "crosses", (-1, 2), minimum=0).astype(np.int64)
        edges = checked_array(arrays, "edges", (k, -1))
        counts = checked_array(arrays, "edge_counts", (k,), minimum=-1).astype(np.int64)
        if crosses.size and crosses.max() >= k:
            raise RecordError("$.arrays.crosses", f"inputs below {k}", f"{crosses.max()}")
        if (counts > np.minimum(sizes - 2, edges.shape[1])).any():
            expected = f"at most {edges.shape[1]} edges of an input, and its size less 2"
            raise RecordError("$.arrays.edge_counts", expected, f"{counts.max()}")
        _, _, bin_count = places(sizes, crosses)
        weights = at_places(arrays, "weights", bin_count)
        intercept = float(checked_array(arrays, "intercept", (1,))[0])
        return cls(names, edges, counts, sizes, crosses, weights, intercept)

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether this is a binner, then a logistic regression with the log loss."""
        steps = list(getattr(pipeline, "steps", {}).values())
        if [type(step) for step in steps] != [Binner, LogisticRegression]:
            return False
        return type(steps[1].loss) is Log

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form; a bin that River has not met yet has weight 0.0."""
        names = tuple(inputs)
        layout = layout_of(pipeline, names)
        arrays = save(pipeline, names)
        return cls(
            names,
            arrays["edges"],
            arrays["edge_counts"],
            layout.sizes,
            layout.crosses,
            checked_state(arrays, layout)["weights"],
            float(arrays["intercept"][0]),
        )

    def _room(self) -> IntArray:
        """Return room for the bins of one row."""
        return np.empty(len(self._tables[4]), dtype=np.int64)
