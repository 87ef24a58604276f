"""The peers of `bench/peers` that are installed answer as Millrace does, on a small part."""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.peers import in_millrace, in_pandas, in_redis, in_river
from bench.peers.__main__ import main, why_absent
from bench.peers.agreement import compare, last_of_tie
from bench.peers.page import main as print_page
from bench.peers.page import page
from bench.peers.question import (
    COLUMN,
    COLUMNS,
    WINDOWS_MS,
    Events,
    Values,
    keyed,
    make_events,
    tenth,
)
from bench.peers.registry import BY_KEY, FLINK, PEERS, REFERENCE
from bench.peers.timed import Answers

ROOT = Path(__file__).parent.parent
HOUR_MS = WINDOWS_MS["1h"]


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events(3_000, seed=7)


@pytest.fixture(scope="module")
def expected(events: Events) -> Values:
    return in_millrace.from_cells(events).values


def brute_force(events: Events, last: int) -> list[float]:
    """Answer for one event by looking at all before it."""
    found: list[float] = []
    merchants: set[int] = set()
    for window, window_ms in WINDOWS_MS.items():
        inside = [
            event
            for event in range(last + 1)
            if events.customer[event] == events.customer[last]
            and events.ts_ms[event] > events.ts_ms[last] - window_ms
        ]
        amounts = events.amount_minor[inside].tolist()
        found += [len(amounts), sum(amounts), statistics.fmean(amounts)]
        found += [statistics.pstdev(amounts), max(amounts)]
        if window == "1d":
            merchants = set(events.merchant[inside].tolist())
    return [*found, len(merchants)]


def check(events: Events, expected: Values, answers: Answers, key: str) -> None:
    peer = BY_KEY[key]
    found = compare(events, expected, answers.values, peer.columns, peer.holds_later_ties)
    assert found.compared_count == len(peer.columns) * len(events)
    assert found.unexplained_count == 0, found.example
    assert found.ties_count == 0
    assert answers.took_s > 0.0


def test_the_events_are_in_order_and_hold_the_hard_cases(events: Events) -> None:
    assert (np.diff(events.ts_ms) >= 0).all()
    rows = np.lexsort((np.arange(len(events)), events.ts_ms, events.customer))
    same = np.diff(events.customer[rows]) == 0
    gaps_ms = np.diff(events.ts_ms[rows])[same]
    assert (gaps_ms == 0).sum() > 20
    assert np.isin(gaps_ms, list(WINDOWS_MS.values())).sum() > 5
    assert 0 < len(tenth(events)) < len(events) / 4
    again = make_events(3_000, seed=7)
    assert all((getattr(again, name) == getattr(events, name)).all() for name in vars(events))


def test_millrace_answers_as_the_definition_does(events: Events, expected: Values) -> None:
    for event in range(0, len(events), 13):
        assert expected[:, event].tolist() == pytest.approx(brute_force(events, event), rel=1e-12)


def test_millrace_one_by_one_and_from_bytes(events: Events, expected: Values) -> None:
    assert (in_millrace.from_bytes(events).values == expected).all()
    assert (in_millrace.one_by_one(events).values == expected).all()


def test_river(events: Events, expected: Values) -> None:
    check(events, expected, in_river.answer(events), "river")


def test_pandas(events: Events, expected: Values) -> None:
    check(events, expected, in_pandas.answer(events), "pandas")


@pytest.mark.redis
def test_redis(events: Events, expected: Values) -> None:
    check(events, expected, in_redis.answer(events), "redis")


def test_polars(events: Events, expected: Values) -> None:
    pytest.importorskip("polars", reason="polars is not installed: make peers installs it")
    from bench.peers import in_polars

    check(events, expected, in_polars.answer(events), "polars")


def test_duckdb(events: Events, expected: Values) -> None:
    pytest.importorskip("duckdb", reason="duckdb is not installed: make peers installs it")
    from bench.peers import in_duckdb

    check(events, expected, in_duckdb.answer(events), "duckdb")


def few(*arrivals: tuple[int, int, int]) -> Events:
    """`arrivals`: (ms since the first, customer, amount)."""
    ts_ms, customer, amount = np.array(arrivals, dtype=np.int64).T
    return Events(1_751_328_000_000 + ts_ms, customer, np.zeros_like(ts_ms), amount)


def test_keys_put_time_before_arrival_and_windows_begin_between_milliseconds() -> None:
    # The last event's hour leaves out the first two, which are exactly one hour older, and holds
    # the third, which is one millisecond younger.
    key = few((0, 1, 1), (0, 1, 1), (1, 1, 1), (HOUR_MS, 1, 1)).key
    assert (np.diff(key) > 0).all()
    assert (key > key[-1] - keyed(HOUR_MS)).tolist() == [False, False, True, True]


def test_the_last_of_a_tie_is_of_the_same_customer() -> None:
    arrivals = few((0, 1, 1), (0, 2, 1), (0, 1, 1), (5, 1, 1))
    assert last_of_tie(arrivals).tolist() == [2, 1, 2, 3]


def columns_of(**values: list[float]) -> Values:
    found = np.full((len(COLUMNS), len(next(iter(values.values())))), math.nan)
    for name, column in values.items():
        found[COLUMN[name]] = column
    return found


def test_differences_are_told_apart() -> None:
    # Two payments of 3 and 5 in one millisecond: SQL's RANGE gives 2 and 8 to both.
    arrivals = few((0, 1, 3), (0, 1, 5))
    names = ("count_1h", "sum_1h")
    own = columns_of(count_1h=[1, 2], sum_1h=[3, 8])
    later = columns_of(count_1h=[2, 2], sum_1h=[8, 8])
    found = compare(arrivals, own, later, names, holds_later_ties=True)
    assert (found.compared_count, found.ties_count, found.unexplained_count) == (4, 2, 0)
    found = compare(arrivals, own, later, names, holds_later_ties=False)
    assert (found.ties_count, found.unexplained_count) == (0, 2)
    assert found.example == "count_1h of event 0: expected 1.0, got 2.0"
    absent = columns_of(count_1h=[1, math.nan], sum_1h=[3, 8])
    assert compare(arrivals, own, absent, names, holds_later_ties=False).unexplained_count == 1


def test_only_deviations_may_be_rounded_and_only_by_what_the_largest_square_explains() -> None:
    # The largest amount is 1,000,000: its square times 1e-12 is 1, so 0.9 may stand for 0, not 1.1.
    arrivals = few((0, 1, 1_000_000), (2 * HOUR_MS, 1, 5))
    own = columns_of(std_1h=[0, 0], mean_1h=[0, 0])
    drifted = columns_of(std_1h=[0, 0.9], mean_1h=[0, 0.9])
    found = compare(arrivals, own, drifted, ("std_1h", "mean_1h"), holds_later_ties=False)
    assert (found.rounding_count, found.rounding_max, found.unexplained_count) == (1, 0.9, 1)
    wrong = columns_of(std_1h=[0, 1.1])
    found = compare(arrivals, own, wrong, ("std_1h",), holds_later_ties=False)
    assert (found.rounding_count, found.unexplained_count) == (0, 1)


def row(key: str, used_cpu_s: list[float], **agreement: Any) -> dict[str, Any]:
    facts = {"key": key, "event_count": 1_000, "version": "1.2.3", "took_s": [0.5, 0.25]}
    return {**facts, "used_cpu_s": used_cpu_s, **({"agreement": agreement} if agreement else {})}


def results() -> dict[str, Any]:
    counts = {"compared_count": 31_000, "ties_count": 20, "unexplained_count": 0}
    return {
        "machine_info": {
            "cpu": {"model": "Abacus 9", "count": 2},
            "system": "Linux",
            "machine": "x86_64",
            "python_implementation": "CPython",
            "python_version": "3.11.4",
            "packages": {"numba": "0.68.1"},
        },
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": "2025-07-01T12:00:00+00:00",
        "event_count": 10_000,
        "customer_count": 987,
        "seed": 1,
        "peers": [
            row(REFERENCE, [0.002, 0.001]),
            row("redis", [0.1], **counts, rounding_count=5, rounding_max=0.25),
        ],
        "skipped": [{"title": "Some peer", "reason": "it is not there"}],
    }


def test_the_page_gives_times_per_event_of_the_best_run_and_what_was_compared() -> None:
    text = page(results())
    # 1 ms for 1,000 events is 1 µs each; 0.1 s is 100 times as much; 0.25 s passed: 250 µs each.
    assert "| 1,000 | 1.00 | 250 | 1,000,000 | 1.00 × |\n" in text
    assert "| 1,000 | 100 | 250 | 10,000 | 100 × |\n" in text
    assert "| 31,000 | 30,975 | 20 | 5 | 0.250 | 0 |\n" in text
    assert "10,000 payments of 987 customers within 35 days" in text
    assert "## Not run\n\n- Some peer: it is not there.\n" in text
    assert all(f"**{name}**: " in text for name in ("Millrace", "Flink SQL", "Polars", "DuckDB"))


def test_the_committed_page_is_that_of_the_committed_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = ROOT / "bench" / "results" / "peers.json"
    assert print_page([str(file)]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert {row["key"] for row in found["peers"]} <= set(BY_KEY)
    compared = [row["agreement"] for row in found["peers"] if row["key"] != REFERENCE]
    assert compared
    assert not any(agreement["unexplained_count"] for agreement in compared)


def test_an_absent_peer_says_what_it_needs() -> None:
    assert "--flink-python" in why_absent(BY_KEY[FLINK], None)
    absent = replace(BY_KEY["river"], package="no-such-package")
    assert "no-such-package is not installed" in why_absent(absent, None)
    assert why_absent(BY_KEY["river"], None) == ""
    assert len(BY_KEY) == len(PEERS)


def test_the_command_asks_in_processes_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "peers.json"
    options = ["--events", "2000", "--only", "pandas", FLINK, "--out", str(file)]
    assert main(options) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    assert [row["key"] for row in found["peers"]] == [REFERENCE, "pandas"]
    assert found["peers"][1]["agreement"]["compared_count"] == 31 * 2_000
    assert all(min(row["took_s"]) > 0.0 for row in found["peers"])
    assert "NOT RUN: Flink SQL" in capsys.readouterr().err
