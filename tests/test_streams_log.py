"""The in-process log against a list of everything that was ever appended."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from features.raw import RawRecord
from streams.log import BackPressureError, OffsetGoneError, PartitionedLog
from streams.partitioner import partition_of

TOPICS = ("payments", "labels")
KEYS = ("CU1", "CU2", "CU3", "ключ")
PARTITION_COUNT = 3
MAX_UNREAD = 12
ROWS = st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from(KEYS)), max_size=6)


class LogMachine(RuleBasedStateMachine):
    """The model keeps every record and, by partition, the next offset to read."""

    def __init__(self) -> None:
        super().__init__()
        self.log = PartitionedLog(PARTITION_COUNT, max_unread=MAX_UNREAD)
        self.records: list[RawRecord] = []
        self.ends: Counter[tuple[str, int]] = Counter()
        self.position: dict[tuple[str, int], int] = {}
        self.first_kept: dict[tuple[str, int], int] = {}

    def unread(self) -> list[RawRecord]:
        position = self.position
        return [r for r in self.records if r.offset >= position.get((r.topic, r.partition), 0)]

    @rule(rows=ROWS, one_topic=st.booleans())
    def append(self, rows: list[tuple[str, str]], one_topic: bool) -> None:
        topics = ["payments" if one_topic else topic for topic, _ in rows]
        keys = [key for _, key in rows]
        values = [b"%d" % (len(self.records) + i) for i in range(len(rows))]
        argument: str | list[str] = "payments" if one_topic else topics
        if len(self.unread()) + len(rows) > MAX_UNREAD:
            with pytest.raises(BackPressureError):
                self.log.append(argument, keys, values)
            return
        self.log.append(argument, keys, values)
        for topic, key, value in zip(topics, keys, values, strict=True):
            partition = partition_of(key, PARTITION_COUNT)
            self.records.append(RawRecord(partition, topic, self.ends[topic, partition], value))
            self.ends[topic, partition] += 1

    @rule(limit=st.integers(-1, 8))
    def read(self, limit: int) -> None:
        expected = self.unread()[: max(limit, 0)]
        got = self.log.read(limit)
        assert got == expected
        assert all(isinstance(record, RawRecord) for record in got)
        for record in expected:
            self.position[record.topic, record.partition] = record.offset + 1

    @rule(
        offsets=st.dictionaries(
            st.tuples(st.sampled_from(TOPICS), st.integers(0, PARTITION_COUNT - 1)),
            st.integers(0, 8),
            max_size=3,
        )
    )
    def seek(self, offsets: dict[tuple[str, int], int]) -> None:
        if any(offset < self.first_kept.get(place, 0) for place, offset in offsets.items()):
            with pytest.raises(OffsetGoneError):
                self.log.seek(offsets)
            return
        self.log.seek(offsets)
        self.position.update(offsets)

    @rule()
    def truncate(self) -> None:
        self.log.truncate_read()
        self.first_kept = {
            place: min(offset, self.ends[place]) for place, offset in self.position.items()
        }

    @rule()  # no invariant: asking brings the log's books up to date, which would hide that
    def ask_position(self) -> None:
        assert self.log.position() == self.position
        assert list(self.log.position()) == sorted(self.position)

    @invariant()
    def room(self) -> None:
        assert self.log.room_count == MAX_UNREAD - len(self.unread())


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=40)


@given(ROWS, st.lists(st.integers(0, 6)))
def test_the_cut_of_appends_does_not_show(rows: list[tuple[str, str]], cuts: list[int]) -> None:
    def read_all(edges: list[int]) -> list[RawRecord]:
        log = PartitionedLog(PARTITION_COUNT)
        for start, stop in itertools.pairwise(edges):
            part = rows[start:stop]
            values = [b"%d" % i for i in range(len(rows))][start:stop]
            log.append([topic for topic, _ in part], [key for _, key in part], values)
        return log.read(100)

    edges = sorted({0, len(rows), *(cut for cut in cuts if cut <= len(rows))})
    assert read_all(edges) == read_all([0, len(rows)])


def test_a_source_fed_again_is_read_from_where_the_checkpoint_stood() -> None:
    log = PartitionedLog(1)
    log.seek({("payments", 0): 2})
    log.append("payments", ["a"] * 2, [b"0", b"1"])
    log.append(["payments", "labels", "payments"], ["a"] * 3, [b"2", b"label", b"3"])
    assert [record.value for record in log.read(10)] == [b"2", b"label", b"3"]
    assert log.position() == {("labels", 0): 1, ("payments", 0): 4}


def test_a_seek_back_reads_again_until_it_is_freed() -> None:
    log = PartitionedLog(1)
    log.append("payments", ["a"] * 4, [b"0", b"1", b"2", b"3"])
    log.read(2)
    log.truncate_read()
    log.read(2)
    log.seek({("payments", 0): 2})
    assert [record.offset for record in log.read(10)] == [2, 3]
    with pytest.raises(OffsetGoneError, match=r"payments/0: expected an offset of 2 or more .* 1"):
        log.seek({("labels", 0): 0, ("payments", 0): 1})
    assert log.position() == {("payments", 0): 4}


def test_back_pressure_takes_nothing_and_says_how_full_it_is() -> None:
    log = PartitionedLog(1, max_unread=3)
    log.append("payments", ["a", "b"], [b"0", b"1"])
    with pytest.raises(BackPressureError, match="2 unread and 2 to append, at most 3") as caught:
        log.append("payments", ["c", "d"], [b"2", b"3"])
    assert (caught.value.unread_count, caught.value.append_count) == (2, 2)
    log.append("payments", ["c"], [b"2"])
    assert [record.offset for record in log.read(9)] == [0, 1, 2]
    with pytest.raises(ValueError, match="at most max_unread=3 records in one append, got 4"):
        log.append("payments", ["a"] * 4, [b""] * 4)


def test_wrong_arguments_are_refused() -> None:
    log = PartitionedLog(2)
    with pytest.raises(ValueError, match="got 1 keys, 1 topics, 2 values"):
        log.append("payments", ["a"], [b"0", b"1"])
    with pytest.raises(ValueError, match="got 1 keys, 2 topics, 1 values"):
        log.append(["payments", "labels"], ["a"], [b"0"])
    with pytest.raises(ValueError, match="payments/2: expected a partition below 2"):
        log.seek({("payments", 2): 0})
    with pytest.raises(ValueError, match="max_unread"):
        PartitionedLog(1, max_unread=0)
    assert log.read(5) == []


def test_what_was_read_last_can_be_given_back_until_its_position_was_told() -> None:
    log = PartitionedLog(1)
    log.append("payments", ["CU1"] * 5, [b"%d" % n for n in range(5)])
    assert [r.value for r in log.read(2)] == [b"0", b"1"]
    assert log.position() == {("payments", 0): 2}
    assert [r.value for r in log.read(3)] == [b"2", b"3", b"4"]
    log.give_back(2)
    assert log.position() == {("payments", 0): 3}
    with pytest.raises(ValueError, match="expected at most 0 records to give back, got 1"):
        log.give_back(1)
    assert [r.value for r in log.read(9)] == [b"3", b"4"]
    assert log.position() == {("payments", 0): 5}
