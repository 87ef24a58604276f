"""Simulated runs as files: Parquet tables of records, and the ground truth beside them."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from features.errors import MillraceError
from replay.simulator.population import customer_id
from replay.simulator.settings import HOUR_MS, SimulatorSettings
from replay.simulator.simulator import Simulator

Progress = Callable[[int, int], None]
ROW_GROUP_ROWS = 65_536
FORMAT_VERSION = 1
SIMULATION_FILE = "simulation.json"


class OutputDirectoryError(MillraceError):
    """A directory into which a run may not be written."""


def _schema(**types: Any) -> Any:
    return pa.schema([pa.field(name, kind) for name, kind in types.items()])


TEXT, INTEGER, FLOAT = pa.string(), pa.int64(), pa.float64()
# Columns carry the records' field names, so that the mapping back is one to one.
SCHEMAS: dict[str, Any] = {
    "transactions": _schema(
        event_id=TEXT, ts_ms=INTEGER, customer_id=TEXT, account_id=TEXT, type=TEXT,
        amount_minor=INTEGER, currency=TEXT, direction=TEXT, channel=TEXT, card_id=TEXT,
        merchant_id=TEXT, mcc=INTEGER, terminal_id=TEXT, payee_id=TEXT, country=TEXT, lat=FLOAT,
        lon=FLOAT, device_id=TEXT, ip=TEXT, balance_minor=INTEGER,
    ),
    "interactions": _schema(
        event_id=TEXT, ts_ms=INTEGER, customer_id=TEXT, type=TEXT, channel=TEXT, device_id=TEXT,
        metric=TEXT, value=FLOAT, text=TEXT,
    ),
    "profiles": _schema(
        customer_id=TEXT, ts_ms=INTEGER, products=pa.list_(TEXT), assets_minor=INTEGER,
        risk_preference=TEXT, consents=pa.list_(TEXT), preferred_channels=pa.list_(TEXT),
        quiet_hours=pa.struct([("start_hour", INTEGER), ("end_hour", INTEGER)]),
        utc_offset_minutes=INTEGER, relationship_manager=TEXT, birth_year=INTEGER,
        customer_since_ms=INTEGER, corporate=pa.bool_(),
    ),
    "labels": _schema(
        event_id=TEXT, ts_ms=INTEGER, customer_id=TEXT, verdict=TEXT, source=TEXT
    ),
}  # fmt: skip
FRAUD_SCHEMA = _schema(event_id=TEXT, scenario=TEXT)
RESPONSE_SCHEMA = _schema(customer_id=TEXT, offer=TEXT, p_without=FLOAT, p_with=FLOAT)
FILES = (
    *(f"{topic}.parquet" for topic in SCHEMAS),
    "truth_fraud.parquet",
    "truth_responses.parquet",
    SIMULATION_FILE,
)


def write_files(
    settings: SimulatorSettings,
    directory: str | Path,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, int]:
    """Simulate a run into `directory` and return the number of rows per table.

    The files appear together at the end or not at all: they are written beside the directory and
    moved by a rename. `progress` is called with (hours done, hours of the run). With `overwrite`
    an earlier run is replaced.

    Raises OutputDirectoryError for a directory that isn't empty (with `overwrite`: that holds
    anything else than the files of a run).
    """
    target = Path(directory).resolve()
    _check(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        simulator = Simulator(settings)
        counts = _write_records(simulator, partial, progress)
        counts["truth_fraud"] = _write_frauds(simulator, partial)
        counts["truth_responses"] = _write_responses(simulator, partial)
        about = {"format": FORMAT_VERSION, "settings": settings.to_dict(), "rows": counts}
        (partial / SIMULATION_FILE).write_text(json.dumps(about, indent=2) + "\n", "utf-8")
        _check(target, overwrite)
        _move(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return counts


def _check(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputDirectoryError(f"{target}: expected a directory, got a file")
    names = sorted(path.name for path in target.iterdir())
    strange = [name for name in names if name not in FILES]
    if names and not overwrite:
        raise OutputDirectoryError(
            f"{target}: expected an empty directory, got one with {names[0]}; "
            "overwrite replaces an earlier run"
        )
    if strange:
        raise OutputDirectoryError(
            f"{target}: expected only files of an earlier run, got {strange[0]}"
        )


def _move(partial: Path, target: Path) -> None:
    """Swap the finished directory in; the earlier one is removed only after that."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


class _Table:
    """Collects JSON records and writes them as row groups."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._values: list[bytes] = []
        self.row_count = 0

    def add(self, value: bytes) -> None:
        self._values.append(value)
        if len(self._values) >= ROW_GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._values:
            return
        options = pa_json.ParseOptions(
            explicit_schema=self._schema, unexpected_field_behavior="ignore"
        )
        text = io.BytesIO(b"\n".join(self._values))
        self._writer.write_table(pa_json.read_json(text, parse_options=options))
        self.row_count += len(self._values)
        self._values.clear()

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, kind: object, *details: object) -> None:
        if kind is None:
            self.flush()
        self._writer.close()


def _write_records(simulator: Simulator, folder: Path, progress: Progress | None) -> dict[str, int]:
    settings = simulator.settings
    with ExitStack() as stack:
        tables = {
            topic: stack.enter_context(_Table(folder / f"{topic}.parquet", schema))
            for topic, schema in SCHEMAS.items()
        }
        for chunk in simulator.chunks():
            for topic, _, _, value in chunk:
                tables[topic].add(value)
            if progress is not None:
                done = (chunk[-1].ts_ms - settings.start_ms) // HOUR_MS + 1
                progress(done, settings.hour_count)
    return {topic: table.row_count for topic, table in tables.items()}


def _write_frauds(simulator: Simulator, folder: Path) -> int:
    fraud = simulator.truth.fraud
    columns = [list(fraud), list(fraud.values())]
    table = pa.Table.from_arrays([pa.array(c, TEXT) for c in columns], schema=FRAUD_SCHEMA)
    pq.write_table(table, folder / "truth_fraud.parquet", compression="zstd")
    return len(fraud)


def _write_responses(simulator: Simulator, folder: Path) -> int:
    row_count = 0
    path = folder / "truth_responses.parquet"
    with pq.ParquetWriter(path, RESPONSE_SCHEMA, compression="zstd") as writer:
        for table in _response_tables(simulator):
            writer.write_table(table)
            row_count += len(table)
    return row_count


def _response_tables(simulator: Simulator) -> Iterator[Any]:
    for rows in simulator.truth.responses.rows(simulator.settings.offers):
        first, count = rows["first"], len(rows["p_with"])
        yield pa.table(
            {
                "customer_id": [customer_id(k) for k in range(first, first + count)],
                "offer": pa.array([rows["offer"]] * count, TEXT),
                "p_without": rows["p_without"],
                "p_with": rows["p_with"],
            },
            schema=RESPONSE_SCHEMA,
        )
