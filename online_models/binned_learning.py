"""Learns a logistic regression over bins through a kernel, as Binner | LogisticRegression would.

The arrays are those of `binned_state.save`, equal to River's to 1e-9 (the tests compare the two
after every example), and so is each step: edges of an input become known with the value that fills
its warm-up, and the example that brought it is already learned with them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online_models.binned_state import checked_state, edge_table, met_bins
from online_models.binning import (
    OTHERS_PER_WARM_UP,
    BinLayout,
    is_warm,
    learned_edges,
    warm_values,
)
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
        self._first_values = np.zeros(len(layout.inputs))
        self._first_counts = np.zeros(len(layout.inputs), dtype=np.int64)
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
            "first_values": self._first_values,
            "first_counts": self._first_counts,
            "warm_values": np.concatenate(values) if values else np.empty(0),
            "warm_counts": np.array([sum(map(len, parts)) for parts in warm], dtype=np.int64),
            **met_bins(self._weights, self._squares),
            "intercept": self._intercept,
            "iterations": np.array([self._iteration_count], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the arrays; raises RecordError where one does not fit."""
        state = checked_state(arrays, self._layout)
        self._edges, self._edge_counts = state["edges"].copy(), state["edge_counts"]
        self._weights, self._squares = state["weights"], state["squares"]
        self._intercept = state["intercept"].copy()
        self._iteration_count = int(state["iterations"][0])
        self._first_values = state["first_values"].copy()
        self._first_counts = state["first_counts"]
        self._warm = self._warming()
        ends = np.cumsum(state["warm_counts"])
        for j, end in enumerate(ends.tolist()):
            count = int(state["warm_counts"][j])
            if count:
                self._warm[j] = [state["warm_values"][end - count : end].copy()]

    def _warming(self) -> dict[int, list[FloatArray]]:
        return {j: [] for j in np.flatnonzero(self._edge_counts < 0).tolist()}

    def _count_before_edges(self, rows: FloatArray) -> int:
        """Return how many of the rows come before the first that makes an input's edges known."""
        warm_up, stop = self._layout.options.warm_up_count, len(rows)
        for j, parts in self._warm.items():
            places = np.flatnonzero(np.abs(rows[:stop, j]) <= INPUT_MAX)
            if not len(places):
                continue
            values = rows[places, j]
            first = self._first_values[j] if self._first_counts[j] else values[0]
            others = np.cumsum(values != first) + sum(map(len, parts))
            firsts = np.cumsum(values == first) + self._first_counts[j]
            warm = np.flatnonzero(
                (firsts + others >= warm_up) & (OTHERS_PER_WARM_UP * others >= warm_up)
            )
            if len(warm):
                stop = int(places[warm[0]])
        return stop

    def _warm_up(self, rows: FloatArray) -> None:
        """Take the values of inputs without edges; make edges of those that have enough now."""
        warm_up = self._layout.options.warm_up_count
        for j in list(self._warm):
            values = rows[np.abs(rows[:, j]) <= INPUT_MAX, j]
            if not len(values):
                continue
            if not self._first_counts[j]:
                self._first_values[j] = values[0]
            is_first = values == self._first_values[j]
            self._first_counts[j] += np.count_nonzero(is_first)
            self._warm[j].append(values[~is_first])
            first, first_count = float(self._first_values[j]), int(self._first_counts[j])
            others = np.concatenate(self._warm[j])
            if is_warm(first_count, len(others), warm_up):
                seen = warm_values(first, first_count, others, warm_up)
                edges = learned_edges(seen, self._layout.bins[j])
                self._edges[j, : len(edges)] = edges
                self._edge_counts[j] = len(edges)
                self._first_values[j], self._first_counts[j] = 0.0, 0
                del self._warm[j]

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
