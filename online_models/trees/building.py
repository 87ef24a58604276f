"""From arrays back to River's Hoeffding trees, so that learning goes on as if it never stopped.

Every node is made by River's own constructors; only numbers, names of inputs and the two classes
come from what was stored.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.proba import Gaussian
from river.stats import Mean
from river.tree.nodes.arf_htc_nodes import BaseRandomLeaf
from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.nodes.hatc_nodes import AdaNumBinaryBranchClass

from features.errors import RecordError
from online_models.compiled import checked_array
from online_models.trees.detectors import detector_of
from online_models.trees.reading import ENTRIES, ENTRY, FACT, FACTS, ORDERS, UNOBSERVED

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class TreeBuilder:
    """Makes the trees of saved tables. Raises RecordError where the tables do not fit."""

    def __init__(self, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._inputs = inputs
        self.roots, self._links, self._facts, self._entries = checked_tables(arrays, len(inputs))
        node_count = len(self._links)
        ends = checked_table(arrays, "detector_ends", (node_count,)).astype(np.int64)
        self._detectors = checked_table(arrays, "detectors", (-1,))
        self._ends = np.concatenate(([0], ends))
        if (np.diff(self._ends) < 0).any() or self._ends[-1] != len(self._detectors):
            expected = f"ends that rise to {len(self._detectors)}"
            raise RecordError("$.arrays.detector_ends", expected, f"{ends[-3:]}")

    def build(self, tree: Any, place: int) -> Any:
        """Return the node at `place` with all below it; `tree` is the one that it belongs to."""
        fact = self._facts[place].tolist()
        feature, left, right, alternate = self._links[place].tolist()
        if feature < 0:
            return self._leaf(tree, place, fact, left, right)
        children = [self.build(tree, left), self.build(tree, right)]
        arguments = (_stats(fact), self._inputs[feature], fact[FACT["threshold"]])
        depth = int(fact[FACT["depth"]])
        if not self._has_detector(place):
            return NumericBinaryBranch(*arguments, depth, *children)
        detector = self._detector(tree, place)
        branch = AdaNumBinaryBranchClass(*arguments, depth, *children, drift_detector=detector)
        branch._mean_error = _error(fact)
        if alternate >= 0:
            branch._alternate_tree = self.build(tree, alternate)
        return branch

    def _leaf(self, tree: Any, place: int, fact: list[float], first: int, count: int) -> Any:
        leaf = tree._new_leaf(_stats(fact))
        leaf.depth = int(fact[FACT["depth"]])
        leaf.last_split_attempt_at = fact[FACT["attempted_at"]]
        rows = self._entries[first : first + count].tolist()
        names = [self._inputs[int(row[0])] for row in rows]
        if fact[FACT["is_active"]]:
            for name, row in zip(names, rows, strict=True):
                if row[ENTRY["order"]] != UNOBSERVED:
                    leaf.splitters[name] = _splitter(leaf.splitter, row)
        else:
            leaf.deactivate()
        if isinstance(leaf, BaseRandomLeaf):
            leaf.feature_indices = names
        if hasattr(leaf, "_nb_correct_weight"):
            leaf._mc_correct_weight = fact[FACT["majority_correct"]]
            leaf._nb_correct_weight = fact[FACT["bayes_correct"]]
        if self._has_detector(place):
            leaf.drift_detector = self._detector(tree, place)
            leaf._mean_error = _error(fact)
        return leaf

    def _has_detector(self, place: int) -> bool:
        return bool(self._ends[place + 1] > self._ends[place])

    def _detector(self, tree: Any, place: int) -> Any:
        numbers = self._detectors[self._ends[place] : self._ends[place + 1]].tolist()
        return detector_of(tree.drift_detector, numbers)


def checked_table(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return one array as float64; -1 in `shape` stands for any length.

    Raises RecordError as `checked_array`.
    """
    found = np.shape(arrays.get(name, ()))
    if len(found) == len(shape):
        shape = tuple(f if wanted < 0 else wanted for f, wanted in zip(found, shape, strict=True))
    return checked_array(arrays, name, shape)


def checked_tables(
    arrays: Mapping[str, NDArray[Any]], input_count: int
) -> tuple[Integers, Integers, Floats, Floats]:
    """Return roots, links, facts and entries.

    Raises RecordError unless each node but the roots hangs below exactly one earlier node, and all
    features, orders and rows are there: then no walk can leave the tables or go round in circles.
    """
    facts = checked_table(arrays, "facts", (-1, len(FACTS)))
    entries = checked_table(arrays, "entries", (-1, len(ENTRIES)))
    links = checked_table(arrays, "links", (len(facts), 4)).astype(np.int64)
    roots = checked_table(arrays, "roots", (-1,)).astype(np.int64)
    check_links(roots, links, len(entries), input_count)
    check_range(entries[:, ENTRY["feature"]], 0, input_count - 1, "$.arrays.entries")
    check_range(entries[:, ENTRY["order"]], UNOBSERVED, len(ORDERS) - 1, "$.arrays.entries")
    check_range(facts[:, FACT["order"]], 0, len(ORDERS) - 1, "$.arrays.facts")
    return roots, links, facts, entries


def check_links(roots: Integers, links: Integers, entry_count: int, input_count: int) -> None:
    """Raise RecordError unless the nodes form trees over the inputs and the rows of entries."""
    path = "$.arrays.links"
    node_count = len(links)
    check_range(links[:, 0], -1, input_count - 1, path)
    is_leaf = links[:, 0] < 0
    leaves, branches = links[is_leaf], links[~is_leaf]
    check_range(leaves[:, 1:3], 0, entry_count, path)
    check_range(leaves[:, 1] + leaves[:, 2], 0, entry_count, path)
    check_range(leaves[:, 3], -1, -1, path)
    above = np.flatnonzero(~is_leaf)
    alternates = branches[:, 3][branches[:, 3] >= 0]
    children = np.concatenate((branches[:, 1:3].ravel(), alternates, roots[roots >= 0]))
    if not np.array_equal(np.sort(children), np.arange(node_count)):
        raise RecordError(path, "trees that hold each node once", f"{len(children)} places")
    earlier = np.maximum(branches[:, 3], above + 1)
    if (branches[:, 1:3] <= above[:, None]).any() or (
        (branches[:, 3] >= 0) & (branches[:, 3] != earlier)
    ).any():
        raise RecordError(path, "children behind their parents", "one before its parent")


def check_range(values: NDArray[Any], low: float, high: float, path: str) -> None:
    """Raise RecordError unless all values are whole numbers from `low` to `high`."""
    if values.size and not (values.min() >= low and values.max() <= high):
        raise RecordError(path, f"numbers from {low} to {high}", f"{values.min()}, {values.max()}")
    if (values != np.floor(values)).any():
        raise RecordError(path, "whole numbers", "others")


def _stats(fact: list[float]) -> dict[bool, float]:
    weights = {False: fact[FACT["weight_false"]], True: fact[FACT["weight_true"]]}
    return {target: weights[target] for target in ORDERS[int(fact[FACT["order"]])]}


def _error(fact: list[float]) -> Mean:
    return Mean._from_state(fact[FACT["error_count"]], fact[FACT["error_mean"]])


def _splitter(prototype: Any, row: list[float]) -> Any:
    splitter = prototype.clone()
    for target in ORDERS[int(row[ENTRY["order"]])]:
        first = ENTRY["min_true"] if target else ENTRY["min_false"]
        least, most, count, mean, square = row[first : first + 5]
        gaussian = Gaussian()
        gaussian._var.mean = Mean._from_state(count, mean)
        gaussian._var._S = square
        splitter._min_per_class[target] = least
        splitter._max_per_class[target] = most
        splitter._att_dist_per_class[target] = gaussian
    return splitter
