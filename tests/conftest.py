"""A real Redis and a real Kafka for the tests that need one."""

import os
import uuid
from collections.abc import Iterator

import pytest
import redis

from streams.private_kafka import PrivateKafka, lacking
from streams.private_redis import PrivateRedis


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
