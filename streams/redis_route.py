"""Ways to a Redis: one server, one found through Sentinels, or a Cluster; with TLS or without.

A route sends a packed command to the server that holds a key, and returns the answer. It repeats
nothing, except what a Cluster did not do because it has moved the key: that is sent to where it is.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import parse_qs, unquote

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

PIECE_BYTES = 1 << 20
REDIRECTS_MAX_COUNT = 5
REDIS_PORT, SENTINEL_PORT = 6379, 26379
Buffer = bytes | memoryview
Command = Sequence[bytes | int]
_URL = re.compile(
    r"(?P<scheme>rediss?)\+(?P<way>cluster|sentinel)://"
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<places>[^@/?]+)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
# Its own annotation admits tuples of length one only.
_pack: Callable[[Command], bytes] = cast(Any, hiredis.pack_command)


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files (PEM) for `rediss://`; an empty name is none. Without `ca` the system's are trusted."""

    ca: str = ""
    certificate: str = ""
    key: str = ""

    def options(self) -> dict[str, str]:
        """Return what redis-py takes."""
        named = {
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
        }
        return {name: file for name, file in named.items() if file}


class Route(Protocol):
    """A way to the server that holds a key; safe to use from several threads."""

    address: str  # for messages
    is_split: bool  # a command may name keys of one partition only

    def call(self, key: bytes, command: Command, body: Sequence[Buffer] | None = None) -> Any:
        """Send a command, with `body` joined as one more argument; raise redis-py's errors."""

    def forget(self) -> None:
        """Connect anew: the name may lead to another server by now."""

    def close(self) -> None:
        """Close all connections."""


def open_route(url: str, timeout_s: float, tls: TlsFiles | None = None) -> Route:
    """Return the way that a URL names; nothing is connected yet.

    `redis://`, `rediss://` and `unix://` are redis-py's; `redis+cluster://` and
    `redis+sentinel://` (`rediss+...` with TLS) take several `host:port`, the latter then
    `/service/database` and `?sentinel_username=...&sentinel_password=...`. ValueError for others.
    """
    files = tls or TlsFiles()
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    if re.match(r"rediss?\+", url):
        return _open_many(url, options, files)
    if url.startswith("rediss://"):
        options |= files.options()
    pool: redis.ConnectionPool = redis.ConnectionPool.from_url(url, **options)
    place = pool.connection_kwargs
    address = str(place.get("path") or f"{place.get('host')}:{place.get('port', REDIS_PORT)}")
    return SingleRoute(pool, address)


def _open_many(url: str, options: dict[str, Any], files: TlsFiles) -> Route:
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("expected redis+cluster://HOST:PORT,... or redis+sentinel://HOST:PORT,...")
    is_sentinel = found["way"] == "sentinel"
    places = _places(found["places"], SENTINEL_PORT if is_sentinel else REDIS_PORT)
    tls = {"ssl": True, **files.options()} if found["scheme"] == "rediss" else {}
    user, password = unquote(found["user"] or ""), unquote(found["password"] or "")
    login: dict[str, Any] = {"username": user or None, "password": password or None}
    path = [part for part in (found["path"] or "").split("/") if part]
    if is_sentinel:
        if not 1 <= len(path) <= 2 or not (len(path) == 1 or path[1].isdecimal()):
            raise ValueError("expected redis+sentinel://HOST:PORT,.../SERVICE/DATABASE")
        query = {name: values[0] for name, values in parse_qs(found["query"] or "").items()}
        sentinel_login = {
            "username": query.get("sentinel_username"),
            "password": query.get("sentinel_password"),
        }
        connecting: Any = Sentinel  # redis-py says nothing of its types
        sentinels = connecting(places, sentinel_kwargs={**options, **tls, **sentinel_login})
        database = int(path[1]) if len(path) == 2 else 0
        pool = SentinelConnectionPool(path[0], sentinels, db=database, **options, **tls, **login)  # type: ignore[no-untyped-call]
        return SingleRoute(pool, f"{path[0]}, by the Sentinels {', '.join(map(str, places))}")
    if path not in ([], ["0"]):
        raise ValueError("expected no database but 0: a Cluster has no others")
    if tls.pop("ssl", False):
        options |= {"connection_class": redis.SSLConnection, **tls}

    def pool_of(place: Place) -> redis.ConnectionPool:
        return redis.ConnectionPool(host=place.host, port=place.port, **options, **login)

    return ClusterRoute(places, pool_of)


def _places(text: str, default_port: int) -> list[Place]:
    places = []
    for item in text.split(","):
        host, colon, port = item.rpartition(":")
        if not colon or item.endswith("]"):  # no port, or the colons of an IPv6 address
            host, port = item, str(default_port)
        if not host or not port.isdecimal():
            raise ValueError(f"expected HOST or HOST:PORT between commas, got {item!r}")
        places.append(Place(host.strip("[]"), int(port)))
    return places


class SingleRoute:
    """The way through one pool of connections: to one server, or to a Sentinels' master."""

    is_split = False

    def __init__(self, pool: redis.ConnectionPool, address: str) -> None:
        self._pool = pool
        self.address = address

    def call(self, key: bytes, command: Command, body: Sequence[Buffer] | None = None) -> Any:
        """Send a command; return the answer."""
        return exchange(self._pool, command, body)

    def forget(self) -> None:
        """Connect anew."""
        self._pool.disconnect()

    def close(self) -> None:
        """Close all connections."""
        self._pool.disconnect()


class ClusterRoute:
    """The way to the node of a Redis Cluster that holds a key's slot.

    Which node that is gets learned from any node, and again where one does not answer; MOVED and
    ASK are followed. redis-py's own client packs each argument in Python, which is several times
    slower for commits and loads of thousands of keys.
    """

    is_split = True

    def __init__(
        self, seeds: Sequence[Place], pool_of: Callable[[Place], redis.ConnectionPool]
    ) -> None:
        self.address = f"the Cluster of {', '.join(map(str, seeds))}"
        self._seeds = tuple(seeds)
        self._pool_of = pool_of
        self._lock = threading.Lock()
        self._pools: dict[Place, redis.ConnectionPool] = {}
        self._owners: dict[int, Place] = {}  # slot -> its master

    def call(self, key: bytes, command: Command, body: Sequence[Buffer] | None = None) -> Any:
        """Send a command to the node of this key; return the answer."""
        slot = key_slot(key)
        place = self._owners.get(slot) or self._learn(slot)
        is_asking = False
        for _ in range(REDIRECTS_MAX_COUNT):
            try:
                return exchange(self._pool(place), command, body, is_asking=is_asking)
            except redis.exceptions.AskError as moved:  # MovedError is one
                place = Place(moved.host or place.host, moved.port)
                is_asking = not isinstance(moved, redis.exceptions.MovedError)
                if not is_asking:
                    self._owners[slot] = place
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                self.forget()  # a replica may have taken its place
                raise
        self.forget()
        raise redis.exceptions.ClusterDownError(f"CLUSTERDOWN slot {slot} moves about")

    def forget(self) -> None:
        """Ask again who has what."""
        self._owners = {}

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.disconnect()

    def _pool(self, place: Place) -> redis.ConnectionPool:
        with self._lock:
            if place not in self._pools:
                self._pools[place] = self._pool_of(place)
            return self._pools[place]

    def _learn(self, slot: int) -> Place:
        """Ask the nodes, one after the other, who has which slot; return who has this one."""
        with self._lock:
            known = dict.fromkeys((*self._pools, *self._seeds))
        failure: redis.exceptions.RedisError | None = None
        for place in known:
            try:
                ranges = exchange(self._pool(place), (b"CLUSTER", b"SLOTS"), None)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
                failure = error
                continue
            owners = {
                slot: Place(master[0].decode() or place.host, master[1])
                for first, last, master, *_ in ranges
                for slot in range(first, last + 1)
            }
            self._owners = owners
            if slot in owners:
                return owners[slot]
            failure = redis.exceptions.ClusterDownError(f"CLUSTERDOWN nobody has slot {slot}")
        assert failure is not None, "there is a node to ask"
        raise failure


def exchange(
    pool: redis.ConnectionPool,
    command: Command,
    body: Sequence[Buffer] | None,
    *,
    is_asking: bool = False,
) -> Any:
    """Send a command over a pool's connection, `body` joined as its last argument.

    redis-py's own execute_command walks all arguments in Python: 2 us more per key.
    """
    packed = _pack(command)
    pieces = [packed] if body is None else _with_body(packed, len(command), body)
    connection: Any = pool.get_connection()
    try:
        if is_asking:
            connection.send_packed_command([_pack((b"ASKING",))], check_health=False)
            connection.read_response()
        connection.send_packed_command(pieces, check_health=False)
        return connection.read_response()
    finally:
        pool.release(connection)


def _with_body(packed: bytes, argument_count: int, body: Sequence[Buffer]) -> Iterator[bytes]:
    """Yield a packed command with one more argument, that of all of `body` joined.

    The argument is joined a piece at a time: a large commit is not held in memory three times.
    """
    length = sum(map(len, body))
    after_count = packed.index(b"\r\n") + 2
    yield b"*%d\r\n" % (argument_count + 1) + packed[after_count:] + b"$%d\r\n" % length
    start, waiting_bytes = 0, 0
    for i, value in enumerate(body):
        waiting_bytes += len(value)
        if waiting_bytes >= PIECE_BYTES:
            yield b"".join(body[start : i + 1])
            start, waiting_bytes = i + 1, 0
    yield b"".join(body[start:]) + b"\r\n"
