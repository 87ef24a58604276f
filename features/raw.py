"""A record as it comes from a log: bytes with their place, not yet decoded."""

from typing import NamedTuple


class RawRecord(NamedTuple):
    """One message: `offset` counts within its (topic, partition)."""

    partition: int
    topic: str
    offset: int
    value: bytes
