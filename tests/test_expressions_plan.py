"""The shape of compiled plans: shared slots and registers, kept cells, scaling, terms, programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies_expressions import DECLARATIONS, expression_texts

from features.codes import code_of
from features.columns import MISSING, Cell, LabelCode, empty_cells
from features.expressions import ExpressionText, Type, compile_plan, duration_ms, expression_type
from features.expressions.types import duration_text
from features.kernels.opcodes import Opcode
from features.kernels.walker import evaluate
from features.plan import Aggregate, Comparison, Plan, Program, SlotField

DAY_MS = 86_400_000


def plan_of(*texts: str) -> Plan:
    named = {str(i): ExpressionText(text, "p.yaml", 1, 1) for i, text in enumerate(texts)}
    return compile_plan(named, DECLARATIONS)


def operations(program: Program) -> list[str]:
    return [Opcode(int(opcode)).name for opcode in program.code[:, 0]]


@pytest.mark.parametrize(
    ("texts", "slot_count"),
    [
        (("card.count('1h')", "card.count('60m') > 5"), 1),
        (("card.count('1h')", "card.count('1h', including_current=False)"), 2),
        (("card.count('1h')", "customer.count('1h')"), 2),
        (("card.rate(fraud, '7d')", "card.count('7d')"), 2),
        (("card.rate(fraud, '7d')", "card.share(label == fraud, '1w')"), 2),
        (("card.rate(fraud, '7d')", "card.count('7d', where=fraud)"), 2),
        (("card.rate(genuine, '7d')", "card.rate(legitimate, '7d')"), 2),
        (("card.zscore(amount, '7d')", "card.mean(amount, '7d')", "card.std(amount, '7d')"), 2),
        (("speed_kmh(card)", "distance_km(card)", "speed_kmh(card) > 9"), 3),
        (("card.last(amount)", "card.last(amount, '90d')", "card.last(amount, None)"), 1),
        # A delayed window never reaches the current event, so the option changes nothing.
        (("card.count('1h', delay='1d')",
          "card.count('1h', delay='1d', including_current=False)"), 1),
        (("card.count('1h', where=mcc == 1 and fraud)",
          "card.count('1h', where=fraud and 1 == mcc and fraud)"), 1),
        (("card.count('1h', where=0 < amount <= 5)",
          "card.count('1h', where=amount <= 5.004 and amount > 0)"), 1),
        (("amount > 5", "model.fraud > 1"), 0),
    ],
)  # fmt: skip
def test_equal_aggregates_share_a_slot(texts: tuple[str, ...], slot_count: int) -> None:
    plan = plan_of(*texts)
    assert len(plan.slots) == len(plan.slot_texts) == slot_count


def test_equal_parts_are_computed_once_in_a_program() -> None:
    plan = plan_of(
        "card.count('1h') + amount > 5 and mcc == 1",
        "mcc == 1 and 5 < amount + card.count('1h')",
    )
    assert operations(plan.before_models) == [
        "SLOT", "CELL", "ADD", "GT_K", "CELL", "EQ_K", "AND", "STORE", "STORE",
    ]  # fmt: skip


def test_registers_are_freed() -> None:
    rules = [f"card.count('{n}m') > {n} and amount * {n} < mcc" for n in range(1, 200)]
    # Shared by all rules: amount and mcc. Held besides: two operands and a destination.
    assert plan_of(*rules).before_models.register_count == 5


def test_columns_of_a_slot() -> None:
    plan = plan_of("terminal.sum(amount, '7d', delay='1d', where=channel == 'pos')")
    row = plan.slots[0]
    assert plan.entities[int(row[SlotField.ENTITY])].name == "terminal"
    assert row[SlotField.AGGREGATE] == Aggregate.SUM
    assert row[SlotField.VALUE] == Cell.AMOUNT
    assert row[SlotField.WINDOW_MS] == 7 * DAY_MS
    assert row[SlotField.DELAY_MS] == DAY_MS
    assert row[SlotField.INCLUDING_CURRENT] == 0
    assert plan.terms.tolist() == [[Cell.CHANNEL, Comparison.EQ, code_of("pos"), 1]]
    assert plan.slot_texts == ('terminal.sum(amount, "7d", where=channel == "pos", delay="1d")',)
    assert (plan.reach_ms, plan.event_cap) == (90 * DAY_MS, 4096)


@pytest.mark.parametrize(
    ("condition", "terms"),
    [
        ("amount > 5", [(Cell.AMOUNT, Comparison.GT, 500)]),
        ("amount > 5.005", [(Cell.AMOUNT, Comparison.GT, 500)]),
        ("amount >= 5.005", [(Cell.AMOUNT, Comparison.GE, 501)]),
        ("amount < 5.005", [(Cell.AMOUNT, Comparison.LT, 501)]),
        ("5.005 >= amount", [(Cell.AMOUNT, Comparison.LE, 500)]),
        ("amount == 0.07", [(Cell.AMOUNT, Comparison.EQ, 7)]),
        ("lat == 52.520008", [(Cell.LAT, Comparison.EQ, 52_520_008)]),
        ("balance > -0.01", [(Cell.BALANCE, Comparison.GT, -1)]),
        # No term but `is_missing` holds for a missing cell: `!=` and `<` need nothing beside them.
        ("mcc != 5", [(Cell.MCC, Comparison.NE, 5)]),
        ("mcc < 5", [(Cell.MCC, Comparison.LT, 5)]),
        ("is_missing(mcc)", [(Cell.MCC, Comparison.EQ, MISSING)]),
        ("not is_missing(mcc)", [(Cell.MCC, Comparison.GT, MISSING)]),
        ("fraud", [(Cell.LABEL, Comparison.EQ, LabelCode.FRAUD)]),
        ("label != genuine", [(Cell.LABEL, Comparison.NE, LabelCode.LEGITIMATE)]),
    ],
)
def test_terms_in_stored_units(condition: str, terms: list[tuple[int, int, int]]) -> None:
    plan = plan_of(f"customer.count('1h', where={condition})")
    assert plan.terms.tolist() == [[*map(int, term), 1] for term in terms]
    assert plan.slots[0, SlotField.TERM_TO] == len(terms)


def test_kept_cells() -> None:
    plan = plan_of(
        "customer.count('1h', where=mcc == 5)",
        "customer.seen(merchant_id, '1h')",
        "terminal.rate(fraud, '7d')",
        "speed_kmh(card)",
    )
    lead = (Cell.TS_MS, Cell.EVENT_ID, Cell.LABEL)
    assert [(entity.name, entity.kept) for entity in plan.entities] == [
        # The terminal's labels are joined through the customer, who keeps the terminal's key.
        ("customer", (*lead, Cell.MERCHANT_ID, Cell.TERMINAL_ID, Cell.MCC)),
        ("card", (*lead, Cell.CHANNEL, Cell.LAT, Cell.LON)),  # CHANNEL is declared `keep`
        ("terminal", lead),
        ("device", lead),
    ]


def test_the_customers_own_key_is_not_kept() -> None:
    plan = plan_of("customer.count('1h', where=fraud)")
    assert plan.entities[0].kept == (Cell.TS_MS, Cell.EVENT_ID, Cell.LABEL)


def test_outputs_that_read_models_come_after_them() -> None:
    plan = plan_of("amount", "model.fraud + profile.assets", "profile.assets", "1 > model.lapse")
    assert plan.before_models.outputs == {"0": 0, "2": 1}
    assert plan.after_models.outputs == {"1": 0, "3": 1}
    assert plan.externals == ("model.fraud", "profile.assets", "model.lapse")
    assert operations(plan.before_models).count("EXTERNAL") == 1


def test_empty_plan_and_empty_batch() -> None:
    empty = plan_of()
    none = np.empty((0, 0))
    assert evaluate(empty.before_models, empty_cells(0), none, none).shape == (0, 0)
    assert evaluate(empty.before_models, empty_cells(3), np.empty((0, 3)), np.empty((0, 3))).shape \
        == (0, 3)  # fmt: skip
    plan = plan_of("card.count('1h') > 1 and hour() > profile.assets", "country in ['DE']")
    values = evaluate(plan.before_models, empty_cells(0), np.empty((1, 0)), np.empty((1, 0)))
    assert values.shape == (2, 0)


def test_inputs_of_the_wrong_shape_are_refused() -> None:
    plan = plan_of("card.count('1h') > profile.assets", "distance_km(card)")
    cells = empty_cells(2)
    slots, externals = np.ones((len(plan.slots), 2)), np.ones((1, 2))
    for wrong in ((slots[:0], externals), (slots, externals[:0]), (slots[:1], externals)):
        with pytest.raises(ValueError, match="reads a row that the inputs do not have"):
            evaluate(plan.before_models, cells, *wrong)
    with pytest.raises(ValueError, match="of n columns"):
        evaluate(plan.before_models, cells, slots[:, :1], externals)


def test_inputs_may_be_views() -> None:
    plan = plan_of("amount + card.count('1h')")
    cells = empty_cells(4)
    cells[Cell.AMOUNT] = [100, 200, 300, 400]
    slots = np.arange(4.0).reshape(1, 4)
    got = evaluate(plan.before_models, cells[:, ::2], slots[:, ::2], np.empty((0, 2)))
    assert got.tolist() == [[1.0, 5.0]]


@given(texts=st.lists(expression_texts, min_size=1, max_size=5))
def test_compiling_is_deterministic_and_types_agree(texts: list[str]) -> None:
    first, second = plan_of(*texts), plan_of(*texts)
    assert first.before_models.code.tobytes() == second.before_models.code.tobytes()
    assert first.after_models.code.tobytes() == second.after_models.code.tobytes()
    assert first.slots.tobytes() == second.slots.tobytes()
    assert first.slot_texts == second.slot_texts
    assert len(set(first.slot_texts)) == len(first.slots)
    for program in (first.before_models, first.after_models):
        loads = program.code[program.code[:, 0] == Opcode.SLOT][:, 2]
        assert len(set(loads.tolist())) == len(loads)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount", Type.MONEY),
        ("amount * 2 + 1", Type.MONEY),
        ("amount / customer.mean(amount, '7d')", Type.NUMBER),
        ("amount * amount", Type.NUMBER),
        ("max(amount, 5)", Type.MONEY),
        ("profile.assets", Type.MONEY),
        ("profile.corporate", Type.BOOL),
        ("card.since()", Type.DURATION),
        ("card.since() / '1h'", Type.NUMBER),
        ("'1h' if mcc > 1 else card.since()", Type.DURATION),
        ("card.seen(country, '7d')", Type.BOOL),
        ("amount if mcc > 1 else 0", Type.MONEY),
    ],
)
def test_types(text: str, expected: Type) -> None:
    assert expression_type(ExpressionText(text, "p.yaml", 1, 1), DECLARATIONS) is expected


def test_durations() -> None:
    spelt = {"5ms": 5, "30s": 30_000, "10m": 600_000, "24h": DAY_MS, "7d": 7 * DAY_MS}
    assert {text: duration_ms(text) for text in spelt} == spelt
    assert duration_ms("1w") == 7 * DAY_MS
    assert [duration_ms(text) for text in ("", "10", "m", "1.5h", "-1h", "1 h", "1y")] == [None] * 7
    assert [duration_text(ms) for ms in (5, 90_000, DAY_MS, 7 * DAY_MS)] == [
        "5ms", "90s", "1d", "7d",
    ]  # fmt: skip


def test_every_opcode_has_its_number_in_the_walker() -> None:
    """The walker spells the numbers out for Numba; each must be an opcode that expressions use."""
    used = plan_of(
        "((amount + mcc) * (amount - mcc) / (lat % lon)) ** 2 < min(mcc, max(lat, lon))",
        "coalesce(mcc, lat) <= lon or lat == lon or (lat != lon and not mcc > 1)",
        "(mcc + 1) * 2 / 3 < 1 and mcc <= 1 and mcc > 1 and mcc >= 1 and mcc == 1 and mcc != 1",
        "mcc in [1] or mcc not in [1] or is_missing(country) or is_missing(mcc)",
        "country == 'DE' or country != 'DE' or merchant_id == payee_id or ip != device_id",
        "country in ['DE'] or country not in ['DE']",
        "-abs(log1p(sqrt(floor(amount)))) if hour() > weekday() else day_of_month() + 1",
        "speed_kmh(card) + profile.age_years + coalesce(1, 2)",
    )
    assert set(operations(used.before_models)) == {opcode.name for opcode in Opcode}
