"""The streaming benchmarks: what is asked, equal answers of worker and stock agent, the page."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from bench.streaming import __main__ as streaming
from bench.streaming import latency
from bench.streaming.__main__ import QUICK
from bench.streaming.draining import compare
from bench.streaming.page import main as print_page
from bench.streaming.page import page
from bench.streaming.question import POLICY, payments
from bench.streaming.receiver import Arrivals
from bench.streaming.scene import BenchError, Scene
from streams.private_kafka import PrivateKafka
from streams.private_redis import PrivateRedis

ROOT = Path(__file__).parent.parent
PATIENCE_S = 300.0  # on a machine that has much else to do


@pytest.fixture
def scene(compiled: None, kafka: PrivateKafka) -> Iterator[Scene]:
    with (
        PrivateRedis() as server,
        Scene(kafka, server, 2, time.monotonic() + PATIENCE_S) as opened,
    ):
        yield opened


def test_payments_are_the_same_bytes_again_in_the_order_of_time() -> None:
    made = payments(2_000, 100, first=10)
    assert payments(2_000, 100, first=10) == made
    records = [orjson.loads(value) for value in made.values]
    assert [record["event_id"] for record in records] == [f"TX{10 + i:010d}" for i in range(2_000)]
    assert [record["customer_id"] for record in records] == made.keys
    assert [record["ts_ms"] for record in records] == made.times_ms
    assert (np.diff(made.times_ms) >= 0).all()
    # Four of five times within ten minutes, a card is tested by four small payments.
    small = [record["card_id"] for record in records if record["amount_minor"] == 150]
    assert small
    assert all(small.count(card) >= 2 for card in small)
    in_turn = payments(1_000, 100, in_turn=True)
    assert len(set(in_turn.keys)) == 100


def test_worker_and_stock_agent_raise_the_same_alerts(scene: Scene) -> None:
    found = QUICK["drain"](scene)
    exact = found["agreement"]
    assert exact["different_count"] == exact["shared_count"] == 0, exact["example"]
    assert exact["compared_count"] == 1_500
    assert set(exact["rule_counts"]) == {"busy_terminal", "card_testing", "unusual_amount"}
    assert found["agreement_of_all"]["different_count"] == 0
    for name in ("worker", "floor", "stock"):
        row = found[name]
        assert row["event_count"] > 0
        assert row["wall_s"] > 0.0
        assert set(row["cpu_s"]) == {"own", "kafka", "redis"}
        assert row["cpu_s"]["own"] > 0.0 or name == "worker"  # counted in hundredths of a second
    assert found["worker"]["bytes_per_event"] > 100
    # The floor read everything: the sum of all amounts is that of what was sent.
    amounts = [orjson.loads(v)["amount_minor"] for v in payments(40_000, 20_000).values]
    assert found["floor"]["total_minor"] == sum(amounts)


def test_every_payment_of_an_open_loop_is_echoed_and_decided(scene: Scene) -> None:
    settings = scene.bank("latency", decisions=True)
    row = latency.beside(scene, settings, POLICY, latency.Load(300, 2.0, 0.5), 1_000)
    # Two seconds at 300 a second, of which the first half second is not counted.
    for seen in (row["echo"], row["decisions"]):
        assert (seen["count"], seen["missing_count"]) == (450, 0)
        assert 0 < seen["p50_us"] <= seen["p99_us"] <= seen["p100_us"]
    assert row["alerts"]["count"] < 450
    assert row["event_count"] == 600


def test_lateness_counts_from_when_a_payment_was_due_and_a_repeat_not_at_all() -> None:
    # Payments 5 to 8, due at 1 s and every 10 ms behind; 5 is skipped, 8 never comes.
    arrivals = Arrivals(first=5, skip=1, count=4, rate=100)
    arrivals.start_ns = 1_000_000_000
    for number, ms in ((5, 1_000), (6, 1_012), (6, 1_900), (7, 1_120), (4, 1_000), (9, 1_000)):
        arrivals.take(b'{"event_id": "TX%d"}' % number, ms * 1_000_000)
    facts = arrivals.facts("all")
    assert (facts["count"], facts["missing_count"]) == (2, 1)
    assert facts["p50_us"] == pytest.approx(2_000, rel=2e-3)
    assert facts["p100_us"] == pytest.approx(100_000, rel=2e-3)
    assert arrivals.facts("some")["missing_count"] == 0


def test_alerts_may_differ_by_the_shared_rule_only() -> None:
    own = {"1": ("card_testing",), "2": ("busy_terminal", "card_testing"), "3": ("x",), "9": ("x",)}
    others = {"1": ("card_testing",), "2": ("card_testing",), "4": ("card_testing",)}
    found = compare(own, others, ["1", "2", "3", "4", "5"])
    assert (found["compared_count"], found["alert_count"]) == (5, 3)
    assert (found["shared_count"], found["different_count"]) == (1, 2)
    assert found["example"] == "4: [] here, ['card_testing'] there"
    assert found["rule_counts"] == {"card_testing": 2, "busy_terminal": 1, "x": 1}


def drained(event_count: int, wall_s: float) -> dict[str, Any]:
    cpu_s = {"own": 2.0, "kafka": 1.0, "redis": 0.5}
    return {"event_count": event_count, "wall_s": wall_s, "cpu_s": cpu_s}


def read(p99_us: int, count: int = 1_000) -> dict[str, Any]:
    times = {"p50_us": 1_000, "p90_us": 2_000, "p99_us": p99_us, "p99.9_us": 9_000}
    return {"count": count, "missing_count": 0, "p100_us": 12_345, **times}


def beside(p99_us: int) -> dict[str, Any]:
    shared = {"echo": read(3_000), "event_count": 1_000, "version_count": 7}
    told = {"alerts": read(p99_us, 20), "decisions": read(p99_us)}
    return shared | told | {"cpu_s": {"own": 0.05, "kafka": 0.1, "redis": 0.01}}


def results() -> dict[str, Any]:
    alike = {"compared_count": 800, "alert_count": 30, "shared_count": 0, "different_count": 0}
    alike |= {"example": "", "rule_counts": {"card_testing": 30}}
    case = {"session_timeout_ms": 10_000, "partition_count": 4}
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
        "is_quick": False,
        "failed": {"chaos": "the moon was full"},
        "scenes": {
            "drain": {
                "agreement": alike,
                "agreement_of_all": alike | {"shared_count": 3},
                "worker": drained(100_000, 2.0),
                "floor": drained(200_000, 2.0),
                "stock": drained(10_000, 2.5),
            },
            "latency": {
                "rates": [
                    {
                        "rate": 2_000,
                        "echo": read(2_000),
                        "alerts": beside(7_500),
                        "decisions": beside(9_000),
                    }
                ]
            },
            "recovery": {
                "customer_count": 1_000_000,
                "rate": 500,
                "redis_key_count": 2_200_000,
                "redis_bytes": 2**30,
                "preload_s": 30.0,
                "cases": [
                    case
                    | {"title": "a worker stands by", "started_s": 0.0, "first_s": 10.5}
                    | {"last_s": 10.6},
                    case
                    | {"title": "a new process of the same name", "started_s": 2.5}
                    | {"first_s": 4.0, "last_s": 5.0},
                ],
            },
            "learning": {
                "rate": 100,
                "event_time_ms": 1_000_000,
                "never": [beside(4_000)],
                "often": [beside(5_000), beside(6_000)],
            },
        },
    }


def with_stolen_share(found: dict[str, Any]) -> dict[str, Any]:
    for scene in found["scenes"].values():
        scene["stolen_share"] = 0.0123
    return found


def test_the_page_gives_rates_shares_and_what_was_missed() -> None:
    text = page(with_stolen_share(results()))
    # 100,000 in 2 s are 50,000/s or 20 µs each; 2 s of CPU are 20 µs each, and so on.
    assert "| Millrace's worker | 100,000 | 50,000 | 20.0 | 20.0 | 10.0 | 5.00 |" in text
    # The floor has 100,000/s: 60 % are 60,000, which is less than 80,000.
    assert (
        "- 50% of the floor: aim 60% or 80,000 a second, whichever is less (60,000): **mi" in text
    )
    assert "- 12.5 times the stock agent: aim 12: reached." in text
    assert "Both raised alerts on 30 of them (card_testing 30): no difference" in text
    assert "| 2,000 | **decisions** | 1,000 | 1.00 | 2.00 | 9.00 | 9.00 | 12.3 |" in text
    # 7.5 against 3.0 beside and 2.0 alone.
    assert "- Alerts at 2,000/s: p99 is +4.5 ms" in text
    assert "aim +5 ms: reached; +5.5 ms from that of the echo without a worker: **missed**." in text
    # 0.16 s for 1,000 events are 160 µs each; 2,000 of them in a second are 0.32 of a core.
    assert "2,000/s, decisions: own 50, kafka 100, redis 10 µs per event, 0.32 cores." in text
    assert "1,000,000\ncustomers in Redis (2,200,000 keys, 1.0 GiB)" in text
    assert "| a new process of the same name | 10 s | 2.50 | 4.00 | 5.00 |" in text
    assert "reached by: a new process of the same name, 10 s" in text
    assert "10 s of the 10.5 s" in text
    # 1,000 payments at 100/s are 10 s, in which 1,000 s of event time pass.
    assert "Event time runs 100 times as" in text
    assert "The best p99 with learning is 1.25 times that without." in text
    assert "## Failed: chaos\n\n```\nthe moon was full\n```" in text
    assert "A quick run" not in text
    assert "drain 1.2%, latency 1.2%, recovery 1.2%, learning 1.2%." in text


@pytest.mark.parametrize(
    ("plays", "kept", "failed"),
    [
        ([0.01, 0.0], 0.01, None),
        ([0.2, 0.05, 0.1, 0.0], 0.05, None),
        (["the moon was full", 0.3, 0.2], 0.2, None),
        (["the moon was full", "again", 0.0], None, "attempt 2: again"),
    ],
)
def test_a_scene_is_played_until_it_is_calm_or_has_failed_twice(
    monkeypatch: pytest.MonkeyPatch, plays: list[Any], kept: float | None, failed: str | None
) -> None:
    def play_once(run: object) -> dict[str, Any]:
        share = next(left)
        if isinstance(share, str):
            raise BenchError(share)
        return {"took_s": 1.0, "stolen_share": share}

    left = iter(plays)
    monkeypatch.setattr(streaming, "_play_once", play_once)
    found: dict[str, Any] = {"scenes": {}, "failed": {}}
    streaming._play("drain", QUICK["drain"], found)
    assert found["scenes"].get("drain", {}).get("stolen_share") == kept
    assert found["failed"].get("drain") == failed


def test_the_committed_page_is_that_of_the_committed_results(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = ROOT / "bench" / "results" / "streaming.json"
    assert print_page([str(file)]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["scenes"]["drain"]["agreement"]["different_count"] == 0
    assert not found["is_quick"]


def test_the_page_says_what_is_wrong_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_page([]) == 2
    assert print_page([str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
