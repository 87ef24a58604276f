"""Point-in-time features: what the live engine saw, row by row, in a file that says how sure."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from replay_tables import DAY_MS, T0, mapped, native, parquet, rows_of

from features.errors import MillraceError, SourceError
from features.hashing import IdHasher
from features.records import ENCODER
from replay import feature_files
from replay.backfill import Backfill, check_out, run_backfill
from replay.expression_files import ExpressionSet, parse_expressions, read_expressions
from replay.mapping_parser import load_mapping
from replay.simulator import SimulatorSettings, write_files
from replay.sources import Source, open_source
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.policy_files import BANK_POLICY, read_policy
from streams.sinks import MemorySink
from streams.store import MemoryStore

FILE = "features.yaml"
FEATURES = """\
features:
  count_2d: customer.count("2d")
  mean_1d: customer.mean(amount, "1d", including_current=False)
  frauds: customer.count("10d", where=fraud)
  large: amount > 2
  half: amount / 2
"""


def expressions(text: str = FEATURES) -> ExpressionSet:
    return parse_expressions(FILE, text, read_policy())


def small(tmp_path: Path, **more: Any) -> Source:
    """Six payments of one customer, a day apart; the second is a fraud that is known 2 days later.

    Amounts are 0.29, 1.29, … 5.29.
    """
    days = [0, 1, 2, 3, 3, 4]
    table = rows_of([86_400 * day for day in days], frauds=[1], CUST=[7] * 6, **more)
    return open_source(parquet(tmp_path / "payments.parquet", table), mapped(delay="2d"))


def written(tmp_path: Path, source: Source, text: str = FEATURES) -> tuple[Any, dict[str, Any]]:
    out = tmp_path / "out" / "features.parquet"
    summary = run_backfill(source, expressions(text), out)
    return pq.read_table(out), summary


def test_values_by_hand(tmp_path: Path) -> None:
    table, summary = written(tmp_path, small(tmp_path))
    assert table["event_id"].to_pylist() == [f"e{row}" for row in range(6)]
    assert table["ts_ms"].to_pylist() == [T0 + DAY_MS * day for day in (0, 1, 2, 3, 3, 4)]
    # (t - 2d, t]: of the two payments of day 3 the first does not see the second.
    assert table["count_2d"].to_pylist() == [1, 2, 2, 2, 3, 3]
    # (t - 1d, t] without the current one: only the second payment of day 3 has another in it.
    assert table["mean_1d"].to_pylist() == [None, None, None, None, 3.29, None]
    # The fraud of day 1 is known from day 3 on, that millisecond included.
    assert table["frauds"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["large"].to_pylist() == [False, False, True, True, True, True]
    assert table["half"].to_pylist() == [cents / 200 for cents in (29, 129, 229, 329, 429, 529)]
    assert table.schema.field("large").type == "bool"
    assert summary["records"] == {"in": 7, "rows": 6, "dead_lettered": 0}


def test_only_columns_that_are_not_exact_everywhere_have_a_status(tmp_path: Path) -> None:
    table, summary = written(tmp_path, small(tmp_path))
    own = ["event_id", "ts_ms", "count_2d", "mean_1d", "frauds", "large", "half"]
    assert table.column_names == [*own, "mean_1d_status"]
    expected = ["absent", "absent", "absent", "absent", "exact", "absent"]
    assert table["mean_1d_status"].to_pylist() == expected
    assert str(table.schema.field("mean_1d_status").type).startswith("dictionary<values=string")
    assert summary["features"]["mean_1d"] == {
        "exact": 1, "absent": 5, "stale": 0, "approximate": 0,
    }  # fmt: skip
    assert table.schema.field("half").metadata == {b"expression": b"amount / 2"}


def test_a_window_beyond_the_cap_is_approximate_also_where_it_is_empty(tmp_path: Path) -> None:
    """A history of two events drops the oldest for a third: at day 2 that of day 0, and so on."""
    text = """\
    history: {reach: 90d, cap: 2}
    features:
      two: customer.median(amount, "2d")
      ten: customer.median(amount, "10d")
      old: customer.median(amount, "5d", delay="3d")
      all: customer.count("10d")
    """
    table, summary = written(tmp_path, small(tmp_path), text)
    assert table.column_names[2:] == [
        "two", "ten", "old", "all", "two_status", "ten_status", "old_status",
        "two_bound", "ten_bound", "old_bound",
    ]  # fmt: skip
    # Days of the payments: 0, 1, 2, 3, 3, 4. The third drops day 0, the fourth day 1, neither of
    # which lies within 2 days; the fifth drops day 2, and the sixth one of the two of day 3.
    assert table["two"].to_pylist()[:4] == [0.29, 0.79, 1.79, 2.79]
    assert table["two_status"].to_pylist() == ["exact"] * 4 + ["approximate"] * 2
    assert table["two_bound"].to_pylist() == [0.0] * 4 + [math.inf] * 2
    assert table["ten_status"].to_pylist() == ["exact"] * 2 + ["approximate"] * 4
    # (t - 8d, t - 3d]: once a payment is gone nobody knows that no other was, so far back.
    assert table["old"].to_pylist() == [None] * 6
    assert table["old_status"].to_pylist() == ["absent"] * 2 + ["approximate"] * 4
    assert summary["features"]["ten"]["approximate"] == 4
    # What was dropped is counted, and no window cuts one of its tiles.
    assert table["all"].to_pylist() == [1, 2, 3, 4, 5, 6]


def test_what_a_window_cuts_of_a_tile_is_its_bound(tmp_path: Path) -> None:
    """Tiles of a window of 2 days are 2**23 ms wide; this one holds three payments."""
    start_s = (-(-T0 // 2**23) * 2**23 - T0) // 1_000 + 10
    times_s = [start_s, start_s + 60, start_s + 120, start_s + 86_400, start_s + 30 + 2 * 86_400]
    source = open_source(
        parquet(tmp_path / "payments.parquet", rows_of(times_s, CUST=[7] * 5)), mapped()
    )
    text = """\
    history: {reach: 90d, cap: 2}
    features:
      two: customer.count("2d")
      part: customer.share(amount < 2, "2d")
    """
    table, _ = written(tmp_path, source, text)
    # At the end the first of the three is out, the last is in, and three quarters of the tile are.
    assert table["two"].to_pylist() == [1, 2, 3, 4, 4]
    assert table["two_bound"].to_pylist() == [0, 0, 0, 0, 1]
    # Of the two below 2 the first is out and the last is in: one of the 3 or 4.
    assert table["part"].to_pylist()[:4] == [1, 1, 2 / 3, 0.5]
    (bound,) = table["part_bound"].to_pylist()[4:]
    assert abs(table["part"].to_pylist()[4] - 1 / 4) <= bound < math.inf


def test_profiles_count_from_when_they_are_known(tmp_path: Path) -> None:
    folder = tmp_path / "native"
    folder.mkdir()
    records = [
        native("transactions", 1, T0),
        {**native("profiles", 1, T0 + 1), "assets_minor": 12_345},
        native("transactions", 2, T0 + 1),
        {**native("transactions", 1, T0 + 2), "event_id": "again"},
        {**native("profiles", 1, T0 + 3), "assets_minor": 99},
        {**native("transactions", 1, T0 + 3), "event_id": "more"},
    ]
    lines = [ENCODER.encode({"kind": "profile" if "products" in r else "transaction", **r})
             for r in records]  # fmt: skip
    (folder / "all.jsonl").write_bytes(b"\n".join(lines))
    source = open_source(folder / "all.jsonl")
    table, _ = written(tmp_path, source, "features: {assets: profile.assets}")
    assert table["assets"].to_pylist() == [None, None, 123.45, 0.99]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "traffic"
    write_files(SimulatorSettings(customer_count=80, day_count=12, seed=3, fraud_rate=0.05), folder)
    return folder


def test_a_model_s_inputs_are_those_that_the_live_engine_saw(
    simulated: Path, tmp_path: Path
) -> None:
    """Three partitions, other batches, all entities and rules there; here what is asked for."""
    mapping, policy, sink = load_mapping("simulator"), read_policy(), MemorySink()
    settings = EmbeddedSettings(3, batch_max_count=97, checkpoint_ms=10**9)
    runtime = EmbeddedRuntime(policy, MemoryStore(), sink, settings)
    for chunk in open_source(simulated, mapping).chunks():
        topics, keys, _, values = zip(*chunk.records, strict=True)
        runtime.submit(topics, keys, values)
    runtime.close()
    out = tmp_path / "features.parquet"
    run_backfill(open_source(simulated, mapping), read_expressions(BANK_POLICY), out)
    table = pq.read_table(out)
    ids = IdHasher().many(table["event_id"].to_pylist()).tolist()
    columns = [table[f"fraud_{item.name}"].to_numpy() for item in policy.models[0].inputs]
    seen = dict(zip(ids, np.column_stack(columns).tolist(), strict=True))
    examples = [decoded(value) for _, _, value in sink.by_topic["training"]]
    assert len(examples) > 100
    for example in examples:
        assert example["features"] == seen[example["event"]]


def decoded(value: bytes) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(value)
    return found


def test_the_cut_of_the_input_and_of_the_file_never_shows(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values are compared as bits, and two runs of the same file as bytes."""
    mapping, found = load_mapping("simulator"), read_expressions(BANK_POLICY)
    outs = [tmp_path / f"{name}.parquet" for name in ("one", "two", "cut")]
    for out in outs[:2]:
        run_backfill(open_source(simulated, mapping), found, out)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    monkeypatch.setattr("replay.backfill.BATCH_RECORDS", 77)
    monkeypatch.setattr(feature_files, "ROW_GROUP_ROWS", 1_000)
    run_backfill(open_source(simulated, mapping), found, outs[2])
    assert pq.ParquetFile(outs[2]).num_row_groups == -(-pq.read_table(outs[0]).num_rows // 1_000)
    whole, cut = (pq.read_table(out) for out in (outs[0], outs[2]))
    assert whole.column_names == cut.column_names
    for name in whole.column_names:
        assert whole[name].to_pylist() == cut[name].to_pylist()


def test_an_entity_that_nobody_asks_about_has_no_history() -> None:
    plan = expressions('features: {x: \'terminal.rate(fraud, "7d", delay="7d")\'}').compile(int)
    assert [entity.name for entity in plan.entities] == ["customer", "terminal"]  # labels: customer
    plan = expressions("features: {x: 'card.count(\"1h\")'}").compile(int)
    assert [entity.name for entity in plan.entities] == ["card"]


def test_without_any_history_the_record_is_enough(tmp_path: Path) -> None:
    table, _ = written(tmp_path, small(tmp_path), "features: {hour: hour(), double: amount * 2}")
    assert table.column_names == ["event_id", "ts_ms", "hour", "double"]
    assert table["double"].to_pylist() == [cents / 50 for cents in (29, 129, 229, 329, 429, 529)]


def test_what_is_refused_stands_beside_the_rows(tmp_path: Path) -> None:
    source = small(tmp_path, MCC=[5411, 5411, -1, 5411, 5411, 5411])
    table, summary = written(tmp_path, source)
    assert table["event_id"].to_pylist() == ["e0", "e1", "e3", "e4", "e5"]
    assert summary["records"] == {"in": 7, "rows": 5, "dead_lettered": 1}
    (line,) = (tmp_path / "out" / "features.dead-letters.jsonl").read_bytes().splitlines()
    assert decoded(line)["path"] == "$.mcc"


def test_a_run_that_fails_leaves_the_old_file_and_no_pieces(tmp_path: Path) -> None:
    out = tmp_path / "out" / "features.parquet"
    written(tmp_path, small(tmp_path))
    before = out.read_bytes()

    def stop(count: int) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        run_backfill(small(tmp_path), expressions(), out, progress=stop)
    assert out.read_bytes() == before
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "features.dead-letters.jsonl", "features.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "column", "expected", "got"),
    [
        ("", 1, 1, "`features`", "nothing"),
        ("currency: EUR", 1, 1, "`features`", "none"),
        ("features: {}", 1, 11, "at least one feature", "a mapping"),
        ("feature: {x: amount}", 1, 1, "a key of a file of expressions", "`feature`"),
        ("features:\n  ts_ms: amount", 2, 3, "a name other than event_id, ts_ms", "`ts_ms`"),
        ("features:\n  x_status: amount", 2, 3, "not ending in _status", "`x_status`"),
        ("features:\n  X: amount", 2, 3, "lower-case", "`X`"),
        ("features:\n  x: custmer.count('1d')", 2, 6, "customer", "`custmer`"),
        ("features:\n  x: amount > model.fraud", 2, 21, "a declared model", "`fraud`"),
        ("currency: EUX\nfeatures: {x: amount}", 1, 11, "a currency", "`EUX`"),
        ("entities: {card: {key: card_id, scope: local}}\nfeatures:\n  x: ip.count('1d')",
         3, 6, "card", "`ip`"),
        ("history: {reach: 7d, cap: 9}\nfeatures:\n  x: card.count('8d')", 3, 17, "7d", "8d"),
    ],
)  # fmt: skip
def test_faults_have_a_place(text: str, line: int, column: int, expected: str, got: str) -> None:
    with pytest.raises(SourceError) as caught:
        Backfill(expressions(text))
    error = caught.value
    assert (error.file, error.line, error.column) == (FILE, line, column), str(error)
    assert expected in error.expected
    assert got in error.got


def test_money_follows_the_file_s_currency() -> None:
    found = expressions("currency: JPY\nfeatures: {x: amount}")
    assert (found.policy.currency_exponent, found.policy.rates) == (0, ())
    assert expressions("features: {x: amount}").policy.rates == read_policy().rates


def test_a_policy_without_models_has_no_inputs(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(
        "name: bare\ncurrency: EUR\nentities: {card: {key: card_id, scope: local}}\n"
    )
    with pytest.raises(MillraceError, match="expected a policy with models, got one without"):
        read_expressions(tmp_path)


def test_the_source_is_never_written_over(tmp_path: Path) -> None:
    small(tmp_path)
    payments = tmp_path / "payments.parquet"
    for source in (payments, tmp_path):
        with pytest.raises(MillraceError, match="expected a file apart from the source"):
            check_out(payments, source)
    check_out(tmp_path / "new.parquet", payments)
