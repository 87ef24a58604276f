"""Hoeffding trees, adaptive trees and adaptive forests, compiled: tables and one kernel."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from river.forest import ARFClassifier
from river.tree import HoeffdingAdaptiveTreeClassifier, HoeffdingTreeClassifier

from online_models.compiled import checked_array, checked_rows
from online_models.framing import INPUT_MAX, FloatArray, check_inputs
from online_models.shares import base_log_odds, spread_rest, to_log_odds
from online_models.trees.building import check_links, check_range, checked_table
from online_models.trees.kernels import (
    BAYES,
    ENTRY_COLUMNS,
    FALSE_ONLY,
    MAJORITY,
    MODE,
    NODE_COLUMNS,
    PRIOR_FALSE,
    PRIOR_TRUE,
    SHARE,
    SILENT,
    THRESHOLD,
    TRUE_ONLY,
    USED_FALSE,
    USED_TRUE,
    VOTE,
    contributions_trees,
    score_trees,
)
from online_models.trees.reading import ENTRY, FACT, TreeReader

Integers = NDArray[np.int64]
KINDS = (ARFClassifier, HoeffdingAdaptiveTreeClassifier, HoeffdingTreeClassifier)


class CompiledTrees:
    """The weighted mean of leaves' answers: score = Σ weight × probability / Σ weight.

    `intercept` is the log-odds of the mean over the trees' roots, the share of fraud among all
    that each has seen. A split's contribution is what it changes in the share.
    """

    def __init__(
        self,
        inputs: tuple[str, ...],
        roots: Integers,
        tree_weights: FloatArray,
        links: Integers,
        nodes: FloatArray,
        entries: FloatArray,
    ) -> None:
        self.inputs = inputs
        self._tables = (roots, tree_weights, links, nodes, entries)
        total = tree_weights.sum()
        self._base = float((tree_weights * nodes[roots, SHARE]).sum() / total) if total else 0.0
        self.intercept = base_log_odds(self._base)

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the probabilities of fraud, shape (n,), of `rows`, shape (n, k).

        A model that has learned nothing says 0.0. Raises ValueError for another number of columns.
        """
        rows = checked_rows(rows, len(self.inputs))
        out = np.empty(rows.shape[0])
        score_trees(rows, INPUT_MAX, *self._tables, out)
        return out

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return each input's path contributions, in log-odds, shape (n, k)."""
        rows = checked_rows(rows, len(self.inputs))
        out = np.empty(rows.shape)
        contributions_trees(rows, INPUT_MAX, *self._tables, out)
        scores = self.score(rows)
        return to_log_odds(spread_rest(out, scores - self._base), scores, self._base)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return `roots`, `tree_weights` (t,), `links` (n, 4), `nodes` and `entries`."""
        names = ("roots", "tree_weights", "links", "nodes", "entries")
        return dict(zip(names, self._tables, strict=True))

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where they are no trees."""
        names = tuple(inputs)
        check_inputs(names)
        roots = checked_table(arrays, "roots", (-1,)).astype(np.int64)
        nodes = checked_table(arrays, "nodes", (-1, NODE_COLUMNS))
        entries = checked_table(arrays, "entries", (-1, ENTRY_COLUMNS))
        links = checked_table(arrays, "links", (len(nodes), 4)).astype(np.int64)
        weights = checked_array(arrays, "tree_weights", roots.shape, minimum=0.0)
        check_range(roots, 0, len(nodes) - 1, "$.arrays.roots")
        check_links(roots, links, len(entries), len(names))
        check_range(entries[:, 0], 0, len(names) - 1, "$.arrays.entries")
        check_range(nodes[:, MODE], SILENT, BAYES, "$.arrays.nodes")
        return cls(names, roots, weights, links, nodes, entries)

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether this is a Hoeffding tree, adaptive tree or adaptive random forest."""
        return isinstance(pipeline, KINDS)

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form; raises RecordError for splits on anything but an input."""
        names = tuple(inputs)
        check_inputs(names)
        tables = TreeReader(names).read(scored_trees(pipeline))
        return cls.from_tables(names, pipeline, tables)

    @classmethod
    def from_tables(
        cls, inputs: tuple[str, ...], pipeline: Any, tables: Mapping[str, NDArray[Any]]
    ) -> Self:
        """Return the compiled form of tables that hold the scored trees first, then maybe more."""
        weights = np.array(tree_weights(pipeline), dtype=np.float64)
        scored, others = np.split(tables["roots"], [len(weights)])
        weights, scored = weights[scored >= 0], scored[scored >= 0]
        node_count = min(others[others >= 0], default=len(tables["links"])) if scored.size else 0
        links, facts = tables["links"][:node_count], tables["facts"][:node_count]
        return cls(inputs, scored, weights, *flattened(pipeline, links, facts, tables["entries"]))


def scored_trees(pipeline: Any) -> list[Any]:
    """Return the roots of the trees that a score asks, None for one without nodes."""
    if isinstance(pipeline, ARFClassifier):
        return [tree._root for tree in pipeline]
    return [pipeline._root]


def tree_weights(pipeline: Any) -> list[float]:
    """Return what each tree's vote weighs: its accuracy, or 1.0 while that is zero."""
    if not isinstance(pipeline, ARFClassifier) or pipeline.disable_weighted_vote:
        return [1.0] * len(scored_trees(pipeline))
    return [metric.get() or 1.0 for metric, _ in zip(pipeline._metrics, pipeline, strict=False)]


def flattened(
    pipeline: Any, links: Integers, facts: FloatArray, entries: FloatArray
) -> tuple[Integers, FloatArray, FloatArray]:
    """Return the kernel's tables: links, nodes and the entries that naive Bayes leaves ask."""
    is_leaf = links[:, 0] < 0
    false, true = facts[:, FACT["weight_false"]], facts[:, FACT["weight_true"]]
    total, modes = false + true, leaf_modes(pipeline, facts)
    nodes = np.zeros((len(links), NODE_COLUMNS))
    nodes[:, THRESHOLD] = facts[:, FACT["threshold"]]
    nodes[:, SHARE] = np.divide(true, total, out=np.zeros_like(total), where=total > 0.0)
    for weight, prior, used in ((false, PRIOR_FALSE, USED_FALSE), (true, PRIOR_TRUE, USED_TRUE)):
        part = np.divide(weight, total, out=np.ones_like(total), where=weight > 0.0)
        nodes[:, prior], nodes[:, used] = np.log(part), weight > 0.0
    errors = facts[:, FACT["error_mean"]]
    nodes[:, VOTE] = np.divide(1.0, errors * errors, out=np.ones_like(errors), where=errors > 0.0)
    nodes[:, MODE] = modes
    counts = np.where(is_leaf, links[:, 2], 0)
    owners = np.repeat(np.arange(len(links)), counts)
    entries = entries[: len(owners)]
    is_kept = (modes[owners] == BAYES) & (entries[:, ENTRY["order"]] >= 0.0)
    counts = np.bincount(owners[is_kept], minlength=len(links))
    links = links.copy()
    links[is_leaf, 1] = (np.cumsum(counts) - counts)[is_leaf]
    links[is_leaf, 2] = counts[is_leaf]
    return links, nodes, _gaussians(entries[is_kept])


def leaf_modes(pipeline: Any, facts: FloatArray) -> FloatArray:
    """Return how each leaf answers, by River's rules for `leaf_prediction`, shape (n,)."""
    order = facts[:, FACT["order"]]
    total = facts[:, FACT["weight_false"]] + facts[:, FACT["weight_true"]]
    asks_bayes = facts[:, FACT["is_active"]] != 0.0
    if pipeline.leaf_prediction == "mc":
        asks_bayes &= False
    elif pipeline.leaf_prediction == "nb":
        asks_bayes &= total >= pipeline.nb_threshold
    else:
        asks_bayes &= facts[:, FACT["bayes_correct"]] >= facts[:, FACT["majority_correct"]]
    by_order = np.array([SILENT, FALSE_ONLY, TRUE_ONLY, BAYES, BAYES])[order.astype(np.int64)]
    modes = np.where(asks_bayes, by_order, MAJORITY)
    return np.where(total > 0.0, modes, SILENT)


def _gaussians(entries: FloatArray) -> FloatArray:
    """Return the feature and (mean, -2 × variance, log deviation) of both classes' Gaussians."""
    out = np.zeros((len(entries), ENTRY_COLUMNS))
    out[:, 0] = entries[:, 0]
    for column, side in ((1, "false"), (4, "true")):
        counts, squares = entries[:, ENTRY[f"count_{side}"]], entries[:, ENTRY[f"square_{side}"]]
        enough = (counts > 1.0) & (squares > 0.0)
        variances = np.divide(squares, counts - 1.0, out=np.ones_like(counts), where=enough)
        out[:, column] = entries[:, ENTRY[f"mean_{side}"]]
        out[:, column + 1] = np.where(enough, -2.0 * variances, 0.0)
        out[:, column + 2] = np.where(enough, 0.5 * np.log(variances), 0.0)
    return out
