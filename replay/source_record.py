"""One record as a source hands it over: bytes with the topic, the key and the event time."""

from typing import NamedTuple


class SourceRecord(NamedTuple):
    """`key` is the customer's id, `ts_ms` the event time, `value` the record as JSON bytes."""

    topic: str
    key: str
    ts_ms: int
    value: bytes
