"""A real Redis and a real Kafka for the tests that need one, and stores that must behave alike."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from worker_runs import Bank

from streams.policy_files import BANK_POLICY, read_policy
from streams.private_kafka import PrivateKafka, lacking
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore
from streams.settings import Settings
from streams.store import MemoryStore, Store
from streams.worker.warming import warm_up

Factory = Callable[[], Store]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Return the URL of a real Redis: REDIS_URL where it is set, else a private server."""
    given = os.environ.get("REDIS_URL")
    if given:
        yield given
        return
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture
def redis_prefix(redis_url: str) -> Iterator[str]:
    """Return a key prefix of this test alone; its keys are deleted afterwards."""
    prefix = f"test-{uuid.uuid4().hex}"
    yield prefix
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter(match=f"{prefix}*", count=1000))
        if keys:
            client.delete(*keys)


@pytest.fixture(scope="session")
def kafka() -> Iterator[PrivateKafka]:
    """Return a real broker, shared by all tests: each makes topics and groups of its own names."""
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    with PrivateKafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def compiled() -> None:
    """Fill the cache of compiled kernels: cold, a worker takes minutes before it joins."""
    warm_up(read_policy())


@pytest.fixture
def open_bank(
    compiled: None, kafka: PrivateKafka, redis_url: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Callable[..., Bank]]:
    """Return a maker of topics and workers of this test alone; settings may be given."""
    name, made = f"t{uuid.uuid4().hex[:8]}", []

    def opened(policy: Path = BANK_POLICY, **given: Any) -> Bank:
        settings = {
            "kafka": kafka.address,
            "topic_prefix": f"{name}.",
            "group": name,
            "redis": redis_url,
            "redis_prefix": redis_prefix,
            "partitions_count": 1,
            "checkpoint_ms": 20,
            "session_timeout_ms": 3_000,
            "listen": "127.0.0.1:0",
        } | given
        made.append(Bank(Settings(**settings), policy, tmp_path))
        return made[-1]

    yield opened
    for bank in made:
        bank.close()


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
