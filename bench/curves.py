"""What an event costs by the number of entities, and by the length of the windows.

    python -m bench.curves [--smoke] --out curves.json
    python -m bench.curves_page curves.json docs

Only `FeatureEngine.update` is timed, in batches of 512, after the histories have been filled; in
time of the processor, so that a busy machine does not bend the curves.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from bench.machine import machine_facts
from bench.peers.question import DAY_MS, DISTINCT_WINDOW, HOUR_MS, WINDOWS_MS
from bench.six_windows import PaymentTraffic, compile_texts, texts
from features.histories import FeatureEngine

BATCH = 512
FILL_BATCH = 8_192
CHUNK_COUNT = 15
CHUNK_BATCHES = 20
PACKAGES = ("numba", "numpy")
MINUTE_MS = 60_000

ENTITY_COUNTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
EVENTS_PER_ENTITY = 8  # within 30 days

# By window: every entity has an event each 36 minutes, which makes 3,600 of them in 90 days. A
# history that is full drops a quarter: with this cap none gets there, and all values stay exact.
EVENT_CAP = 16_384
STEP_MS = 36 * MINUTE_MS
PACED_ENTITY_COUNT = 200
LENGTHS_MS = {
    "1m": MINUTE_MS,
    "10m": 10 * MINUTE_MS,
    "1h": HOUR_MS,
    "6h": 6 * HOUR_MS,
    "1d": DAY_MS,
    "7d": 7 * DAY_MS,
    "30d": 30 * DAY_MS,
    "90d": 90 * DAY_MS,
}
DIVISORS = (32, 16, 8, 4, 2, 1)  # six windows, the longest as long as the point says


def by_entities(entity_count: int, chunk_count: int) -> dict[str, Any]:
    """Return the cost with the usual six windows; each entity has 8 events in the longest."""
    windows_ms = list(WINDOWS_MS.values())
    traffic = PaymentTraffic(entity_count, EVENTS_PER_ENTITY, max(windows_ms))
    fill_count = entity_count * EVENTS_PER_ENTITY
    cost = _cost(windows_ms, WINDOWS_MS[DISTINCT_WINDOW], traffic, fill_count, chunk_count)
    return {"entity_count": entity_count} | cost


def by_length(name: str, entity_count: int, chunk_count: int) -> dict[str, Any]:
    """Return the cost of six windows up to this length, the distinct count over the longest."""
    length_ms = LENGTHS_MS[name]
    windows_ms = [length_ms // divisor for divisor in DIVISORS]
    event_count = max(length_ms // STEP_MS, 1)
    traffic = PaymentTraffic(entity_count, event_count, max(length_ms, STEP_MS))
    facts = {"length": name, "length_ms": length_ms, "events_per_window_count": event_count}
    return facts | _cost(windows_ms, length_ms, traffic, entity_count * event_count, chunk_count)


def _cost(
    windows_ms: Sequence[int],
    distinct_ms: int,
    traffic: PaymentTraffic,
    fill_count: int,
    chunk_count: int,
) -> dict[str, Any]:
    """Fill an engine, then time chunks of batches; return microseconds an event."""
    plan, _ = compile_texts(texts(windows_ms, distinct_ms), max(windows_ms), EVENT_CAP)
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    for _ in range(-(-fill_count // FILL_BATCH)):
        engine.update(*traffic.rows(FILL_BATCH))
    chunks_us = []
    for _ in range(chunk_count):
        batches = [traffic.rows(BATCH) for _ in range(CHUNK_BATCHES)]
        begun_s = time.thread_time()
        for rows in batches:
            engine.update(*rows)
        chunks_us.append((time.thread_time() - begun_s) * 1e6 / (BATCH * CHUNK_BATCHES))
    chunks_us.sort()
    return {
        "best_us": round(chunks_us[0], 4),
        "median_us": round(chunks_us[chunk_count // 2], 4),
    }


def measure(is_smoke: bool) -> dict[str, Any]:
    """Return both curves and the machine."""
    entity_counts = ENTITY_COUNTS[:2] if is_smoke else ENTITY_COUNTS
    lengths = list(LENGTHS_MS)[:5] if is_smoke else list(LENGTHS_MS)
    paced_count = PACED_ENTITY_COUNT // 10 if is_smoke else PACED_ENTITY_COUNT
    chunk_count = 3 if is_smoke else CHUNK_COUNT
    by_entities(ENTITY_COUNTS[0], 1)  # compiles the kernels
    found: dict[str, Any] = machine_facts(PACKAGES)
    found |= {
        "chunk_count": chunk_count,
        "chunk_event_count": BATCH * CHUNK_BATCHES,
        "paced_entity_count": paced_count,
        "entities": [],
        "lengths": [],
    }
    for entity_count in entity_counts:
        found["entities"].append(by_entities(entity_count, chunk_count))
        print(found["entities"][-1], file=sys.stderr, flush=True)
    for name in lengths:
        found["lengths"].append(by_length(name, paced_count, chunk_count))
        print(found["lengths"][-1], file=sys.stderr, flush=True)
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure and write the results; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few and small points: does it run?")
    parser.add_argument("--out", required=True, metavar="JSON")
    options = parser.parse_args(arguments)
    found = measure(options.smoke)
    Path(options.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
