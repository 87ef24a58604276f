"""What only a real Redis can do to a store: cut connections, refuse, restart, forget scripts."""

import os
import select
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore
from streams.store import (
    FencedError,
    OffsetGapError,
    PartitionChange,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)


@pytest.fixture(scope="module")
def own_redis() -> Iterator[PrivateRedis]:
    """Return a server whose settings and clients a test may tamper with."""
    with PrivateRedis() as server:
        yield server


@pytest.fixture
def raw(own_redis: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(own_redis: PrivateRedis, raw: redis.Redis) -> Iterator[RedisStore]:
    made = RedisStore(own_redis.url, "m")
    yield made
    made.close()


def execute(client: Any, *command: str | int) -> Any:
    return client.execute_command(*command)


class CuttingProxy:
    """Relays a Unix socket, and cuts one connection where `cut_at` says.

    `request`: before the request is passed on; `half`: after its first piece; `reply`: when the
    server has answered, and before the answer is passed on.
    """

    def __init__(self, server_path: Path) -> None:
        self.cut_at: str | None = None
        self._server_path = str(server_path)
        self._directory = tempfile.mkdtemp(prefix="proxy-")
        path = f"{self._directory}/s"
        self.url = f"unix://{path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server_path)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                source = ready[0]
                data = source.recv(65_536)
                if not data or self._cuts("request" if source is client else "reply"):
                    return
                (server if source is client else client).sendall(data)
                if source is client and self._cuts("half"):
                    return

    def _cuts(self, place: str) -> bool:
        if self.cut_at != place:
            return False
        self.cut_at = None
        return True

    def close(self) -> None:
        self._listener.close()
        shutil.rmtree(self._directory)


@pytest.fixture
def proxy(own_redis: PrivateRedis) -> Iterator[CuttingProxy]:
    made = CuttingProxy(own_redis.socket_path)
    yield made
    made.close()


def big_change(epoch: int, first: int) -> PartitionChange:
    """Return a commit of several megabytes, so that it crosses the socket in many pieces."""
    writes = [(b"k%d" % i, 0, bytes([first % 251]) * 600) for i in range(5_000)]
    return PartitionChange("3", epoch, {"t": (first, first + 10)}, writes, [b"gone"])


@pytest.mark.parametrize("cut_at", ["request", "half", "reply"])
def test_a_commit_cut_off_can_be_sent_again(
    proxy: CuttingProxy, raw: redis.Redis, cut_at: str
) -> None:
    store = RedisStore(proxy.url, "m")
    epoch, _ = store.acquire("3")
    store.commit([big_change(epoch, 0)])
    raw.set("m:{3}:gone", "x")
    proxy.cut_at = cut_at
    with pytest.raises(StoreUnavailableError, match="can't be reached"):
        store.commit([big_change(epoch, 10)])
    assert proxy.cut_at is None
    arrived = raw.hget("m:{3}:meta", "offset:t") == b"20"
    assert arrived == (cut_at == "reply")
    assert bool(raw.exists("m:{3}:gone")) != arrived  # all of it or nothing
    raw.set("m:{3}:k7", "marker")
    store.commit([big_change(epoch, 10)])
    expected = b"marker" if arrived else bytes([10]) * 600  # what is done isn't done again
    assert store.load([("3", b"k7"), ("3", b"k8")]) == [expected, bytes([10]) * 600]
    assert store.acquire("3") == (epoch + 1, {"t": 20})
    store.close()


def test_a_cut_off_commit_is_not_done_again_over_a_new_owner(
    proxy: CuttingProxy, raw: redis.Redis
) -> None:
    store = RedisStore(proxy.url, "m")
    epoch, _ = store.acquire("3")
    proxy.cut_at = "request"
    with pytest.raises(StoreUnavailableError):
        store.commit([big_change(epoch, 0)])
    store.acquire("3")
    with pytest.raises(FencedError):
        store.commit([big_change(epoch, 0)])
    assert list(store.scan("3")) == []
    store.close()


def test_a_cut_off_load_says_so_and_the_next_works(proxy: CuttingProxy, raw: redis.Redis) -> None:
    store = RedisStore(proxy.url, "m")
    raw.set("m:{3}:k", "v")
    assert store.load([("3", b"k")]) == [b"v"]
    proxy.cut_at = "reply"
    with pytest.raises(StoreUnavailableError):
        store.load([("3", b"k")])
    assert store.load([("3", b"k")]) == [b"v"]
    store.close()


def test_killed_connections_heal(store: RedisStore, raw: redis.Redis) -> None:
    epoch, _ = store.acquire("3")
    execute(raw, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    store.commit([big_change(epoch, 0)])
    assert store.acquire("3") == (2, {"t": 10})


def test_nobody_listens() -> None:
    with pytest.raises(StoreUnavailableError, match=r"Redis at /nowhere/redis\.sock can't be"):
        RedisStore("unix:///nowhere/redis.sock").acquire("3")


def test_flushed_scripts_are_loaded_again(store: RedisStore, raw: redis.Redis) -> None:
    epoch, _ = store.acquire("3")
    store.commit([big_change(epoch, 0)])
    raw.script_flush()
    store.commit([big_change(epoch, 10)])
    raw.script_flush()
    assert store.acquire("3") == (2, {"t": 20})


def test_a_commit_is_one_call(store: RedisStore, raw: redis.Redis) -> None:
    names = ("a", "b", "c")
    epochs = [store.acquire(name)[0] for name in names]
    writes = [(b"k%d" % i, i % 3, b"v") for i in range(1_000)]
    changes = [
        [
            PartitionChange(name, epoch, {"t": (n, n + 1)}, writes, [b"x"])
            for name, epoch in zip(names, epochs, strict=True)
        ]
        for n in range(3)
    ]
    store.commit(changes[0])  # this one loads the script
    raw.config_resetstat()
    store.commit(changes[1])
    store.commit(changes[2])
    calls = {name: row["calls"] for name, row in raw.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 2
    assert "cmdstat_eval" not in calls


def test_a_full_redis_refuses_and_nothing_is_written(store: RedisStore, raw: redis.Redis) -> None:
    epoch, _ = store.acquire("3")
    store.commit([PartitionChange("3", epoch, {"t": (0, 1)}, [(b"k", 0, b"old")], [])])
    raw.config_set("maxmemory", 1)
    try:
        later = [PartitionChange("3", epoch, {"t": (1, 2)}, [(b"k", 0, b"new")], [])]
        with pytest.raises(StoreRefusedError, match="takes no writes now, OOM"):
            store.commit(later)
        assert store.load([("3", b"k")]) == [b"old"]
    finally:
        raw.config_set("maxmemory", 0)
    store.commit(later)
    assert store.load([("3", b"k")]) == [b"new"]
    assert store.acquire("3") == (2, {"t": 2})


def test_a_replica_refuses_and_nothing_is_written(store: RedisStore, raw: redis.Redis) -> None:
    epoch, _ = store.acquire("3")
    commit = [PartitionChange("3", epoch, {"t": (0, 1)}, [(b"k", 0, b"v")], [b"x"])]
    execute(raw, "REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreRefusedError, match="takes no writes now, READONLY"):
            store.commit(commit)
        with pytest.raises(StoreRefusedError, match="READONLY"):
            store.acquire("3")
    finally:
        execute(raw, "REPLICAOF", "NO", "ONE")
    store.commit(commit)
    assert list(store.scan("3")) == [(b"k", b"v")]


def test_a_redis_that_evicts_is_refused(store: RedisStore, raw: redis.Redis) -> None:
    raw.config_set("maxmemory", 1 << 30)
    raw.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StoreError, match="noeviction, got allkeys-lru"):
            store.acquire("3")
    finally:
        raw.config_set("maxmemory-policy", "noeviction")
        raw.config_set("maxmemory", 0)
    assert store.acquire("3") == (1, {})


def test_a_wrong_password_is_not_worth_a_retry(own_redis: PrivateRedis, raw: redis.Redis) -> None:
    execute(raw, "ACL", "SETUSER", "mill", "on", ">right", "~*", "+@all")
    url = f"{own_redis.url}?username=mill&password="
    assert RedisStore(url + "right").acquire("3") == (1, {})
    with pytest.raises(StoreError, match="refuses our credentials") as caught:
        RedisStore(url + "wrong").acquire("3")
    assert not isinstance(caught.value, StoreUnavailableError)
    assert "password=" not in str(caught.value)


def test_a_cluster_by_a_plain_url_takes_one_partition_a_call_and_says_how_to_take_more() -> None:
    with PrivateRedis(options={"cluster-enabled": "yes"}) as server:
        with redis.Redis.from_url(server.url) as client:
            execute(client, "CLUSTER", "ADDSLOTS", *range(16_384))
            while execute(client, "CLUSTER INFO")["cluster_state"] != "ok":
                threading.Event().wait(0.01)
        store = RedisStore(server.url)
        changes = []
        for name in ("a", "b"):
            epoch, _ = store.acquire(name)
            changes.append(PartitionChange(name, epoch, {"t": (0, 1)}, [(b"k", 0, b"v")], [b"x"]))
        with pytest.raises(StoreError, match=r"expected redis\+cluster://"):
            store.commit(changes)
        for one in changes:
            store.commit([one])
            assert list(store.scan(one.partition)) == [(b"k", b"v")]
        store.close()


def test_a_killed_server_takes_up_whole_commits_from_its_log(tmp_path: Path) -> None:
    first = PrivateRedis(tmp_path)
    store = RedisStore(first.url)
    epoch, _ = store.acquire("3")
    store.commit([big_change(epoch, 0)])
    store.commit([big_change(epoch, 10)])
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(StoreUnavailableError):
        store.load([("3", b"k0")])
    first.close()
    with PrivateRedis(tmp_path) as second:
        again = RedisStore(second.url)
        with pytest.raises(OffsetGapError, match="got 20"):
            again.commit([big_change(epoch, 0)])
        assert dict(again.scan("3")) == {b"k%d" % i: bytes([10]) * 600 for i in range(5_000)}
        assert again.acquire("3") == (2, {"t": 20})
        again.close()


def test_prefixes_do_not_meet(own_redis: PrivateRedis, raw: redis.Redis) -> None:
    one, other = RedisStore(own_redis.url, "m*"), RedisStore(own_redis.url, "mm")
    for store, value in ((one, b"1"), (other, b"2")):
        epoch, _ = store.acquire("3")
        store.commit([PartitionChange("3", epoch, {}, [(b"k", 0, value)], [])])
    assert list(one.scan("3")) == [(b"k", b"1")]
    assert list(other.scan("3")) == [(b"k", b"2")]
    assert sorted(raw.keys()) == [b"m*:{3}:k", b"m*:{3}:meta", b"mm:{3}:k", b"mm:{3}:meta"]
    with pytest.raises(ValueError, match="prefix"):
        RedisStore(own_redis.url, "a{b")
