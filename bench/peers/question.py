"""What every peer is asked, about which events. Needs nothing but NumPy, for any peer's Python."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WINDOWS_MS = {
    "1h": HOUR_MS,
    "6h": 6 * HOUR_MS,
    "1d": DAY_MS,
    "7d": 7 * DAY_MS,
    "14d": 14 * DAY_MS,
    "30d": 30 * DAY_MS,
}
AGGREGATES = ("count", "sum", "mean", "std", "max")
DISTINCT_WINDOW = "1d"
DISTINCT = f"distinct_{DISTINCT_WINDOW}"
COLUMNS = (*(f"{name}_{window}" for window in WINDOWS_MS for name in AGGREGATES), DISTINCT)
COLUMN = {name: row for row, name in enumerate(COLUMNS)}

START_MS = 1_751_328_000_000  # 2025-07-01T00:00Z
SPAN_MS = 35 * DAY_MS
EVENTS_PER_CUSTOMER = 10
MERCHANT_COUNT = 5_000
ACTIVITY_SIGMA = 1.2  # of the logarithm: the busiest of 100,000 customers has some 900 events
FOLLOWER_SHARE = 0.30  # of the events come soon after another one of the same customer
FOLLOWER_MEAN_MS = 20 * 60_000
TIE_SHARE = 0.02  # come in the same millisecond as another one of the same customer
EDGE_SHARE = 0.01  # come exactly one window's length after, or before, another one
AMOUNT_MINOR_MAX = 10_000_000

# A time that is another one for each event, of those of one millisecond the later for the later
# arrival: for peers whose windows otherwise hold all events of their last millisecond. A window of
# `keyed(w)` up to a key begins within the gap between two milliseconds.
ARRIVALS_MAX = 1 << 24
KEYS_PER_MS = 2 * ARRIVALS_MAX

Values = NDArray[np.float64]  # (len(COLUMNS), events); NaN where a peer has no answer


@dataclass(frozen=True)
class Events:
    """Payments in the order of their arrival, which is that of their time; all int64[n]."""

    ts_ms: NDArray[np.int64]
    customer: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount_minor: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ts_ms)

    @property
    def key(self) -> NDArray[np.int64]:
        """Return times in ascending order without ties; at most ARRIVALS_MAX events have them."""
        return (self.ts_ms - START_MS) * KEYS_PER_MS + np.arange(len(self))

    def where(self, chosen: NDArray[np.bool_]) -> "Events":
        """Return the chosen events."""
        return Events(
            self.ts_ms[chosen],
            self.customer[chosen],
            self.merchant[chosen],
            self.amount_minor[chosen],
        )

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> "Events":
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def keyed(window_ms: int) -> int:
    """Return a window's length in units of `Events.key`."""
    return window_ms * KEYS_PER_MS - ARRIVALS_MAX


def make_events(event_count: int, seed: int) -> Events:
    """Return payments of `event_count / EVENTS_PER_CUSTOMER` customers within 35 days."""
    rng = np.random.default_rng(seed)
    follower_count = int(FOLLOWER_SHARE * event_count)
    tie_count, edge_count = int(TIE_SHARE * event_count), int(EDGE_SHARE * event_count)
    leader_count = event_count - follower_count - tie_count - edge_count
    activity = rng.lognormal(0.0, ACTIVITY_SIGMA, max(event_count // EVENTS_PER_CUSTOMER, 1))
    customer = rng.choice(len(activity), leader_count, p=activity / activity.sum())
    ts_ms = START_MS + rng.integers(SPAN_MS, size=leader_count)
    gaps_ms = [
        rng.exponential(FOLLOWER_MEAN_MS, follower_count).astype(np.int64),
        np.zeros(tie_count, dtype=np.int64),
        rng.choice(list(WINDOWS_MS.values()), edge_count),
    ]
    beside = rng.integers(leader_count, size=event_count - leader_count)
    customer = np.concatenate([customer, customer[beside]])
    ts_ms = np.concatenate([ts_ms, _beside(ts_ms[beside], np.concatenate(gaps_ms))])
    popularity = 1.0 / np.arange(1, MERCHANT_COUNT + 1) ** 0.8
    merchant = rng.choice(MERCHANT_COUNT, event_count, p=popularity / popularity.sum())
    amount_minor = np.exp(rng.normal(8.0, 1.0, event_count)).astype(np.int64)
    order = np.argsort(ts_ms, kind="stable")
    return Events(
        ts_ms[order],
        customer[order].astype(np.int64),
        merchant.astype(np.int64),
        np.clip(amount_minor, 1, AMOUNT_MINOR_MAX),
    )


def _beside(ts_ms: NDArray[np.int64], gap_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return times a gap after the given ones; before, where that is past the end; else equal."""
    is_after = ts_ms + gap_ms < START_MS + SPAN_MS
    is_before = ~is_after & (ts_ms - gap_ms >= START_MS)
    return ts_ms + np.where(is_after, gap_ms, np.where(is_before, -gap_ms, 0))


def tenth(events: Events) -> Events:
    """Return all events of one customer in ten: histories as long as those of the others."""
    return events.where(events.customer % 10 == 0)
