"""An engine in a process of its own, whose memory is measured: it makes its traffic itself.

Usage: python memory_child.py REDIS_URL PREFIX CUSTOMERS MEMORY_MIB (0: no bound). Every customer
pays in the first half of the traffic and again in the second. It prints one line of JSON.
"""

import hashlib
import sys
from contextlib import closing
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
SUBMIT_COUNT = 1_000


class Finding(msgspec.Struct):
    """What the child says at its end."""

    decisions_sha256: str
    peak_mib: float
    other_mib: float  # of the resident set at the end, what isn't state
    state_mib: float
    history_count: int
    evicted_count: int
    loaded_count: int
    over_count: int


def transactions(customer_count: int) -> list[tuple[str, bytes]]:
    """Return (customer, record) in order; who pays after whom differs between the halves."""
    rng = np.random.default_rng(11)
    order = [*rng.permutation(customer_count).tolist(), *rng.permutation(customer_count).tolist()]
    amounts = rng.integers(100, 200_000, size=len(order)).tolist()
    places = rng.integers(customer_count // 20, size=len(order)).tolist()
    return [
        (f"CU{person:08d}", orjson.dumps({
            "event_id": f"TX{i:010d}",
            "ts_ms": START_MS + 1_000 * i,
            "customer_id": f"CU{person:08d}",
            "account_id": f"AC{person:08d}",
            "card_id": f"CA{person:08d}",
            "type": "purchase",
            "amount_minor": amounts[i],
            "currency": "EUR",
            "direction": "out",
            "channel": "pos",
            "merchant_id": f"ME{places[i]:06d}",
            "terminal_id": f"TE{places[i]:06d}",
        }))
        for i, person in enumerate(order)
    ]  # fmt: skip


def own_peak_mib() -> float:
    """Return this program's peak; `ru_maxrss` would begin with what the parent took."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peak) / 1024


def main() -> None:
    url, prefix, customers, mib = sys.argv[1:]
    tune_process()
    digest = hashlib.sha256()

    def observe(output: Output) -> None:
        for found in output.decisions:
            for column in (found.scores, found.actions, found.rule_hits):
                digest.update(np.ascontiguousarray(column).tobytes())

    settings = EmbeddedSettings(
        2, checkpoint_ms=10_000, emit_training=False, memory_mib_max=int(mib) or None
    )
    with closing(RedisStore(url, prefix)) as store:
        runtime = EmbeddedRuntime(read_policy(), store, MemorySink(), settings, on_output=observe)
        records = transactions(int(customers))
        for start in range(0, len(records), SUBMIT_COUNT):
            keys, values = zip(*records[start : start + SUBMIT_COUNT], strict=True)
            runtime.submit(["transactions"] * len(keys), keys, values)
        runtime.checkpoint()
        state = runtime.resident
        finding = Finding(
            decisions_sha256=digest.hexdigest(),
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
