"""Compares a peer's answers with Millrace's, and tells why they differ where they do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.peers.question import COLUMN, Events, Values

EQUAL_RATIO = 1e-9  # values this close, relative to the larger of them and 1, are equal
# A running sum of squares in floating point keeps an error of the largest square it ever held.
ROUNDING_RATIO = 1e-12


@dataclass(frozen=True)
class Agreement:
    """How many values were compared, and how many of them differ for which reason."""

    compared_count: int
    ties_count: int  # differ from Millrace's: the peer's windows hold later events of the same time
    rounding_count: int
    rounding_max: float  # largest difference by rounding
    unexplained_count: int
    example: str = ""  # the first unexplained difference


def compare(
    events: Events,
    expected: Values,
    got: Values,
    columns: tuple[str, ...],
    holds_later_ties: bool,
) -> Agreement:
    """Compare the values of these columns.

    A peer whose windows hold later events of the same millisecond must answer what Millrace says
    at the last of them. A standard deviation may be off by rounding where it comes from a running
    sum of squares: its square, by ROUNDING_RATIO of the largest square of that customer.
    """
    target = last_of_tie(events) if holds_later_ties else np.arange(len(events))
    square_max = _largest(events) ** 2
    ties_count = rounding_count = unexplained_count = 0
    rounding_max, example = 0.0, ""
    for column in columns:
        own, answer = expected[COLUMN[column]], got[COLUMN[column]]
        wanted = own[target]
        differs = ~_equal(answer, wanted)
        if column.startswith("std_"):
            drift = differs & (np.abs(answer**2 - wanted**2) <= ROUNDING_RATIO * square_max)
            rounding_count += int(drift.sum())
            rounding_max = max(rounding_max, *np.abs(answer - wanted)[drift], 0.0)
            differs &= ~drift
        ties_count += int((~differs & ~_equal(wanted, own)).sum())
        unexplained_count += int(differs.sum())
        if differs.any() and not example:
            row = int(np.flatnonzero(differs)[0])
            example = f"{column} of event {row}: expected {wanted[row]}, got {answer[row]}"
    return Agreement(
        len(columns) * len(events),
        ties_count,
        rounding_count,
        float(rounding_max),
        unexplained_count,
        example,
    )


def last_of_tie(events: Events) -> NDArray[np.int64]:
    """Return for each event the last one of the same customer and millisecond: int64[n]."""
    order = np.lexsort((np.arange(len(events)), events.ts_ms, events.customer))
    customer, ts_ms = events.customer[order], events.ts_ms[order]
    ends = np.append((customer[1:] != customer[:-1]) | (ts_ms[1:] != ts_ms[:-1]), True)
    last = np.flatnonzero(ends)
    found = np.empty(len(events), dtype=np.int64)
    found[order] = order[last[np.searchsorted(last, np.arange(len(events)))]]
    return found


def _equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where values agree; nothing agrees with an absent value."""
    return np.abs(a - b) <= EQUAL_RATIO * np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))


def _largest(events: Events) -> NDArray[np.float64]:
    """Return for each event the largest amount of its customer: float64[n]."""
    largest = np.zeros(int(events.customer.max()) + 1)
    np.maximum.at(largest, events.customer, events.amount_minor)
    return largest[events.customer]
