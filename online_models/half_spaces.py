"""Half-space trees (Tan, Ting and Liu 2011): an anomaly score without labels, compiled and saved.

The score says how seldom values like these were seen in the last full window, from 0 to 1; it is no
probability of fraud. Before the first window is full it is 0.0.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees
from river.preprocessing import StandardScaler
from river.tree.padded import PaddedBranch, PaddedLeaf

from features.errors import RecordError
from online_models.framing import (
    INPUT_MAX,
    FloatArray,
    check_inputs,
    checked_array,
    checked_rows,
    usable,
)
from online_models.linear_state import restore_scaler, save_scaler
from online_models.shares import base_log_odds, spread_rest, to_log_odds
from online_models.trees.building import check_range
from online_models.trees.kernels import contributions_half_spaces, score_half_spaces
from online_models.trees.random_state import random_words, restore_random

Arrays = dict[str, NDArray[Any]]
LIMIT_DEVIATIONS = 3.0


def half_space_trees(inputs: tuple[str, ...]) -> Any:
    """Return StandardScaler | HalfSpaceTrees with 25 trees, as in the paper, of height 6.

    The trees cut the range within three standard deviations. River's own suggestion, scaling by
    the smallest and largest value ever seen, lets a single outlier press all else into one cell.
    """
    limits: Any = dict.fromkeys(inputs, (-LIMIT_DEVIATIONS, LIMIT_DEVIATIONS))
    trees = HalfSpaceTrees(n_trees=25, height=6, window_size=250, limits=limits, seed=1)
    return StandardScaler() | trees


class CompiledHalfSpaces:
    """StandardScaler | HalfSpaceTrees: score = 1 - Σ mass × 2^depth along the paths / most."""

    def __init__(
        self,
        inputs: tuple[str, ...],
        scaling: FloatArray,
        splits: FloatArray,
        masses: FloatArray,
        window: tuple[float, float],
    ) -> None:
        self.inputs = inputs
        self._means, self._deviations = scaling
        self._splits = splits
        self._features = splits[0].astype(np.int64)
        self._thresholds = np.ascontiguousarray(splits[1])
        self._masses = masses
        self._window = window
        self._least_mass, self._score_max = window
        self._is_ready = bool(masses.size and masses[:, 0].any())
        self._base = 0.0
        branches = slice(0, masses.shape[1] // 2)
        self._branch_features = self._features[:, branches].astype(np.uint64)
        self._branch_thresholds = np.ascontiguousarray(self._thresholds[:, branches])
        if self._is_ready:
            self._leaf_sums = leaf_sums(masses, self._least_mass)
            self._expected = expected_sums(masses, self._least_mass)
            self._base = 1.0 - float(self._expected[:, 0].sum()) / self._score_max
        self.intercept = base_log_odds(self._base)

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the anomaly scores, shape (n,), of `rows`, shape (n, k).

        Raises ValueError for another number of columns.
        """
        rows = checked_rows(rows, len(self.inputs))
        out = np.zeros(len(rows))
        if self._is_ready:
            scaling = (self._means, self._deviations, INPUT_MAX)
            tables = (self._branch_features, self._branch_thresholds, self._leaf_sums)
            room = (np.empty(rows.shape[1]), np.empty(len(self._masses), dtype=np.uint64))
            score_half_spaces(rows, *scaling, *tables, self._score_max, *room, out)
        return out

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return what each input's splits changed in the expected score, in log-odds, (n, k)."""
        scaled = self._scaled(rows)
        out = np.zeros(scaled.shape)
        if not self._is_ready:
            return out
        tables = (self._features, self._thresholds, self._masses, self._expected)
        contributions_half_spaces(scaled, *tables, self._least_mass, self._score_max, out)
        scores = self.score(rows)
        return to_log_odds(spread_rest(out, scores - self._base), scores, self._base)

    def to_arrays(self) -> Arrays:
        """Return `scaling` (2, k), `splits` (2, t, nodes), `masses` (t, nodes), `window` (2,)."""
        return {
            "scaling": np.stack((self._means, self._deviations)),
            "splits": self._splits,
            "masses": self._masses,
            "window": np.array(self._window),
        }

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where one does not fit."""
        names = tuple(inputs)
        check_inputs(names)
        masses = checked_array(arrays, "masses", (-1, -1))
        splits = checked_splits(arrays, masses.shape, len(names))
        scaling = checked_array(arrays, "scaling", (2, len(names)))
        least_mass, score_max = checked_array(arrays, "window", (2,), minimum=0.0).tolist()
        return cls(names, scaling, splits, masses, (least_mass, score_max))

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether this is a plain scaler, then half-space trees."""
        steps = list(getattr(pipeline, "steps", {}).values())
        if [type(step) for step in steps] != [StandardScaler, HalfSpaceTrees]:
            return False
        return bool(steps[0].with_std and steps[0].window_size is None)

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form of what has been seen so far."""
        names = tuple(inputs)
        check_inputs(names)
        return cast(Self, HalfSpacesReader(pipeline, names).compiled())

    def _scaled(self, rows: FloatArray) -> FloatArray:
        rows = usable(checked_rows(rows, len(self.inputs)))
        is_spread = self._deviations != 0.0
        scaled = np.zeros(rows.shape)
        np.divide(rows - self._means, self._deviations, out=scaled, where=is_spread)
        return scaled


def leaf_sums(masses: FloatArray, least_mass: float) -> FloatArray:
    """Return Σ mass × 2^depth along the way to each leaf, up to where a search stops, (t, leaves).

    A search stops at the first node whose mass is below `least_mass`. Masses are whole numbers, so
    the sums are exact in any order.
    """
    sums, goes_on = masses[:, :1].copy(), masses[:, :1] >= least_mass
    for depth in range(1, masses.shape[1].bit_length()):
        level = masses[:, 2**depth - 1 : 2 ** (depth + 1) - 1]
        above, goes_on = np.repeat(sums, 2, axis=1), np.repeat(goes_on, 2, axis=1)
        sums = above + np.where(goes_on, level * 2.0**depth, 0.0)
        goes_on = goes_on & (level >= least_mass)
    return sums


def expected_sums(masses: FloatArray, least_mass: float) -> FloatArray:
    """Return the mean of Σ mass × 2^depth over the window's rows that pass each node, (t, nodes).

    A node where the search stops has the sum up to itself; another one the mean of its children's,
    weighted by their masses.
    """
    height = masses.shape[1].bit_length() - 1
    levels = [slice(2**depth - 1, 2 ** (depth + 1) - 1) for depth in range(height + 1)]
    sums: FloatArray = masses.copy()
    for depth, (above, level) in enumerate(pairwise(levels), start=1):
        sums[:, level] = sums[:, level] * 2.0**depth + np.repeat(sums[:, above], 2, axis=1)
    for level, below in reversed(list(pairwise(levels))):
        weights, means = masses[:, below], sums[:, below]
        weighted = weights[:, ::2] * means[:, ::2] + weights[:, 1::2] * means[:, 1::2]
        both = weights[:, ::2] + weights[:, 1::2]
        goes_on = (masses[:, level] >= least_mass) & (both > 0.0)
        sums[:, level] = np.where(goes_on, weighted / np.maximum(both, 1.0), sums[:, level])
    return sums


class HalfSpacesReader:
    """Reads half-space trees again and again: their splits never change, only their masses do."""

    def __init__(self, pipeline: Any, inputs: tuple[str, ...]) -> None:
        self._scaler, self._trees = pipeline.steps.values()
        self._inputs = inputs
        self._nodes: list[list[Any]] = []  # of each tree, the children of node p at 2p+1 and 2p+2
        self._splits = np.zeros((2, 0, 0))

    def compiled(self) -> CompiledHalfSpaces:
        """Return the compiled form of what has been seen so far."""
        self._meet()
        names, scaler, trees = self._inputs, self._scaler, self._trees
        means = [scaler.means.get(name, 0.0) for name in names]
        deviations = [scaler.vars.get(name, 0.0) ** 0.5 for name in names]
        scaling = np.array([means, deviations])
        window = (trees.size_limit, float(trees._max_score))
        masses = self._masses("r_mass").astype(np.float64)
        return CompiledHalfSpaces(names, scaling, self._splits, masses, window)

    def arrays(self) -> Arrays:
        """Return the learning state, to be saved."""
        self._meet()
        return save_scaler(self._scaler, self._inputs) | {
            "splits": self._splits,
            "masses": np.stack((self._masses("l_mass"), self._masses("r_mass"))),
            "progress": np.array([self._trees.counter, self._trees._first_window], dtype=np.int64),
            "random": random_words(self._trees.rng),
        }

    def _meet(self) -> None:
        """Lay out the trees, which River builds when the first example comes."""
        if self._nodes or not self._trees.trees:
            return
        index = {name: float(j) for j, name in enumerate(self._inputs)}
        splits = []
        for root in self._trees.trees:
            nodes = [root]
            for node in nodes:  # grows while it is walked: level by level
                nodes += node.children if isinstance(node, PaddedBranch) else ()
            self._nodes.append(nodes)
            branches = nodes[: len(nodes) // 2]
            spare = [0.0] * (len(nodes) - len(branches))
            features = [index[branch.feature] for branch in branches]
            splits.append((features + spare, [branch.threshold for branch in branches] + spare))
        self._splits = np.ascontiguousarray(np.array(splits).swapaxes(0, 1))

    def _masses(self, name: str) -> NDArray[np.int64]:
        read = attrgetter(name)
        masses = [list(map(read, nodes)) for nodes in self._nodes]
        return np.array(masses, dtype=np.int64).reshape(self._splits.shape[1:])


def save(pipeline: Any, inputs: tuple[str, ...]) -> Arrays:
    """Return the learning state of scaler and trees as arrays."""
    return HalfSpacesReader(pipeline, inputs).arrays()


def restore(pipeline: Any, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put a saved state into a newly built pipeline.

    Raises RecordError where an array is missing or misshapen.
    """
    scaler, trees = pipeline.steps.values()
    restore_scaler(scaler, inputs, arrays)
    restore_random(trees.rng, arrays)
    trees.counter, first_window = map(int, checked_array(arrays, "progress", (2,), minimum=0.0))
    trees._first_window = bool(first_window)
    masses = checked_array(arrays, "masses", (2, -1, -1))
    splits = checked_splits(arrays, masses.shape[1:], len(inputs))
    node_count = 2 ** (trees.height + 1) - 1
    if masses.shape[1] and masses.shape[1:] != (trees.n_trees, node_count):
        expected = f"{trees.n_trees} trees of {node_count} nodes"
        raise RecordError("$.arrays.masses", expected, f"shape {masses.shape}")
    for t in range(masses.shape[1]):
        trees.trees.append(_tree(inputs, splits[:, t].tolist(), masses[:, t].tolist(), 0))
    trees._tree_nodes = [list(root.iter_dfs()) for root in trees.trees]


def checked_splits(
    arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...], input_count: int
) -> FloatArray:
    """Return `splits` (2, t, nodes); raises RecordError unless they are of complete trees."""
    splits = checked_array(arrays, "splits", (2, *shape))
    if shape[1] & (shape[1] + 1):
        raise RecordError("$.arrays.splits", "2^h - 1 nodes a tree", f"{shape[1]}")
    check_range(splits[0], 0, input_count - 1, "$.arrays.splits")
    return splits


def _tree(
    inputs: tuple[str, ...], splits: list[list[float]], masses: list[list[float]], node: int
) -> Any:
    mass = {"l_mass": int(masses[0][node]), "r_mass": int(masses[1][node])}
    if node >= len(masses[0]) // 2:
        return PaddedLeaf(**mass)
    left, right = (_tree(inputs, splits, masses, 2 * node + side) for side in (1, 2))
    return PaddedBranch(left, right, inputs[int(splits[0][node])], splits[1][node], **mass)
