"""A River transformer that cuts numbers into bins, and the plan of where each bin has its weight.

A linear model over bins learns any shape of an input's effect, and a cross of two inputs learns
what holds for pairs only. Edges are learned once, from an input's first values: quantiles for the
bulk, equal widths for the tail, where rare events live and quantiles would put all in one bin.
They never move afterwards, so a weight keeps its meaning.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.base import Transformer
from river.base.typing import FeatureName

from features.errors import RecordError, nearest_name
from online_models.framing import INPUT_MAX, FloatArray
from online_models.options import (
    BIN_COUNT_MAX,
    EDGE_COUNT_MAX,
    WARM_UP_COUNT,
    InputBins,
    ModelOptions,
    bin_count_max,
)

OTHERS_PER_WARM_UP = 100
MISSING_BIN = 0  # of a value that is absent, NaN, infinite or beyond ±1e100


def learned_edges(values: FloatArray, bins: InputBins) -> FloatArray:
    """Return ascending edges, at most `bins.edge_count_max`, from ordinary numbers (n,), n ≥ 1.

    Quantiles are linear between order statistics (Hyndman and Fan, type 7); equal ones become one.
    """
    shares = bins.tail_from * np.arange(1, bins.quantile_count + 1) / bins.quantile_count
    quantiles = np.quantile(values, shares)
    start, end = quantiles[-1], values.max()
    steps = np.arange(1, bins.tail_count + 1) / max(bins.tail_count, 1)
    tail = np.minimum(start + (end - start) * steps, end)  # rounding may carry it past the end
    return np.asarray(np.unique(np.concatenate([quantiles, tail])), dtype=np.float64)


def warm_values(first: float, first_count: int, others: FloatArray, warm_up: int) -> FloatArray:
    """Return the values that edges are made of, at most `warm_up`: the first value, then others."""
    return np.concatenate([np.full(min(first_count, warm_up - len(others)), first), others])


def is_warm(first_count: int, other_count: int, warm_up: int) -> bool:
    """Return whether there are `warm_up` values, and one in a hundred differs from the first.

    What is always 0 in its first days, as a share of known frauds is, waits until it is not.
    """
    return first_count + other_count >= warm_up and OTHERS_PER_WARM_UP * other_count >= warm_up


def is_ordinary(value: float | None) -> bool:
    """Return whether a value is there, finite and at most 1e100 in size."""
    return value is not None and abs(value) <= INPUT_MAX


class Binner(Transformer):
    """Turns {input: number} into {bin: 1.0}: one bin of every input, one of every cross.

    An input's bins are named `input=0` for a missing value, then `input=1` (up to and including the
    first edge) and so on; a cross is named by both, as in `one=3&other=0`. Until the edges of an
    input are known (`is_warm`) it has no bin at all; inputs that first come later begin their own
    warm-up then. `firsts` has the first value of an input and how often it came, `values` the
    others, at most `warm_up` of them; then only `edges` are held.
    """

    def __init__(
        self,
        bins: Mapping[str, InputBins] | None = None,
        crosses: Sequence[tuple[str, str]] = (),
        warm_up: int = WARM_UP_COUNT,
    ) -> None:
        self.bins = bins
        self.crosses = crosses
        self.warm_up = warm_up
        self.edges: dict[FeatureName, list[float]] = {}
        self.values: dict[FeatureName, list[float]] = {}
        self.firsts: dict[FeatureName, tuple[float, int]] = {}
        for name, declared in (bins or {}).items():
            if declared.edges:
                self.edges[name] = list(declared.edges)

    def learn_one(self, x: dict[FeatureName, Any]) -> None:
        """Look at the values of the inputs that are still warming up."""
        for name, value in x.items():
            if name in self.edges or value is None or not is_ordinary(value):
                continue
            values = self.values.setdefault(name, [])
            first, first_count = self.firsts.get(name, (value, 0))
            if value == first:
                first_count += 1
            else:
                values.append(value)
            self.firsts[name] = first, first_count
            if is_warm(first_count, len(values), self.warm_up):
                seen = warm_values(first, first_count, np.array(values), self.warm_up)
                declared = (self.bins or {}).get(str(name), InputBins())
                self.edges[name] = learned_edges(seen, declared).tolist()
                del self.values[name], self.firsts[name]

    def transform_one(self, x: dict[FeatureName, Any]) -> dict[FeatureName, Any]:
        """Return the bins of an example, each 1.0."""
        found: dict[FeatureName, int] = {}
        for name in dict.fromkeys((*(self.bins or ()), *x, *self.edges)):
            if name in self.edges:
                found[name] = self._bin(name, x.get(name))
        bins: dict[FeatureName, Any] = {bin_name(name, place): 1.0 for name, place in found.items()}
        for one, other in self.crosses:
            if one in found and other in found:
                bins[cross_name(one, found[one], other, found[other])] = 1.0
        return bins

    def _bin(self, name: FeatureName, value: float | None) -> int:
        if value is None or not is_ordinary(value):
            return MISSING_BIN
        return bisect_left(self.edges[name], value) + 1


def bin_name(name: FeatureName, place: int) -> str:
    """Return the name of an input's bin."""
    return f"{name}={place}"


def cross_name(one: str, place: int, other: str, other_place: int) -> str:
    """Return the name of a cross's bin."""
    return f"{one}={place}&{other}={other_place}"


class BinLayout:
    """Where every bin of a model has its place in one flat array: inputs first, then crosses.

    `sizes` (k,) are the most bins of each input, `offsets` (k,) where they begin; `crosses` (c, 2)
    are pairs of inputs by number, `cross_offsets` (c,) where they begin: the bins a and b of a
    cross stand at offset + a × size of its second input + b. `bin_count` is the length of it all.
    Raises RecordError for options that name unknown inputs, are out of range or ask for too many
    bins.
    """

    def __init__(self, inputs: tuple[str, ...], options: ModelOptions) -> None:
        self.inputs = inputs
        self.options = options
        _check(inputs, options)
        declared = dict(options.bins)
        self.bins = tuple(declared.get(name, InputBins()) for name in inputs)
        self.sizes = np.array([bins.bin_count_max for bins in self.bins], dtype=np.int64)
        pairs = [(inputs.index(one), inputs.index(other)) for one, other in options.crosses]
        self.crosses = np.array(pairs, dtype=np.int64).reshape(len(pairs), 2)
        self.offsets, self.cross_offsets, self.bin_count = places(self.sizes, self.crosses)
        self.edge_count_max = max(bins.edge_count_max for bins in self.bins)

    def numbers(self, edge_counts: NDArray[np.int64]) -> dict[str, int]:
        """Return the place of every bin that can occur by its name; (k,) edges, -1 for none yet."""
        found: dict[str, int] = {}
        counts = [count + 2 if count >= 0 else 0 for count in edge_counts.tolist()]
        for name, offset, count in zip(self.inputs, self.offsets.tolist(), counts, strict=True):
            found |= {bin_name(name, place): offset + place for place in range(count)}
        for (one, other), offset in zip(
            self.crosses.tolist(), self.cross_offsets.tolist(), strict=True
        ):
            names = self.inputs[one], self.inputs[other]
            for a in range(counts[one]):
                start = offset + a * int(self.sizes[other])
                for b in range(counts[other]):
                    found[cross_name(names[0], a, names[1], b)] = start + b
        return found


def places(
    sizes: NDArray[np.int64], crosses: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return where the bins of inputs (k,) and of crosses (c,) begin, and how many there are."""
    cross_sizes = sizes[crosses[:, 0]] * sizes[crosses[:, 1]]
    ends = np.cumsum(np.concatenate([sizes, cross_sizes]))
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return starts[: len(sizes)], starts[len(sizes) :], int(ends[-1])


def _check(inputs: tuple[str, ...], options: ModelOptions) -> None:
    known = ", ".join(inputs)
    for name in (
        *(name for name, _ in options.bins),
        *(n for pair in options.crosses for n in pair),
    ):
        if name not in inputs:
            nearest = nearest_name(name, inputs)
            raise RecordError("$.options", f"inputs of the model: {known}", f"`{name}`", nearest)
    for name, bins in options.bins:
        where = f"$.options.bins.{name}"
        if bins.edge_count_max > EDGE_COUNT_MAX:
            raise RecordError(where, f"at most {EDGE_COUNT_MAX} edges", f"{bins.edge_count_max}")
        if list(bins.edges) != sorted(set(bins.edges)) or not all(map(is_ordinary, bins.edges)):
            raise RecordError(where, "finite edges, ascending", f"{bins.edges}")
        if bins.quantile_count < 1 or bins.tail_count < 0 or not 0.0 < bins.tail_from <= 1.0:
            raise RecordError(where, "1 quantile or more, from a share in (0, 1]", f"{bins}")
    if options.warm_up_count < 1:
        raise RecordError("$.options.warm_up_count", "1 or more", f"{options.warm_up_count}")
    bin_count = bin_count_max(inputs, options)
    if bin_count > BIN_COUNT_MAX:
        raise RecordError("$.options", f"at most {BIN_COUNT_MAX} bins", f"{bin_count}")
