"""Scoring without River: the learned state as flat arrays, scored by a kernel for a whole batch.

By definition an input that is NaN, infinite or beyond ±1e100 is taken as 0.0, here and before
River learns, so the two always see the same numbers. A form is one class that reads one shape of
River pipeline; a new shape of pipeline adds its form to `FORMS` (`forms.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from river.linear_model import LogisticRegression
from river.optim.losses import Log
from river.preprocessing import StandardScaler

from features.errors import RecordError, nearest_name
from online_models.framing import INPUT_MAX, FloatArray, check_inputs
from online_models.kernels import contributions_linear, score_linear


class CompiledModel(Protocol):
    """A model that scores batches from arrays; equal to River's own answer to 1e-9."""

    inputs: tuple[str, ...]
    intercept: float  # log-odds of a row whose contributions are all 0.0

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the probabilities of fraud, shape (n,), of `rows`, shape (n, k)."""

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return each input's share of the log-odds, shape (n, k); with `intercept` they add up."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that `from_arrays` needs."""

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where one does not fit."""

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether `from_river` can read this pipeline."""

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form of what `pipeline` has learned so far."""


class CompiledLinear:
    """StandardScaler | LogisticRegression: log-odds = intercept + Σ weight × scaled input."""

    def __init__(
        self,
        inputs: tuple[str, ...],
        means: FloatArray,
        variances: FloatArray,
        weights: FloatArray,
        intercept: float,
    ) -> None:
        self.inputs = inputs
        self.intercept = intercept
        self._means = means
        self._variances = variances
        self._deviations = np.sqrt(variances)
        self._weights = weights

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the probabilities of fraud, shape (n,), of `rows`, shape (n, k).

        Raises ValueError for another number of columns.
        """
        rows = checked_rows(rows, len(self.inputs))
        out = np.empty(rows.shape[0])
        score_linear(
            rows, self._means, self._deviations, self._weights, self.intercept, INPUT_MAX, out
        )
        return out

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return weight × scaled value of each input, in log-odds, shape (n, k)."""
        rows = checked_rows(rows, len(self.inputs))
        out = np.empty(rows.shape)
        contributions_linear(rows, self._means, self._deviations, self._weights, INPUT_MAX, out)
        return out

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return means, variances and weights, shape (k,), and the intercept, shape (1,)."""
        return {
            "means": self._means,
            "variances": self._variances,
            "weights": self._weights,
            "intercept": np.array([self.intercept]),
        }

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where one does not fit."""
        names = tuple(inputs)
        check_inputs(names)
        shape = (len(names),)
        return cls(
            names,
            checked_array(arrays, "means", shape),
            checked_array(arrays, "variances", shape, minimum=0.0),
            checked_array(arrays, "weights", shape),
            float(checked_array(arrays, "intercept", (1,))[0]),
        )

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether this is a plain scaler, then a logistic regression with the log loss."""
        steps = list(getattr(pipeline, "steps", {}).values())
        if [type(step) for step in steps] != [StandardScaler, LogisticRegression]:
            return False
        scaler, regression = steps
        plain = scaler.with_std and scaler.window_size is None
        return plain and type(regression.loss) is Log

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form; an input that River has not met yet has weight 0.0."""
        names = tuple(inputs)
        check_inputs(names)
        scaler, regression = pipeline.steps.values()
        weights = regression.weights
        return cls(
            names,
            np.array([scaler.means.get(name, 0.0) for name in names], dtype=np.float64),
            np.array([scaler.vars.get(name, 0.0) for name in names], dtype=np.float64),
            np.array([weights.get(name, 0.0) for name in names], dtype=np.float64),
            float(regression.intercept),
        )


def checked_rows(rows: FloatArray, input_count: int) -> FloatArray:
    """Return `rows` as float64 in C or Fortran order; raises ValueError for another width."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != input_count:
        raise ValueError(f"rows: expected shape (n, {input_count}), got {rows.shape}")
    if rows.flags.c_contiguous or rows.flags.f_contiguous:
        return rows
    return np.ascontiguousarray(rows)


def checked_array(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    shape: tuple[int, ...],
    minimum: float = -np.inf,
) -> FloatArray:
    """Return one array as float64.

    Raises RecordError if it is absent, misshapen, not finite or has a value below `minimum`.
    """
    path = f"$.arrays.{name}"
    if name not in arrays:
        got = f"only {', '.join(arrays) or 'nothing'}"
        raise RecordError(path, f"an array of shape {shape}", got, nearest_name(name, arrays))
    array = np.asarray(arrays[name], dtype=np.float64)
    if array.shape != shape:
        raise RecordError(path, f"shape {shape}", f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise RecordError(path, "finite numbers", "NaN or infinity")
    if array.size and array.min() < minimum:
        raise RecordError(path, f"values of {minimum} or more", f"{array.min()}")
    return array
