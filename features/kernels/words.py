"""Eight bytes at a time: unaligned words of a byte array, and where a JSON string ends.

Whoever reads words keeps `WORD_PADDING` bytes of room behind the last byte that counts.
"""

import numpy as np
from numpy.typing import NDArray

from features.kernels.jit import inlined

Bytes = NDArray[np.uint8]
WORD_PADDING = b"\0" * 16

_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_QUOTES = np.uint64(0x2222222222222222)
_BACKSLASHES = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES = np.uint64(0x2020202020202020)
_U1 = np.uint64(1)
_U3 = np.uint64(3)
_U7 = np.uint64(7)
_U56 = np.uint64(56)


@inlined
def word_at(data: Bytes, position: int) -> np.uint64:
    """Return `data[position:position + 8]` as a little-endian word: LLVM makes it one load."""
    at = np.uint64(position)  # unsigned: numba then doesn't test for negative positions
    word = np.uint64(data[at])
    word |= np.uint64(data[at + np.uint64(1)]) << np.uint64(8)
    word |= np.uint64(data[at + np.uint64(2)]) << np.uint64(16)
    word |= np.uint64(data[at + np.uint64(3)]) << np.uint64(24)
    word |= np.uint64(data[at + np.uint64(4)]) << np.uint64(32)
    word |= np.uint64(data[at + np.uint64(5)]) << np.uint64(40)
    word |= np.uint64(data[at + np.uint64(6)]) << np.uint64(48)
    word |= np.uint64(data[at + np.uint64(7)]) << np.uint64(56)
    return word


@inlined
def first_bytes(word: np.uint64, count: int) -> np.uint64:
    """Return the word with all but its first `count` bytes (0 to 7) cleared."""
    return word & ((_U1 << (np.uint64(count) * np.uint64(8))) - _U1)


@inlined
def plain_until(data: Bytes, position: int, others: np.uint64) -> int:
    """Return where the first quote, backslash or control character stands from `position` on.

    Or the first byte that has one of the bits of `others`, which holds the same byte eight times:
    0x80 stops at what is not ASCII, 0 at nothing more. A byte 0 behind the data stops it too.
    Source: S. E. Anderson, "Bit Twiddling Hacks", "Determine if a word has a zero byte" and "a
    byte less than n": the lowest byte that they mark is always right.
    """
    while True:
        word = word_at(data, position)
        quotes, backslashes = word ^ _QUOTES, word ^ _BACKSLASHES
        marks = ((quotes - _ONES) & ~quotes) | ((backslashes - _ONES) & ~backslashes)
        marks |= (word - _SPACES) & ~word
        marks = (marks & _TOPS) | (word & others)
        if marks:
            # Bit 8k is left of the mark of byte k; below it are k bytes of ones.
            lowest = (marks >> _U7) & (~(marks >> _U7) + _U1)
            return position + int((((lowest - _U1) & _ONES) * _ONES) >> _U56)
        position += 8
