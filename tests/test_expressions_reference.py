"""The reference page is what the code says, and each of its examples works."""

import math
from pathlib import Path

import oracles_expressions
import pytest
from click.testing import CliRunner
from oracles_expressions import Oracle, hashed
from test_expressions_histories import OTHERS, event
from test_expressions_values import RECORD, assert_same, run

from features.expressions import ExpressionText, compile_plan
from features.expressions.catalogue import AGGREGATES, FUNCTIONS, OPTIONS, PROFILE_FIELDS
from features.expressions.fields import KINDS, STORED_FIELDS
from features.expressions.operators import ARITHMETIC
from features.expressions.reference import (
    LETS,
    LISTS,
    Section,
    example_declarations,
    page,
    sections,
)
from millrace.cli import main

ROOT = Path(__file__).parent.parent
HERE = {
    "card_id": "K1", "terminal_id": "T1", "device_id": "D1", "merchant_id": "M1", "payee_id": "P1",
    "ip": "I1", "country": "DE", "mcc": 5411,
}  # fmt: skip
NOW = RECORD | HERE
PAST = [
    event(1, 20, **HERE | {"amount": 1_000, "country": "FR", "label": "fraud"}),
    event(2, 9, **HERE | {"amount": 2_000, "merchant_id": "M2", "label": "fraud"}),
    event(3, 8, **HERE | {"amount": 300, "balance": 500, "label": "legitimate", "lat": 48_137_154}),
    event(4, 0.01, **HERE | {"amount": 8_000, "lat": 48_137_154, "lon": 11_576_124}),
    *OTHERS,
]
GIVEN = {f"profile.{name}": 2_000.0 for name in PROFILE_FIELDS} | {"model.fraud": 0.75}
EXAMPLES = [row.example for section in sections() for row in section.rows]


def test_the_page_is_committed_as_it_is_made() -> None:
    committed = (ROOT / "docs" / "expressions.md").read_text(encoding="utf-8")
    assert committed == page(), "python -m millrace expressions > docs/expressions.md"


def test_the_command_prints_it() -> None:
    result = CliRunner().invoke(main, ["expressions"])
    assert (result.exit_code, result.output) == (0, page())


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_has_the_value_that_the_page_promises(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracles_expressions, "LETS", LETS)
    monkeypatch.setattr(oracles_expressions, "LET_UNITS", {"ratio": 10**6, "high": 1})
    monkeypatch.setattr(oracles_expressions, "LISTS", LISTS)
    named = {"rule:0": ExpressionText(text, "docs/expressions.md", 1, 1)}
    plan = compile_plan(named, example_declarations(hashed))
    got = run(plan, [NOW], PAST, GIVEN)["rule:0"][0]
    assert_same(got, Oracle(NOW, PAST, GIVEN).value(text), text)
    assert not math.isnan(got), "an example shows a value"


def rows_of(heading: str) -> dict[str, str]:
    section: Section = next(found for found in sections() if found.heading == heading)
    return {row.name: row.example for row in section.rows}


def test_every_name_has_its_row_and_its_own_example() -> None:
    aggregates = rows_of("Aggregates")
    assert set(aggregates) == {call.signature for call in AGGREGATES.values()}
    for call in AGGREGATES.values():
        assert f".{call.name}(" in aggregates[call.signature]
    functions = rows_of("Functions")
    for name, function in FUNCTIONS.items():
        assert f"{name}(" in functions[function.signature]
    options = rows_of("Options of aggregates")
    assert all(f"{name}=" in options[f"{name}="] for name in OPTIONS)
    operators = rows_of("Operators")
    comparisons = {"==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or", "not"}
    symbols = {symbol for symbol, _ in ARITHMETIC.values()}
    assert set(operators) == symbols | comparisons | {"x if c else y"}
    assert all(name in operators[name] for name in symbols | comparisons)


def test_every_field_of_every_kind_has_its_row_and_its_own_example() -> None:
    for name, kind in KINDS.items():
        own = name == "transaction"
        rows = rows_of("Fields of a transaction" if own else f"Fields with of={name}")
        assert set(STORED_FIELDS[kind]) <= set(rows)
        assert all(field in rows[field] for field in STORED_FIELDS[kind])
        assert own or all(f"of={name}" in example for example in rows.values())


def test_the_scene_has_every_kind() -> None:
    assert {record["kind"] for record in PAST} == set(KINDS)
