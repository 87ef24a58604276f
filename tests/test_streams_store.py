"""One suite for every store: memory and real Redis must behave the same."""

import itertools
from collections.abc import Callable, Iterator, Sequence

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

from streams.redis_store import RedisStore
from streams.store import (
    VALUE_MAX_BYTES,
    FencedError,
    MemoryStore,
    OffsetGapError,
    PartitionChange,
    Store,
)

Factory = Callable[[], Store]
Writes = Sequence[tuple[bytes, int, bytes]]


@pytest.fixture(params=["memory", "redis"])
def new_store(request: pytest.FixtureRequest) -> Iterator[Factory]:
    """Return a function that makes an empty store."""
    if request.param == "memory":
        yield MemoryStore
        return
    url = request.getfixturevalue("redis_url")
    prefix = request.getfixturevalue("redis_prefix")
    numbers = itertools.count()
    made: list[RedisStore] = []

    def make() -> Store:
        made.append(RedisStore(url, f"{prefix}-{next(numbers)}"))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(new_store: Factory) -> Store:
    return new_store()


def change(
    epoch: int,
    offsets: dict[str, tuple[int, int]],
    writes: Writes = (),
    deletes: Sequence[bytes] = (),
    partition: str = "3",
) -> PartitionChange:
    return PartitionChange(partition, epoch, offsets, writes, deletes)


def test_acquire_raises_the_epoch_and_returns_the_stored_offsets(store: Store) -> None:
    assert store.acquire("3") == (1, {})
    store.commit([change(1, {"payments": (0, 7), "labels": (0, 2)})])
    assert store.acquire("3") == (2, {"payments": 7, "labels": 2})
    assert store.acquire("4") == (1, {})


def test_values_are_replaced_overwritten_and_deleted(store: Store) -> None:
    epoch, _ = store.acquire("3")
    store.commit([change(epoch, {"t": (0, 1)}, [(b"a", 0, b"abcdef"), (b"b", 0, b"x")])])
    store.commit([change(epoch, {"t": (1, 2)}, [(b"a", 2, b"ZZ"), (b"c", 3, b"q")], [b"b"])])
    assert store.load([("3", b"a"), ("3", b"b"), ("3", b"c"), ("4", b"a")]) == [
        b"abZZef",
        None,
        b"\0\0\0q",
        None,
    ]
    assert store.load([]) == []


def test_writes_to_one_key_keep_their_order_and_deletes_go_first(store: Store) -> None:
    epoch, _ = store.acquire("3")
    writes = [
        (b"k", 0, b"first"),
        (b"k", 1, b"I"),
        (b"k", 0, b"ab"),
        (b"k", 1, b"Z"),
        (b"n", 0, b""),
    ]
    store.commit([change(epoch, {"t": (0, 1)}, writes, [b"k"])])
    assert list(store.scan("3")) == [(b"k", b"aZ"), (b"n", b"")]


def test_a_fenced_commit_names_the_epochs_and_writes_nothing(store: Store) -> None:
    ours, _ = store.acquire("3")
    theirs, _ = store.acquire("3")
    with pytest.raises(
        FencedError, match="partition 3: our epoch is 1, the stored one 2"
    ) as caught:
        store.commit([change(ours, {"t": (0, 1)}, [(b"k", 0, b"zombie")])])
    assert (caught.value.epoch, caught.value.stored_epoch) == (ours, theirs)
    assert list(store.scan("3")) == []
    assert store.acquire("3") == (3, {})


def test_an_emptied_store_fences_everyone_off(new_store: Factory) -> None:
    new_store().acquire("3")
    with pytest.raises(FencedError, match="our epoch is 1, the stored one 0"):
        new_store().commit([change(1, {"t": (0, 1)})])


def test_a_gap_in_offsets_names_the_topic_and_writes_nothing(store: Store) -> None:
    epoch, _ = store.acquire("3")
    store.commit([change(epoch, {"t": (0, 5)})])
    with pytest.raises(OffsetGapError, match=r"topic t: expected .* to be 6, got 5") as caught:
        store.commit([change(epoch, {"t": (6, 9)}, [(b"k", 0, b"v")])])
    assert (caught.value.topic, caught.value.expected, caught.value.stored) == ("t", 6, 5)
    assert list(store.scan("3")) == []


def test_one_partition_at_fault_stops_the_commit_of_all(store: Store) -> None:
    epochs = {name: store.acquire(name)[0] for name in ("a", "b", "c")}
    store.acquire("c")
    changes = [
        change(epochs[name], {"t": (0, 1)}, [(b"k", 0, b"v")], partition=name) for name in epochs
    ]
    with pytest.raises(FencedError, match="partition c"):
        store.commit(changes)
    assert [list(store.scan(name)) for name in epochs] == [[], [], []]
    store.commit(changes[:2])
    assert [list(store.scan(name)) for name in epochs] == [[(b"k", b"v")], [(b"k", b"v")], []]


def test_fences_come_before_gaps(store: Store) -> None:
    first, _ = store.acquire("a")
    zombie, _ = store.acquire("b")
    store.acquire("b")
    with pytest.raises(FencedError, match="partition b"):
        store.commit(
            [
                change(first, {"t": (4, 5)}, partition="a"),
                change(zombie, {"t": (0, 1)}, partition="b"),
            ]
        )


def test_the_same_commit_again_counts_as_done(store: Store) -> None:
    epoch, _ = store.acquire("3")
    repeated = [change(epoch, {"t": (0, 5), "u": (0, 0)}, [(b"k", 0, b"v")], [b"old"])]
    store.commit(repeated)
    store.commit(repeated)
    assert list(store.scan("3")) == [(b"k", b"v")]
    assert store.acquire("3") == (2, {"t": 5, "u": 0})
    with pytest.raises(FencedError):
        store.commit(repeated)


def test_a_commit_up_to_the_stored_offsets_writes_nothing(store: Store) -> None:
    epoch, _ = store.acquire("3")
    store.commit([change(epoch, {"t": (0, 5)}, [(b"k", 0, b"newer")])])
    store.commit([change(epoch, {"t": (3, 5)}, [(b"k", 0, b"older")], [b"k"])])
    assert list(store.scan("3")) == [(b"k", b"newer")]


def test_offsets_beyond_the_exact_range_of_a_double_are_exact(store: Store) -> None:
    epoch, _ = store.acquire("3")
    far = 2**53
    store.commit([change(epoch, {"t": (0, far + 1)})])
    with pytest.raises(OffsetGapError, match=f"got {far + 1}"):
        store.commit([change(epoch, {"t": (far, far + 2)})])


def test_large_commits_and_names_with_every_byte(store: Store) -> None:
    epoch, _ = store.acquire("p*[1]")
    other, _ = store.acquire("pp1")
    keys = [bytes([i % 256]) + b"*?:{}\r\n" + str(i).encode() for i in range(15_000)]
    writes = [(key, 0, key * 3) for key in keys]
    store.commit(
        [
            change(epoch, {"t": (0, 15_000)}, writes, partition="p*[1]"),
            change(other, {"t": (0, 1)}, [(b"other", 0, b"")], partition="pp1"),
        ]
    )
    assert list(store.scan("p*[1]")) == sorted((key, key * 3) for key in keys)
    assert store.load([("p*[1]", key) for key in keys]) == [key * 3 for key in keys]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([change(1, {"t": (5, 4)})], "offsets that go on from 0, got 5 to 4"),
        ([change(1, {"t": (-1, 4)})], "got -1 to 4"),
        ([change(0, {"t": (0, 4)})], "acquire it first"),
        ([change(1, {}, [(b"a", 0, b""), (b"k", -1, b"v")])], "key b'k': expected bytes within"),
        ([change(1, {}, [(b"k", VALUE_MAX_BYTES, b"v")])], "key b'k': expected bytes within"),
        ([change(1, {}, [(b"meta", 0, b"v")])], "reserved"),
        ([change(1, {}, [], [b"meta"])], "reserved"),
        ([change(1, {}), change(1, {})], "a partition twice"),
        ([change(1, {}, partition="a}b")], "without braces"),
    ],
)
def test_changes_that_no_store_may_take(
    store: Store, bad: list[PartitionChange], message: str
) -> None:
    store.acquire("3")
    with pytest.raises(ValueError, match=message):
        store.commit(bad)
    assert list(store.scan("3")) == []
    with pytest.raises(ValueError, match="without braces"):
        store.acquire("{3}")


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
            changes.append(PartitionChange(partition, epoch, offsets, writes, deletes))
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
