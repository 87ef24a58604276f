"""Redis: a sorted set a customer, scored by time; a real private server, through redis-py.

For each event ZADD, ZREMRANGEBYSCORE of what is older than the longest window, and ZRANGE of what
is left, pipelined for 512 events at a time. No command of Redis adds up members, so the aggregates
are taken in Python, in one walk from the newest member to the oldest.
"""

import math
from collections.abc import Iterator

import redis

from bench.peers.question import DISTINCT_WINDOW, WINDOWS_MS, Events
from bench.peers.timed import Answers
from streams.private_redis import PrivateRedis

PIPELINED_COUNT = 512
_LONGEST_MS = max(WINDOWS_MS.values())


def answer(events: Events, url: str | None = None) -> Answers:
    """Answer 512 events at a time; without `url` from a server of its own."""
    if url is None:
        with PrivateRedis() as server:
            return answer(events, server.url)
    answers = Answers.to(events)
    columns = (events.ts_ms, events.customer, events.merchant, events.amount_minor)
    arrivals = list(zip(*(column.tolist() for column in columns), strict=True))
    with redis.Redis.from_url(url) as client:
        for first in range(0, len(arrivals), PIPELINED_COUNT):
            part = arrivals[first : first + PIPELINED_COUNT]
            with answers.timed():
                found = _exchange(client, part, first)
                values = [
                    list(_aggregates(members, arrival[0]))
                    for members, arrival in zip(found, part, strict=True)
                ]
            for row, event_values in enumerate(values, first):
                answers.values[:, row] = event_values
    return answers


def _exchange(
    client: redis.Redis, arrivals: list[tuple[int, int, int, int]], first: int
) -> list[list[bytes]]:
    """Add the events; return, for each, the members of its customer's set as it then was."""
    with client.pipeline(transaction=False) as pipeline:
        for event, (ts_ms, customer, merchant, amount_minor) in enumerate(arrivals, first):
            key = f"peers:{customer}"
            pipeline.zadd(key, {f"{ts_ms}:{event}:{merchant}:{amount_minor}": ts_ms})
            pipeline.zremrangebyscore(key, "-inf", ts_ms - _LONGEST_MS)
            pipeline.zrange(key, 0, -1)
        return pipeline.execute()[2::3]


def _aggregates(members: list[bytes], now_ms: int) -> Iterator[float]:
    """Yield the answers in the order of the columns."""
    newest_first = iter([tuple(map(int, member.split(b":"))) for member in reversed(members)])
    count = total = squares = largest = 0
    merchants: set[int] = set()
    distinct = 0
    event = next(newest_first, None)
    for window, window_ms in WINDOWS_MS.items():
        while event is not None and event[0] > now_ms - window_ms:
            _, _, merchant, amount_minor = event
            count += 1
            total += amount_minor
            squares += amount_minor * amount_minor
            largest = max(largest, amount_minor)
            merchants.add(merchant)
            event = next(newest_first, None)
        if window == DISTINCT_WINDOW:
            distinct = len(merchants)
        yield from (count, total, total / count, _deviation(count, total, squares), largest)
    yield distinct


def _deviation(count: int, total: int, squares: int) -> float:
    return math.sqrt(count * squares - total * total) / count
