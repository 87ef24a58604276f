"""Redis as users run it: TLS and ACL users, a Cluster that moves slots, Sentinels."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis_servers import (
    Cluster,
    OnPort,
    Sentinel,
    TlsBefore,
    execute,
    free_port,
    make_certificate,
    wait_for,
)

from streams.redis_route import TlsFiles, open_route
from streams.redis_store import RedisStore
from streams.settings import SettingError, Settings
from streams.store import (
    FencedError,
    OffsetGapError,
    PartitionChange,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)

pytestmark = pytest.mark.redis
PARTITIONS = tuple(str(number) for number in range(12))
ACL = """\
user default on nopass ~* -@all +ping +info
user worker on >s3cret ~millrace:* -@all +@read +@write +@scripting +info +select
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    servers = Cluster(tmp_path_factory.mktemp("cluster"))
    yield servers
    servers.close()


@pytest.fixture
def store(cluster: Cluster) -> Iterator[RedisStore]:
    for node in cluster.nodes[:3]:
        node.client.flushall()
    made = RedisStore(cluster.url)
    yield made
    made.close()


def slot_of(partition: str) -> int:
    return int(key_slot(f"millrace:{{{partition}}}:".encode()))


def change(partition: str, epoch: int, first: int, **writes: bytes) -> PartitionChange:
    rows = [(name.encode(), 0, value) for name, value in writes.items()]
    return PartitionChange(partition, epoch, {"t": (first, first + 1)}, rows, [])


def until_it_works(call: Callable[[], object]) -> None:
    """Repeat a call as a committer does, while the store is away."""

    def works() -> bool:
        try:
            call()
        except StoreUnavailableError:
            return False
        return True

    wait_for(works, "the store to come back")


def test_partitions_over_all_nodes_commit_load_and_scan(
    cluster: Cluster, store: RedisStore
) -> None:
    assert {cluster.master_of(slot_of(p)).port for p in PARTITIONS} == {
        node.port for node in cluster.nodes[:3]
    }
    epochs = {partition: store.acquire(partition)[0] for partition in PARTITIONS}
    store.commit([change(p, epoch, 0, a=b"a" + p.encode()) for p, epoch in epochs.items()])
    keys = [(p, name) for name in (b"a", b"absent") for p in PARTITIONS]
    assert store.load(keys) == [b"a" + p.encode() for p in PARTITIONS] + [None] * len(PARTITIONS)
    assert store.load([]) == []
    assert store.position("never") == (0, {})
    for partition in PARTITIONS:
        assert list(store.scan(partition)) == [(b"a", b"a" + partition.encode())]
        assert store.position(partition) == (1, {"t": 1})
        assert store.acquire(partition) == (2, {"t": 1})
    with pytest.raises(FencedError, match="our epoch is 1, the stored one 2"):
        store.commit([change("0", 1, 1)])
    with pytest.raises(OffsetGapError, match="got 1"):
        store.commit([change("0", 2, 7)])


def test_a_slot_that_moves_is_followed(cluster: Cluster, store: RedisStore) -> None:
    partition, slot = "5", slot_of("5")
    source = cluster.master_of(slot)
    target = next(node for node in cluster.nodes[:3] if node is not source)
    epoch, _ = store.acquire(partition)
    store.commit([change(partition, epoch, 0, a=b"1", b=b"2")])
    execute(target.client, "CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
    execute(source.client, "CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
    names = [f"millrace:{{{partition}}}:{key}" for key in ("a", "b", "meta")]
    migrate = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS")
    execute(source.client, *migrate, names[0])
    # A part here and a part there: no node can run it, and it wrote nothing.
    with pytest.raises(StoreRefusedError, match="TRYAGAIN"):
        store.commit([change(partition, epoch, 1, a=b"3", b=b"4")])
    execute(source.client, *migrate, *names[1:])
    assert store.load([(partition, b"a"), (partition, b"b")]) == [b"1", b"2"]  # by ASK
    store.commit([change(partition, epoch, 1, a=b"3", b=b"4")])
    for node in (target, source, *cluster.nodes[:3]):
        execute(node.client, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))
    assert dict(store.scan(partition)) == {b"a": b"3", b"b": b"4"}  # by MOVED
    store.commit([change(partition, epoch, 2, a=b"5")])
    assert target.client.get(names[0]) == b"5"


def test_a_replica_takes_over(cluster: Cluster, store: RedisStore) -> None:
    partition = next(p for p in PARTITIONS if cluster.master_of(slot_of(p)) is cluster.nodes[0])
    epoch, _ = store.acquire(partition)
    store.commit([change(partition, epoch, 0, a=b"1")])
    replica = cluster.nodes[3].client
    wait_for(lambda: replica.info("replication")["slave_repl_offset"]
             == cluster.nodes[0].client.info("replication")["master_repl_offset"],
             "the replica to have it all")  # fmt: skip
    os.kill(cluster.nodes[0].server.pid, signal.SIGKILL)
    with pytest.raises(StoreUnavailableError):
        store.commit([change(partition, epoch, 1, a=b"2")])
    until_it_works(lambda: store.commit([change(partition, epoch, 1, a=b"2")]))
    assert list(store.scan(partition)) == [(b"a", b"2")]
    assert replica.get(f"millrace:{{{partition}}}:a") == b"2"


def test_a_cluster_of_which_nobody_answers() -> None:
    store = RedisStore(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailableError, match=r"the Cluster of 127\.0\.0\.1:\d+, 127"):
        store.load([("0", b"a")])


def test_sentinels_lead_to_the_new_master(tmp_path: Path) -> None:
    servers = Sentinel(tmp_path)
    store = RedisStore(servers.url)
    try:
        epoch, _ = store.acquire("0")
        store.commit([change("0", epoch, 0, a=b"1")])
        assert servers.master.client.wait(1, 5000) == 1
        os.kill(servers.master.server.pid, signal.SIGKILL)
        with pytest.raises(StoreUnavailableError):
            store.commit([change("0", epoch, 1, a=b"2")])
        until_it_works(lambda: store.commit([change("0", epoch, 1, a=b"2")]))
        assert servers.replica.client.get("millrace:{0}:a") == b"2"
        assert store.acquire("0") == (2, {"t": 2})
    finally:
        store.close()
        servers.close()


def test_a_sentinel_that_knows_no_such_master(tmp_path: Path) -> None:
    store = RedisStore(f"redis+sentinel://127.0.0.1:{free_port()}/bank")
    with pytest.raises(StoreUnavailableError, match="bank, by the Sentinels 127"):
        store.acquire("0")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[OnPort]:
    """Return a server with users from an ACL file."""
    file = tmp_path / "users.acl"
    file.write_text(ACL, encoding="utf-8")
    server = OnPort(tmp_path / "data", aclfile=str(file))
    yield server
    server.close()


def test_an_acl_user_needs_no_more_than_this(guarded: OnPort) -> None:
    url = f"redis://worker:s3cret@127.0.0.1:{guarded.port}/0"
    store = RedisStore(url)
    epoch, _ = store.acquire("0")
    store.commit([change("0", epoch, 0, a=b"1")])
    assert list(store.scan("0")) == [(b"a", b"1")]
    store.close()
    for wrong in (url.replace("s3cret", "guess"), url.replace("worker:s3cret@", "")):
        with pytest.raises(StoreError, match=r"credentials|permissions") as caught:
            RedisStore(wrong).acquire("0")
        assert not isinstance(caught.value, StoreUnavailableError), "waiting would not mend it"
        assert "guess" not in str(caught.value)
    with pytest.raises(StoreError, match="permissions"):
        RedisStore(url, "other").acquire("0")


def test_tls_with_a_certificate_of_ours(guarded: OnPort, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    proxy = TlsBefore(guarded.port, certificate, key)
    settings = Settings(
        redis=f"rediss://worker:s3cret@127.0.0.1:{proxy.port}/0",
        redis_ca=str(certificate),
        redis_certificate=str(certificate),
        redis_key=str(key),
    )
    store = RedisStore.from_settings(settings)
    epoch, _ = store.acquire("0")
    store.commit([change("0", epoch, 0, a=b"x" * 3_000_000)])
    assert store.load([("0", b"a")]) == [b"x" * 3_000_000]
    store.close()
    with pytest.raises(StoreError, match="a certificate that we don't trust") as caught:
        RedisStore(settings.redis).acquire("0")
    assert not isinstance(caught.value, StoreUnavailableError)
    with pytest.raises(StoreUnavailableError):
        RedisStore(settings.redis, tls=TlsFiles(ca=str(certificate))).acquire("0")
    proxy.close()


def test_urls_that_can_not_be_read() -> None:
    for url, words in {
        "redis+cluster://a:1/3": "no database but 0",
        "redis+cluster://a:x": "expected HOST or HOST:PORT",
        "redis+sentinel://a:1": "SERVICE/DATABASE",
        "redis+sentinel://a:1/bank/first": "SERVICE/DATABASE",
        "redis+else://a": "expected redis",
        "http://a": "scheme",
    }.items():
        with pytest.raises(ValueError, match=words):
            open_route(url, 1.0)
    with pytest.raises(SettingError, match="MILLRACE_REDIS: expected a URL of Redis") as caught:
        RedisStore.from_settings(Settings(redis="redis+cluster://u:s3cret@a:x"))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingError, match="MILLRACE_REDIS_CA"):
        RedisStore.from_settings(Settings(redis_ca="/nowhere/ca.pem"))


def test_ports_and_addresses_have_defaults() -> None:
    assert open_route("redis+cluster://u:p%40@a,b:7,[::1]", 1.0).address == (
        "the Cluster of a:6379, b:7, ::1:6379"
    )
    assert open_route("rediss+sentinel://a/bank", 1.0).address == "bank, by the Sentinels a:26379"
    assert open_route("redis://a", 1.0).address == "a:6379"


def test_the_first_node_that_answers_is_enough(cluster: Cluster) -> None:
    living = cluster.nodes[1].port
    store = RedisStore(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{living}")
    partition = next(p for p in PARTITIONS if cluster.master_of(slot_of(p)) is cluster.nodes[2])
    until_it_works(lambda: store.acquire(partition))
    store.close()
