"""DuckDB: window functions of SQL, the whole table at once.

`RANGE BETWEEN w PRECEDING AND CURRENT ROW` over times is [t - w, t], and all events of the last
millisecond are in it, those that come later too; over keys
that put time before arrival (`Events.key`), from between two milliseconds, it is (t - w, t] without
them.
"""

import duckdb
import numpy as np
import pyarrow as pa

from bench.peers.question import DISTINCT, DISTINCT_WINDOW, WINDOWS_MS, Events, keyed
from bench.peers.timed import Answers


def answer(events: Events) -> Answers:
    """Answer by one query, on one thread."""
    answers = Answers.to(events)
    table = pa.table({
        "event": np.arange(len(events)),
        "key": events.key,
        "customer": events.customer,
        "merchant": events.merchant,
        "amount": events.amount_minor,
    })  # fmt: skip
    with duckdb.connect() as database:
        database.execute("SET threads = 1")
        database.register("arrived", table)
        database.execute("CREATE TABLE payments AS FROM arrived")
        with answers.timed():
            found = database.execute(query()).fetchnumpy()
    for name, values in found.items():
        if name != "event":
            answers.put(name, values, found["event"])
    return answers


def query() -> str:
    """Return the SQL that answers everything."""
    selected, windows = ["event"], []
    for window, window_ms in WINDOWS_MS.items():
        windows.append(
            f"w{window} AS (PARTITION BY customer ORDER BY key RANGE BETWEEN "
            f"{keyed(window_ms)} PRECEDING AND CURRENT ROW)"
        )
        selected += [
            f"count(*) OVER w{window} AS count_{window}",
            f"sum(amount) OVER w{window} AS sum_{window}",
            f"avg(amount) OVER w{window} AS mean_{window}",
            f"stddev_pop(amount) OVER w{window} AS std_{window}",
            f"max(amount) OVER w{window} AS max_{window}",
        ]
    selected.append(f"count(DISTINCT merchant) OVER w{DISTINCT_WINDOW} AS {DISTINCT}")
    return f"SELECT {', '.join(selected)} FROM payments WINDOW {', '.join(windows)}"
