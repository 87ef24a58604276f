"""Keys go where Kafka's own producer would send them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import DefaultPartitioner
from kafka.partitioner import murmur2 as kafka_murmur2

from features.kernels.murmur2 import murmur2
from streams.partitioner import checked_partition_count, partition_of, partitions_of


class OneTopic:
    """As much of kafka-python's cluster metadata as its partitioner asks for."""

    def __init__(self, partition_count: int) -> None:
        self.partitions = set(range(partition_count))

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, _: str) -> set[int]:
        return self.partitions

    available_partitions_for_topic = partitions_for_topic


def kafkas_choice(key: str, partition_count: int) -> int:
    cluster = OneTopic(partition_count)
    choice = DefaultPartitioner().partition("t", key, key.encode(), None, None, cluster)
    return int(choice)


@given(st.binary(max_size=3), st.binary(max_size=40))
def test_murmur2_is_kafkas(before: bytes, key: bytes) -> None:
    data = np.frombuffer(before + key + before, np.uint8)
    assert int(murmur2(data, len(before), len(before) + len(key))) == kafka_murmur2(key)


def test_murmur2_is_the_java_clients() -> None:
    # From Apache Kafka's UtilsTest.testMurmur2, as unsigned.
    cases = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    for key, signed in cases.items():
        assert int(murmur2(np.frombuffer(key, np.uint8), 0, len(key))) == signed % 2**32


@given(
    st.one_of(
        st.lists(st.text(alphabet=st.characters(codec="ascii"))),
        st.lists(st.text()),
        st.lists(st.sampled_from(["", "CU1", "ключ", "鍵", "🔑"])),
    ),
    st.integers(1, 70),
)
def test_partitions_are_kafkas(keys: list[str], partition_count: int) -> None:
    expected = [kafkas_choice(key, partition_count) for key in keys]
    assert partitions_of(keys, partition_count).tolist() == expected
    assert [partition_of(key, partition_count) for key in keys] == expected


@pytest.mark.parametrize("partition_count", [0, -1, 65_536])
def test_the_number_of_partitions_is_bounded(partition_count: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 65535, got {partition_count}"):
        checked_partition_count(partition_count)
