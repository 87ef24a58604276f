"""Which partition a key belongs to: the same answer as Kafka's own producers give."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from features.kernels.murmur2 import assign_partitions

PARTITIONS_MAX_COUNT = 65_535  # a batch carries partition numbers as uint16


def checked_partition_count(partition_count: int) -> int:
    """Return `partition_count` if it lies in 1 to PARTITIONS_MAX_COUNT, else ValueError."""
    if not 1 <= partition_count <= PARTITIONS_MAX_COUNT:
        raise ValueError(
            f"partition_count: expected 1 to {PARTITIONS_MAX_COUNT}, got {partition_count}"
        )
    return partition_count


def partitions_of(keys: Sequence[str], partition_count: int) -> NDArray[np.int64]:
    """Return each key's partition, int64[n]: murmur2 of its UTF-8 bytes, as Kafka's default.

    Raises UnicodeEncodeError for a key that is not valid Unicode (a lone surrogate).
    """
    joined = "".join(keys)
    if joined.isascii():  # one character is one byte, so that no key need be encoded by itself
        text = joined.encode()
        lengths = map(len, keys)
    else:
        encoded = [key.encode() for key in keys]
        text = b"".join(encoded)
        lengths = map(len, encoded)
    ends = np.fromiter(accumulate(lengths), np.int64, len(keys))
    return assign_partitions(np.frombuffer(text, np.uint8), ends, partition_count)


def partition_of(key: str, partition_count: int) -> int:
    """Return one key's partition."""
    return int(partitions_of((key,), partition_count)[0])
