"""The curves of `bench/curves.py`: what their traffic fills windows with, and their page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import curves, curves_page
from bench.peers.question import DAY_MS
from bench.six_windows import PaymentTraffic, compile_texts, texts
from features.histories import FeatureEngine

ROOT = Path(__file__).parent.parent
RESULTS: dict[str, Any] = {
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
    "chunk_count": 15,
    "chunk_event_count": 10_240,
    "paced_entity_count": 200,
    "entities": [
        {"entity_count": 1_000, "best_us": 0.5, "median_us": 0.625},
        {"entity_count": 1_000_000, "best_us": 2.0, "median_us": 2.5},
    ],
    "lengths": [
        {
            "length": "1d",
            "length_ms": DAY_MS,
            "events_per_window_count": 40,
            "best_us": 0.8,
            "median_us": 1.0,
        },
        {
            "length": "90d",
            "length_ms": 90 * DAY_MS,
            "events_per_window_count": 3_600,
            "best_us": 1.0,
            "median_us": 1.25,
        },
    ],
}


def test_windows_hold_as_many_events_as_the_traffic_says() -> None:
    # 50 customers with 40 events each in a day; an event sees itself and, on average, 40 others:
    # the spread of the mean of 512 such counts, of 50 customers, is about one.
    plan, slots = compile_texts(texts([DAY_MS], DAY_MS), DAY_MS)
    traffic = PaymentTraffic(50, 40, DAY_MS)
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    engine.update(*traffic.rows(4_000))
    counts = engine.update(*traffic.rows(512)).values[slots[0]]
    assert 36.0 < np.mean(counts) < 46.0


def test_the_page_holds_every_point() -> None:
    page = curves_page.page(RESULTS)
    # 0.5 us an event are two million a second.
    assert "| 1,000 | 0.500 | 0.625 | 2,000,000 |\n" in page
    assert "| 1,000,000 | 2.00 | 2.50 | 500,000 |\n" in page
    assert "| 90d | 3,600 | 1.00 | 1.25 | 1,000,000 |\n" in page
    assert "chunks of 10,240 events" in page
    assert "200 entities with one event each 36 minutes" in page
    assert "- CPU: Abacus 9, 2 cores\n" in page


def test_the_same_results_are_the_same_picture() -> None:
    picture = curves_page.picture(RESULTS)
    assert picture == curves_page.picture(RESULTS)
    assert picture.startswith("<svg")
    assert all(f">{text}<" in picture for text in ("90d", "entities", "best", "median"))


def test_the_command_writes_page_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "curves.json"
    file.write_text(json.dumps(RESULTS), encoding="utf-8")
    assert curves_page.main([str(file), str(tmp_path)]) == 0
    assert (tmp_path / "curves.md").read_text(encoding="utf-8") == curves_page.page(RESULTS)
    assert (tmp_path / "curves.svg").read_text(encoding="utf-8") == curves_page.picture(RESULTS)
    assert curves_page.main([str(tmp_path / "absent.json"), str(tmp_path)]) == 2
    assert "absent.json" in capsys.readouterr().err
    assert curves_page.main([]) == 2


def test_the_curves_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "curves.json"
    assert curves.main(["--smoke", "--out", str(file)]) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    assert [point["entity_count"] for point in found["entities"]] == [1_000, 3_000]
    assert [point["events_per_window_count"] for point in found["lengths"]] == [1, 1, 1, 10, 40]
    points = [*found["entities"], *found["lengths"]]
    assert all(0.0 < point["best_us"] <= point["median_us"] for point in points)
    assert curves_page.page(found)


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    found = json.loads((ROOT / "bench" / "results" / "curves.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "curves.md").read_text(encoding="utf-8")
    assert page == curves_page.page(found)
    picture = (ROOT / "docs" / "curves.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg")
