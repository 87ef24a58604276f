"""The learning state of StandardScaler | LogisticRegression(AdaGrad): learn, save and restore.

What is saved is all that changes when River learns: the scaler's counts, means and variances, the
weights, AdaGrad's sums of squared gradients, the intercept and the iteration count. River's dicts
are refilled in the order of the inputs, which is the order in which they were first filled, so
that sums run in the same order after a restart and every later bit is the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river.utils import VectorDict

from online_models.compiled import checked_array
from online_models.entries import Learn


def learner(pipeline: Any, inputs: tuple[str, ...]) -> Learn:
    """Return learn(values, fraud, weight): `pipeline.learn_one(x, y, w=...)`, bit for bit.

    The scaler's learning and scaling run as one pass over River's own dicts, by River's formulas
    (Welford 1962), and the regression learns through River: a quarter faster than two passes behind
    the pipeline's routing of arguments. A test holds it to River's own answer, so a River that
    changes its formula is noticed. The scaler counts every example once, whatever its weight.
    """
    scaler, regression = pipeline.steps.values()
    counts, means, variances = scaler.counts, scaler.means, scaler.vars
    regression_learn = regression.learn_one

    def learn(values: Sequence[float], fraud: bool, weight: float) -> None:
        scaled = {}
        for name, value in zip(inputs, values, strict=True):
            counts[name] = count = counts[name] + 1
            old_mean, variance = means[name], variances[name]
            means[name] = mean = old_mean + (value - old_mean) / count
            variance += ((value - old_mean) * (value - mean) - variance) / count
            variances[name] = variance
            scaled[name] = (value - mean) / variance**0.5 if variance else 0.0
        regression_learn(scaled, fraud, weight)

    return learn


def save_scaler(scaler: Any, inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return a scaler's state as three arrays of shape (k,); counts are int64."""
    return {
        "counts": np.array([scaler.counts.get(name, 0) for name in inputs], dtype=np.int64),
        "means": np.array([scaler.means.get(name, 0.0) for name in inputs], dtype=np.float64),
        "variances": np.array([scaler.vars.get(name, 0.0) for name in inputs], dtype=np.float64),
    }


def restore_scaler(
    scaler: Any, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Put a saved state into a newly built scaler; raises RecordError as `checked_array`."""
    shape = (len(inputs),)
    counts = checked_array(arrays, "counts", shape, minimum=0).astype(np.int64).tolist()
    means = checked_array(arrays, "means", shape).tolist()
    variances = checked_array(arrays, "variances", shape, minimum=0).tolist()
    if not any(counts):
        return  # River's dicts are still empty, and stay so
    # A Counter adds a mapping to itself, but counts the elements of anything else.
    scaler.counts.update(dict(zip(inputs, counts, strict=True)))
    scaler.means.update(zip(inputs, means, strict=True))
    scaler.vars.update(zip(inputs, variances, strict=True))


def save_regression(regression: Any, inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return the state of a LogisticRegression(AdaGrad): four arrays of shape (k,) or (1,)."""
    weights, squares = regression.weights, regression.optimizer.g2
    return {
        "weights": np.array([weights.get(name, 0.0) for name in inputs], dtype=np.float64),
        "squares": np.array([squares.get(name, 0.0) for name in inputs], dtype=np.float64),
        "intercept": np.array([regression.intercept], dtype=np.float64),
        "iterations": np.array([regression.optimizer.n_iterations], dtype=np.int64),
    }


def restore_regression(
    regression: Any, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Put a saved state into a newly built regression; raises RecordError as `checked_array`."""
    shape = (len(inputs),)
    weights = checked_array(arrays, "weights", shape).tolist()
    squares = checked_array(arrays, "squares", shape, minimum=0).tolist()
    regression.intercept = float(checked_array(arrays, "intercept", (1,))[0])
    iterations = int(checked_array(arrays, "iterations", (1,), minimum=0)[0])
    regression.optimizer.n_iterations = iterations
    if iterations == 0:
        return  # River's dicts are as they were built, and stay so
    regression._weights = VectorDict(dict(zip(inputs, weights, strict=True)))
    regression.optimizer.g2.update(zip(inputs, squares, strict=True))


def save(pipeline: Any, inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return the learning state as seven arrays of shape (k,) or (1,); counts are int64."""
    scaler, regression = pipeline.steps.values()
    return save_scaler(scaler, inputs) | save_regression(regression, inputs)


def restore(pipeline: Any, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put a saved state into a newly built pipeline.

    Raises RecordError where an array is missing, misshapen or not finite.
    """
    scaler, regression = pipeline.steps.values()
    restore_scaler(scaler, inputs, arrays)
    restore_regression(regression, inputs, arrays)
