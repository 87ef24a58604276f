"""Histories of the bank policy that leave memory and come back through a private Redis.

An "event" is one history of about 60 events; 1,000 at a time. The baseline is reading their bytes
from Redis by one MGET, without making anything of them. `make_room` is what a bound costs each
batch of 512 where nothing has to leave; its "event" is one row.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from bench.measure import Measure
from bench.traffic import PARTITION_COUNT, CellTraffic
from features.histories import EntityKey, FeatureEngine
from features.plan import Plan
from streams.partition import Write, hex_key
from streams.redis_store import RedisStore
from streams.store import PartitionChange

BATCH = 512
MOVED_COUNT = 1_000
READ = f"RedisStore.load of {MOVED_COUNT:,} histories"
ENTITY = "customer"


@dataclass
class Moving:
    """An engine whose histories are all stored, and where."""

    engine: FeatureEngine
    store: RedisStore
    keys: list[EntityKey]

    def places(self, keys: list[EntityKey]) -> list[tuple[str, bytes]]:
        return [(str(key.partition), key.entity.encode() + hex_key(key.key)) for key in keys]

    def load(self, keys: list[EntityKey]) -> None:
        self.engine.load(zip(keys, self.store.load(self.places(keys)), strict=True))


@pytest.fixture(scope="module")
def moving(plan: Plan, redis_url: str, is_smoke: bool) -> Iterator[Moving]:
    customer_count, event_count = (1_200, 3) if is_smoke else (4_000, 60)
    engine = FeatureEngine(plan, range(PARTITION_COUNT))
    traffic = CellTraffic(customer_count, event_count, plan.reach_ms)
    for _ in range(-(-customer_count * event_count // BATCH)):
        rows = traffic.rows(BATCH)
        while keys := engine.missing(*rows):
            engine.load((key, None) for key in keys)
        engine.update(*rows)
    with closing(RedisStore(redis_url, "bench-memory")) as store:
        epochs = {p: store.acquire(str(p))[0] for p in range(PARTITION_COUNT)}
        writes: dict[int, list[Write]] = {p: [] for p in epochs}
        owners = set()
        for owner, offset, value in engine.changes():
            name = owner.entity.encode() + hex_key(owner.key)
            writes[owner.partition].append(Write(name, offset, value))
            if owner.entity == ENTITY:
                owners.add(owner)
        for p, epoch in epochs.items():
            store.commit([PartitionChange(str(p), epoch, {"t": (0, 1)}, writes[p], [])])
        engine.confirmed(engine.generation)
        yield Moving(engine, store, sorted(owners)[:MOVED_COUNT])


def test_read(measure: Measure, moving: Moving) -> None:
    assert len(moving.keys) == MOVED_COUNT
    places = moving.places(moving.keys)
    measure.calls(READ, MOVED_COUNT, lambda: moving.store.load(places))


def test_come_back(measure: Measure, moving: Moving) -> None:
    def prepare() -> tuple[()]:
        moving.engine.evict(1 << 40)
        assert moving.engine.memory.resident_count == 0
        return ()

    measure.steps(
        "RedisStore.load and FeatureEngine.load of them",
        MOVED_COUNT,
        lambda: moving.load(moving.keys),
        prepare,
        baseline=READ,
    )


def test_leave(measure: Measure, moving: Moving) -> None:
    def prepare() -> tuple[()]:
        moving.engine.evict(1 << 40)
        moving.load(moving.keys)
        return ()

    measure.steps(
        "FeatureEngine.evict, and the marks of use that it takes away",
        MOVED_COUNT,
        lambda: moving.engine.evict(MOVED_COUNT),
        prepare,
        baseline=READ,
    )
    assert moving.engine.memory.resident_count == 0


def test_make_room(measure: Measure, moving: Moving) -> None:
    moving.engine.memory_bytes_max = 1 << 40
    measure.calls(
        f"FeatureEngine.make_room, nothing has to leave, batches of {BATCH}",
        BATCH,
        lambda: moving.engine.make_room(BATCH),
    )
