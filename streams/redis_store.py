"""A store in Redis: one script call per commit, fenced by epoch and chained by offsets."""

import hashlib
import re
import ssl
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import msgspec
import redis

from streams.redis_route import Buffer, TlsFiles, open_route
from streams.settings import SettingError, Settings, check_files
from streams.store import (
    RESERVED_KEY,
    VALUE_MAX_BYTES,
    FencedError,
    OffsetGapError,
    PartitionChange,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    check_changes,
    checked_partition,
)

SCAN_PAGE_COUNT = 1_000

# KEYS: one meta hash per partition, then all keys to delete, then all keys to write.
# ARGV: 1 = msgpack [[epoch, topics, expected offsets, new offsets] per partition]; 2 = how many
# keys to delete; 3, 4 = msgpack byte offsets and lengths of the writes; 5 = their values, joined.
# Numbers of ARGV[1] are decimal text, compared as text: Lua's are doubles.
#
# Rejected, microseconds per key and commit of 15,000 values of 600 bytes, side by side on a busy
# two-core machine, where this script takes 4.4: a SET per key with the value as an argument of its
# own 6.4, with all byte offsets in one msgpack argument 7.1, joined values but a SET per key 4.9,
# MSET of values as arguments of their own 5.1. Values inside msgpack are refused: cmsgpack of
# Redis 6 does not know the `bin` type.
# MSET takes only a run of neighbouring whole values, so that the order of writes to a key holds.
COMMIT_LUA = """
local call, sub = redis.call, string.sub
local partitions = cmsgpack.unpack(ARGV[1])
local gap, done = nil, true
for p = 1, #partitions do
  local epoch, topics, expected, new = unpack(partitions[p])
  local stored_epoch = call('HGET', KEYS[p], 'epoch') or '0'
  if stored_epoch ~= epoch then return {'fenced', p, stored_epoch} end
  for t = 1, #topics do
    local stored = call('HGET', KEYS[p], 'offset:' .. topics[t]) or '0'
    if stored ~= expected[t] and not gap then gap = {'gap', p, topics[t], stored} end
    if stored ~= new[t] then done = false end
  end
end
if gap then
  if done then return {'already'} end
  return gap
end
local k = #partitions
for _ = 1, tonumber(ARGV[2]) do
  k = k + 1
  call('DEL', KEYS[k])
end
local starts, lengths, values = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[4]), ARGV[5]
local at, run, n = 1, {}, 0
for i = 1, #starts do
  local value = sub(values, at, at + lengths[i] - 1)
  at = at + lengths[i]
  if starts[i] == 0 then
    run[n + 1], run[n + 2] = KEYS[k + i], value
    n = n + 2
    if n == 256 then call('MSET', unpack(run, 1, n)) n = 0 end
  else
    if n > 0 then call('MSET', unpack(run, 1, n)) n = 0 end
    call('SETRANGE', KEYS[k + i], starts[i], value)
  end
end
if n > 0 then call('MSET', unpack(run, 1, n)) end
for p = 1, #partitions do
  local _, topics, _, new = unpack(partitions[p])
  for t = 1, #topics do call('HSET', KEYS[p], 'offset:' .. topics[t], new[t]) end
end
return {'applied'}
"""

ACQUIRE_LUA = """
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
return redis.call('HGETALL', KEYS[1])
"""

# A script wraps the server's answer in its own, so these are looked for anywhere in the text.
_REFUSALS = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)\b"
)
_ENCODE = msgspec.msgpack.Encoder().encode


class RedisStore:
    """State in Redis 6.2 or later: keys `prefix:{partition}:key`; epoch and offsets under `meta`.

    The braces are Redis Cluster's hash tag: all keys of a partition share a slot. On a Cluster a
    commit or a load of several partitions is one call for each of them: each is all or nothing, but
    the commit of all is not. Safe to use from several threads. Nothing is retried here: the runtime
    decides when.

    `url` is what `redis_route.open_route` takes, ValueError for others; `tls` holds the files of
    `rediss://`; `timeout_s` bounds connecting, and each wait for an answer.
    """

    def __init__(
        self,
        url: str,
        prefix: str = "millrace",
        *,
        timeout_s: float = 5.0,
        tls: TlsFiles | None = None,
    ) -> None:
        if not prefix or re.search(r"[{}\s]", prefix):
            raise ValueError(f"prefix: expected text without braces and blanks, got {prefix!r}")
        self.prefix = prefix
        self._route = open_route(url, timeout_s, tls)
        self.address = self._route.address
        self._tags: dict[str, bytes] = {}
        self._commit = _Script(COMMIT_LUA)
        self._acquire = _Script(ACQUIRE_LUA)

    @classmethod
    def from_settings(cls, settings: Settings) -> "RedisStore":
        """Return the store that the settings name; raise SettingError where they can't be used."""
        tls = TlsFiles(settings.redis_ca, settings.redis_certificate, settings.redis_key)
        check_files("MILLRACE_REDIS", ca=tls.ca, certificate=tls.certificate, key=tls.key)
        timeout_s = settings.redis_timeout_ms / 1000
        try:
            return cls(settings.redis, settings.redis_prefix, timeout_s=timeout_s, tls=tls)
        except ValueError as error:  # the URL itself is not shown: it may hold a password
            raise SettingError("MILLRACE_REDIS", "a URL of Redis", f"a fault: {error}") from error

    def acquire(self, partition: str) -> tuple[int, dict[str, int]]:
        """Raise the epoch by one; return it with topic -> next offset.

        Raises StoreError where the server is set to evict keys: it would lose state in silence.
        """
        tag = self._tag(partition)
        self._check_eviction(tag)
        fields = self._run(self._acquire, tag, [tag + RESERVED_KEY])
        return _epoch_and_offsets(fields)

    def position(self, partition: str) -> tuple[int, dict[str, int]]:
        """Return epoch and topic -> next offset as `acquire` does, and leave the epoch as it is.

        Epoch 0 where nobody has ever owned the partition.
        """
        tag = self._tag(partition)
        return _epoch_and_offsets(self._call(tag, b"HGETALL", tag + RESERVED_KEY))

    def commit(self, changes: Sequence[PartitionChange]) -> None:
        """Write all changes or none, in one script call; on a Cluster in one for each partition."""
        if not changes:
            return
        check_changes(changes)
        if not self._route.is_split:
            self._commit_together(changes)
            return
        for change in changes:
            self._commit_together([change])

    def _commit_together(self, changes: Sequence[PartitionChange]) -> None:
        keys = [self._tag(change.partition) + RESERVED_KEY for change in changes]
        for change in changes:
            tag = self._tag(change.partition)
            keys += [tag + key for key in change.deletes]
        for change in changes:
            tag = self._tag(change.partition)
            keys += [tag + write[0] for write in change.writes]
        *arguments, values = _commit_arguments(changes)
        answer = self._run(self._commit, keys[0], keys, *arguments, body=values)
        if answer[0] == b"fenced":
            change = changes[answer[1] - 1]
            raise FencedError(change.partition, change.epoch, int(answer[2]))
        if answer[0] == b"gap":
            change, topic = changes[answer[1] - 1], answer[2].decode()
            expected, _ = change.offsets[topic]
            raise OffsetGapError(change.partition, topic, expected, int(answer[3]))

    def load(self, keys: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Return the value of each (partition, key), None where there is none: one MGET.

        On a Cluster one for each partition.
        """
        if not self._route.is_split:
            return self._load_together(keys)
        rows: dict[str, list[int]] = {}
        for row, (partition, _) in enumerate(keys):
            rows.setdefault(partition, []).append(row)
        values: list[bytes | None] = [None] * len(keys)
        for own in rows.values():
            for row, value in zip(own, self._load_together([keys[i] for i in own]), strict=True):
                values[row] = value
        return values

    def _load_together(self, keys: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        if not keys:
            return []
        names = [self._tag(partition) + key for partition, key in keys]
        values: list[bytes | None] = self._call(names[0], b"MGET", *names)
        return values

    def scan(self, partition: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield every (key, value) of a partition in order of keys; not a snapshot."""
        tag = self._tag(partition)
        pattern = re.sub(rb"([*?\[\]\\^])", rb"\\\1", tag) + b"*"
        if self._route.is_split:
            # SCAN names no key, so no node would say that the slot has moved: first something does.
            self._load_together([(partition, RESERVED_KEY)])
        names: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, page = self._call(
                tag, b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SCAN_PAGE_COUNT
            )
            names.update(name[len(tag) :] for name in page)
            if cursor == b"0":
                break
        ordered = sorted(names - {RESERVED_KEY})
        for start in range(0, len(ordered), SCAN_PAGE_COUNT):
            some = ordered[start : start + SCAN_PAGE_COUNT]
            values = self.load([(partition, key) for key in some])
            for key, value in zip(some, values, strict=True):
                if value is not None:
                    yield key, value

    def close(self) -> None:
        """Close all connections."""
        self._route.close()

    def _tag(self, partition: str) -> bytes:
        tag = self._tags.get(partition)
        if tag is None:
            tag = f"{self.prefix}:{{{checked_partition(partition)}}}:".encode()
            self._tags[partition] = tag
        return tag

    def _check_eviction(self, tag: bytes) -> None:
        text: bytes = self._call(tag, b"INFO", b"memory")
        facts = dict(line.split(b":", 1) for line in text.split(b"\r\n") if b":" in line)
        policy = facts.get(b"maxmemory_policy", b"").decode()
        if policy.startswith("allkeys") and facts.get(b"maxmemory") != b"0":
            raise StoreError(
                f"Redis at {self.address}: expected maxmemory-policy noeviction, got {policy}: "
                "it would drop state when memory is full"
            )

    def _run(
        self,
        script: "_Script",
        place: bytes,
        keys: Sequence[bytes],
        *arguments: bytes | int,
        body: Sequence[Buffer] | None = None,
    ) -> Any:
        try:
            return self._call(
                place, b"EVALSHA", script.sha, len(keys), *keys, *arguments, body=body
            )
        except _UnknownScriptError:
            # EVAL loads and runs in one step: no flush can come between. NOSCRIPT ran nothing.
            return self._call(place, b"EVAL", script.text, len(keys), *keys, *arguments, body=body)

    def _call(
        self, place: bytes, *command: bytes | int, body: Sequence[Buffer] | None = None
    ) -> Any:
        """Send a command to where the key `place` is; return the answer."""
        try:
            return self._route.call(place, command, body)
        except redis.exceptions.RedisError as error:
            raise self._translated(error) from error

    def _translated(self, error: redis.exceptions.RedisError) -> StoreError:
        where = f"Redis at {self.address}"
        if isinstance(error, redis.exceptions.NoScriptError):
            return _UnknownScriptError(str(error))
        if isinstance(
            error, redis.exceptions.AuthenticationError | redis.exceptions.AuthorizationError
        ):
            return StoreError(f"{where} refuses our credentials: {error}")
        refusal = _refusal(error)
        if refusal == "READONLY":
            self._route.forget()  # after a fail-over the name may lead to another server
        if refusal:
            return StoreRefusedError(f"{where} takes no writes now, {refusal}: {error}")
        if _is_distrust(error):
            return StoreError(f"{where} has a certificate that we don't trust: {error}")
        if isinstance(error, redis.exceptions.ConnectionError | redis.exceptions.TimeoutError):
            return StoreUnavailableError(f"{where} can't be reached: {error}")
        if "CROSSSLOT" in str(error) or isinstance(error, redis.exceptions.ClusterCrossSlotError):
            return StoreError(f"{where} is a cluster: expected redis+cluster://...: {error}")
        return StoreError(f"{where}: {error}")


def _epoch_and_offsets(fields: Sequence[bytes]) -> tuple[int, dict[str, int]]:
    """Return what a partition's meta hash says; `fields` are its names and values in turn."""
    meta = dict(zip(fields[::2], map(int, fields[1::2]), strict=True))
    epoch = meta.pop(b"epoch", 0)
    return epoch, {
        name.removeprefix(b"offset:").decode(): offset for name, offset in sorted(meta.items())
    }


class _Script:
    """A script's text and the digest under which Redis knows it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


class _UnknownScriptError(StoreError):
    """The server's scripts were flushed, or it is new."""


def _commit_arguments(changes: Sequence[PartitionChange]) -> tuple[Any, ...]:
    header = [
        (
            str(change.epoch),
            list(change.offsets),
            [str(expected) for expected, _ in change.offsets.values()],
            [str(new) for _, new in change.offsets.values()],
        )
        for change in changes
    ]
    delete_count = sum(len(change.deletes) for change in changes)
    writes = list(chain.from_iterable(change.writes for change in changes))
    if not writes:
        return _ENCODE(header), delete_count, _ENCODE(()), _ENCODE(()), ()
    _, starts, values = zip(*writes, strict=True)
    lengths = list(map(len, values))
    if sum(lengths) > VALUE_MAX_BYTES:
        raise ValueError(
            f"expected at most {VALUE_MAX_BYTES} bytes in a commit, got {sum(lengths)}: "
            "commit fewer partitions at once, or more often"
        )
    return _ENCODE(header), delete_count, _ENCODE(starts), _ENCODE(lengths), values


def _is_distrust(error: BaseException | None) -> bool:
    """Whether an error came of a certificate that does not hold: waiting would not mend it."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _refusal(error: redis.exceptions.RedisError) -> str | None:
    """Return the code with which Redis refuses writes for a while, or None."""
    known = {
        redis.exceptions.OutOfMemoryError: "OOM",
        redis.exceptions.ReadOnlyError: "READONLY",
        redis.exceptions.BusyLoadingError: "LOADING",
        redis.exceptions.MasterDownError: "MASTERDOWN",
        redis.exceptions.ClusterDownError: "CLUSTERDOWN",
        redis.exceptions.TryAgainError: "TRYAGAIN",
    }
    for kind, code in known.items():
        if isinstance(error, kind):
            return code
    if not isinstance(error, redis.exceptions.ResponseError):
        return None
    found = _REFUSALS.search(str(error))
    return found.group(1) if found else None
