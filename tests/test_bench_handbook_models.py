"""The Handbook's protocol in `bench/handbook_batch.py`, and the page of its models."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import handbook_models_page
from bench.handbook_batch import (
    DAY_MS,
    HOUR_MS,
    Payments,
    Week,
    judge_scores,
    online_scores,
)
from online_models import catalog
from online_models.options import InputBins, ModelOptions

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "handbook_models.json"


def payments(count: int = 4_000, day_count: int = 21) -> Payments:
    rng = np.random.default_rng(5)
    ts_ms = np.sort(rng.integers(0, day_count * DAY_MS, count))
    return Payments(
        rng.permutation(count), ts_ms, rng.integers(0, 200, count), rng.random(count) < 0.02
    )


def test_a_week_is_that_of_the_book() -> None:
    """Train on days 0 to 6, wait for labels on 7 to 13, test on 14 to 20."""
    seen, week = payments(), Week(0)
    assert week.test_from_day == 14
    assert set(seen.day[week.trained(seen)].tolist()) == set(range(7))
    tested = week.tested(seen)
    assert set(seen.day[tested].tolist()) == set(range(14, 21))
    # A fraud of day f is known on day f + 8: its card is gone from then on.
    for row in np.flatnonzero(seen.fraud & (seen.day <= 12)).tolist():
        later = (seen.card == seen.card[row]) & (seen.day >= seen.day[row] + 8)
        assert not tested[later].any()


def test_perfect_scores_are_perfect() -> None:
    seen = payments()
    area, precision, cards = judge_scores(seen, [Week(0)], seen.fraud.astype(np.float64)).means
    assert (area, precision) == (1.0, 1.0)
    assert 0.0 < cards < 1.0


def test_online_scores_know_a_fraud_after_seven_days_and_at_the_next_full_hour() -> None:
    """One input tells frauds from others; 20 frauds of the first day are learned on the eighth."""
    per_hour = 50
    count = 24 * 9 * per_hour
    ts_ms = np.arange(count) * (HOUR_MS // per_hour)
    fraud = np.arange(count) % 25 == 0
    seen = Payments(np.arange(count), ts_ms, np.zeros(count, dtype=np.int64), fraud)
    features = fraud[:, None].astype(np.float64)
    options = ModelOptions(bins=(("sign", InputBins((0.5,))),))
    learning = catalog.learning("binned_logistic", ("sign",), options)
    score = online_scores(seen, features, learning, math.nan)
    # 20 frauds are the first ten hours; what came at 9:59:xx is known seven days later, at 10:00.
    first_ms = 7 * DAY_MS + 10 * HOUR_MS
    prior = 1 / (1 + math.exp(4.6))
    assert score[ts_ms < first_ms] == pytest.approx(prior)
    after = ts_ms >= first_ms
    assert score[after & fraud].min() > 2 * score[after & ~fraud].max()


def test_a_changed_label_changes_no_score_before_its_time() -> None:
    seen = payments()
    features = np.random.default_rng(6).lognormal(size=(len(seen.ts_ms), 2))
    changed = seen.day == 3
    lies = seen._replace(fraud=np.where(changed, ~seen.fraud, seen.fraud))
    options = ModelOptions(crosses=(("a", "b"),), warm_up_count=300)

    def scores(given: Payments) -> Any:
        learning = catalog.learning("binned_logistic", ("a", "b"), options)
        return online_scores(given, features, learning, math.nan)

    truth, wrong = scores(seen), scores(lies)
    early = seen.ts_ms < 10 * DAY_MS
    assert (truth[early] == wrong[early]).all()
    assert (truth[~early] != wrong[~early]).any()


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def test_the_committed_page_is_that_of_the_committed_results(results: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "handbook_models.md").read_text(encoding="utf-8")
    assert page == handbook_models_page.page(results)
    picture = (ROOT / "docs" / "handbook_models.svg").read_text(encoding="utf-8")
    assert picture.startswith("<svg")


def test_the_committed_run_reached_what_is_promised(results: dict[str, Any]) -> None:
    """More than 0.763 would be a leak: what no one can know is a fifth of the frauds."""
    area, precision, cards = results["models"]["engine"]["means"]
    assert area >= 0.878
    assert 0.755 <= precision <= 0.763
    assert cards >= 0.310
    assert results["learned_alone_difference_max"] < 1e-6
    assert results["records"]["decided"] == results["records"]["in"]


def test_the_command_writes_page_and_picture(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert handbook_models_page.main([str(RESULTS), str(tmp_path)]) == 0
    written = (tmp_path / "handbook_models.md").read_text(encoding="utf-8")
    assert written == handbook_models_page.page(results)
    assert handbook_models_page.picture(results) == handbook_models_page.picture(results)
    assert handbook_models_page.main([str(tmp_path / "absent.json"), str(tmp_path)]) == 2
    assert "absent.json" in capsys.readouterr().err
    assert handbook_models_page.main([]) == 2
