"""The summary's keys, the evaluation by the Handbook's protocol, and the report."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from replay.evaluation_log import Evaluated
from replay.plots import roc_curve
from replay.report import ReportInput, render_report, write_report
from replay.summary import (
    DAY_MS,
    EvaluationWindow,
    Metrics,
    RunCounts,
    build_summary,
    evaluate,
    evaluated_rows,
    write_summary,
)

COUNTS = RunCounts(records_in=10, decided=8, dead_lettered=2, alerts=3, offers=1, tasks=0)


def made_log(rows: list[tuple[int, int, float, int, int]]) -> Evaluated:
    """Rows of (ts_ms, card, score, truth, known_ms)."""
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [np.empty(0)] * 5
    ts_ms, card, score, truth, known_ms = columns
    return Evaluated(
        ts_ms.astype(np.int64),
        card.astype(np.int64),
        score.astype(np.float64),
        np.full(len(rows), 1_234, dtype=np.float32),
        truth.astype(np.int8),
        score > 0.5,
        known_ms.astype(np.int64),
    )


def summary_of(**changes: Any) -> dict[str, Any]:
    given_values: dict[str, Any] = {
        "wall_s": 2.0,
        "latency_ns": None,
        "metrics": None,
        "off_policy": None,
        "decisions_sha256": "ab" * 32,
        "versions": {"policy": "p1", "models": {"m": 1}},
    }
    return build_summary(COUNTS, **{**given_values, **changes})


def test_the_keys_are_the_contract() -> None:
    summary = summary_of()
    assert list(summary) == [
        "records", "alerts", "offers", "tasks", "wall_s", "throughput_per_s", "memory_peak_mib",
        "latency_us", "metrics", "off_policy", "decisions_sha256", "versions", "models",
    ]  # fmt: skip
    assert summary["records"] == {"in": 10, "decided": 8, "dead_lettered": 2}
    assert summary["latency_us"] == {"p50": None, "p99": None, "p999": None}
    empty = {"auc": None, "average_precision": None, "card_precision_at_100": None}
    assert summary["metrics"] == empty
    assert summary["throughput_per_s"] == 5.0 and summary["off_policy"] is None
    assert summary["memory_peak_mib"] > 10


def test_latency_is_in_microseconds() -> None:
    histogram = HdrHistogram(1, 10**10, 3)
    assert summary_of(latency_ns=histogram)["latency_us"]["p50"] is None
    for latency_us in range(1, 1_001):
        histogram.record_value(latency_us * 1_000)
    found = summary_of(latency_ns=histogram)["latency_us"]
    wanted = {"p50": 500, "p99": 990, "p999": 999}
    assert found == {name: pytest.approx(value, rel=2e-3) for name, value in wanted.items()}


def test_the_summary_is_json(tmp_path: Path) -> None:
    summary = summary_of(off_policy={"value": 0.5})
    assert json.loads(write_summary(tmp_path, summary).read_text()) == summary


def oracle_rows(log: Evaluated, window: EvaluationWindow) -> list[bool]:
    """The protocol, row by row: which cards are known when the row's day begins."""
    kept = []
    for ts_ms, card, truth in zip(log.ts_ms, log.card, log.truth, strict=True):
        day_start_ms = ts_ms // DAY_MS * DAY_MS
        known_cards = {
            other
            for other, fraud_ms, other_truth, known_ms in zip(
                log.card, log.ts_ms, log.truth, log.known_ms, strict=True
            )
            if other_truth == 1 and 0 <= known_ms < day_start_ms
            and (window.known_from_ms is None or fraud_ms >= window.known_from_ms)
        }  # fmt: skip
        inside = (window.from_ms is None or ts_ms >= window.from_ms) and (
            window.to_ms is None or ts_ms < window.to_ms
        )
        is_known = window.remove_known_cards and card in known_cards
        kept.append(bool(truth != -1 and inside and not is_known))
    return kept


hours = st.integers(0, 24 * 12)
log_rows = st.tuples(
    hours, st.integers(1, 6), st.floats(0, 1), st.sampled_from([-1, 0, 0, 1]), st.booleans()
)


@given(
    st.lists(log_rows, max_size=40),
    st.none() | hours,
    st.none() | hours,
    st.booleans(),
    st.none() | hours,
)
def test_known_cards_are_left_out_as_in_the_oracle(
    rows: list[tuple[int, int, float, int, bool]],
    from_h: int | None,
    to_h: int | None,
    remove: bool,
    known_from_h: int | None,
) -> None:
    hour_ms = 3_600_000
    log = made_log([
        (hour * hour_ms, card, score, truth, (hour + 72) * hour_ms if truth == 1 and told else -1)
        for hour, card, score, truth, told in rows
    ])  # fmt: skip
    bounds = [None if h is None else h * hour_ms for h in (from_h, to_h, known_from_h)]
    window = EvaluationWindow(bounds[0], bounds[1], remove, bounds[2])
    assert evaluated_rows(log, window).tolist() == oracle_rows(log, window)


def test_metrics_of_a_small_day_by_hand() -> None:
    # Ranked: fraud, legitimate, fraud, no score. Pairs won: (1, .8) (1, nothing) (.5, nothing) of
    # 4; precision at the frauds: 1/1 and 2/3; two compromised cards among the first hundred.
    log = made_log([(5, 1, 1.0, 1, -1), (6, 2, 0.8, 0, -1), (7, 3, 0.5, 1, -1),
                    (8, 4, float("nan"), 0, -1), (9, 5, 0.9, -1, -1)])  # fmt: skip
    assert evaluate(log, EvaluationWindow()) == Metrics(3 / 4, (1 + 2 / 3) / 2, 0.02)


def test_without_labels_there_are_no_metrics() -> None:
    nothing = Metrics(None, None, None)
    assert evaluate(made_log([(1, 1, 0.5, -1, -1)]), EvaluationWindow()) == nothing
    assert evaluate(made_log([(1, 1, 0.5, 0, -1)]), EvaluationWindow()) == nothing
    assert evaluate(made_log([(1, 1, float("nan"), 1, -1)]), EvaluationWindow()) == nothing
    assert evaluate(made_log([]), EvaluationWindow()) == nothing


@pytest.mark.data("handbook")
def test_the_test_week_is_that_of_the_book(data_dir: Path) -> None:
    folder = data_dir / "handbook"
    split = json.loads((folder / "published_results.json").read_text())["single_split"]
    columns = ["TX_DATETIME", "CUSTOMER_ID", "TX_FRAUD"]
    table = pq.read_table(folder / "transactions.parquet", columns=columns)
    ts_ms = table["TX_DATETIME"].to_numpy().astype("datetime64[ms]").astype(np.int64)
    truth = table["TX_FRAUD"].to_numpy().astype(np.int8)
    known_ms = np.where(truth == 1, ts_ms + 7 * DAY_MS, -1)
    count = len(ts_ms)
    log = Evaluated(
        ts_ms, table["CUSTOMER_ID"].to_numpy(), np.zeros(count), np.zeros(count, np.float32),
        truth, np.zeros(count, np.bool_), known_ms,
    )  # fmt: skip

    def day_ms(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)

    first, last = split["test"].split("..")
    training = day_ms(split["train"].split("..")[0])
    window = EvaluationWindow(day_ms(first), day_ms(last) + DAY_MS, known_from_ms=training)
    rows = evaluated_rows(log, window)
    assert (rows.sum(), truth[rows].sum()) == (split["test_rows"], split["test_frauds"])


class Checker(HTMLParser):
    """Collects what a page would load, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def report_input(log: Evaluated, histogram: Any = None, **changes: Any) -> ReportInput:
    window = EvaluationWindow()
    summary = summary_of(metrics=evaluate(log, window), latency_ns=histogram)
    return ReportInput("Replay of <x>", summary, log, window, latency_ns=histogram, **changes)


def test_a_report_shows_everything_and_loads_nothing(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    truth = random.integers(0, 2, 500)
    log = made_log([
        (int(place) * 3_600_000, int(place) % 50, float(score + mark) / 2, int(mark), -1)
        for place, (score, mark) in enumerate(zip(random.random(500), truth, strict=True))
    ])  # fmt: skip
    histogram = HdrHistogram(1, 10**10, 3)
    histogram.record_value(5_000)
    tallies = {"offers": {("savings", "sms"): 4}, "dead-letters": {("$.a<b",): 2}}
    given_input = report_input(log, histogram, tallies=tallies, currency="EUR")
    page = Checker()
    html = write_report(tmp_path, given_input).read_text()
    page.feed(html)
    assert page.loads == [] and "script" not in page.tags and "url(http" not in html
    assert page.tags.count("svg") == 6
    for wanted in ("Replay of <x>", "savings", "$.a<b", "ab" * 32, "AUC ", "5.0 µs", "EUR"):
        assert wanted in page.text
    assert roc_curve(log.truth == 1, log.score, None) == roc_curve(log.truth == 1, log.score, None)


def test_a_report_without_anything_says_so() -> None:
    page = Checker()
    page.feed(render_report(report_input(made_log([]))))
    assert page.tags.count("svg") == 0
    for wanted in ("No transaction was decided", "No labelled frauds", "No outcomes were given"):
        assert wanted in page.text
    unlabelled = Checker()
    unlabelled.feed(render_report(report_input(made_log([(T, 1, 0.2, -1, -1) for T in range(9)]))))
    assert unlabelled.tags.count("svg") == 2  # over time, and scores
    assert re.search(r"No labelled transactions of both kinds", unlabelled.text)
