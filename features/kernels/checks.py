"""What a plan must keep to for the kernels to walk it."""

from features.columns import Cell
from features.kernels.asked import cells_read, value_of
from features.kernels.order import MILLIONTHS
from features.plan import Aggregate, Plan, SlotField

_KEPT_MAX = 62  # the highest cell that fits the bitmaps of kept cells
_LEAD = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))
_WITHOUT_VALUE = (Aggregate.COUNT, Aggregate.SINCE, Aggregate.STREAK, Aggregate.STREAK_AGE)


def check(plan: Plan) -> None:
    """Raise ValueError where the plan contradicts itself."""
    if plan.event_cap < 1:
        raise ValueError(f"event_cap: expected at least 1, got {plan.event_cap}")
    for entity in plan.entities:
        rest = [int(cell) for cell in entity.kept[3:]]
        valid = tuple(entity.kept[:3]) == _LEAD and rest == sorted(set(rest) - set(_LEAD))
        if not valid or any(not 0 <= cell <= _KEPT_MAX for cell in rest):
            raise ValueError(
                f"entity {entity.name}: expected kept cells {_LEAD} and then ascending cells "
                f"from 0 to {_KEPT_MAX}, got {entity.kept}"
            )
    for slot, row in enumerate(plan.slots.tolist()):
        try:
            _check_slot(plan, slot, row)
        except ValueError as error:
            raise ValueError(f"slot `{plan.slot_texts[slot]}`: {error}") from None


def _check_slot(plan: Plan, slot: int, row: list[int]) -> None:
    number, aggregate = row[SlotField.ENTITY], Aggregate(row[SlotField.AGGREGATE])
    if not 0 <= number < len(plan.entities):
        raise ValueError(f"expected one of {len(plan.entities)} entities, got {number}")
    if row[SlotField.WINDOW_MS] < 0 or row[SlotField.DELAY_MS] < 0:
        raise ValueError("expected a window and delay of at least 0 ms")
    if value_of(plan, slot) < 0 and aggregate not in _WITHOUT_VALUE:
        raise ValueError("expected a cell to aggregate, got none")
    lacking = sorted(cells_read(plan, slot) - set(plan.entities[number].kept))
    if lacking:
        names = ", ".join(_cell_name(plan, cell) for cell in lacking)
        raise ValueError(f"entity {plan.entities[number].name} doesn't keep {names}")
    parameter, match = row[SlotField.PARAMETER], row[SlotField.MATCH]
    if aggregate == Aggregate.QUANTILE and not 0 <= parameter <= MILLIONTHS:
        raise ValueError(f"expected a share of 0 to {MILLIONTHS} millionths, got {parameter}")
    if aggregate == Aggregate.EWMA and parameter < 1:
        raise ValueError(f"expected a half-life of at least 1 ms, got {parameter}")
    if aggregate == Aggregate.TOP and not 0 <= match < len(Cell) + len(plan.values):
        raise ValueError(f"expected a cell of the record to match, got {match}")


def _cell_name(plan: Plan, cell: int) -> str:
    """Return what a cell is called: a field's, or that of a kept value."""
    names = {value.cell: value.name for value in plan.values} | {int(c): c.name for c in Cell}
    return names.get(cell, str(cell))
