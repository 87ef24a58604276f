"""What learning costs those who wait for a decision: the same load with and without it.

Event time runs far faster than the clock, so that examples mature all the time: a tenth of the
payments of a week before, a fiftieth of which were told to be frauds. In one run the model
publishes a version for every six hours of event time, about one a second; in the other it never
publishes, so nothing is learned and nothing is swapped in.
"""

import shutil
from pathlib import Path
from typing import Any

from bench.streaming.latency import CUSTOMER_COUNT, PARTITION_COUNT, Load, beside
from bench.streaming.question import DAY_MS, POLICY
from bench.streaming.scene import Scene

PUBLISH_LINE = "publish_every: 1d"
HORIZON_DAYS = 7
FRAUD_EVERY_COUNT = (
    50  # of the payments before the load; a model needs some before its first version
)
CASES = {"never": "publish_every: 3650d", "often": "publish_every: 6h"}


def policy_of(scene: Scene, case: str) -> Path:
    """Return the benchmark's policy with another rhythm of publication."""
    folder = scene.folder / f"policy-{case}"
    if not folder.exists():
        shutil.copytree(POLICY, folder)
        file = folder / "models.yaml"
        text = file.read_text(encoding="utf-8")
        if PUBLISH_LINE not in text:
            raise ValueError(f"{file}: expected a line `{PUBLISH_LINE}`")
        file.write_text(text.replace(PUBLISH_LINE, CASES[case]), encoding="utf-8")
    return folder


def run(scene: Scene, load: Load, round_count: int) -> dict[str, Any]:
    """Return the latencies of decisions in each case, and how many versions came out meanwhile."""
    warm_count = HORIZON_DAYS * DAY_MS * CUSTOMER_COUNT // (2 * DAY_MS)
    event_time_ms = load.count * 2 * DAY_MS // CUSTOMER_COUNT
    found: dict[str, Any] = {"rate": load.rate, "event_time_ms": event_time_ms}
    found |= {case: [] for case in CASES}
    for number in range(round_count):
        for case in CASES:
            settings = scene.bank(f"{case}{number}", PARTITION_COUNT, decisions=True)
            policy = policy_of(scene, case)
            row = beside(scene, settings, policy, load, warm_count, FRAUD_EVERY_COUNT)
            found[case].append(row)
    return found
