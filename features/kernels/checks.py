"""What a plan must keep to for the kernels to walk it."""

from features.columns import Cell, Kind
from features.kernels.asked import cells_read, value_of
from features.kernels.opcodes import Opcode
from features.kernels.order import MILLIONTHS
from features.plan import Aggregate, Entity, Plan, Program, SlotField

_REMEMBERED = (Kind.TRANSACTION, Kind.LABEL, Kind.INTERACTION, Kind.OUTCOME, Kind.CONTACT)
_KEPT_MAX = 62  # the highest cell that fits the bitmaps of kept cells
_LEAD = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))
_SCALED = (Aggregate.MEAN, Aggregate.STD)
_WITHOUT_VALUE = (Aggregate.COUNT, Aggregate.SINCE, Aggregate.STREAK, Aggregate.STREAK_AGE)


def check(plan: Plan) -> None:
    """Raise ValueError where the plan contradicts itself."""
    if plan.event_cap < 1:
        raise ValueError(f"event_cap: expected at least 1, got {plan.event_cap}")
    if plan.repeat_horizon_ms < 0:
        raise ValueError(f"repeat_horizon_ms: expected at least 0, got {plan.repeat_horizon_ms}")
    cells = [value.cell for value in plan.values]
    if cells != list(range(len(Cell), len(Cell) + len(cells))):
        raise ValueError(f"kept values: expected cells from {len(Cell)} on, got {cells}")
    if len(Cell) + len(cells) - 1 > _KEPT_MAX:
        raise ValueError(f"expected at most {_KEPT_MAX - len(Cell) + 1} kept values")
    for entity in plan.entities:
        _check_entity(plan, entity)
    for stage, program in enumerate(plan.stages):
        try:
            _check_stage(plan, stage, program)
        except ValueError as error:
            raise ValueError(f"stage {stage}: {error}") from None
    for slot, row in enumerate(plan.slots.tolist()):
        try:
            _check_slot(plan, slot, row)
        except ValueError as error:
            raise ValueError(f"slot `{plan.slot_texts[slot]}`: {error}") from None
    _check_scales(plan)


def _check_entity(plan: Plan, entity: Entity) -> None:
    if entity.kind not in _REMEMBERED:
        names = ", ".join(kind.name for kind in _REMEMBERED)
        raise ValueError(f"entity {entity.name}: expected one of {names}, got {entity.kind.name}")
    rest = [int(cell) for cell in entity.kept[3:]]
    valid = tuple(entity.kept[:3]) == _LEAD and rest == sorted(set(rest) - set(_LEAD))
    last = min(_KEPT_MAX, len(Cell) + len(plan.values) - 1)
    if not valid or any(not 0 <= cell <= last for cell in rest):
        raise ValueError(
            f"entity {entity.name}: expected kept cells {_LEAD} and then ascending cells "
            f"from 0 to {last}, got {entity.kept}"
        )


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
    if row[SlotField.STAGE] < 0:
        raise ValueError(f"expected a stage of at least 0, got {row[SlotField.STAGE]}")
    parameter, match = row[SlotField.PARAMETER], row[SlotField.MATCH]
    if aggregate == Aggregate.QUANTILE and not 0 <= parameter <= MILLIONTHS:
        raise ValueError(f"expected a share of 0 to {MILLIONTHS} millionths, got {parameter}")
    if aggregate == Aggregate.EWMA and parameter < 1:
        raise ValueError(f"expected a half-life of at least 1 ms, got {parameter}")
    if aggregate == Aggregate.TOP and not 0 <= match < len(Cell) + len(plan.values):
        raise ValueError(f"expected a cell of the record to match, got {match}")
    ready = {
        plan.values[i].cell
        for i, stage in enumerate(_stages_of_values(plan))
        if stage is not None and stage < row[SlotField.STAGE]
    }
    early = sorted(c for c in {*cells_read(plan, slot), match} if c >= len(Cell) and c not in ready)
    if early:
        names = ", ".join(_cell_name(plan, cell) for cell in early)
        raise ValueError(f"expected a stage after those of {names}, got {row[SlotField.STAGE]}")


def _check_scales(plan: Plan) -> None:
    """Raise ValueError unless all means and deviations of a cell have one scale, the others 1."""
    scales: dict[int, int] = {}
    for slot, row in enumerate(plan.slots.tolist()):
        scale, cell = row[SlotField.SCALE], row[SlotField.VALUE]
        expected = 1
        if row[SlotField.AGGREGATE] in _SCALED:
            expected = scales.setdefault(cell, max(scale, 1))
        if scale != expected:
            text = plan.slot_texts[slot]
            raise ValueError(f"slot `{text}`: expected a scale of {expected}, got {scale}")


def _stages_of_values(plan: Plan) -> list[int | None]:
    """Return the stage that computes each kept value, None where none does."""
    stage_of = {name: k for k, program in enumerate(plan.stages) for name in program.outputs}
    return [stage_of.get(value.name) for value in plan.values]


def _check_stage(plan: Plan, stage: int, program: Program) -> None:
    """Raise ValueError where a program keeps or reads what is not there after its slots."""
    unknown = sorted(program.outputs.keys() - {value.name for value in plan.values})
    if unknown:
        raise ValueError(f"expected kept values of the plan, got {', '.join(unknown)}")
    for number, (opcode, _, a, b) in enumerate(program.code.tolist()):
        if opcode == Opcode.EXTERNAL:
            raise ValueError(f"instruction {number}: expected no profile and no model")
        slots = {Opcode.SLOT: (a,), Opcode.DISTANCE: (a, b)}.get(opcode, ())
        for slot in slots:
            if not 0 <= slot < len(plan.slots) or plan.slots[slot, SlotField.STAGE] > stage:
                raise ValueError(f"instruction {number}: expected a slot up to it, got {slot}")
        if opcode in (Opcode.CELL, Opcode.CELL_MISSING) and not 0 <= a < len(Cell):
            raise ValueError(f"instruction {number}: expected a cell of the record, got {a}")


def _cell_name(plan: Plan, cell: int) -> str:
    """Return what a cell is called: a field's, or that of a kept value."""
    names = {value.cell: value.name for value in plan.values} | {int(c): c.name for c in Cell}
    return names.get(cell, str(cell))
