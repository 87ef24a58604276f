"""Any sequence of calls to a store, against plain dicts that say what must be stored."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from streams.store import FencedError, OffsetGapError, PartitionChange, SharedMark
from tests.conftest import Factory

PARTITIONS = ("a", "b")
TOPICS = ("t", "u")
WORKERS = st.integers(0, 1)
WRITE = st.tuples(st.sampled_from([b"k", b"l", b"m"]), st.integers(0, 6), st.binary(max_size=4))


class StoreMachine(RuleBasedStateMachine):
    """Two workers fight over two partitions; a plain dict says what must be stored."""

    def __init__(self, new_store: Factory) -> None:
        super().__init__()
        self.store = new_store()
        self.epochs = dict.fromkeys(PARTITIONS, 0)
        self.offsets: dict[str, dict[str, int]] = {name: {} for name in PARTITIONS}
        self.values: dict[str, dict[bytes, bytes]] = {name: {} for name in PARTITIONS}
        self.held: dict[tuple[int, str], int] = {}
        self.last: list[PartitionChange] = []
        self.shared: dict[str, list[set[bytes]]] = {name: [] for name in PARTITIONS}
        self.marks: dict[str, tuple[SharedMark | None, int, int]] = {}

    @initialize()
    def first_owner(self) -> None:
        for partition in PARTITIONS:
            self.acquire(0, partition)

    @rule(worker=WORKERS, partition=st.sampled_from(PARTITIONS))
    def acquire(self, worker: int, partition: str) -> None:
        self.epochs[partition] += 1
        self.held[worker, partition] = self.epochs[partition]
        expected = (self.epochs[partition], self.offsets[partition])
        assert self.store.acquire(partition) == expected

    @rule(
        worker=WORKERS, partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1), data=st.data()
    )
    def commit(self, worker: int, partitions: set[str], data: st.DataObject) -> None:
        changes = []
        for partition in sorted(partitions):
            offsets = {}
            for topic in data.draw(st.lists(st.sampled_from(TOPICS), unique=True)):
                stored = self.offsets[partition].get(topic, 0)
                expected = max(0, stored + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1])))
                offsets[topic] = (expected, expected + data.draw(st.integers(0, 2)))
            epoch = self.held.get((worker, partition), 1)
            writes = data.draw(st.lists(WRITE, max_size=4))
            deletes = data.draw(st.lists(st.sampled_from([b"k", b"l"]), max_size=2))
            names = data.draw(st.sets(st.sampled_from([key for key, _, _ in writes] or [b"k"])))
            change = PartitionChange(partition, epoch, offsets, writes, deletes, sorted(names))
            changes.append(change)
        self.send(changes)

    @precondition(lambda self: self.last)
    @rule()
    def send_the_last_commit_again(self) -> None:
        self.send(self.last)

    def send(self, changes: list[PartitionChange]) -> None:
        self.last = changes
        expected = self.verdict(changes)
        if expected is None:
            self.store.commit(changes)
            return
        with pytest.raises(type(expected)) as caught:
            self.store.commit(changes)
        assert vars(caught.value) == vars(expected)

    @rule(partition=st.sampled_from(PARTITIONS))
    def read_shared_changes(self, partition: str) -> None:
        """Ask since the last time: everything, or what the sets noted since then say."""
        mark, epoch, count = self.marks.get(partition, (None, 0, 0))
        found = self.store.shared_changes(partition, mark)
        noted = self.shared[partition]
        if mark is None or epoch != self.epochs[partition]:
            assert found.keys is None
        else:
            assert sorted(found.keys or ()) == sorted(set().union(*noted[count:]))
        self.marks[partition] = (found.mark, self.epochs[partition], len(noted))

    def verdict(self, changes: list[PartitionChange]) -> FencedError | OffsetGapError | None:
        """Apply to the plain dicts what a store should; return the error it should raise."""
        for one in changes:
            if one.epoch != self.epochs[one.partition]:
                return FencedError(one.partition, one.epoch, self.epochs[one.partition])
        rows = [
            (one.partition, topic, expected, new, self.offsets[one.partition].get(topic, 0))
            for one in changes
            for topic, (expected, new) in one.offsets.items()
        ]
        wrong = [row for row in rows if row[2] != row[4]]
        if wrong and any(new != stored for _, _, _, new, stored in rows):
            partition, topic, expected, _, stored = wrong[0]
            return OffsetGapError(partition, topic, expected, stored)
        if not wrong:
            for one in changes:
                self.apply(one)
        return None

    def apply(self, one: PartitionChange) -> None:
        values = self.values[one.partition]
        for key in one.deletes:
            values.pop(key, None)
        for key, start, value in one.writes:
            if start == 0:
                values[key] = value
            elif value:
                row = bytearray(values.get(key, b""))
                while len(row) < start + len(value):
                    row.append(0)
                for i, byte in enumerate(value):
                    row[start + i] = byte
                values[key] = bytes(row)
        for topic, (_, new) in one.offsets.items():
            self.offsets[one.partition][topic] = new
        if one.shared:
            self.shared[one.partition].append(set(one.shared))

    @invariant()
    def stored_is_what_the_dicts_say(self) -> None:
        for partition in PARTITIONS:
            assert dict(self.store.scan(partition)) == self.values[partition]
        keys = [(partition, key) for partition in PARTITIONS for key in (b"k", b"l", b"m")]
        assert self.store.load(keys) == [self.values[name].get(key) for name, key in keys]


def test_any_sequence_of_calls_agrees_with_plain_dicts(new_store: Factory) -> None:
    run_state_machine_as_test(
        lambda: StoreMachine(new_store),  # type: ignore[arg-type]  # any factory will do
        settings=settings(
            max_examples=60, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
