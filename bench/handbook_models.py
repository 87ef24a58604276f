"""Models on the Fraud Detection Handbook's data, by its own protocol: ours online, others in batch.

    python -m bench.handbook_models DATA --out bench/results/handbook_models.json

DATA is a folder with the book's `transactions.parquet` and `published_results.json`. One replay of
the raw file through the whole engine, with `actions/policies/handbook`, gives the engine's row; a
backfill of the same expressions and of the book's gives the rivals their features.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import actions
from bench.handbook_batch import (
    Floats,
    Payments,
    Scored,
    Week,
    judge_batch,
    judge_scores,
    online_scores,
    random_forest,
    xgboost,
)
from bench.machine import machine_facts
from features.expressions import ExpressionText
from features.hashing import IdHasher
from online_models import catalog
from online_models.evaluation import average_precision, roc_auc
from online_models.options import ModelOptions
from replay.backfill import run_backfill
from replay.expression_files import ExpressionSet, read_expressions
from replay.mapping_parser import load_mapping
from replay.player import play
from replay.sources import open_source
from streams.policy_files import read_policy
from streams.store import MemoryStore

POLICY = Path(actions.__file__).parent / "policies" / "handbook"
BOOK_EXPRESSIONS = Path(__file__).parent.parent / "docs" / "handbook_features.yaml"
BOOK_OWN = {  # the three of the book's fifteen that need no window
    "amount": "amount",
    "weekend": "1 if weekday() >= 5 else 0",
    "night": "1 if hour() <= 6 else 0",
}
PUBLISHED = ("test_with_best_validation_parameters", "Chapter_6_Ensembling_cell_96_test")
OURS, BOOKS = "fraud_", "book_"
PACKAGES = ("millrace", "river", "numba", "numpy", "scikit-learn", "xgboost")


def features_of_both(source: Path, out: Path) -> None:
    """Write the inputs of the policy's model and the book's features, as they were at the time."""
    ours = read_expressions(POLICY)
    book = {
        name: text
        for name, text in read_expressions(BOOK_EXPRESSIONS).expressions.items()
        if "_sum_" not in name
    }
    book |= {name: ExpressionText(text, __file__, 1, 1) for name, text in BOOK_OWN.items()}
    both = {**ours.expressions, **{BOOKS + name: text for name, text in book.items()}}
    mapped = open_source(source, load_mapping("handbook"))
    run_backfill(mapped, ExpressionSet(ours.policy, both), out)


def replay_scores(source: Path, out: Path) -> dict[str, Any]:
    """Decide the raw file with the Handbook's policy; return the replay's summary."""
    mapped = open_source(source, load_mapping("handbook"))
    return play(mapped, read_policy(POLICY), MemoryStore(), out)


def read_payments(source: Path, event_ids: Sequence[str]) -> Payments:
    """Return the truth of every transaction, in the order of `event_ids`."""
    table = pq.read_table(source)
    ids = table["TRANSACTION_ID"].to_numpy()
    order = np.argsort(ids)
    wanted = np.array(event_ids, dtype=np.int64)
    rows = order[np.searchsorted(ids[order], wanted)]
    times = table["TX_DATETIME"].cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy()
    return Payments(
        IdHasher().many(event_ids),
        times[rows],
        table["CUSTOMER_ID"].to_numpy()[rows].astype(np.int64),
        table["TX_FRAUD"].to_numpy()[rows].astype(np.bool_),
    )


def columns(table: pa.Table, prefix: str) -> Floats:
    """Return the features whose names begin with `prefix`, shape (n, k)."""
    names = [
        name
        for name in table.column_names
        if name.startswith(prefix) and not name.endswith("_status")
    ]
    return np.column_stack([
        table[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in names
    ])  # fmt: skip


def by_day(payments: Payments, score: Floats) -> list[dict[str, Any]]:
    """Return area under the curve and average precision of each day, all payments counted."""
    found = []
    for day in np.unique(payments.day).tolist():
        rows = payments.day == day
        fraud, scores = payments.fraud[rows], score[rows]
        found.append({
            "date": date.fromordinal(day + date(1970, 1, 1).toordinal()).isoformat(),
            "fraud_count": int(fraud.sum()),
            "auc": float(roc_auc(fraud, scores)) if fraud.any() else None,
            "average_precision": float(average_precision(fraud, scores)) if fraud.any() else None,
        })  # fmt: skip
    return found


def weekly_scores(payments: Payments, features: Floats, first_day: int) -> Floats:
    """Return the scores of XGBoost retrained every week, 0.0 before the first; features (n, k)."""
    score = np.zeros(len(features))
    for start in range(first_day, int(payments.day.max()) - 13, 7):
        week = Week(start)
        train = week.trained(payments)
        test = (payments.day >= week.test_from_day) & (payments.day < week.test_from_day + 7)
        model = xgboost().fit(features[train], payments.fraud[train])
        score[test] = model.predict_proba(features[test])[:, 1]
    return score


def rivals(payments: Payments, weeks: list[Week], table: pa.Table) -> dict[str, Scored]:
    """Return the figures of all other models, by a name for the page."""
    ours, book = columns(table, OURS), columns(table, BOOKS)
    policy_model = read_policy(POLICY).models[0]
    names = tuple(item.name for item in policy_model.inputs)
    book_names = tuple(f"b{k}" for k in range(book.shape[1]))
    binned = ModelOptions(warm_up_count=policy_model.options.warm_up_count)
    online = {
        "binned logistic, the book's": (book, book_names, "binned_logistic", binned),
        "scaled logistic, ours": (ours, names, "scaled_logistic", ModelOptions()),
    }
    found = {
        "XGBoost, the book's": judge_batch(payments, weeks, book, xgboost),
        "XGBoost, ours": judge_batch(payments, weeks, ours, xgboost),
        "random forest, the book's": judge_batch(payments, weeks, book, random_forest),
        "random forest, ours": judge_batch(payments, weeks, ours, random_forest),
    }
    for name, (features, inputs, pipeline, options) in online.items():
        model = catalog.learning(pipeline, inputs, options)
        missing = catalog.find(pipeline).missing
        score = online_scores(payments, features, model, missing)
        found[name] = judge_scores(payments, weeks, score)
    return found


def engine_again(payments: Payments, table: pa.Table) -> Floats:
    """Return the scores that the policy's model should have given, found outside the engine."""
    model = read_policy(POLICY).models[0]
    inputs = [item.name for item in model.inputs]
    learning = catalog.learning(model.pipeline, inputs, model.options)
    return online_scores(payments, columns(table, OURS), learning, math.nan)


def measure(data: Path, work: Path) -> dict[str, Any]:
    """Run everything; intermediate files go to `work`, and are taken from there if they exist."""
    source, features = data / "transactions.parquet", work / "features.parquet"
    summary_path = work / "replay" / "summary.json"
    if not features.exists():
        features_of_both(source, features)
    if not summary_path.exists():
        replay_scores(source, work / "replay")
    summary = json.loads(summary_path.read_text(encoding="utf-8"))
    table = pq.read_table(features)
    decisions = pq.read_table(work / "replay" / "decisions.parquet", columns=["event_id", "score"])
    assert decisions["event_id"].equals(table["event_id"])
    payments = read_payments(source, table["event_id"].to_pylist())
    score = decisions["score"].to_numpy().astype(np.float64)
    published = json.loads((data / "published_results.json").read_text(encoding="utf-8"))
    folds = published["prequential_4_folds"]
    epoch = date(1970, 1, 1).toordinal()
    weeks = [
        Week(date.fromisoformat(day).toordinal() - epoch)
        for day in sorted(folds["train_weeks_start_test"])
    ]
    models = {"engine": judge_scores(payments, weeks, score)}
    models |= rivals(payments, weeks, table)
    again = engine_again(payments, table)
    batch = weekly_scores(payments, columns(table, BOOKS), int(payments.day[0]))
    perfect = judge_scores(payments, weeks, payments.fraud.astype(np.float64))
    return {
        "records": summary["records"],
        "decisions_sha256": summary["decisions_sha256"],
        "models": {name: as_json(scored) for name, scored in models.items()},
        "perfect_card_precision": perfect.means[2],
        "published": {
            name: figures
            for part in PUBLISHED
            for name, figures in folds[part].items()
            if name != "file"
        },
        "learned_alone_difference_max": float(np.abs(again - score).max()),
        "days": {"engine": by_day(payments, score), "weekly": by_day(payments, batch)},
        "test_from": [
            date.fromordinal(week.test_from_day + epoch).isoformat() for week in weeks
        ],
    }  # fmt: skip


def as_json(scored: Scored) -> dict[str, Any]:
    """Return a model's figures as JSON has them."""
    return {"weeks": [list(week) for week in scored.weeks], "means": scored.means}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Models on the Handbook's data.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="keep features and decisions here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        results = {**machine_facts(PACKAGES), **measure(options.data, work)}
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
