"""The Handbook's window features against ours: counts and shares bit by bit, means within one ulp.

Eleven days of the reference with the forty days before them; `make handbook` compares all of it
and writes docs/handbook_equality.md.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bench.handbook_equality import (
    BOOK_ROUNDS,
    BOTH_ROUND,
    OURS_ROUNDS,
    SAME,
    TIE,
    Compared,
    Raw,
    compare,
    differing,
    exact_windows,
    read_raw,
    tied_count,
    ulps,
    wrong_sums,
)
from bench.handbook_page import backfilled, render

FIRST = np.datetime64(
    "2018-05-22", "ns"
)  # 40 days before the reference: 30 days and 7 days of delay
LAST = np.datetime64("2018-07-12", "ns")
REFERENCE_FILE = "features_reference_2018-07_08.parquet"


class Run:
    """The compared features of the days of this test."""

    def __init__(self, folder: Path, place: Path) -> None:
        table = pq.read_table(folder / "transactions.parquet")
        times = table["TX_DATETIME"]
        kept = pc.and_(pc.greater_equal(times, pa.scalar(FIRST)), pc.less(times, pa.scalar(LAST)))
        table = table.filter(kept)
        source = place / "transactions.parquet"
        pq.write_table(table, source)
        reference = pq.read_table(folder / REFERENCE_FILE)
        known = pc.is_in(reference["TRANSACTION_ID"], table["TRANSACTION_ID"].combine_chunks())
        self.reference = reference.filter(known)
        self.raw = read_raw(table)
        self.features = backfilled(source)
        self.compared = compare(self.features, self.reference, self.raw)

    def of(self, kind: str) -> list[Compared]:
        return [item for item in self.compared if f"_{kind}_" in item.name]


@pytest.fixture(scope="module")
def run(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(data_dir / "handbook", tmp_path_factory.mktemp("handbook"))


@pytest.mark.data("handbook")
def test_counts_and_shares_are_bit_equal(run: Run) -> None:
    assert len(run.reference) > 100_000
    exact = [*run.of("count"), *run.of("risk")]
    assert len(exact) == 9
    ties_max = tied_count(run.raw, run.reference["TRANSACTION_ID"].to_numpy())
    for item in exact:
        assert set(item.reasons) <= {SAME, TIE}, item.name
        assert (item.reasons == TIE).sum() <= ties_max
        if item.name.startswith("terminal"):
            assert (item.reasons == SAME).all()
        assert len(np.unique(item.ours)) > 3  # not empty windows all along


@pytest.mark.data("handbook")
def test_sums_are_exact_and_means_within_one_ulp_of_the_exact_one(run: Run) -> None:
    assert not any(wrong_sums(run.features, run.raw).values())
    assert len(run.of("mean")) == 3
    for item in run.of("mean"):
        assert item.exact is not None
        assert ulps(item.ours, item.exact).max() <= 1
        assert "" not in item.reasons  # the book's own differences are all explained
        ours_off, book_off = ((v != item.exact).mean() for v in (item.ours, item.book))
        assert ours_off < book_off


@pytest.mark.data("handbook")
def test_every_difference_is_in_the_table_and_on_the_page(run: Run) -> None:
    table = differing(run.compared, run.reference)
    assert len(table) == sum(int((item.reasons != SAME).sum()) for item in run.compared)
    ids = run.reference["TRANSACTION_ID"].to_numpy()
    page = render(run.compared, wrong_sums(run.features, run.raw), ids, len(run.features), 0)
    assert f"{len(ids):,} transactions" in page
    for item in run.compared:
        assert f"| `{item.name}` | {item.column} | " in page


def small() -> Raw:
    """Customer 1 pays 1.00, 2.00 and 4.00, the last two in one second; customer 2 pays 8.00."""
    return Raw(
        ids=np.array([10, 11, 12, 13]),
        customers=np.array([1, 1, 1, 2]),
        seconds=np.array([0, 86_400, 86_400, 86_400]),
        cents=np.array([100, 200, 400, 800]),
    )


def test_the_truth_by_hand() -> None:
    day = exact_windows(small(), 1)
    assert day.count.tolist() == [1, 1, 2, 1]  # (t - 1d, t]: a payment of a day ago is out
    assert day.cents.tolist() == [100, 200, 600, 800]
    week = exact_windows(small(), 7)
    assert week.count.tolist() == [1, 2, 3, 1]
    turned = exact_windows(small(), 1, ties_reversed=True)
    assert turned.count.tolist() == [1, 2, 1, 1]
    assert turned.cents.tolist() == [100, 600, 400, 800]
    assert tied_count(small(), small().ids) == 2


def features_of(means: list[float]) -> tuple[Any, Any]:
    """Return tables in which the customers' means over a day are the given ones of the book."""
    raw = small()
    features: dict[str, Any] = {"event_id": raw.ids.astype(str)}
    book: dict[str, Any] = {"TRANSACTION_ID": raw.ids}
    for days in (1, 7, 30):
        truth = exact_windows(raw, days)
        features[f"customer_count_{days}d"] = truth.count.astype(np.float64)
        features[f"customer_mean_{days}d"] = truth.cents / truth.count / 100
        book[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = features[f"customer_count_{days}d"]
        book[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = features[f"customer_mean_{days}d"]
        for kind in ("NB_TX", "RISK"):
            book[f"TERMINAL_ID_{kind}_{days}DAY_WINDOW"] = np.zeros(4)
        features[f"terminal_count_{days}d"] = features[f"terminal_risk_{days}d"] = np.zeros(4)
    book["CUSTOMER_ID_AVG_AMOUNT_1DAY_WINDOW"] = np.array(means)
    return pa.table(features), pa.table(book)


def test_each_difference_has_its_reason() -> None:
    """The exact means are 1, 2, 3 and 8; with the tie turned around 1, 3, 4 and 8."""
    features, book = features_of([1.0 + 2**-50, 3.0, 3.5, 8.0])
    compared = {item.name: item for item in compare(features, book, small())}
    assert compared["customer_mean_1d"].reasons.tolist() == [BOOK_ROUNDS, TIE, "", SAME]
    assert set(compared["customer_mean_7d"].reasons) == {SAME}
    ours = features["customer_mean_1d"].to_numpy().copy()
    ours[[0, 3]] = 1.0 + 2**-52, 8.0 + 2**-49
    features = features.set_column(
        features.column_names.index("customer_mean_1d"), "customer_mean_1d", pa.array(ours)
    )
    compared = {item.name: item for item in compare(features, book, small())}
    assert compared["customer_mean_1d"].reasons.tolist() == [BOTH_ROUND, TIE, "", OURS_ROUNDS]
