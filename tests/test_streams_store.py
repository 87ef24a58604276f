"""One suite for every store: memory and real Redis must behave the same."""

from collections.abc import Sequence

import pytest

from streams.store import (
    SHARED_KEPT_COUNT,
    VALUE_MAX_BYTES,
    FencedError,
    OffsetGapError,
    PartitionChange,
    Store,
)
from tests.conftest import Factory

Writes = Sequence[tuple[bytes, int, bytes]]


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


def shared(epoch: int, at: int, *keys: bytes, partition: str = "3") -> PartitionChange:
    writes = [(key, 0, b"%d" % at) for key in keys]
    return PartitionChange(partition, epoch, {"t": (at, at + 1)}, writes, [], keys)


def test_shared_changes_are_those_since_the_mark(store: Store) -> None:
    epoch, _ = store.acquire("3")
    begin, keys = store.shared_changes("3", None)
    assert keys is None
    assert store.shared_changes("3", begin) == (begin, [])
    store.commit([shared(epoch, 0, b"a", b"b")])
    first, keys = store.shared_changes("3", begin)
    assert sorted(keys or ()) == [b"a", b"b"]
    store.commit([shared(epoch, 1, b"b", b"\xff{c}")])
    store.commit([change(epoch, {"t": (2, 3)}, [(b"a", 0, b"not a shared key this time")])])
    second, keys = store.shared_changes("3", first)
    assert sorted(keys or ()) == [b"b", b"\xff{c}"]
    assert sorted(store.shared_changes("3", begin).keys or ()) == [b"a", b"b", b"\xff{c}"]
    assert store.shared_changes("3", second) == (second, [])
    assert [key for key, _ in store.scan("3")] == [b"a", b"b", b"\xff{c}"]


def test_shared_changes_of_a_repeated_or_refused_commit_count_once_or_not(store: Store) -> None:
    epoch, _ = store.acquire("3")
    mark, _ = store.shared_changes("3", None)
    store.commit([shared(epoch, 0, b"a")])
    first, _ = store.shared_changes("3", mark)
    store.commit([shared(epoch, 0, b"a")])
    with pytest.raises(OffsetGapError):
        store.commit([shared(epoch, 7, b"b")])
    assert store.shared_changes("3", first) == (first, [])
    assert store.acquire("3") == (2, {"t": 1})


def test_shared_changes_of_each_partition_are_its_own(store: Store) -> None:
    epochs = {name: store.acquire(name)[0] for name in ("a", "b", "c")}
    marks = {name: store.shared_changes(name, None).mark for name in epochs}
    keys = [b"k%d" % number for number in range(300)]
    store.commit([
        shared(epochs["a"], 0, *keys, partition="a"),
        shared(epochs["b"], 0, partition="b"),
        shared(epochs["c"], 0, b"k1", partition="c"),
    ])  # fmt: skip
    found = {name: store.shared_changes(name, mark).keys for name, mark in marks.items()}
    assert sorted(found["a"] or ()) == sorted(keys)
    assert (found["b"], found["c"]) == ([], [b"k1"])


def test_whoever_is_too_far_behind_is_told_so(store: Store) -> None:
    epoch, _ = store.acquire("3")
    begin, _ = store.shared_changes("3", None)
    store.commit([shared(epoch, 0, b"first")])
    first, _ = store.shared_changes("3", begin)
    for at in range(1, SHARED_KEPT_COUNT):
        store.commit([shared(epoch, at, b"k")])
    assert sorted(store.shared_changes("3", begin).keys or ()) == [b"first", b"k"]
    store.commit([shared(epoch, SHARED_KEPT_COUNT, b"k")])
    assert store.shared_changes("3", begin).keys is None
    assert store.shared_changes("3", first).keys == [b"k"], "the oldest are dropped"


def test_another_owner_and_an_emptied_store_make_all_marks_void(new_store: Factory) -> None:
    store = new_store()
    epoch, _ = store.acquire("3")
    store.commit([shared(epoch, 0, b"a")])
    mark, _ = store.shared_changes("3", None)
    store.acquire("3")
    assert store.shared_changes("3", mark).keys is None
    other = new_store()
    assert other.shared_changes("3", mark).keys is None


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
        ([change(1, {}, [(b"shared", 0, b"v")])], "reserved"),
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
