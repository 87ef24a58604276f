"""What a policy may say of a model beside its inputs: how they are cut into bins, and crosses."""

from dataclasses import dataclass

QUANTILE_COUNT = 10
TAIL_COUNT = 40
TAIL_FROM = 0.95
WARM_UP_COUNT = 2_000
EDGE_COUNT_MAX = 1_000  # of one input
BIN_COUNT_MAX = 100_000  # of one model, crosses included: a version is one message of 1 MB


@dataclass(frozen=True, slots=True)
class InputBins:
    """How the values of one input are cut into bins; each edge belongs to the bin below it.

    With `edges` (ascending) nothing is learned. Without, edges come from the input's first values,
    whatever their labels: `quantile_count` quantiles of shares up to `tail_from`, then `tail_count`
    edges of equal distance from there to the largest value.
    """

    edges: tuple[float, ...] = ()
    quantile_count: int = QUANTILE_COUNT
    tail_count: int = TAIL_COUNT
    tail_from: float = TAIL_FROM

    @property
    def edge_count_max(self) -> int:
        """Return the most edges that there can be."""
        return len(self.edges) or self.quantile_count + self.tail_count

    @property
    def bin_count_max(self) -> int:
        """Return the most bins that there can be, with that of a missing value."""
        return self.edge_count_max + 2


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Options of a pipeline that cuts its inputs into bins; other pipelines have none of them.

    `bins` by input, others as `InputBins()`; `crosses` are pairs of inputs that get a bin for each
    pair of theirs; `warm_up_count` values of an input make its edges.
    """

    bins: tuple[tuple[str, InputBins], ...] = ()
    crosses: tuple[tuple[str, str], ...] = ()
    warm_up_count: int = WARM_UP_COUNT

    def of_inputs(self, inputs: tuple[str, ...]) -> "ModelOptions":
        """Return what is said of these inputs."""
        return ModelOptions(
            bins=tuple((name, bins) for name, bins in self.bins if name in inputs),
            crosses=tuple(cross for cross in self.crosses if set(cross) <= set(inputs)),
            warm_up_count=self.warm_up_count,
        )


NO_OPTIONS = ModelOptions()


def bin_count_max(inputs: tuple[str, ...], options: ModelOptions) -> int:
    """Return the most bins that a model of these inputs has, crosses included."""
    declared = dict(options.bins)
    sizes = {name: declared.get(name, InputBins()).bin_count_max for name in inputs}
    return sum(sizes.values()) + sum(sizes[one] * sizes[other] for one, other in options.crosses)
