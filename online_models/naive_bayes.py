"""Gaussian naive Bayes: learned by River with weights, compiled, saved."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from river.naive_bayes import GaussianNB
from river.stats import Mean

from online_models.compiled import checked_array, checked_rows
from online_models.framing import INPUT_MAX, FloatArray, check_inputs
from online_models.kernels import contributions_bayes, score_bayes
from online_models.shares import LOG_ODDS_MAX

Arrays = dict[str, NDArray[Any]]
CLASSES = (False, True)
DENSITY_FLOOR = 10e-10  # what River adds to each density


class WeightedBayes(GaussianNB):
    """River's Gaussian naive Bayes for examples with weights, which River's own does not take."""

    class_counts: Any

    def learn_one(self, x: dict[Any, Any], y: Any, *, w: float = 1.0) -> None:
        """Learn one example that counts `w` times; with 1.0 it is River's own `learn_one`."""
        self.class_counts[y] += w
        gaussians = self.gaussians[y]
        for name, value in x.items():
            gaussians[name].update(value, w)


def naive_bayes(inputs: tuple[str, ...]) -> Any:
    """Return a Gaussian naive Bayes: each input has a Gaussian of its own for either class.

    It takes the inputs as independent. Where they are not, as with most of a bank's, it counts one
    sign several times: it ranks, but its probabilities lie near 0 and 1.
    """
    build: Any = WeightedBayes  # River gives its constructor no types
    return build()


class CompiledBayes:
    """Log-odds = log of the classes' ratio + Σ log of the ratio of the input's two densities."""

    def __init__(
        self, inputs: tuple[str, ...], class_weights: FloatArray, gaussians: FloatArray
    ) -> None:
        self.inputs = inputs
        self._class_weights = class_weights
        self._gaussians = np.ascontiguousarray(gaussians)
        self._has_both = bool(class_weights.all())
        self._only = float(class_weights[1] > 0.0)  # the answer while there is one class
        self.intercept = LOG_ODDS_MAX if self._only else -LOG_ODDS_MAX
        if self._has_both:
            self._priors = np.log(class_weights / class_weights.sum())
            self.intercept = float(self._priors[1] - self._priors[0])

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the probabilities of fraud, shape (n,), of `rows`, shape (n, k).

        A model that has learned nothing says 0.0. Raises ValueError for another number of columns.
        """
        rows = np.ascontiguousarray(checked_rows(rows, len(self.inputs)))
        out = np.full(rows.shape[0], self._only)
        if self._has_both:
            score_bayes(rows, self._gaussians, self._priors, DENSITY_FLOOR, INPUT_MAX, out)
        return out

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return each input's log-likelihood ratio, shape (n, k)."""
        rows = np.ascontiguousarray(checked_rows(rows, len(self.inputs)))
        out = np.zeros(rows.shape)
        if self._has_both:
            contributions_bayes(rows, self._gaussians, DENSITY_FLOOR, INPUT_MAX, out)
        return out

    def to_arrays(self) -> Arrays:
        """Return `class_weights` (2,) and `gaussians` (2, 2, k): means, deviations per class."""
        return {"class_weights": self._class_weights, "gaussians": self._gaussians}

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where one does not fit."""
        names = tuple(inputs)
        check_inputs(names)
        weights = checked_array(arrays, "class_weights", (2,), minimum=0.0)
        return cls(names, weights, checked_array(arrays, "gaussians", (2, 2, len(names))))

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether this is a Gaussian naive Bayes."""
        return isinstance(pipeline, GaussianNB)

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form; an input that a class has not met yet has no density there."""
        names = tuple(inputs)
        check_inputs(names)
        state = save(pipeline, names)
        counts, means, squares = state["counts"], state["means"], state["squares"]
        variances = np.divide(squares, counts, out=np.zeros_like(counts), where=counts > 0.0)
        deviations = np.sqrt(np.maximum(variances, 0.0))
        gaussians = np.stack((means, deviations), axis=1)
        return cls(names, state["class_weights"], gaussians)


def save(pipeline: Any, inputs: tuple[str, ...]) -> Arrays:
    """Return the classes' weights (2,), and counts, means and squares of the Gaussians (2, k)."""
    gaussians = pipeline.gaussians
    found = [[gaussians.get(c, {}).get(name) for name in inputs] for c in CLASSES]
    numbers = [[_numbers(gaussian) for gaussian in row] for row in found]
    counts, means, squares = np.moveaxis(np.array(numbers, dtype=np.float64), 2, 0)
    weights = [float(pipeline.class_counts.get(target, 0.0)) for target in CLASSES]
    return {
        "class_weights": np.array(weights),
        "first_class": np.array([next(iter(pipeline.class_counts), False)], dtype=np.int64),
        "counts": counts,
        "means": means,
        "squares": squares,
    }


def restore(pipeline: Any, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put a saved state into a newly built model; raises RecordError as `checked_array`."""
    weights = checked_array(arrays, "class_weights", (2,), minimum=0.0)
    first = bool(checked_array(arrays, "first_class", (1,))[0])
    shape = (2, len(inputs))
    counts = checked_array(arrays, "counts", shape, minimum=0.0)
    means, squares = checked_array(arrays, "means", shape), checked_array(arrays, "squares", shape)
    for target in (first, not first):
        if not weights[int(target)]:
            continue
        pipeline.class_counts[target] = float(weights[int(target)])
        for j, name in enumerate(inputs):
            if counts[int(target), j] > 0.0:
                moments = pipeline.gaussians[target][name]._var
                moments.mean = Mean._from_state(
                    float(counts[int(target), j]), float(means[int(target), j])
                )
                moments._S = float(squares[int(target), j])


def _numbers(gaussian: Any) -> tuple[float, float, float]:
    if gaussian is None:
        return 0.0, 0.0, 0.0
    moments = gaussian._var
    return moments.mean.n, moments.mean._mean, moments._S
