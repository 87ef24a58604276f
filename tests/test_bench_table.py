"""The benchmarks' table says what its numbers say, and every benchmark can be run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.table import Row, TableError, digits, main, rows, table

ROOT = Path(__file__).parent.parent


def benchmark(
    what: str, events: int, median: float, baseline: str | None = None, group: str = "store"
) -> dict[str, Any]:
    return {
        "group": group,
        "stats": {"median": median, "iqr": median / 4, "rounds": 1_200},
        "extra_info": {
            "what": what,
            "events": events,
            "baseline": baseline,
            "about": f"About {group}.\n",
        },
    }


def results(*benchmarks: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine_info": {
            "cpu": {"model": "Abacus 9", "count": 2},
            "system": "Linux",
            "machine": "x86_64",
            "python_implementation": "CPython",
            "python_version": "3.11.4",
            "packages": {"numba": "0.68.1", "river": "0.26.1"},
        },
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "datetime": "2025-07-01T12:00:00+00:00",
        "benchmarks": list(benchmarks),
    }


def test_times_are_per_event_and_ratios_of_times_per_event() -> None:
    # 1 ms for 500 events is 2 µs each, so 500,000 a second. 30 µs for one is 15 times as dear.
    plain, ours = rows([benchmark("plain", 500, 0.001), benchmark("ours", 1, 30e-6, "plain")])
    assert plain == Row("plain", 2.0, 500_000.0, None, None, 25.0, 1_200)
    assert ours.median_us == pytest.approx(30.0)
    assert ours.events_per_s == pytest.approx(100_000 / 3)
    assert ours.ratio == pytest.approx(15.0)


def test_the_page_holds_every_row_and_the_machine() -> None:
    page = table(
        results(
            benchmark("plain", 500, 0.001),
            benchmark("ours", 1, 30e-6, "plain"),
            benchmark("decoder", 1_000, 0.0005, group="decode"),
        )
    )
    assert "| plain | 2.00 | 500,000 |  | 25 % | 1,200 |\n" in page
    assert "| ours | 30.0 | 33,300 | 15.0 × plain | 25 % | 1,200 |\n" in page
    assert "| decoder | 0.500 | 2,000,000 |  | 25 % | 1,200 |\n" in page
    assert page.index("## Decode\n\nAbout decode.\n") < page.index("## Store\n\nAbout store.\n")
    assert "- CPU: Abacus 9, 2 cores\n" in page
    assert "- Python: CPython 3.11.4\n" in page
    assert "- Packages: numba 0.68.1, river 0.26.1\n" in page
    assert "- Commit: 0123456789ab + changes\n" in page
    assert "python -m bench.table bench/results/latest.json > docs/benchmarks.md" in page


def test_a_baseline_of_another_group_is_refused() -> None:
    strays = (benchmark("plain", 1, 1.0), benchmark("ours", 1, 1.0, "plain", group="decode"))
    with pytest.raises(TableError, match="baseline of `ours`: expected one of ours, got `plain`"):
        table(results(*strays))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_234_567.0, "1,230,000"),
        (999.6, "1,000"),
        (123.4, "123"),
        (99.96, "100.0"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.5, "0.500"),
        (0.01234, "0.0123"),
    ],
)
def test_three_digits_count(value: float, text: str) -> None:
    assert digits(value) == text


def test_the_command_prints_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = results(benchmark("plain", 500, 0.001))
    file = tmp_path / "latest.json"
    file.write_text(json.dumps(found), encoding="utf-8")
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == table(found)
    assert main([str(tmp_path / "absent.json")]) == 2
    assert "absent.json" in capsys.readouterr().err
    assert main([]) == 2


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    results_text = (ROOT / "bench" / "results" / "latest.json").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == table(json.loads(results_text))


@pytest.mark.redis
def test_every_benchmark_runs() -> None:
    modules = sorted((ROOT / "bench").glob("bench_*.py"))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "bench"]
    done = subprocess.run(
        [*command, "--benchmark-disable", "-q", "-rA"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    for module in modules:
        assert f"PASSED bench/{module.name}::" in done.stdout
