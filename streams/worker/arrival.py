"""Fetched records in one order, as raw records."""

from collections.abc import Mapping
from itertools import repeat
from operator import itemgetter
from typing import cast

from aiokafka import TopicPartition

from features.raw import RawRecord
from streams.worker.transport import Batches

Names = Mapping[TopicPartition, str]  # places in their order -> the topic without its prefix


def by_place(batches: Batches, names: Names) -> list[RawRecord]:
    """Return records place by place."""
    raws: list[RawRecord] = []
    for place, topic in names.items():
        records = batches[place]
        offsets = [record.offset for record in records]
        values = [record.value or b"" for record in records]
        rows = zip(repeat(place.partition), repeat(topic), offsets, values, strict=False)
        # tuple.__new__ skips the Python frame of RawRecord.__new__, as in streams/log.py.
        raws += cast(list[RawRecord], map(tuple.__new__, repeat(RawRecord), rows))
    return raws


def by_arrival(batches: Batches, names: Names) -> list[RawRecord]:
    """Return the records of several topics in the order in which Kafka got them."""
    rows = [
        (record.timestamp, RawRecord(place.partition, topic, record.offset, record.value or b""))
        for place, topic in names.items()
        for record in batches[place]
    ]
    rows.sort(key=itemgetter(0))
    return [raw for _, raw in rows]
