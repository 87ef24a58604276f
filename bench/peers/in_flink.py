"""Flink SQL: `OVER (PARTITION BY … ORDER BY … RANGE …)` in streaming mode, on a local cluster.

Flink allows one window to a query, so there is one job for each of the six, each reading the events
from a file and writing its answers to another; Java alone works, Python only sends the SQL. A
frame of `w - 1 ms PRECEDING` is (t - w, t]; all events of the last millisecond are in it, those
that come later too. Needs PyFlink, in a Python of its own (`--flink-python`), and Java.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pyflink.table import EnvironmentSettings, TableEnvironment

from bench.peers.question import DISTINCT, DISTINCT_WINDOW, WINDOWS_MS, Events
from bench.peers.timed import Answers

_EVENTS = """
CREATE TABLE payments (
  event BIGINT, ts_ms BIGINT, customer BIGINT, merchant BIGINT, amount DOUBLE,
  moment AS TO_TIMESTAMP_LTZ(ts_ms, 3),
  WATERMARK FOR moment AS moment - INTERVAL '0.001' SECOND
) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'csv')
"""


def answer(events: Events) -> Answers:
    """Answer by six jobs, one after the other; the start of a job is part of its time."""
    answers = Answers.to(events)
    with tempfile.TemporaryDirectory(prefix="peers-flink-") as folder:
        source = Path(folder) / "payments.csv"
        _write(events, source)
        session = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
        session.get_config().set("parallelism.default", "1")
        session.execute_sql(_EVENTS.format(path=source.as_uri()))
        for window in WINDOWS_MS:
            target = Path(folder) / window
            columns = ["event", *_aggregates(window)]
            session.execute_sql(_sink(window, columns, target))
            with answers.timed():
                session.execute_sql(_query(window)).wait()
            found = _read(target)
            events_answered = found[:, 0].astype(np.int64)
            for number, column in enumerate(columns[1:], 1):
                answers.put(column, found[:, number], events_answered)
    return answers


def _write(events: Events, path: Path) -> None:
    columns = (events.ts_ms, events.customer, events.merchant, events.amount_minor)
    table = np.column_stack([np.arange(len(events)), *columns])
    np.savetxt(path, table, fmt="%d", delimiter=",")


def _aggregates(window: str) -> dict[str, str]:
    found = {
        f"count_{window}": "COUNT(*)",
        f"sum_{window}": "SUM(amount)",
        f"mean_{window}": "AVG(amount)",
        f"std_{window}": "STDDEV_POP(amount)",
        f"max_{window}": "MAX(amount)",
    }
    if window == DISTINCT_WINDOW:
        found[DISTINCT] = "COUNT(DISTINCT merchant)"
    return found


def _sink(window: str, columns: list[str], target: Path) -> str:
    declared = ", ".join(f"{column} DOUBLE" for column in columns)
    return (
        f"CREATE TABLE answers_{window} ({declared}) "
        f"WITH ('connector' = 'filesystem', 'path' = '{target.as_uri()}', 'format' = 'csv')"
    )


def _query(window: str) -> str:
    selected = ", ".join(
        f"CAST({aggregate} OVER w AS DOUBLE)" for aggregate in _aggregates(window).values()
    )
    days, rest_ms = divmod(WINDOWS_MS[window] - 1, 86_400_000)
    hours, rest_ms = divmod(rest_ms, 3_600_000)
    minutes, rest_ms = divmod(rest_ms, 60_000)
    length = f"{days} {hours:02}:{minutes:02}:{rest_ms // 1_000:02}.{rest_ms % 1_000:03}"
    return (
        f"INSERT INTO answers_{window} SELECT CAST(event AS DOUBLE), {selected} FROM payments "
        "WINDOW w AS (PARTITION BY customer ORDER BY moment RANGE BETWEEN "
        f"INTERVAL '{length}' DAY TO SECOND(3) PRECEDING AND CURRENT ROW)"
    )


def _read(target: Path) -> np.ndarray:
    parts = [np.loadtxt(path, delimiter=",", ndmin=2) for path in sorted(_files(target))]
    return np.concatenate(parts)


def _files(target: Path) -> Iterator[Path]:
    return (path for path in target.rglob("*") if path.is_file())
