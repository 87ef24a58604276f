"""Cells as bytes: little-endian, each as wide as its kind of cell needs.

Reading and writing always touch eight bytes, which the compiler makes one move: buffers have
`SLACK_BYTES` behind their last cell, and cells are written in ascending order.
"""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels.jit import part

Bytes = NDArray[np.uint8]
SLACK_BYTES = 8


@part
def put_word(data: Bytes, at: int, value: int) -> None:
    """Write eight bytes from `at` on."""
    word, to = np.uint64(value), np.uint64(at)
    for i in range(8):
        byte = (word >> np.uint64(8 * i)) & np.uint64(255)
        data[to + np.uint64(i)] = np.uint8(byte)


@part
def get_word(data: Bytes, at: int) -> int:
    """Return the eight bytes from `at` on."""
    word, first = np.uint64(0), np.uint64(at)
    for i in range(8):
        word |= np.uint64(data[first + np.uint64(i)]) << np.uint64(8 * i)
    return int(np.int64(word))


@part
def put_cell(data: Bytes, at: int, shift: int, value: int) -> None:
    """Write a cell of 64 - `shift` bits that holds `value`; what follows it is overwritten.

    The lowest value of the width stands for MISSING.
    """
    put_word(data, at, MISSING >> shift if value == MISSING else value)


@part
def get_cell(data: Bytes, at: int, shift: int) -> int:
    """Return the cell of 64 - `shift` bits at `at`."""
    value = (get_word(data, at) << shift) >> shift
    return MISSING if value == MISSING >> shift else value
