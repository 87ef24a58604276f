"""What a slot asks for, read from a plan's tables."""

from features.kernels.conditions import Condition, cells_of, condition_of
from features.plan import Aggregate, Plan, SlotField

_RUNS = (Aggregate.STREAK, Aggregate.STREAK_AGE)
_OF_EVENTS = (Aggregate.COUNT, *_RUNS)  # aggregates of the events themselves, not of a value


def value_of(plan: Plan, slot: int) -> int:
    """Return the cell that a slot aggregates; some aggregates have none, whatever the plan says."""
    if plan.slots[slot, SlotField.AGGREGATE] in _OF_EVENTS:
        return -1
    return int(plan.slots[slot, SlotField.VALUE])


def where_of(plan: Plan, slot: int) -> Condition:
    """Return which events of the window a slot takes."""
    row = plan.slots[slot]
    return condition_of(plan, int(row[SlotField.TERM_FROM]), int(row[SlotField.TERM_TO]))


def run_of(plan: Plan, slot: int) -> Condition:
    """Return what every event of a run meets; empty for a slot that isn't about runs."""
    row = plan.slots[slot]
    if row[SlotField.AGGREGATE] not in _RUNS:
        return ()
    return condition_of(plan, int(row[SlotField.RUN_FROM]), int(row[SlotField.RUN_TO]))


def cells_read(plan: Plan, slot: int) -> set[int]:
    """Return the cells of stored events that a slot reads."""
    cells = cells_of((*where_of(plan, slot), *run_of(plan, slot)))
    value = value_of(plan, slot)
    return cells if value < 0 else cells | {value}
