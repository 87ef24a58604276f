"""Checkpoints and loads, against a private Redis on a Unix socket; an "event" is one key.

The baselines are what one would write with redis-py: a pipeline of SET, and MGET, with the same
keys and bytes. They check no epoch and no offsets, and a pipeline of SET is not all or nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
from redis import Redis

from bench.measure import Measure
from streams.partition import Write
from streams.redis_store import RedisStore
from streams.store import PartitionChange

VALUE_BYTES = 600
APPENDED_BYTES = 80
LOADED_COUNT = 1_000
PARTITION, TOPIC = "0", "transactions"
READ = f"redis-py MGET of {LOADED_COUNT:,} keys"


@dataclass
class Keeper:
    """A store that holds one partition, and the plain client beside it."""

    store: RedisStore
    client: Redis
    epoch: int
    offset: int = 0

    def committing(self, writes: list[Write], is_shared: bool = False) -> Callable[[], None]:
        """Return what commits the writes, each time from the next offset.

        `is_shared`: they are noted for other processes that keep copies of them.
        """
        shared = [write.key for write in writes] if is_shared else []

        def commit() -> None:
            offsets = {TOPIC: (self.offset, self.offset + 1)}
            self.store.commit([PartitionChange(PARTITION, self.epoch, offsets, writes, [], shared)])
            self.offset += 1

        return commit

    def setting(self, writes: list[Write]) -> Callable[[], None]:
        """Return what sets the same keys by a pipeline of redis-py."""
        tag = f"plain-py:{{{PARTITION}}}:".encode()
        items = [(tag + write.key, write.value) for write in writes]

        def set_all() -> None:
            pipeline = self.client.pipeline(transaction=False)
            for key, value in items:
                pipeline.set(key, value)
            pipeline.execute()

        return set_all


@pytest.fixture(scope="module")
def keeper(redis_url: str) -> Iterator[Keeper]:
    with closing(RedisStore(redis_url, "millrace")) as store, Redis.from_url(redis_url) as client:
        epoch, _ = store.acquire(PARTITION)
        yield Keeper(store, client, epoch)


def some_writes(count: int) -> list[Write]:
    rng = np.random.default_rng(1)
    values = rng.bytes(count * VALUE_BYTES)
    return [
        Write(b"history:customer:%016x" % key, 0, values[i * VALUE_BYTES : (i + 1) * VALUE_BYTES])
        for i, key in enumerate(rng.integers(2**62, size=count).tolist())
    ]


def writing(count: int) -> str:
    return f"redis-py pipeline, SET of {count:,} values of {VALUE_BYTES} bytes"


@pytest.mark.parametrize("count", [1_000, 15_000])
def test_set(measure: Measure, keeper: Keeper, count: int) -> None:
    measure.calls(writing(count), count, keeper.setting(some_writes(count)))


@pytest.mark.parametrize("count", [1_000, 15_000])
def test_commit(measure: Measure, keeper: Keeper, count: int) -> None:
    measure.calls(
        f"RedisStore.commit of {count:,} values of {VALUE_BYTES} bytes",
        count,
        keeper.committing(some_writes(count)),
        baseline=writing(count),
    )


def test_commit_appended(measure: Measure, keeper: Keeper) -> None:
    count = 15_000
    whole = some_writes(count)
    keeper.committing(whole)()
    appended = [Write(w.key, VALUE_BYTES, w.value[:APPENDED_BYTES]) for w in whole]
    measure.calls(
        f"RedisStore.commit of {count:,} events of {APPENDED_BYTES} bytes behind those values",
        count,
        keeper.committing(appended),
        baseline=writing(count),
    )


def test_commit_noted(measure: Measure, keeper: Keeper) -> None:
    count = 15_000
    measure.calls(
        f"RedisStore.commit of {count:,} values of {VALUE_BYTES} bytes, noted for other processes",
        count,
        keeper.committing(some_writes(count), is_shared=True),
        baseline=writing(count),
    )


def test_shared_changes(measure: Measure, keeper: Keeper) -> None:
    mark, _ = keeper.store.shared_changes(PARTITION, None)
    keeper.committing(some_writes(LOADED_COUNT), is_shared=True)()
    keys = keeper.store.shared_changes(PARTITION, mark).keys
    assert keys is not None
    assert len(keys) == LOADED_COUNT
    measure.calls(
        f"RedisStore.shared_changes that names {LOADED_COUNT:,} keys",
        LOADED_COUNT,
        lambda: keeper.store.shared_changes(PARTITION, mark),
    )


def test_mget(measure: Measure, keeper: Keeper) -> None:
    writes = some_writes(LOADED_COUNT)
    keeper.setting(writes)()
    keys = [f"plain-py:{{{PARTITION}}}:".encode() + write.key for write in writes]
    assert keeper.client.mget(keys)[-1] == writes[-1].value
    measure.calls(READ, LOADED_COUNT, lambda: keeper.client.mget(keys))


def test_load(measure: Measure, keeper: Keeper) -> None:
    writes = some_writes(LOADED_COUNT)
    keeper.committing(writes)()
    keys = [(PARTITION, write.key) for write in writes]
    assert keeper.store.load(keys)[-1] == writes[-1].value
    measure.calls(
        f"RedisStore.load of {LOADED_COUNT:,} keys",
        LOADED_COUNT,
        lambda: keeper.store.load(keys),
        baseline=READ,
    )
