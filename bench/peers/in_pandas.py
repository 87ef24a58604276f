"""pandas: `groupby(…).rolling(…)` over a window of time, the whole table at once.

A window of pandas ends at its own row, so events of the same millisecond that come later are left
out, as they are online; `closed="right"` makes it (t - w, t].
"""

import pandas as pd

from bench.peers.question import DISTINCT, DISTINCT_WINDOW, WINDOWS_MS, Events
from bench.peers.timed import Answers


def answer(events: Events) -> Answers:
    """Answer from a data frame."""
    answers = Answers.to(events)
    table = pd.DataFrame({
        "time": pd.to_datetime(events.ts_ms, unit="ms"),
        "customer": events.customer,
        "merchant": events.merchant,
        "amount": events.amount_minor,
    })  # fmt: skip
    with answers.timed():
        by_customer = table.sort_values("customer", kind="stable")
        groups = by_customer.groupby("customer")
        found = {}
        for window, window_ms in WINDOWS_MS.items():
            rolling = groups.rolling(f"{window_ms}ms", on="time", closed="right")
            amounts = rolling["amount"]
            found[f"count_{window}"] = amounts.count()
            found[f"sum_{window}"] = amounts.sum()
            found[f"mean_{window}"] = amounts.mean()
            found[f"std_{window}"] = amounts.std(ddof=0)
            found[f"max_{window}"] = amounts.max()
            if window == DISTINCT_WINDOW:
                found[DISTINCT] = rolling["merchant"].nunique()
    for name, values in found.items():  # group by group, as the sorted table is
        answers.put(name, values, by_customer.index)
    return answers
