"""Under which key, relative to its partition, the history of an entity is stored."""

from binascii import hexlify
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from features.histories import EntityKey
from streams.partition import hex_key, unhex_key

HISTORY_PREFIX = b"history:"
KEY_DIGITS_COUNT = 16


@cache
def history_prefix(entity: str) -> bytes:
    """Return how the names of an entity's histories begin."""
    return HISTORY_PREFIX + entity.encode() + b":"


def history_name(entity: str, key: int) -> bytes:
    """Return the stored name of an entity's history."""
    return history_prefix(entity) + hex_key(key)


def history_names(
    entities: Sequence[str], numbers: NDArray[np.int64], keys: NDArray[np.int64]
) -> list[bytes]:
    """Return the name of each history `keys[i]` of the entity `entities[numbers[i]]`.

    0.25 us each, where `history_name` takes 0.65.
    """
    prefixes = [history_prefix(entity) for entity in entities]
    digits = hexlify(keys.astype(">i8").tobytes())
    ends = range(KEY_DIGITS_COUNT, len(digits) + 1, KEY_DIGITS_COUNT)
    return [
        prefixes[number] + digits[end - KEY_DIGITS_COUNT : end]
        for number, end in zip(numbers.tolist(), ends, strict=True)
    ]


def history_owner(partition: int, name: bytes) -> EntityKey:
    """Return whose history stands under this name."""
    entity, text = name.removeprefix(HISTORY_PREFIX).decode().split(":")
    return EntityKey(partition, entity, unhex_key(text.encode()))
