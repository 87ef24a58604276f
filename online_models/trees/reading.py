"""From River's Hoeffding trees to arrays: all that learning goes on from, in tables.

Four tables describe the nodes of several trees. `links` int64[n, 4] holds feature (-1 for a leaf),
left, right and alternate node (-1 for none); a leaf has its first row of `entries` and their number
in the place of left and right. `facts` float64[n, …] and `entries` float64[e, …] have the columns
named below: what a node has seen, and what a leaf knows of one input. `detectors` holds the numbers
of each node's drift detector one after the other, `detector_ends` int64[n] where each ends.

**Reading again costs what has been learned since.** A leaf is read anew only if the weight that it
has seen changed; other leaves' rows are taken over as bytes.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.tree.nodes.branch import NumericBinaryBranch
from river.tree.nodes.leaf import HTLeaf

from features.errors import RecordError, nearest_name
from online_models.trees.detectors import detector_numbers

# Columns of `facts`: the weights seen of both classes, and in which order they were met first,
# which decides ties; the rest is a leaf's, but for the errors, which an adaptive tree's branch has.
FACTS = (
    "threshold", "depth", "order", "weight_false", "weight_true", "is_active", "majority_correct",
    "bayes_correct", "attempted_at", "error_count", "error_mean",
)  # fmt: skip
# Columns of `entries`; the order is -1 for an input that a leaf samples but doesn't observe yet.
ENTRIES = (
    "feature", "order",
    "min_false", "max_false", "count_false", "mean_false", "square_false",
    "min_true", "max_true", "count_true", "mean_true", "square_true",
)  # fmt: skip
FACT = {name: column for column, name in enumerate(FACTS)}
ENTRY = {name: column for column, name in enumerate(ENTRIES)}
UNOBSERVED = -1.0
ORDERS: tuple[tuple[bool, ...], ...] = ((), (False,), (True,), (False, True), (True, False))

NO_SIDE = (0.0, 0.0, 0.0, 0.0, 0.0)
Arrays = dict[str, NDArray[Any]]


@dataclass(slots=True)
class _Block:
    """A node as it was read last: `seen` tells whether it has learned since."""

    node: Any
    seen: tuple[object, ...]
    facts: bytes
    entries: bytes
    detector: bytes


def order_code(keys: Iterable[Any]) -> int:
    """Return the place in `ORDERS` of the classes met; raises RecordError for other classes."""
    met = tuple(keys)
    for code, order in enumerate(ORDERS):
        if met == order:
            return code
    raise RecordError("$.pipeline", "the classes False and True", f"{met}")


class TreeReader:
    """Reads the nodes of trees into tables, again and again."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self._index = {name: j for j, name in enumerate(inputs)}
        self._blocks: dict[int, _Block] = {}

    def read(self, roots: Iterable[Any]) -> Arrays:
        """Return the tables of these trees, and `roots` int64[t], -1 for a tree without nodes.

        Raises RecordError for a tree that splits on no input of the model, or not at a number.
        """
        self._last, self._blocks = self._blocks, {}
        self._links: list[int] = []
        self._parts: list[_Block] = []
        self._entry_count = 0
        places = [-1 if root is None else self._add(root) for root in roots]
        ends = np.cumsum([len(part.detector) // 8 for part in self._parts], dtype=np.int64)
        tables = {
            "roots": np.array(places, dtype=np.int64),
            "links": np.array(self._links, dtype=np.int64).reshape(-1, 4),
            "facts": _joined((part.facts for part in self._parts), len(FACTS)),
            "entries": _joined((part.entries for part in self._parts), len(ENTRIES)),
            "detectors": _joined((part.detector for part in self._parts), 1).ravel(),
            "detector_ends": ends,
        }
        self._links, self._parts, self._last = [], [], {}
        return tables

    def _add(self, node: Any) -> int:
        place = len(self._parts)
        block = self._block(node)
        self._parts.append(block)
        if isinstance(node, HTLeaf):
            count = len(block.entries) // (8 * len(ENTRIES))
            self._links += (-1, self._entry_count, count, -1)
            self._entry_count += count
            return place
        if not isinstance(node, NumericBinaryBranch):
            raise RecordError("$.pipeline", "splits at a number", f"{type(node).__name__}")
        self._links += (self._feature(node.feature), -1, -1, -1)
        alternate = getattr(node, "_alternate_tree", None)
        for column, child in enumerate((*node.children, alternate), start=1):
            if child is not None:
                self._links[4 * place + column] = self._add(child)
        return place

    def _block(self, node: Any) -> _Block:
        stats = node.stats
        is_active = isinstance(node, HTLeaf) and node.splitters is not None
        seen = (stats.get(False), stats.get(True), is_active, node.depth)
        block = self._last.get(id(node))
        if block is None or block.node is not node or block.seen != seen:
            facts = array("d", _facts(node, is_active)).tobytes()
            detector = getattr(node, "drift_detector", None)
            numbers = () if detector is None else detector_numbers(detector)
            block = _Block(node, seen, facts, self._entries(node), array("d", numbers).tobytes())
        self._blocks[id(node)] = block
        return block

    def _entries(self, node: Any) -> bytes:
        if not isinstance(node, HTLeaf):
            return b""
        values = array("d")
        splitters = node.splitters or {}
        for name, splitter in splitters.items():
            met = splitter._att_dist_per_class
            values.extend((self._feature(name), order_code(met)))
            for target in (False, True):
                values.extend(_side(splitter, target) if target in met else NO_SIDE)
        for name in getattr(node, "feature_indices", ()):
            if name not in splitters:
                values.extend((self._feature(name), UNOBSERVED, *NO_SIDE, *NO_SIDE))
        return values.tobytes()

    def _feature(self, name: Any) -> int:
        if name not in self._index:
            known = ", ".join(self._index)
            nearest = nearest_name(str(name), self._index)
            raise RecordError("$.pipeline", f"splits on one of: {known}", f"`{name}`", nearest)
        return self._index[name]


def _facts(node: Any, is_active: bool) -> tuple[float, ...]:
    stats = node.stats
    error = getattr(node, "_mean_error", None)
    if isinstance(node, HTLeaf):
        threshold, attempted_at = 0.0, node.last_split_attempt_at
    else:
        threshold, attempted_at = node.threshold, 0.0
    return (
        threshold,
        node.depth,
        order_code(stats),
        stats.get(False, 0.0),
        stats.get(True, 0.0),
        is_active,
        getattr(node, "_mc_correct_weight", 0.0),
        getattr(node, "_nb_correct_weight", 0.0),
        attempted_at,
        0.0 if error is None else error.n,
        0.0 if error is None else error.get(),
    )


def _side(splitter: Any, target: bool) -> tuple[float, ...]:
    gaussian = splitter._att_dist_per_class[target]._var
    return (
        splitter._min_per_class[target],
        splitter._max_per_class[target],
        gaussian.mean.n,
        gaussian.mean._mean,
        gaussian._S,
    )


def _joined(parts: Iterable[bytes], column_count: int) -> NDArray[np.float64]:
    return np.frombuffer(b"".join(parts), dtype=np.float64).reshape(-1, column_count)


def without(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Return the arrays whose names begin with `prefix`, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def with_prefix(arrays: Mapping[str, NDArray[Any]], prefix: str) -> Arrays:
    """Return the arrays under names that begin with `prefix`."""
    return {prefix + name: array for name, array in arrays.items()}
