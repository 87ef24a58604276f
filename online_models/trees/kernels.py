"""Numba kernels that score trees: free functions on arrays, one call for a whole batch.

A node is a row of `links` (feature, left, right, alternate) and a row of `nodes` (the columns named
below). A leaf has feature -1; its left is its first row of `entries`, its right how many it has.
Values are computed in River's order of operations, so they agree with River's to the last bits.
"""

import math

import numpy as np
from numpy.typing import NDArray

from features.kernels.jit import kernel

# Columns of `nodes`
THRESHOLD = 0
SHARE = 1  # of fraud among what the node has seen
PRIOR_FALSE = 2  # log of the class's share; 0.0 for a class without weight, as River has it
PRIOR_TRUE = 3
USED_FALSE = 4  # 1.0 if a naive Bayes leaf asks the class's Gaussians
USED_TRUE = 5
VOTE = 6  # weight of a leaf's vote
MODE = 7
NODE_COLUMNS = 8

# Values of MODE
SILENT = 0.0  # a leaf that has seen nothing
MAJORITY = 1.0  # answers with the shares of what it has seen
FALSE_ONLY = 2.0  # naive Bayes that has met one class only
TRUE_ONLY = 3.0
BAYES = 4.0

# Columns of `entries`: a feature, then (mean, -2 × variance, log of the deviation) of each class;
# -2 × variance is 0.0 where a Gaussian has too few values
ENTRY_COLUMNS = 7

HALF_LOG_TAU = 0.5 * math.log(math.tau)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Unsigned = NDArray[np.uint64]


@kernel
def usable(value: float, input_max: float) -> float:
    """Return the value, or 0.0 where it is NaN, infinite or beyond ±`input_max`."""
    return value if abs(value) <= input_max else 0.0


@kernel
def log_density(value: float, mean: float, spread: float, log_deviation: float) -> float:
    """Return the log of a Gaussian's density; -inf where it has too few values to tell."""
    if spread == 0.0:
        return -math.inf
    off = value - mean
    return off * off / spread - HALF_LOG_TAU - log_deviation


@kernel
def bayes_votes(
    row: Floats, input_max: float, node: int, links: Integers, nodes: Floats, entries: Floats
) -> tuple[float, float]:
    """Return the log-likelihoods of no fraud and of fraud at a naive Bayes leaf."""
    false, true = nodes[node, PRIOR_FALSE], nodes[node, PRIOR_TRUE]
    use_false, use_true = nodes[node, USED_FALSE] != 0.0, nodes[node, USED_TRUE] != 0.0
    first = links[node, 1]
    for e in range(first, first + links[node, 2]):
        value = usable(row[int(entries[e, 0])], input_max)
        if use_false:
            log_p = log_density(value, entries[e, 1], entries[e, 2], entries[e, 3])
            if log_p > -math.inf:
                false += log_p
        if use_true:
            log_p = log_density(value, entries[e, 4], entries[e, 5], entries[e, 6])
            if log_p > -math.inf:
                true += log_p
    return false, true


@kernel
def leaf_share(
    row: Floats, input_max: float, leaf: int, links: Integers, nodes: Floats, entries: Floats
) -> float:
    """Return a leaf's probability of fraud for one row."""
    mode = nodes[leaf, MODE]
    if mode == MAJORITY:
        return float(nodes[leaf, SHARE])
    if mode != BAYES:
        return 1.0 if mode == TRUE_ONLY else 0.0
    false, true = bayes_votes(row, input_max, leaf, links, nodes, entries)
    top = max(false, true)
    both = top + math.log(math.exp(false - top) + math.exp(true - top))
    return math.exp(true - both)


@kernel
def next_node(row: Floats, input_max: float, node: int, links: Integers, nodes: Floats) -> int:
    """Return the child that a row goes to."""
    value = usable(row[links[node, 0]], input_max)
    return int(links[node, 1] if value <= nodes[node, THRESHOLD] else links[node, 2])


@kernel
def score_trees(
    rows: Floats,
    input_max: float,
    roots: Integers,
    tree_weights: Floats,
    links: Integers,
    nodes: Floats,
    entries: Floats,
    out: Floats,
) -> None:
    """Fill `out` (n,) with the weighted mean of the leaves' probabilities of fraud, 0.0 for none.

    `roots` and `tree_weights` have shape (t,). A branch with an alternate subtree (a leaf, as long
    as it is one) asks that too, as River's adaptive tree does.
    """
    for i in range(rows.shape[0]):
        row = rows[i]
        fraud, total = 0.0, 0.0
        for t in range(roots.shape[0]):
            node = roots[t]
            while True:
                is_leaf = links[node, 0] < 0
                leaf = node if is_leaf else links[node, 3]
                if leaf >= 0 and nodes[leaf, MODE] != SILENT:
                    weight = tree_weights[t] * nodes[leaf, VOTE]
                    fraud += weight * leaf_share(row, input_max, leaf, links, nodes, entries)
                    total += weight
                if is_leaf:
                    break
                node = next_node(row, input_max, node, links, nodes)
        out[i] = fraud / total if total > 0.0 else 0.0


@kernel
def add_path(
    row: Floats,
    input_max: float,
    root: int,
    stop: int,
    weight: float,
    links: Integers,
    nodes: Floats,
    out: Floats,
) -> None:
    """Add to `out` (k,) what each split on the way from `root` to `stop` changed in the share."""
    node = root
    while node != stop:
        child = next_node(row, input_max, node, links, nodes)
        out[links[node, 0]] += weight * (nodes[child, SHARE] - nodes[node, SHARE])
        node = child


@kernel
def add_leaf(
    row: Floats,
    input_max: float,
    leaf: int,
    weight: float,
    links: Integers,
    nodes: Floats,
    entries: Floats,
    out: Floats,
) -> None:
    """Add to `out` (k,) what a naive Bayes leaf changes in the share of what it has seen.

    The inputs share the change by their log-likelihood ratios, which add up to the change in
    log-odds. Without any ratio it stays with nobody, and the caller shares it out.
    """
    if nodes[leaf, MODE] != BAYES:
        return
    change = leaf_share(row, input_max, leaf, links, nodes, entries) - nodes[leaf, SHARE]
    false, true = bayes_votes(row, input_max, leaf, links, nodes, entries)
    total = (true - nodes[leaf, PRIOR_TRUE]) - (false - nodes[leaf, PRIOR_FALSE])
    if abs(total) < 1e-12:
        return
    first = links[leaf, 1]
    for e in range(first, first + links[leaf, 2]):
        j = int(entries[e, 0])
        value = usable(row[j], input_max)
        ratio = 0.0
        if nodes[leaf, USED_TRUE] != 0.0:
            log_p = log_density(value, entries[e, 4], entries[e, 5], entries[e, 6])
            ratio += log_p if log_p > -math.inf else 0.0
        if nodes[leaf, USED_FALSE] != 0.0:
            log_p = log_density(value, entries[e, 1], entries[e, 2], entries[e, 3])
            ratio -= log_p if log_p > -math.inf else 0.0
        out[j] += weight * change * (ratio / total)


@kernel
def votes_weight(
    row: Floats,
    input_max: float,
    roots: Integers,
    tree_weights: Floats,
    links: Integers,
    nodes: Floats,
) -> float:
    """Return the sum of the weights of all leaves that a row reaches."""
    total = 0.0
    for t in range(roots.shape[0]):
        node = roots[t]
        while True:
            is_leaf = links[node, 0] < 0
            leaf = node if is_leaf else links[node, 3]
            if leaf >= 0 and nodes[leaf, MODE] != SILENT:
                total += tree_weights[t] * nodes[leaf, VOTE]
            if is_leaf:
                break
            node = next_node(row, input_max, node, links, nodes)
    return total


@kernel
def contributions_trees(
    rows: Floats,
    input_max: float,
    roots: Integers,
    tree_weights: Floats,
    links: Integers,
    nodes: Floats,
    entries: Floats,
    out: Floats,
) -> None:
    """Fill `out` (n, k) with each input's share of the score's distance from the roots' mean.

    The paths' contributions (Saabas 2014): what each split changed in the expected share of fraud,
    averaged over the leaves with the weights that they have in the score. An alternate subtree
    counts for the input of the branch that it is to replace.
    """
    out[:] = 0.0
    for i in range(rows.shape[0]):
        row, mine = rows[i], out[i]
        total = votes_weight(row, input_max, roots, tree_weights, links, nodes)
        for t in range(roots.shape[0]):
            node = roots[t]
            while True:
                is_leaf = links[node, 0] < 0
                leaf = node if is_leaf else links[node, 3]
                if leaf >= 0 and nodes[leaf, MODE] != SILENT:
                    weight = tree_weights[t] * nodes[leaf, VOTE] / total
                    add_path(row, input_max, roots[t], node, weight, links, nodes, mine)
                    if not is_leaf:
                        change = nodes[leaf, SHARE] - nodes[node, SHARE]
                        mine[links[node, 0]] += weight * change
                    add_leaf(row, input_max, leaf, weight, links, nodes, entries, mine)
                if is_leaf:
                    break
                node = next_node(row, input_max, node, links, nodes)


@kernel
def score_half_spaces(
    rows: Floats,
    means: Floats,
    deviations: Floats,
    input_max: float,
    features: Unsigned,
    thresholds: Floats,
    leaf_sums: Floats,
    score_max: float,
    scaled: Floats,
    places: Unsigned,
    out: Floats,
) -> None:
    """Fill `out` (n,) with the anomaly scores of `rows` (n, k), in [0, 1].

    The trees are complete; `features` and `thresholds` (t, branches) are in a heap's order, the
    children of node p at 2p + 1 and 2p + 2. `leaf_sums` (t, branches + 1) are what a tree adds for
    the leaf at which a search arrives that never stops before one. `scaled` (k,) and `places` (t,)
    are room to work in.

    All trees go down a level together and without a branch, so that no search waits for the memory
    of another: 0.14 µs a row of fifteen inputs, where one search after the other, up to where it
    may stop, took 0.68. Unsigned places spare the check for negative ones (0.38 with signed ones).
    """
    branch_count = np.uint64(features.shape[1])
    tree_count = np.uint64(features.shape[0])
    one, two = np.uint64(1), np.uint64(2)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            value = rows[i, j] if abs(rows[i, j]) <= input_max else 0.0
            scaled[j] = (value - means[j]) / deviations[j] if deviations[j] != 0.0 else 0.0
        for t in range(tree_count):
            places[t] = np.uint64(0)
        level = one
        while level <= branch_count:
            for t in range(tree_count):
                p = places[t]
                is_left = scaled[features[t, p]] < thresholds[t, p]
                places[t] = two * p + (one if is_left else two)
            level *= two
        total = 0.0
        for t in range(tree_count):
            total += leaf_sums[t, places[t] - branch_count]
        out[i] = 1.0 - total / score_max


@kernel
def contributions_half_spaces(
    rows: Floats,
    features: Integers,
    thresholds: Floats,
    masses: Floats,
    expected: Floats,
    least_mass: float,
    score_max: float,
    out: Floats,
) -> None:
    """Fill `out` (n, k) with what each split changed in the expected score of scaled `rows`.

    `expected` (t, nodes) is the mean of the sum Σ mass × 2^depth over the last full window's rows
    that pass a node, counted from the root.
    """
    out[:] = 0.0
    branch_count = features.shape[1] // 2
    for i in range(rows.shape[0]):
        for t in range(features.shape[0]):
            node = 0
            while node < branch_count and not masses[t, node] < least_mass:
                is_right = not rows[i, features[t, node]] < thresholds[t, node]
                child = 2 * node + (2 if is_right else 1)
                change = expected[t, child] - expected[t, node]
                out[i, features[t, node]] -= change / score_max
                node = child
