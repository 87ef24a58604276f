"""Kernels are called from Python, their parts never: see features.kernels.jit."""

import numpy as np
import pytest

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from features.kernels.arena import capacity_for, later_than
from features.kernels.occurrences import last_of


def test_a_kernel_is_called_from_python() -> None:
    assert capacity_for(9) == 16


def test_a_part_refuses_to_be_called_from_python() -> None:
    """It has no code of its own: without the refusal the process would die."""
    times = np.array([1, 3], dtype=np.int64)
    for _ in range(2):
        with pytest.raises(TypeError):
            later_than(times, 0, 2, 1)
        with pytest.raises(TypeError):
            last_of(times, 0, 2)
