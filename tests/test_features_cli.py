"""`millrace features` as a user meets it."""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import child_processes
import msgspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from replay_tables import DAY_MS, T0, parquet, rows_of

from millrace.cli import main
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.policy_files import BANK_POLICY, read_policy
from streams.redis_store import RedisStore
from streams.sinks import MemorySink

MAPPING = """\
tables:
  - kind: transaction
    columns:
      event_id: ID
      ts_ms: {column: WHEN, time: {format: datetime}}
      customer_id: {column: CUST, template: "C{}"}
      account_id: {column: CUST, template: "A{}"}
      type: {constant: purchase}
      amount_minor: {column: AMT, minor_units: {decimals: 2}}
      currency: {constant: EUR}
      direction: {constant: out}
      channel: {constant: pos}
      mcc: MCC
"""
FEATURES = 'features:\n  count: customer.count("1d")\n  usual: customer.mean(amount, "1d")\n'
ID_KEY = "secret-of-a-bank"


def invoke(*arguments: object, **environment: str) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)], env=environment)


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    """Six payments, a quarter of a day apart, of three customers in turn; the third is refused."""
    (tmp_path / "m.yaml").write_text(MAPPING)
    (tmp_path / "f.yaml").write_text(FEATURES)
    table = rows_of([21_600 * i for i in range(6)], MCC=[1, 1, -1, 1, 1, 1])
    return parquet(tmp_path / "payments.parquet", table)


def backfill(payments: Path, *more: object) -> Result:
    folder = payments.parent
    return invoke(
        "features", "backfill", payments, "--mapping", folder / "m.yaml",
        "--expressions", folder / "f.yaml", "--out", folder / "new" / "out.parquet", *more,
    )  # fmt: skip


def test_backfill_writes_the_file_and_says_what_it_did(payments: Path, tmp_path: Path) -> None:
    result = backfill(payments, "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["records"] == {"in": 6, "rows": 5, "dead_lettered": 1}
    assert summary["features"]["count"] == {
        "exact": 5, "absent": 0, "stale": 0, "approximate": 0,
    }  # fmt: skip
    table = pq.read_table(tmp_path / "new" / "out.parquet")
    assert table["count"].to_pylist() == [1, 1, 2, 2, 1]
    assert table["usual"].to_pylist() == [0.29, 1.29, (0.29 + 3.29) / 2, (1.29 + 4.29) / 2, 5.29]
    assert len((tmp_path / "new" / "out.dead-letters.jsonl").read_bytes().splitlines()) == 1
    view = backfill(payments)
    assert view.exit_code == 0
    assert "6 records in, 5 rows, 1 dead" in " ".join(view.stdout.split())


def test_backfill_runs_as_a_command(
    payments: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The inputs of the bank's model, over a source that needs no labels."""
    out = tmp_path / "inputs.parquet"
    command = ["-m", "millrace", "features", "backfill", str(payments), "--mapping"]
    process = child_processes.start(
        [*command, str(tmp_path / "m.yaml"), "--expressions", str(BANK_POLICY), "--out", str(out)],
        tmp_path_factory.getbasetemp() / "bytecode",
    )
    _, error = process.communicate()
    assert process.returncode == 0, error
    names = [f"fraud_{item.name}" for item in read_policy().models[0].inputs]
    assert pq.read_table(out).column_names == ["event_id", "ts_ms", *names]


def test_backfill_refuses_what_can_not_be(payments: Path, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("features:\n  x: custmer.count('1d')\n")
    result = backfill(payments)
    assert result.exit_code == 2
    assert f"{tmp_path / 'f.yaml'}:2:6: expected one of customer," in result.stderr
    assert "did you mean `customer`?" in result.stderr
    (tmp_path / "f.yaml").write_text(FEATURES)
    same = invoke("features", "backfill", payments, "--mapping", tmp_path / "m.yaml",
                  "--expressions", tmp_path / "f.yaml", "--out", payments)  # fmt: skip
    assert same.exit_code == 2
    assert "expected a file apart from the source" in same.stderr


@pytest.fixture(scope="module")
def bank(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A Redis in which an engine with a bank's key left the payments of one customer."""
    prefix = tmp_path_factory.mktemp("bank").name
    record = {
        "kind": "transaction", "customer_id": "C-17", "account_id": "A", "card_id": "K",
        "type": "purchase", "currency": "EUR", "direction": "out", "channel": "online",
    }  # fmt: skip
    rows = [
        {**record, "event_id": f"e{i}", "ts_ms": T0 + i * DAY_MS, "amount_minor": 1_000 + i}
        for i in range(4)
    ]
    with closing(RedisStore(redis_url, prefix)) as store:
        settings = EmbeddedSettings(2, id_key=ID_KEY.encode())
        runtime = EmbeddedRuntime(read_policy(), store, MemorySink(), settings)
        values = [msgspec.json.encode(row) for row in rows]
        runtime.submit(["transactions"] * 4, ["C-17"] * 4, values)
        runtime.close()
    yield redis_url, prefix


def get(bank: tuple[str, str], *more: object, key: str = ID_KEY) -> Result:
    url, prefix = bank
    return invoke("features", "get", *more, "--redis", url, "--prefix", prefix, MILLRACE_ID_KEY=key)


def values(result: Result, section: str = "features") -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    return {item["name"]: item for item in json.loads(result.stdout)[section]}


@pytest.mark.redis
def test_get_prints_values_and_statuses(bank: tuple[str, str]) -> None:
    result = get(bank, "customer", "C-17", "--json")
    facts = json.loads(result.stdout)
    assert (facts["entity"], facts["id"], facts["at_ms"]) == ("customer", "C-17", T0 + 3 * DAY_MS)
    found = values(result)
    assert found['customer.count("1d")'] == {
        "name": 'customer.count("1d")', "value": 1.0, "status": "exact", "bound": 0.0,
    }  # fmt: skip
    text = 'customer.sum(amount, "7d", where=direction == "out")'
    assert found[text]["value"] == (1_000 + 1_001 + 1_002 + 1_003) / 100
    assert found['customer.seen(device_id, "90d")']["status"] == "absent"
    inputs = values(result, "expressions")
    assert inputs["model:fraud:customer_count_30d"]["value"] == pytest.approx(math.log(5))
    assert "model:fraud:log_amount" not in inputs  # of the record, not of its customer


@pytest.mark.redis
def test_get_at_another_time(bank: tuple[str, str]) -> None:
    early = values(get(bank, "customer", "C-17", "--json", "--at", T0 + DAY_MS))
    assert early['customer.count("30d")']["value"] == 2.0
    late = values(get(bank, "customer", "C-17", "--json", "--at", "now"))
    assert late['customer.count("30d")']["value"] == 0.0
    wrong = get(bank, "customer", "C-17", "--at", "soon")
    assert wrong.exit_code == 2
    assert "expected epoch milliseconds or now, got 'soon'" in wrong.stderr


@pytest.mark.redis
def test_get_shows_a_table(bank: tuple[str, str]) -> None:
    result = get(bank, "card", "K")
    assert result.exit_code == 0
    assert "card K at 2018-04-04 00:00:00.000+00:00" in result.stdout
    assert 'card.count("10m")' in result.stdout


@pytest.mark.redis
def test_get_says_what_is_unknown(bank: tuple[str, str]) -> None:
    nobody = get(bank, "customer", "C-18")
    assert nobody.exit_code == 1
    assert "customer C-18: nothing is stored under this id" in nobody.stderr
    other_key = get(bank, "customer", "C-17", key="00" * 16)
    assert other_key.exit_code == 1
    entity = get(bank, "custmer", "C-17")
    assert entity.exit_code == 2
    assert "got `custmer`; did you mean `customer`?" in entity.stderr
    short = get(bank, "customer", "C-17", key="short")
    assert short.exit_code == 2
    assert "MILLRACE_ID_KEY: expected 16 bytes of text or 32 hexadecimal" in short.stderr
    assert "short" not in short.stderr.replace("got 5 bytes", "")
    prefix = invoke("features", "get", "customer", "C-17", "--prefix", "a{b}")
    assert prefix.exit_code == 2
    assert "expected text without braces and blanks" in prefix.stderr


def test_get_without_a_redis_says_so(tmp_path: Path) -> None:
    result = invoke("features", "get", "customer", "C", "--redis", f"unix://{tmp_path}/none.sock")
    assert result.exit_code == 2
    assert "can't be reached" in result.stderr
    result = invoke("features", "get", "customer", "C", "--redis", "nonsense")
    assert result.exit_code == 2
    assert "--redis: expected a URL" in result.stderr
