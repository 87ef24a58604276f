"""The shape of plans that look into histories: clauses, kinds, kept values and their stages."""

import dataclasses
import hashlib
from itertools import product

import numpy as np
import pytest
from oracles_slots import COMPARE
from strategies_expressions import DECLARATIONS

from features.codes import code_of
from features.columns import MISSING, Cell, Kind, LabelCode
from features.expressions import ExpressionText, compile_plan
from features.expressions.clauses import Term, conjunction, disjunction, identity
from features.plan import Aggregate, Comparison, Plan, SlotField

DAY_MS = 86_400_000
LEAD = (Cell.TS_MS, Cell.EVENT_ID, Cell.LABEL)
EQ, NE, LT, LE, GT, GE = Comparison


def plan_of(*texts: str, **lets: str) -> Plan:
    outputs = {str(i): ExpressionText(text, "p.yaml", 1, 1) for i, text in enumerate(texts)}
    named = {name: ExpressionText(text, "lets.yaml", 1, 1) for name, text in lets.items()}
    return compile_plan(outputs, dataclasses.replace(DECLARATIONS, lets=named))


def column(plan: Plan, field: SlotField) -> list[int]:
    return plan.slots[:, field].tolist()


@pytest.mark.parametrize(
    ("texts", "slot_count"),
    [
        (("customer.median(amount, '1d')", "customer.quantile(amount, 0.50, '24h')"), 1),
        (("customer.quantile(amount, 0.5, '1d')", "customer.quantile(amount, 0.51, '1d')"), 2),
        (("customer.ewma(amount, '7d', '30d')",
          "customer.ewma(amount, window='30d', half_life='1w')"), 1),
        (("customer.ewma(amount, '7d', '30d')", "customer.ewma(amount, '8d', '30d')"), 2),
        (("terminal.streak(fraud)", "terminal.streak(label == fraud, '90d')"), 1),
        (("terminal.streak(fraud)", "terminal.streak(genuine)", "terminal.streak_age(fraud)"), 3),
        # The current event is none of an outcome's history: nothing to include or leave out.
        (("customer.count('1d', of=outcome)",
          "customer.count('1d', of=outcome, including_current=False)"), 1),
        (("customer.count('1d', of=interaction)",
          "customer.count('1d', of=interaction, including_current=False)"), 2),
        (("customer.count('1d')", "customer.count('1d', of=transaction)"), 1),
        (("customer.top(mcc, '1d') == mcc", "mcc != customer.top(mcc, '1d')"), 1),
        (("is_missing(customer.top(mcc, '1d'))",
          "customer.count('1d', where=not is_missing(mcc))"), 1),
    ],
)  # fmt: skip
def test_equal_aggregates_share_a_slot(texts: tuple[str, ...], slot_count: int) -> None:
    plan = plan_of(*texts)
    assert len(plan.slots) == len(plan.slot_texts) == len(set(plan.slot_texts)) == slot_count


@pytest.mark.parametrize(
    ("condition", "same"),
    [
        ("not (fraud or mcc == 5)", "label != fraud and not mcc == 5"),
        ("not (fraud and mcc == 5)", "label != fraud or mcc != 5 or is_missing(mcc)"),
        ("mcc in [5, 6]", "mcc == 6 or mcc == 5"),
        ("mcc not in [5, 6]", "mcc != 6 and 5 != mcc"),
        ("not mcc in [5, 6]", "not mcc == 5 and not mcc == 6"),
        ("not mcc not in [5, 6]", "mcc in (6, 5) or is_missing(mcc)"),
        ("not not fraud", "fraud"),
        ("not amount > 5", "amount <= 5"),  # an amount is never missing
        ("not 0 < mcc < 5", "mcc <= 0 or mcc >= 5 or is_missing(mcc)"),
        ("not is_missing(mcc) and fraud", "fraud and not is_missing(mcc)"),
        ("fraud or (mcc > 1 and lat > 1)", "(fraud or mcc > 1) and (lat > 1 or fraud)"),
        ("fraud and (fraud or mcc > 1)", "fraud"),  # the second clause says nothing more
        ("merchant_id in lists.watched", 'merchant_id in ["M9", "M1"]'),
    ],
)
def test_equal_conditions_have_one_form(condition: str, same: str) -> None:
    plan = plan_of(f"card.count('1h', where={condition})", f"card.count('1h', where={same})")
    assert len(plan.slots) == 1


def test_clauses_by_hand() -> None:
    plan = plan_of("customer.count('1d', where=(fraud or not mcc > 5) and channel == 'pos')")
    assert plan.terms.tolist() == [
        [Cell.CHANNEL, EQ, code_of("pos"), 1],
        [Cell.MCC, EQ, MISSING, 0],
        [Cell.MCC, LE, 5, 0],
        [Cell.LABEL, EQ, LabelCode.FRAUD, 1],
    ]
    assert plan.slot_texts == (
        'customer.count("1d", where=channel == "pos" and '
        "(is_missing(mcc) or mcc <= 5 or label == fraud))",
    )


def test_conditions_in_normal_form_say_the_same() -> None:
    """All truth tables of two levels over three terms, one of a cell that may be missing."""
    a, b, c = (((Term(cell, GT, 0, "x"),),) for cell in (0, 1, 2))
    for outer, inner in product((conjunction, disjunction), repeat=2):
        combined = identity(outer(a, inner(b, c), inner(c, a, b)))
        both = {conjunction: all, disjunction: any}
        for cells in product((0, 1, MISSING), repeat=3):
            x, y, z = (cell != MISSING and cell > 0 for cell in cells)
            found = all(
                any(
                    cells[cell] != MISSING and COMPARE[Comparison(op)](cells[cell], constant)
                    for cell, op, constant in clause
                )
                for clause in combined
            )
            assert found == both[outer]((x, both[inner]((y, z)), both[inner]((z, x, y))))


def test_columns_of_the_new_aggregates() -> None:
    plan = plan_of(
        "customer.quantile(amount, 0.999999, '1d')",
        "card.ewma(amount, '12h', '7d', delay='1d')",
        "terminal.streak(fraud and mcc == 5, where=amount > 1)",
        "customer.top(country, '1d') == country",
        "terminal.trend(amount, '1d')",
    )
    assert column(plan, SlotField.AGGREGATE) == [
        Aggregate.QUANTILE, Aggregate.EWMA, Aggregate.STREAK, Aggregate.TOP, Aggregate.TREND,
    ]  # fmt: skip
    assert column(plan, SlotField.PARAMETER) == [999_999, DAY_MS // 2, 0, 0, 0]
    assert column(plan, SlotField.MATCH) == [-1, -1, -1, Cell.COUNTRY, -1]
    assert column(plan, SlotField.VALUE) == [
        Cell.AMOUNT, Cell.AMOUNT, -1, Cell.COUNTRY, Cell.AMOUNT,
    ]  # fmt: skip
    runs = zip(column(plan, SlotField.RUN_FROM), column(plan, SlotField.RUN_TO), strict=True)
    assert list(runs) == [(0, 0), (0, 0), (1, 3), (0, 0), (0, 0)]
    assert plan.terms.tolist() == [
        [Cell.AMOUNT, GT, 100, 1], [Cell.MCC, EQ, 5, 1], [Cell.LABEL, EQ, LabelCode.FRAUD, 1],
    ]  # fmt: skip
    assert plan.slot_texts == (
        'customer.quantile(amount, 0.999999, "1d")',
        'card.ewma(amount, "12h", "7d", delay="1d")',
        'terminal.streak(mcc == 5 and label == fraud, "90d", where=amount > 1)',
        'customer.top(country, "1d") == country',
        'terminal.trend(amount, "1d")',
    )


def test_histories_of_other_kinds() -> None:
    plan = plan_of(
        "device.count('1d', of=interaction, where=type == 'login' or value > 1.5)",
        "customer.distinct(offer, '7d', of=contact)",
        "customer.rate(fraud, '7d', of=label)",
        "customer.sum(amount, '7d', of=outcome, where=result == 'converted')",
        "device.mean(value, '7d', of=interaction)",
    )
    declared = ["customer", "card", "terminal", "device"]
    assert [entity.name for entity in plan.entities] == [
        *declared, "device@interaction", "customer@contact", "customer@label", "customer@outcome",
    ]  # fmt: skip
    kept = {entity.name: entity.kept[len(LEAD) :] for entity in plan.entities}
    assert kept == {
        # Verdicts of the label's own history are its own: no key is kept to join them.
        "customer": (), "card": (Cell.CHANNEL,), "terminal": (), "device": (),
        "device@interaction": (Cell.TYPE, Cell.VALUE),
        "customer@contact": (Cell.OFFER,),
        "customer@label": (),
        "customer@outcome": (Cell.AMOUNT, Cell.RESULT),
    }  # fmt: skip
    assert all(entity.kept[: len(LEAD)] == LEAD for entity in plan.entities)
    assert [entity.kind for entity in plan.entities] == [
        *[Kind.TRANSACTION] * 4, Kind.INTERACTION, Kind.CONTACT, Kind.LABEL, Kind.OUTCOME,
    ]  # fmt: skip
    shared = {entity.name: (entity.shared, entity.key) for entity in plan.entities}
    assert shared["device@interaction"] == (True, Cell.DEVICE_ID)
    assert shared["customer@contact"] == (False, Cell.CUSTOMER_ID)
    assert [Cell.VALUE, GT, 1_500_000, 1] in plan.terms.tolist()
    assert plan.slot_texts[1] == 'customer.distinct(offer, "7d", of=contact)'


def test_labels_in_a_streak_keep_the_key_too() -> None:
    plan = plan_of("terminal.streak(fraud)", "terminal.count('1h')")
    assert plan.entities[0].kept == (*LEAD, Cell.TERMINAL_ID)


LETS = {
    "ratio": "amount / customer.median(amount, '90d')",
    "high": "ratio > 3",
    "risen": "ratio - customer.max(ratio, '14d')",
    "pause": "card.since()",
}


def test_only_what_an_aggregate_reads_is_kept() -> None:
    plan = plan_of("ratio > 2 and high", "customer.count('1d', where=pause > '1h')", **LETS)
    (pause,) = plan.values
    assert (pause.name, pause.cell, pause.scale) == ("pause", len(Cell), 1)
    assert [list(program.outputs) for program in plan.stages] == [["pause"]]
    assert plan.entities[0].kept == (*LEAD, Cell.AMOUNT, len(Cell))  # the amount for the median
    assert plan.terms.tolist() == [[len(Cell), GT, 3_600_000, 1]]


def test_a_name_is_its_value_and_computed_once() -> None:
    spelt = f"{LETS['ratio']} > 2"
    plan, same = plan_of("ratio > 2", spelt, **LETS), plan_of(spelt, spelt)
    assert plan.before_models.code.tobytes() == same.before_models.code.tobytes()
    assert plan.slots.tobytes() == same.slots.tobytes()
    assert (plan.values, plan.stages) == ((), ())


def test_slots_over_kept_values_come_in_later_stages() -> None:
    plan = plan_of(
        "customer.max(risen, '14d')", "card.share(high, '1d')", "customer.mean(ratio, '1d')", **LETS
    )
    stage = dict(zip(plan.slot_texts, column(plan, SlotField.STAGE), strict=True))
    assert stage == {
        'customer.quantile(amount, 0.5, "90d")': 0,
        'customer.max(ratio, "14d")': 1,  # reads `ratio`, known after stage 0
        'customer.max(risen, "14d")': 2,  # reads `risen`, known after stage 1
        'card.count("1d", where=high)': 1,
        'card.count("1d")': 0,
        'customer.mean(ratio, "1d")': 1,
    }
    assert [set(program.outputs) for program in plan.stages] == [{"ratio", "high"}, {"risen"}]
    assert [kept.name for kept in plan.values] == ["ratio", "risen", "high"]
    assert [kept.cell for kept in plan.values] == [len(Cell), len(Cell) + 1, len(Cell) + 2]
    assert [kept.scale for kept in plan.values] == [1_000_000, 1_000_000, 1]
    assert plan.entities[0].kept == (*LEAD, Cell.AMOUNT, len(Cell), len(Cell) + 1)
    assert plan.entities[1].kept == (*LEAD, Cell.CHANNEL, len(Cell) + 2)


def test_a_value_without_slots_is_known_at_once() -> None:
    plan = plan_of("customer.sum(double, '1d')", double="amount * 2")
    assert column(plan, SlotField.STAGE) == [1]
    assert [list(program.outputs) for program in plan.stages] == [["double"]]


def fingerprint(text: str, **lets: str) -> int:
    return plan_of("customer.distinct(x, '1d')", x=text, **lets).values[0].fingerprint


def test_fingerprints_tell_definitions_apart_and_nothing_else() -> None:
    whole = fingerprint("amount / customer.mean(amount, '30d') > 3")
    assert fingerprint("(amount\n  / customer.mean( amount , '30d' )) > 3  # high") == whole
    inner = {"usual": "customer.mean(amount, '30d')", "ratio": "amount / usual"}
    assert fingerprint("ratio > 3", **inner) == whole
    renamed = {"mean": inner["usual"], "share": "amount / mean"}
    assert fingerprint("share > 3", **renamed) == whole
    others = [
        "amount / customer.mean(amount, '31d') > 3",
        "amount / customer.mean(amount, '30d') > 4",
        "amount / customer.mean(amount, '30d') >= 3",
        "amount / card.mean(amount, '30d') > 3",
        "amount / customer.max(amount, '30d') > 3",
        "customer.mean(amount, '30d') / amount > 3",
    ]
    found = [whole, *map(fingerprint, others)]
    assert len(set(found)) == len(found)
    assert all(0 <= number < 2**63 for number in found)


def test_a_fingerprint_by_hand() -> None:
    """Stored histories hold it: what makes it must not change."""
    digest = hashlib.blake2b(b"Constant" + b"value=" + b"1" + b";", digest_size=8).digest()
    assert fingerprint("1") == int.from_bytes(digest, "big") // 2


def test_the_repeat_horizon_is_handed_on() -> None:
    declarations = dataclasses.replace(DECLARATIONS, repeat_horizon_ms=DAY_MS)
    assert compile_plan({}, declarations).repeat_horizon_ms == DAY_MS
    assert compile_plan({}, DECLARATIONS).repeat_horizon_ms == 0


def test_many_names_do_not_nest_too_deeply() -> None:
    lets = {"n0": "amount"} | {f"n{i}": f"n{i - 1} + 1" for i in range(1, 600)}
    plan = plan_of("customer.max(n599, '1d')", **lets)
    assert plan.values[0].name == "n599"
    doubled = {"d0": "amount"} | {f"d{i}": f"d{i - 1} + d{i - 1}" for i in range(1, 64)}
    assert len(plan_of("d63", **doubled).before_models.code) == 1 + 63 + 1  # shared, not copied
    assert np.unique([fingerprint(f"d{i}", **doubled) for i in (0, 1, 63)]).size == 3
