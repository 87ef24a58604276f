"""An engine in a process of its own, whose memory is measured: it makes its traffic itself.

Usage: python memory_child.py REDIS_URL PREFIX CUSTOMERS MEMORY_MIB (0: no bound). Every customer
pays in the first half of the traffic and again in the second. It prints one line of JSON.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import orjson

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from millrace.process import tune_process
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Output
from streams.memory import MIB, resident_bytes
from streams.policy_files import read_policy
from streams.redis_store import RedisStore
from streams.sinks import MemorySink

START_MS = 1_751_328_000_000
DAY_MS = 86_400_000
SPAN_MS = 60 * DAY_MS
LABEL_DELAY_MS = 2 * DAY_MS
SUBMIT_COUNT = 1_000


class Finding(msgspec.Struct):
    """What the child says at its end."""

    decisions_sha256: str
    score_count: int  # how many different scores were given
    peak_mib: float
    other_mib: float  # of the resident set at the end, what isn't state
    state_mib: float
    history_count: int
    evicted_count: int
    loaded_count: int
    over_count: int


def records(customer_count: int) -> Iterator[tuple[str, str, bytes]]:
    """Yield (topic, customer, record) in order; who pays after whom differs between the halves.

    One payment in ten is a large one at night, and most of these turn out to be frauds.
    """
    rng = np.random.default_rng(11)
    order = np.concatenate([rng.permutation(customer_count), rng.permutation(customer_count)])
    large = rng.random(len(order)) < 0.1
    amounts = np.where(large, 150_000, 1_000) + rng.integers(50_000, size=len(order))
    fraud = large & (rng.random(len(order)) < 0.7)
    places = rng.integers(customer_count // 20, size=len(order))
    step_ms = SPAN_MS // len(order)
    delay = LABEL_DELAY_MS // step_ms
    for i, person in enumerate(order.tolist()):
        yield "transactions", f"CU{person:08d}", orjson.dumps({
            "event_id": f"TX{i:010d}",
            "ts_ms": START_MS + step_ms * i,
            "customer_id": f"CU{person:08d}",
            "account_id": f"AC{person:08d}",
            "card_id": f"CA{person:08d}",
            "type": "purchase",
            "amount_minor": int(amounts[i]),
            "currency": "EUR",
            "direction": "out",
            "channel": "online",
            "merchant_id": f"ME{places[i]:06d}",
            "device_id": f"DE{person:08d}",
            "ip": f"IP{person:08d}",
        })  # fmt: skip
        known = i - delay
        if known >= 0 and fraud[known]:
            yield "labels", f"CU{order[known]:08d}", orjson.dumps({
                "event_id": f"TX{known:010d}",
                "ts_ms": START_MS + step_ms * i,
                "customer_id": f"CU{order[known]:08d}",
                "verdict": "fraud",
            })  # fmt: skip


def submitted(customer_count: int) -> Iterator[tuple[list[str], list[str], list[bytes]]]:
    """Yield topics, keys and values of a thousand records at a time."""
    source = records(customer_count)
    while some := list(islice(source, SUBMIT_COUNT)):
        topics, keys, values = zip(*some, strict=True)
        yield list(topics), list(keys), list(values)


def own_peak_mib() -> float:
    """Return this program's peak; `ru_maxrss` would begin with what the parent took."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


def main() -> None:
    url, prefix, customers, mib = sys.argv[1:]
    tune_process()
    digest = hashlib.sha256()
    scores: set[float] = set()

    def observe(output: Output) -> None:
        for found in output.decisions:
            scores.update(found.scores.tolist())
            for column in (found.scores, found.actions, found.rule_hits):
                digest.update(np.ascontiguousarray(column).tobytes())

    settings = EmbeddedSettings(
        2,
        checkpoint_ms=10_000,
        checkpoint_max_count=2_000,
        emit_training=False,
        memory_mib_max=int(mib) or None,
    )
    with closing(RedisStore(url, prefix)) as store:
        runtime = EmbeddedRuntime(read_policy(), store, MemorySink(), settings, on_output=observe)
        for topics, keys, values in submitted(int(customers)):
            runtime.submit(topics, keys, values)
        runtime.checkpoint()
        state = runtime.resident
        finding = Finding(
            decisions_sha256=digest.hexdigest(),
            score_count=len(scores),
            peak_mib=own_peak_mib(),
            other_mib=(resident_bytes() - state.allocated_bytes) / MIB,
            state_mib=state.allocated_bytes / MIB,
            history_count=state.history_count,
            evicted_count=state.evicted_count,
            loaded_count=state.loaded_count,
            over_count=runtime.over_bound_count,
        )
        sys.stdout.write(msgspec.json.encode(finding).decode() + "\n")
        runtime.close()


if __name__ == "__main__":
    main()
