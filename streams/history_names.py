"""Under which key, relative to its partition, the history of an entity is stored."""

from functools import cache

from features.histories import EntityKey
from streams.partition import hex_key, unhex_key

HISTORY_PREFIX = b"history:"


@cache
def _prefix(entity: str) -> bytes:
    return HISTORY_PREFIX + entity.encode() + b":"


def history_name(entity: str, key: int) -> bytes:
    """Return the stored name of an entity's history."""
    return _prefix(entity) + hex_key(key)


def history_owner(partition: int, name: bytes) -> EntityKey:
    """Return whose history stands under this name."""
    entity, text = name.removeprefix(HISTORY_PREFIX).decode().split(":")
    return EntityKey(partition, entity, unhex_key(text.encode()))
