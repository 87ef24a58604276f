"""Learns a logistic regression over bins through a kernel, as Binner | LogisticRegression would.

The arrays are those of `binned_state.save`, equal to River's to 1e-9 (the tests compare the two
after every example), and so is each step: edges of an input become known with the value that fills
its warm-up, and the example that brought it is already learned with them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.binned_state import checked_state, edge_table
from online_models.binning import BinLayout, learned_edges
from online_models.compiled_binned import CompiledBinned
from online_models.framing import INPUT_MAX, FloatArray
from online_models.kernels import learn_binned


class BinnedLearning:
    """A model of bins while it learns. Raises RecordError for options that do not fit the inputs.

    `rates` are AdaGrad's rate, its eps, the intercept's rate and the largest gradient (4,).
    """

    def __init__(self, layout: BinLayout, intercept: float, rates: FloatArray) -> None:
        self._layout = layout
        self._rates = rates
        table = edge_table(
            [list(bins.edges) or None for bins in layout.bins], layout.edge_count_max
        )
        self._edges: FloatArray = table["edges"]
        self._edge_counts: NDArray[np.int64] = table["edge_counts"]
        self._offsets = np.concatenate([layout.offsets, layout.cross_offsets])
        self._weights = np.zeros(layout.bin_count)
        self._squares = np.zeros(layout.bin_count)
        self._intercept = np.array([intercept])
        self._iteration_count = 0
        self._warm: dict[int, list[FloatArray]] = self._warming()

    def learn(self, rows: FloatArray, frauds: NDArray[np.bool_], weights: FloatArray) -> None:
        """Learn `rows` (n, k) in their order, NaN where a value is missing."""
        learned = warmed = 0
        while learned < len(rows):
            stop = warmed + self._count_before_edges(rows[warmed:])
            run = slice(learned, stop)
            self._learn(rows[run], frauds[run], weights[run])
            self._warm_up(rows[warmed : stop + 1])
            learned, warmed = stop, min(stop + 1, len(rows))

    def compiled(self) -> CompiledBinned:
        """Return the form that scores as the model stands; it does not change afterwards."""
        return CompiledBinned(
            self._layout.inputs,
            self._edges.copy(),
            self._edge_counts.copy(),
            self._layout.sizes,
            self._layout.crosses,
            self._weights.copy(),
            float(self._intercept[0]),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that is needed to go on."""
        warm = [self._warm.get(j, []) for j in range(len(self._layout.inputs))]
        values = [part for parts in warm for part in parts]
        return {
            "edges": self._edges,
            "edge_counts": self._edge_counts,
            "warm_values": np.concatenate(values) if values else np.empty(0),
            "warm_counts": np.array([sum(map(len, parts)) for parts in warm], dtype=np.int64),
            "weights": self._weights,
            "squares": self._squares,
            "intercept": self._intercept,
            "iterations": np.array([self._iteration_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the arrays; raises RecordError where one does not fit."""
        state = checked_state(arrays, self._layout)
        self._edges, self._edge_counts = state["edges"].copy(), state["edge_counts"]
        self._weights, self._squares = state["weights"].copy(), state["squares"].copy()
        self._intercept = state["intercept"].copy()
        self._iteration_count = int(state["iterations"][0])
        self._warm = self._warming()
        ends = np.cumsum(state["warm_counts"])
        for j, end in enumerate(ends.tolist()):
            count = int(state["warm_counts"][j])
            if count:
                self._warm[j] = [state["warm_values"][end - count : end].copy()]

    def _warming(self) -> dict[int, list[FloatArray]]:
        return {j: [] for j in np.flatnonzero(self._edge_counts < 0).tolist()}

    def _missing_count(self, j: int) -> int:
        """Return how many values an input still needs for its edges."""
        return self._layout.options.warm_up_count - sum(map(len, self._warm[j]))

    def _count_before_edges(self, rows: FloatArray) -> int:
        """Return how many of the rows come before the first that makes an input's edges known."""
        stop = len(rows)
        for j in self._warm:
            ordinary = np.flatnonzero(np.abs(rows[:stop, j]) <= INPUT_MAX)
            missing_count = self._missing_count(j)
            if len(ordinary) >= missing_count:
                stop = int(ordinary[missing_count - 1])
        return stop

    def _warm_up(self, rows: FloatArray) -> None:
        """Take the values of inputs without edges; make edges of those that have enough now."""
        for j in list(self._warm):
            values = rows[:, j]
            self._warm[j].append(values[np.abs(values) <= INPUT_MAX])
            if self._missing_count(j) <= 0:
                edges = learned_edges(np.concatenate(self._warm.pop(j)), self._layout.bins[j])
                self._edges[j, : len(edges)] = edges
                self._edge_counts[j] = len(edges)

    def _learn(self, rows: FloatArray, frauds: NDArray[np.bool_], weights: FloatArray) -> None:
        learn_binned(
            np.ascontiguousarray(rows),
            frauds,
            weights,
            self._edges,
            self._edge_counts,
            self._layout.crosses,
            self._layout.sizes,
            self._offsets,
            self._weights,
            self._squares,
            self._intercept,
            self._rates,
            INPUT_MAX,
            np.empty(len(self._offsets), dtype=np.int64),
        )
        self._iteration_count += len(rows)
