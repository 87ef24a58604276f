"""Polars: `DataFrame.rolling` grouped by customer, one call a window, the whole table at once.

`closed="right"` makes the window (t - w, t]. Over times, all events of the last
millisecond would be in it, those that come later too. Over keys that put time before arrival
(`Events.key`), and windows that begin between two milliseconds, they are not.
"""

import numpy as np
import polars as pl

from bench.peers.question import DISTINCT, DISTINCT_WINDOW, WINDOWS_MS, Events, keyed
from bench.peers.timed import Answers


def answer(events: Events) -> Answers:
    """Answer from a data frame."""
    answers = Answers.to(events)
    table = pl.DataFrame({
        "key": events.key,
        "customer": events.customer,
        "merchant": events.merchant,
        "amount": events.amount_minor,
    })  # fmt: skip
    with answers.timed():
        by_customer = table.sort("customer", "key")
        found = [
            by_customer.rolling(
                "key", period=f"{keyed(window_ms)}i", closed="right", group_by="customer"
            ).agg(_aggregates(window))
            for window, window_ms in WINDOWS_MS.items()
        ]
    order = np.lexsort((events.key, events.customer))
    for part in found:
        for name in part.columns[2:]:  # group by group, as the sorted table is
            answers.put(name, part[name].to_numpy(), order)
    return answers


def _aggregates(window: str) -> list[pl.Expr]:
    amount = pl.col("amount")
    aggregates = [
        amount.len().alias(f"count_{window}"),
        amount.sum().alias(f"sum_{window}"),
        amount.mean().alias(f"mean_{window}"),
        amount.std(ddof=0).alias(f"std_{window}"),
        amount.max().alias(f"max_{window}"),
    ]
    if window == DISTINCT_WINDOW:
        aggregates.append(pl.col("merchant").n_unique().alias(DISTINCT))
    return aggregates
