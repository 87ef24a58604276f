"""Decoded runs of the simulator, shared by its tests, and offers to make on them."""

from collections import defaultdict
from functools import cache
from math import asin, cos, radians, sin, sqrt
from typing import Any

import msgspec

from features.records import INPUT_RECORDS, Interaction, Label, Offer, Transaction, Versions
from replay.simulator import Simulator, SimulatorSettings
from replay.source_record import SourceRecord

DECODERS: dict[str, Any] = {
    topic: msgspec.json.Decoder(kind) for topic, kind in INPUT_RECORDS.items()
}
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


class Run:
    """A whole run in memory: chunks, decoded records by topic, frauds by event id."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.simulator = Simulator(settings)
        self.chunks = list(self.simulator.chunks())
        self.fraud = self.simulator.truth.fraud
        self.records: dict[str, list[Any]] = defaultdict(list)
        for chunk in self.chunks:
            for record in chunk:
                self.records[record.topic].append(DECODERS[record.topic].decode(record.value))

    @property
    def transactions(self) -> list[Transaction]:
        return self.records["transactions"]

    @property
    def interactions(self) -> list[Interaction]:
        return self.records["interactions"]

    @property
    def labels(self) -> list[Label]:
        return self.records["labels"]

    def frauds(self, scenario: str) -> list[Transaction]:
        return [t for t in self.transactions if self.fraud.get(t.event_id) == scenario]

    def by_customer(self) -> dict[str, list[Transaction]]:
        found: dict[str, list[Transaction]] = defaultdict(list)
        for transaction in self.transactions:
            found[transaction.customer_id].append(transaction)
        return found


@cache
def busy_run() -> Run:
    """400 customers for 66 days, with four times as much fraud as by default."""
    return Run(SimulatorSettings(400, 66, seed=7, fraud_rate=0.02))


def speed_kmh(before: Transaction, after: Transaction) -> float:
    """Implied speed between two places on the globe; the spherical law, one pair at a time."""
    lat_1, lat_2 = radians(before.lat or 0.0), radians(after.lat or 0.0)
    step = radians((after.lon or 0.0) - (before.lon or 0.0))
    chord = sin((lat_2 - lat_1) / 2) ** 2 + cos(lat_1) * cos(lat_2) * sin(step / 2) ** 2
    hours = (after.ts_ms - before.ts_ms) / 3_600_000
    return 2 * 6371.0 * asin(sqrt(chord)) / hours if hours > 0 else float("inf")


def offer(
    customer_id: str, ts_ms: int, number: int, name: str = "savings_plan", **changes: Any
) -> Offer:
    values: dict[str, Any] = {
        "action_id": f"A{number:06d}", "event_id": "TX1", "ts_ms": ts_ms,
        "customer_id": customer_id, "offer": name, "channel": "sms", "text_key": "t",
        "parameters": {}, "deliver_from_ms": ts_ms, "valid_until_ms": ts_ms + DAY_MS,
        "propensity": 0.5, "explored": False, "control": False, "why": (), "lost": (),
        "versions": Versions(policy="p", models={}),
    }  # fmt: skip
    return Offer(**(values | changes))


def stream_bytes(chunks: list[list[SourceRecord]]) -> bytes:
    """Everything about a stream that a consumer can see, as bytes."""
    return b"\n".join(
        f"{r.topic} {r.key} {r.ts_ms} ".encode() + r.value for chunk in chunks for r in chunk
    )
