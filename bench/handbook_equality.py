"""Every window feature of the Fraud Detection Handbook, ours against the book's, bit by bit.

Ours come from a backfill over the raw transactions, the book's from pandas. Beside them stands a
third opinion: whole cents summed as integers, which no rounding can touch.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

DAY_S = 86_400
WINDOWS_DAYS = (1, 7, 30)
DRIFT_MAX = 1e-9  # EUR; another order of two payments moves a mean by more
ULP_STEPS = (0, 1, 2, 4, 16, 64, 256)
SAME = "bit-equal"
TIE = "tie"
BOOK_ROUNDS = "the book's sum drifted"
OURS_ROUNDS = "ours is one unit off"
BOTH_ROUND = "both are off"
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Truth(NamedTuple):
    """A customer window of every transaction, in whole numbers."""

    count: Ints
    cents: Ints


class Compared(NamedTuple):
    """One feature over the reference's rows.

    Of a customer's window the truth is known in whole numbers; `exact` is it, rounded once.
    """

    name: str
    column: str
    ours: Floats
    book: Floats
    reasons: NDArray[np.str_]
    exact: Floats | None
    truth: Truth


class Raw(NamedTuple):
    """The raw transactions, in the order of the file."""

    ids: Ints
    customers: Ints
    seconds: Ints
    cents: Ints


def read_raw(table: Any) -> Raw:
    """Take what the comparison needs of the book's table, in any order of columns."""
    seconds = table["TX_DATETIME"].cast(pa.timestamp("s")).cast(pa.int64()).to_numpy()
    return Raw(
        table["TRANSACTION_ID"].to_numpy(),
        table["CUSTOMER_ID"].to_numpy(),
        seconds,
        np.rint(table["TX_AMOUNT"].to_numpy() * 100).astype(np.int64),
    )


def exact_windows(raw: Raw, days: int, *, ties_reversed: bool = False) -> Truth:
    """Return count and sum over (t - days, t] of each payment and those before it in the file.

    `ties_reversed` takes payments of one customer and second in the opposite order.
    """
    arrival = np.arange(len(raw.ids))
    order = np.lexsort((-arrival if ties_reversed else arrival, raw.seconds, raw.customers))
    customers, seconds = raw.customers[order], raw.seconds[order]
    span = int(seconds.max()) + 1
    key = customers * span + seconds
    low = np.searchsorted(key, key - days * DAY_S, side="right")
    low = np.maximum(low, np.searchsorted(customers, customers, side="left"))
    high = np.arange(len(order)) + 1
    sums = np.concatenate([[0], np.cumsum(raw.cents[order])])
    truth = Truth(np.empty_like(order), np.empty_like(order))
    truth.count[order], truth.cents[order] = high - low, sums[high] - sums[low]
    return truth


def tied_count(raw: Raw, ids: Ints) -> int:
    """Return how many of `ids` share customer and second with another payment."""
    pairs = raw.customers * (int(raw.seconds.max()) + 1) + raw.seconds
    _, group, sizes = np.unique(pairs, return_inverse=True, return_counts=True)
    return int(np.isin(ids, raw.ids[sizes[group] > 1]).sum())


def ulps(a: Floats, b: Floats) -> Ints:
    """Return how many float64 lie from a to b; both at least 0."""
    return np.abs(a.view(np.int64) - b.view(np.int64))


def compare(features: Any, reference: Any, raw: Raw) -> list[Compared]:
    """Compare all features on the rows of the reference; the tables are joined by id."""
    wanted = reference["TRANSACTION_ID"].to_numpy()
    at = _places(features["event_id"].to_numpy().astype(np.int64), wanted)
    in_raw = _places(raw.ids, wanted)
    found = []
    for days in WINDOWS_DAYS:
        truth = _rows(exact_windows(raw, days), in_raw)
        turned = _rows(exact_windows(raw, days, ties_reversed=True), in_raw)
        for kind, column in (
            ("customer_count", f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"),
            ("customer_mean", f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"),
            ("terminal_count", f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"),
            ("terminal_risk", f"TERMINAL_ID_RISK_{days}DAY_WINDOW"),
        ):
            name = f"{kind}_{days}d"
            ours, book = features[name].to_numpy()[at], reference[column].to_numpy()
            exact = _rounded_once(kind, truth)
            reasons = _reasons(ours, book, exact, _rounded_once(kind, turned))
            found.append(Compared(name, column, ours, book, reasons, exact, truth))
    return sorted(found, key=lambda item: item.name.split("_")[:2])


def _rows(truth: Truth, rows: Ints) -> Truth:
    return Truth(truth.count[rows], truth.cents[rows])


def _rounded_once(kind: str, truth: Truth) -> Floats | None:
    """Return the truth as the nearest float64; None where only the book knows it."""
    if kind == "customer_count":
        return truth.count.astype(np.float64)
    # Both are whole and below 2**53: IEEE 754 rounds their quotient once.
    return truth.cents / (100 * truth.count) if kind == "customer_mean" else None


def wrong_sums(features: Any, raw: Raw) -> dict[str, int]:
    """Return for each column of sums in how many of all rows it is not the exact sum."""
    at = _places(raw.ids, features["event_id"].to_numpy().astype(np.int64))
    wrong = {}
    for days in WINDOWS_DAYS:
        name = f"customer_sum_{days}d"
        exact = exact_windows(raw, days).cents[at] / 100
        wrong[name] = int((features[name].to_numpy() != exact).sum())
    return wrong


def _places(ids: Ints, wanted: Ints) -> Ints:
    order = np.argsort(ids, kind="stable")
    places = order[np.minimum(np.searchsorted(ids[order], wanted), len(ids) - 1)]
    if not (ids[places] == wanted).all():
        raise SystemExit("expected every transaction of the reference in the features, got a gap")
    return places


def _reasons(
    ours: Floats, book: Floats, exact: Floats | None, turned: Floats | None
) -> NDArray[np.str_]:
    """Say for each row why the two differ, "" where nothing explains it.

    `turned` is the truth, were payments of one second taken in the opposite order.
    """
    same = ours.view(np.int64) == book.view(np.int64)
    if exact is None or turned is None:
        return np.where(same, SAME, "")
    rounded = np.where(book == exact, OURS_ROUNDS, np.where(ours == exact, BOOK_ROUNDS, BOTH_ROUND))
    close, close_to_turned = (np.abs(book - best) <= DRIFT_MAX for best in (exact, turned))
    return np.where(same, SAME, np.where(close, rounded, np.where(close_to_turned, TIE, "")))


def differing(compared: list[Compared], reference: Any) -> Any:
    """Return every value that differs as a table, with the reason."""
    ids = reference["TRANSACTION_ID"].to_numpy()
    tables = []
    for item in compared:
        rows = np.flatnonzero(item.reasons != SAME)
        exact = np.full(len(rows), np.nan) if item.exact is None else item.exact[rows]
        columns = {
            "transaction_id": ids[rows],
            "feature": pa.array([item.name] * len(rows), pa.string()),
            "ours": item.ours[rows],
            "book": item.book[rows],
            "exact": exact,
            "reason": pa.array(item.reasons[rows].tolist(), pa.string()),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)
