"""The experiment on changing frauds: what it may know, what recovery means, and its page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from bench import pattern_change, pattern_change_page
from bench.pattern_change import (
    SMOKE,
    Examples,
    Rival,
    batch_scores,
    days_until_recovery,
    live,
    measure,
    measures_by_day,
)

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "pattern_change.json"
DAY_COUNT = 40


def examples() -> Examples:
    """Fifty a day, one in ten a fraud, with one input that tells it."""
    rng = np.random.default_rng(4)
    day = np.repeat(np.arange(DAY_COUNT), 50)
    fraud = np.arange(len(day)) % 10 == 0
    features = fraud[:, None] + 0.6 * rng.normal(size=(len(day), 1))
    return Examples(day, fraud, fraud.copy(), np.ones(len(day)), features, {})


def tree() -> DecisionTreeClassifier:
    return DecisionTreeClassifier(max_depth=3, random_state=0)


def test_a_batch_model_never_knows_a_label_before_its_time() -> None:
    """Trained on day 20 from a week: days 6 to 12, of which all labels are a week old by then."""
    found = examples()
    usual = batch_scores(found, tree, 20, 1, DAY_COUNT)
    assert not usual[found.day < 20].any()
    assert usual[(found.day >= 20) & found.fraud].mean() > 0.4
    for first, last, is_seen in ((0, 5, False), (6, 12, True), (13, 19, False), (20, 39, False)):
        lied = (found.day >= first) & (found.day <= last)
        lies = found._replace(known=np.where(lied, ~found.known, found.known))
        told = batch_scores(lies, tree, 20, 1, DAY_COUNT)
        week = (found.day >= 20) & (found.day < 27)
        assert np.array_equal(told[week], usual[week]) != is_seen


def test_a_model_that_stops_keeps_what_it_knew() -> None:
    found = examples()
    score = batch_scores(found, tree, 14, 1, last_day=20)
    lies = found._replace(known=np.where(found.day >= 7, ~found.known, found.known))
    assert np.array_equal(batch_scores(lies, tree, 14, 1, last_day=20), score)


def test_measures_are_over_the_days_that_end_with_each() -> None:
    found = examples()
    size = replace(SMOKE, day_count=DAY_COUNT)
    score = np.where(found.day == 10, 1.0 - found.fraud, found.fraud + 0.0)
    daily = measures_by_day(found, score, size, 1)[0]
    assert daily.tolist() == [0.0 if day == 10 else 1.0 for day in range(DAY_COUNT)]
    trailing = measures_by_day(found, score, size, 7)[0]
    assert (trailing < 1.0).tolist() == [10 <= day < 17 for day in range(DAY_COUNT)]


@pytest.mark.parametrize(
    ("after", "days"),
    [
        ([0.9] * 20, 7),  # not hurt
        ([0.9] * 6 + [0.5] * 4 + [0.879, 0.881] + [0.4] * 8, 12),  # 0.881 is within 0.02 of 0.9
        ([0.5] * 20, None),
    ],
)
def test_days_until_recovery_by_hand(after: list[float], days: int | None) -> None:
    trailing = np.array([0.2] * 6 + [0.9] * 14 + after)
    assert days_until_recovery(trailing, change_day=20) == days


def test_a_small_bank_goes_through_engine_and_rivals() -> None:
    size = replace(SMOKE, customer_count=40, change_day=16, day_count=24)
    results = measure(size, {"tree, weekly": Rival(tree, 1)})
    models = results["models"]
    assert len(models) == 8
    assert {"scaled_logistic", "binned_logistic, reset on drift", "tree, weekly"} <= set(models)
    for model in models.values():
        assert [len(values) for values in model["trailing"].values()] == [24, 24]
        assert len(model["recovery_days"]) == 1
        known = [v for v in model["daily"]["auc"] if v is not None]
        assert known and all(0.0 <= value <= 1.0 for value in known)
    assert results["fraud_counts"][0] > 50
    json.dumps(results, allow_nan=False)
    found, _ = live(size, size.seeds[0])
    again, _ = live(size, size.seeds[0])
    assert found.scores["scaled_logistic"].tobytes() == again.scores["scaled_logistic"].tobytes()
    # Frauds that nobody reports are frauds in truth only.
    assert (found.known <= found.fraud).all()


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def test_the_committed_page_is_that_of_the_committed_results(results: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "pattern_change.md").read_text(encoding="utf-8")
    assert page == pattern_change_page.page(results)
    assert (ROOT / "docs" / "pattern_change.svg").read_text(encoding="utf-8").startswith("<svg")


def test_the_committed_run_is_of_five_banks_or_more_and_shows_a_change(
    results: dict[str, Any],
) -> None:
    assert len(results["size"]["seeds"]) >= 5
    change_day = results["size"]["change_day"]
    frozen = results["models"][pattern_change_page.FROZEN]["trailing"]["auc"]
    before = np.mean(frozen[change_day - 14 : change_day])
    assert np.mean(frozen[-14:]) < before - 0.05  # what is not learned again stays wrong
    assert set(pattern_change.NAMES.values()) == {"", ", reset on drift", ", faster on drift"}


def test_the_command_writes_page_and_picture(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pattern_change_page.main([str(RESULTS), str(tmp_path)]) == 0
    written = (tmp_path / "pattern_change.md").read_text(encoding="utf-8")
    assert written == pattern_change_page.page(results)
    assert pattern_change_page.picture(results) == pattern_change_page.picture(results)
    assert pattern_change_page.main([str(tmp_path / "absent.json"), str(tmp_path)]) == 2
    assert "absent.json" in capsys.readouterr().err
    assert pattern_change_page.main([]) == 2


def test_medians_count_those_that_never_recover() -> None:
    assert pattern_change_page._median([9, 7, None]) == "9"
    assert pattern_change_page._median([9, None, None]) == "never"
    assert pattern_change_page._median([8, 9]) == "8.5"
