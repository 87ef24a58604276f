"""Kafka's key partitioner over many keys at once, and the offsets that follow from it.

Source: `org.apache.kafka.common.utils.Utils.murmur2` of the Java client (MurmurHash2, 32 bits,
seed 0x9747b28c) and its `toPositive(hash) % partitions`.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

_MASK = np.uint64(0xFFFFFFFF)
_SEED = np.uint64(0x9747B28C)
_M = np.uint64(0x5BD1E995)
_POSITIVE = np.uint64(0x7FFFFFFF)
_U8 = np.uint64(8)
_U13 = np.uint64(13)
_U15 = np.uint64(15)
_U16 = np.uint64(16)
_U24 = np.uint64(24)


# 64-bit words masked to 32 bits: Numba widens a product of two uint32 to uint64 anyway, so that
# uint32 would need the same masks and hide them.
@njit(cache=True)
def murmur2(data: NDArray[np.uint8], start: int, end: int) -> np.uint64:
    """Return the hash (below 2**32) of `data[start:end]`."""
    length = end - start
    h = _SEED ^ np.uint64(length)
    whole_end = start + length - length % 4
    for i in range(start, whole_end, 4):
        k = (
            np.uint64(data[i])
            | np.uint64(data[i + 1]) << _U8
            | np.uint64(data[i + 2]) << _U16
            | np.uint64(data[i + 3]) << _U24
        )
        k = (k * _M) & _MASK
        k ^= k >> _U24
        k = (k * _M) & _MASK
        h = ((h * _M) & _MASK) ^ k
    rest = length % 4
    if rest == 3:
        h ^= np.uint64(data[whole_end + 2]) << _U16
    if rest >= 2:
        h ^= np.uint64(data[whole_end + 1]) << _U8
    if rest >= 1:
        h ^= np.uint64(data[whole_end])
        h = (h * _M) & _MASK
    h ^= h >> _U13
    h = (h * _M) & _MASK
    return h ^ (h >> _U15)


@njit(cache=True)
def assign_partitions(
    data: NDArray[np.uint8], ends: NDArray[np.int64], partition_count: int
) -> NDArray[np.int64]:
    """Return the partition, int64[n], of n keys that lie end to end in `data`.

    `ends[i]` is where key i ends, in bytes; key 0 starts at 0.
    """
    partitions = np.empty(len(ends), np.int64)
    start = 0
    for i in range(len(ends)):
        positive = murmur2(data, start, ends[i]) & _POSITIVE
        partitions[i] = np.int64(positive) % partition_count
        start = ends[i]
    return partitions


@njit(cache=True)
def take_offsets(rows: NDArray[np.int64], next_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the offset, int64[n], that each record takes, in order.

    `rows`, int64[n], is each record's place in `next_offsets` (one for every topic and
    partition), which is moved on in place.
    """
    offsets = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        offsets[i] = next_offsets[rows[i]]
        next_offsets[rows[i]] += 1
    return offsets
