"""SipHash-2-4 over many byte strings at once.

Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). The hash is keyed, so it
is a pseudonym as well as an index, and nobody without the key can craft collisions.
"""

import numpy as np
from numpy.typing import NDArray

from features.kernels.jit import inlined, kernel, part
from features.kernels.words import Bytes, first_bytes, word_at


@inlined
def _rotl(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@inlined
def _round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 = v0 + v1
    v2 = v2 + v3
    v1 = _rotl(v1, 13) ^ v0
    v3 = _rotl(v3, 16) ^ v2
    v0 = _rotl(v0, 32)
    v2 = v2 + v1
    v0 = v0 + v3
    v1 = _rotl(v1, 17) ^ v2
    v3 = _rotl(v3, 21) ^ v0
    v2 = _rotl(v2, 32)
    return v0, v1, v2, v3


@part
def siphash_one(data: Bytes, start: int, end: int, k0: np.uint64, k1: np.uint64) -> np.uint64:
    """Return the hash of `data[start:end]` under the 128-bit key (k0, k1).

    Reads whole words: there must be `WORD_PADDING` behind the last string.
    """
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    length = end - start
    whole = start + (length // 8) * 8
    i = start
    while i < whole:
        word = word_at(data, i)
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
        i += 8
    word = np.uint64(length & 0xFF) << np.uint64(56)
    word |= first_bytes(word_at(data, whole), end - whole)
    v3 ^= word
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@kernel
def siphash_many(
    data: Bytes,
    ends: NDArray[np.int64],
    k0: np.uint64,
    k1: np.uint64,
    out: NDArray[np.int64],
    avoid: int,
) -> None:
    """Hash the strings laid end to end in `data`, padded; string i ends before `ends[i]`.

    `out` (int64, same length) takes each hash viewed as int64; the value `avoid`, which callers
    use as a sentinel, is never given (its neighbour is).
    """
    start = 0
    for i in range(ends.shape[0]):
        value = np.int64(siphash_one(data, start, ends[i], k0, k1))
        out[i] = value + 1 if value == avoid else value
        start = ends[i]
