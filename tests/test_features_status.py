"""What an output depends on, and what is said of a value that may miss something."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies_expressions import DECLARATIONS, expression_texts

from features.columns import Cell, Cells, empty_cells
from features.expressions import ExpressionText, compile_plan
from features.histories import Features
from features.kernels.walker import evaluate
from features.plan import Plan
from features.status import Status, output_statuses, slot_divisors, slot_statuses

NAN, INF = math.nan, math.inf
COUNT_1H, COUNT_7D = "card.count('1h')", "card.count('7d')"
MEAN = "customer.mean(amount, '1d')"
TOTAL = "customer.sum(amount, '1d')"


def plan_of(*texts: str) -> Plan:
    named = {text: ExpressionText(text, "p.yaml", 1, 1) for text in texts}
    return compile_plan(named, DECLARATIONS)


@given(st.lists(expression_texts, min_size=2, max_size=4, unique=True))
def test_an_output_reads_the_slots_that_it_has_when_compiled_alone(texts: list[str]) -> None:
    plan = plan_of(*texts)
    assume(not plan.values)  # what was kept with events before is not followed
    for program in (plan.before_models, plan.after_models):
        assert program.reads.keys() == program.outputs.keys()
        for text, slots in program.reads.items():
            assert list(slots) == sorted(set(slots))
            found = sorted(plan.slot_texts[slot] for slot in slots)
            assert found == sorted(plan_of(text).slot_texts)


@pytest.mark.parametrize(
    ("text", "of_record"),
    [
        (f"{COUNT_1H} > 3", False),
        (f"hour() + {COUNT_1H}", False),
        (f"log1p({MEAN}) / {COUNT_1H}", False),
        (f"amount / {MEAN}", True),
        ("channel == 'pos'", True),
        ("device_id in ['D1', 'D2']", True),
        ("is_missing(merchant_id)", True),
        ("speed_kmh(card)", True),
        (f"{COUNT_1H} if profile.assets > 5 else 0", True),
    ],
)
def test_outputs_that_read_the_record_are_known(text: str, of_record: bool) -> None:
    program = plan_of(text, COUNT_7D).before_models
    assert program.of_record == ({text} if of_record else set())


def one_row(
    plan: Plan, slots: dict[str, float], errors: dict[str, float]
) -> tuple[Cells, Features]:
    cells = empty_cells(1)
    cells[Cell.AMOUNT] = 1_000
    values = [slots.get(text.replace('"', "'"), NAN) for text in plan.slot_texts]
    bounds = [errors.get(text.replace('"', "'"), 0.0) for text in plan.slot_texts]
    return cells, Features(column(*values), column(*bounds))


def column(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64).reshape(-1, 1)


@pytest.mark.parametrize(
    ("text", "slots", "errors", "status", "bound"),
    [
        (COUNT_1H, {COUNT_1H: 3.0}, {}, Status.EXACT, 0.0),
        (COUNT_1H, {COUNT_1H: 3.0}, {COUNT_7D: INF}, Status.EXACT, 0.0),
        (COUNT_1H, {COUNT_1H: 3.0}, {COUNT_1H: 2.0}, Status.APPROXIMATE, 2.0),
        # 250 minor units off are 2.5 major ones; a mean is in major ones already.
        (TOTAL, {TOTAL: 400.0}, {TOTAL: 250.0}, Status.APPROXIMATE, 2.5),
        (MEAN, {MEAN: 4.0}, {MEAN: 2.5}, Status.APPROXIMATE, 2.5),
        (MEAN, {}, {}, Status.ABSENT, 0.0),
        # Undefined over what is left of the window: nobody knows whether it was empty.
        (MEAN, {}, {MEAN: INF}, Status.APPROXIMATE, INF),
        (f"coalesce({MEAN}, 0)", {}, {}, Status.EXACT, 0.0),
        (f"coalesce({MEAN}, 0)", {}, {MEAN: INF}, Status.APPROXIMATE, INF),
        (f"{COUNT_1H} + {COUNT_7D}", {COUNT_1H: 1, COUNT_7D: 2}, {COUNT_7D: 1.0},
         Status.APPROXIMATE, INF),
        ("amount > 5", {}, {COUNT_1H: INF}, Status.EXACT, 0.0),
    ],
)  # fmt: skip
def test_an_output_is_as_uncertain_as_the_slots_behind_it(
    text: str, slots: dict[str, float], errors: dict[str, float], status: Status, bound: float
) -> None:
    plan = plan_of(*dict.fromkeys((text, COUNT_1H, COUNT_7D)))
    cells, features = one_row(plan, slots, errors)
    values = evaluate(plan.before_models, cells, features.values, np.zeros((0, 1)))
    found = output_statuses(plan.before_models, values, features)
    row = plan.before_models.outputs[text]
    assert (found.codes[row, 0], found.bounds[row, 0]) == (status, bound)


@given(
    st.integers(0, 50), st.integers(0, 50), st.integers(0, 9), st.integers(0, 9),
    st.integers(-9, 9), st.integers(-9, 9),
)  # fmt: skip
def test_a_rate_is_no_further_from_the_truth_than_its_counts_allow(
    some: int, rest: int, some_error: int, all_error: int, some_off: int, all_off: int
) -> None:
    text, met = "card.share(amount < 5, '1h')", "card.count('1h', where=amount < 5)"
    every = some + rest
    truth_some, truth_every = some + some_off, every + all_off
    assume(abs(some_off) <= some_error and abs(all_off) <= all_error)
    assume(0 <= truth_some <= truth_every and truth_every > 0)
    plan = plan_of(text, met, COUNT_1H)
    cells, features = one_row(
        plan, {met: some, COUNT_1H: every}, {met: some_error, COUNT_1H: all_error}
    )
    values = evaluate(plan.before_models, cells, features.values, np.zeros((0, 1)))
    found = output_statuses(plan.before_models, values, features)
    row = plan.before_models.outputs[text]
    bound = found.bounds[row, 0]
    assert math.isfinite(bound) == (every > all_error or some_error == all_error == 0)
    if math.isfinite(bound):
        assert abs(values[row, 0] - truth_some / truth_every) <= bound
    if some_error == all_error == 0:
        assert (found.codes[row, 0], bound) == (Status.EXACT, 0.0)


def test_every_row_has_a_status_of_its_own() -> None:
    plan = plan_of(MEAN)
    errors = np.array([[0.0, 0.0, INF]])
    values = np.array([[4.0, NAN, 4.0]])
    features = Features(values * 100, errors)
    codes = output_statuses(plan.before_models, values, features).codes
    assert codes.tolist() == [[Status.EXACT, Status.ABSENT, Status.APPROXIMATE]]
    assert slot_statuses(features).codes.tolist() == codes.tolist()


def test_a_part_from_elsewhere_makes_a_value_stale_unless_it_is_worse() -> None:
    plan = plan_of(MEAN, f"{COUNT_1H} + hour()")
    values = np.ones((2, 3))
    errors = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    ages_ms = np.array([[0.0, 20.0, 20.0], [0.0, 0.0, 5.0]])
    codes = output_statuses(plan.before_models, values, Features(values, errors), ages_ms).codes
    assert codes.tolist() == [
        [Status.EXACT, Status.STALE, Status.APPROXIMATE],
        [Status.EXACT, Status.EXACT, Status.STALE],
    ]


def test_slots_are_known_in_the_unit_of_expressions() -> None:
    plan = plan_of(f"{MEAN} > 3", TOTAL, COUNT_1H)
    divisors = slot_divisors(plan.before_models, plan.after_models)
    by_text = {plan.slot_texts[slot]: divisor for slot, divisor in divisors.items()}
    assert by_text == {
        'customer.mean(amount, "1d")': 1.0,  # the slot divides by cents and count at once
        'customer.sum(amount, "1d")': 100.0,
        'card.count("1h")': 1.0,
    }
