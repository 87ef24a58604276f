"""Tables of traffic for the tests of sources, and all records of a source."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.records import INPUT_RECORDS
from replay.mapping import Mapping
from replay.mapping_parser import parse_mapping
from replay.source_record import SourceRecord
from replay.sources import Source

T0 = 1_522_540_800_000
DAY_MS = 86_400_000
MAPPING = """\
tables:
  - kind: transaction
    columns:
      event_id: {column: ID, template: "e{}"}
      ts_ms: {column: WHEN, time: {format: datetime}}
      customer_id: {column: CUST, template: "C{}"}
      account_id: {column: CUST, template: "A{}"}
      type: {constant: purchase}
      amount_minor: {column: AMT, minor_units: {decimals: 2}}
      currency: {constant: EUR}
      direction: {constant: out}
      channel: {constant: pos}
      mcc: MCC
      merchant_id: SHOP
    labels: {column: FRAUD, fraud_when: 1, delay: DELAY, emit: EMIT, source: book}
"""


def mapped(delay: str = "7d", emit: str = "fraud") -> Mapping:
    return parse_mapping(MAPPING.replace("DELAY", delay).replace("EMIT", emit), "m.yaml")


def rows_of(seconds: list[int], frauds: Iterable[int] = (), **others: Any) -> dict[str, Any]:
    count = len(seconds)
    times = [np.datetime64(T0 + 1_000 * second, "ms").item() for second in seconds]
    fraud = [1 if row in set(frauds) else 0 for row in range(count)]
    table = {
        "ID": list(range(count)), "WHEN": times, "CUST": [row % 3 for row in range(count)],
        "AMT": [row + 0.29 for row in range(count)], "MCC": [5411] * count,
        "SHOP": ['a"b' if row % 2 else None for row in range(count)], "FRAUD": fraud,
    }  # fmt: skip
    return {**table, **others}


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=5)
    return path


def everything(source: Source, chunk_size: int = 4_096) -> tuple[list[SourceRecord], Any, Any]:
    chunks = list(source.chunks(chunk_size))
    assert all(len(chunk.records) == chunk_size for chunk in chunks[:-1])
    records = [record for chunk in chunks for record in chunk.records]
    empty = np.empty(0, dtype=np.int64)
    truth = np.concatenate([empty, *(chunk.truth for chunk in chunks)])
    known_ms = np.concatenate([empty, *(chunk.known_ms for chunk in chunks)])
    assert len(truth) == len(known_ms) == len(records)
    return records, truth, known_ms


def decoded(records: list[SourceRecord]) -> list[msgspec.Struct]:
    return [msgspec.json.decode(r.value, type=INPUT_RECORDS[r.topic]) for r in records]


NATIVE_KINDS = {"profiles": "profile", "labels": "label", "interactions": "interaction",
                "transactions": "transaction"}  # fmt: skip


def native(topic: str, number: int, ts_ms: int) -> dict[str, Any]:
    base = {"ts_ms": ts_ms, "customer_id": f"C{number}"}
    event = {"event_id": f"{topic}{number}", **base}
    return {
        "profiles": {**base, "products": ["card"], "quiet_hours": None},
        "labels": {**event, "event_id": f"transactions{number}", "verdict": "fraud"},
        "interactions": {**event, "type": "login", "channel": "app"},
        "transactions": {
            **event, "account_id": "A", "type": "fee", "amount_minor": 1, "currency": "EUR",
            "direction": "out", "channel": "app",
        },
    }[topic]  # fmt: skip
