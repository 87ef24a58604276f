"""A plan's histories and slots as flat arrays: the tables that the history kernels walk.

The kernels read `Layout` (made once from a plan) and change `State`. Every table is a matrix of
int64; the enumerations below name its columns.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import Cell
from features.plan import Aggregate, Plan, SlotField, TermField

Table = NDArray[np.int64]

CAPACITY_MIN = 8  # events in the smallest block
SIZE_CLASS_COUNT = 32
NEVER_MS = np.iinfo(np.int64).min  # the floor of a history from which nothing was dropped
SPAN_MS_MAX = 1 << 61  # longer windows, delays and reaches mean "ever": no overflow in t - w - d

NOT_REACHED = -1  # EntityField.LABEL_KEY: no slot of this entity depends on labels
SAME_CUSTOMER = -2  # EntityField.LABEL_KEY: another history of the very same customer


class EntityField(IntEnum):
    """Columns of `Layout.entities`."""

    KEY_CELL = 0
    SHARED = 1
    WIDTH = 2  # columns of a block: the kept cells, and for a shared entity the partition
    KEPT_FROM = 3  # rows [KEPT_FROM, KEPT_FROM + KEPT_COUNT) of `Layout.kept`
    KEPT_COUNT = 4
    BOUND_FROM = 5
    BOUND_TO = 6
    FAMILY_FROM = 7
    FAMILY_TO = 8
    LABEL_KEY = 9  # column of the customer's block that holds this entity's key
    CELLS = 10  # bitmap of the kept cells


class FamilyField(IntEnum):
    """Columns of `Layout.families`: slots that differ only in aggregate and window."""

    VALUE_CELL = 0
    VALUE_COLUMN = 1  # -1 where events themselves are counted
    TERM_FROM = 2
    TERM_TO = 3
    HIGH_BOUND = 4
    INCLUDING_CURRENT = 5
    MEMBER_FROM = 6  # members stand with the widest window first
    MEMBER_TO = 7
    METHOD = 8


class Method(IntEnum):
    """How a family's values are found."""

    ENDS = 0  # counts of all events: where the windows end is enough
    SEARCH = 1  # SEEN, or SINCE and LAST: from the newest event back to the first that qualifies
    GATHER = 2  # all others: every qualifying event


class MemberField(IntEnum):
    """Columns of `Layout.members`: one row for each slot of the plan."""

    OUTPUT = 0
    AGGREGATE = 1
    LOW_BOUND = 2


class HistoryField(IntEnum):
    """Columns of `State.histories`: one row for each resident entity."""

    KEY = 0
    OWNER = 1  # entity << 32 | (partition + 1, or 0 where shared)
    START = 2  # first word of the block in the arena
    CAPACITY = 3  # events that the block has room for, 0 where there is no block yet
    COUNT = 4
    FLOOR_TS = 5  # time of the newest event ever dropped
    PARTIAL = 6  # head of the chain of partials, -1 where empty


class PartialField(IntEnum):
    """Columns of `State.partials`: the part of a history that one partition stores."""

    HISTORY = 0
    PARTITION = 1
    NEXT = 2
    COUNT = 3
    DIRTY = 4
    WHOLE = 5  # the stored value can't be patched: it must be replaced
    CHANGED_FROM = 6  # first event of the partial that differs from what is stored
    HEADER = 7  # the stored capacity or floor time is out of date


class Control(IntEnum):
    """Cells of `State.control`."""

    ROW = 0  # where a kernel goes on after the arrays grew
    ENTITY = 1
    WORDS_NEEDED = 2
    ARENA_USED = 3
    HISTORY_COUNT = 4
    PARTIAL_COUNT = 5
    DIRTY_COUNT = 6
    UNMATCHED_LABELS = 7
    GENERATION = 8  # stamp of the distinct-count scratch table


class Need(IntEnum):
    """Why a kernel came back: it is called again after Python has grown the arrays."""

    NOTHING = 0
    ARENA = 1
    TABLES = 2
    REFUSED = 3  # the item at Control.ROW is already resident


class Layout(NamedTuple):
    """What a plan asks for; never changes."""

    entities: Table
    kept: Table  # (cells kept by all entities,)
    bounds: Table  # (bounds,): distances back from the current event, ascending per entity
    families: Table
    members: Table
    terms: Table  # column, comparison, constant
    reach_ms: int
    event_cap: int
    customer: int  # row of the entity that labels are joined through, -1 where there is none


class State(NamedTuple):
    """Everything that a kernel changes, apart from its results."""

    lookup: Table  # (power of two, 2): key, row of `histories` + 1 (0: free)
    histories: Table
    partials: Table
    dirty: Table  # (partials,): rows of `partials`, the first DIRTY_COUNT are in use
    arena: Table  # (words,)
    free: Table  # (entities, SIZE_CLASS_COUNT): first free block of a size, -1 where none
    control: Table


class Scratch(NamedTuple):
    """Working memory of one event; nothing in it outlives the event."""

    positions: Table  # (bounds,)
    starts: Table  # (members,)
    values: Table  # (event_cap,)
    distinct: Table  # (power of two >= 2 * event_cap, 2): value, generation


def compile_layout(plan: Plan) -> Layout:
    """Return the tables of `plan`; raises ValueError where the plan contradicts itself."""
    if plan.event_cap < 1:
        raise ValueError(f"event_cap: expected at least 1, got {plan.event_cap}")
    _check_kept(plan)
    customer = _customer(plan)
    entities = np.zeros((len(plan.entities), len(EntityField)), dtype=np.int64)
    kept: list[int] = []
    bounds: list[int] = []
    families: list[list[int]] = []
    members: list[list[int]] = []
    terms: list[list[int]] = []
    for number, entity in enumerate(plan.entities):
        row = entities[number]
        row[EntityField.KEY_CELL] = entity.key
        row[EntityField.SHARED] = entity.shared
        row[EntityField.WIDTH] = len(entity.kept) + entity.shared
        row[EntityField.KEPT_FROM] = len(kept)
        row[EntityField.KEPT_COUNT] = len(entity.kept)
        row[EntityField.LABEL_KEY] = _label_key(plan, number, customer)
        row[EntityField.CELLS] = sum(1 << cell for cell in entity.kept)
        row[EntityField.BOUND_FROM] = len(bounds)
        row[EntityField.FAMILY_FROM] = len(families)
        _compile_entity(plan, number, bounds, families, members, terms)
        row[EntityField.BOUND_TO] = len(bounds)
        row[EntityField.FAMILY_TO] = len(families)
        kept.extend(entity.kept)
    return Layout(
        entities=entities,
        kept=np.array(kept, dtype=np.int64),
        bounds=np.array(bounds, dtype=np.int64),
        families=_table(families, len(FamilyField)),
        members=_table(members, len(MemberField)),
        terms=_table(terms, len(TermField)),
        reach_ms=min(plan.reach_ms, SPAN_MS_MAX),
        event_cap=plan.event_cap,
        customer=customer,
    )


def _table(rows: list[list[int]], width: int) -> Table:
    return np.array(rows, dtype=np.int64).reshape(len(rows), width)


def _span_ms(slot: NDArray[np.int64]) -> tuple[int, int]:
    """Return (delay, delay + window) of a slot, clipped."""
    delay_ms = min(int(slot[SlotField.DELAY_MS]), SPAN_MS_MAX)
    return delay_ms, min(delay_ms + int(slot[SlotField.WINDOW_MS]), SPAN_MS_MAX)


def _compile_entity(
    plan: Plan,
    number: int,
    bounds: list[int],
    families: list[list[int]],
    members: list[list[int]],
    terms: list[list[int]],
) -> None:
    """Append the bounds, families, members and terms of one entity to the tables."""
    kept = plan.entities[number].kept
    slots = [int(s) for s in np.flatnonzero(plan.slots[:, SlotField.ENTITY] == number)]
    spans = {s: _span_ms(plan.slots[s]) for s in slots}
    distances = sorted({distance for span in spans.values() for distance in span})
    bound_of = {distance: len(bounds) + i for i, distance in enumerate(distances)}
    bounds.extend(distances)
    groups: dict[tuple[object, ...], list[int]] = {}
    for s in slots:
        value, including = _value(plan, s), int(plan.slots[s, SlotField.INCLUDING_CURRENT])
        method = _method(plan, s)
        matching = plan.slots[s, SlotField.AGGREGATE] == Aggregate.SEEN
        key = (value, _terms(plan, s), spans[s][0], including, method, matching)
        groups.setdefault(key, []).append(s)
    for group in groups.values():
        first = group[0]
        value, own_terms = _value(plan, first), _terms(plan, first)
        families.append(
            [
                value,
                -1 if value < 0 else kept.index(value),
                len(terms),
                len(terms) + len(own_terms),
                bound_of[spans[first][0]],
                int(plan.slots[first, SlotField.INCLUDING_CURRENT]),
                len(members),
                len(members) + len(group),
                _method(plan, first),
            ]
        )
        terms.extend([kept.index(cell), compare, constant] for cell, compare, constant in own_terms)
        for s in sorted(group, key=lambda s: -spans[s][1]):
            aggregate = int(plan.slots[s, SlotField.AGGREGATE])
            members.append([s, aggregate, bound_of[spans[s][1]]])


def _value(plan: Plan, slot: int) -> int:
    """Return the cell that a slot aggregates; COUNT has none, whatever the plan says."""
    if plan.slots[slot, SlotField.AGGREGATE] == Aggregate.COUNT:
        return -1
    return int(plan.slots[slot, SlotField.VALUE])


def _method(plan: Plan, slot: int) -> Method:
    aggregate = plan.slots[slot, SlotField.AGGREGATE]
    if aggregate in (Aggregate.SEEN, Aggregate.SINCE, Aggregate.LAST):
        return Method.SEARCH
    if aggregate == Aggregate.COUNT and not _terms(plan, slot):
        return Method.ENDS
    return Method.GATHER


def _terms(plan: Plan, slot: int) -> tuple[tuple[int, int, int], ...]:
    row = plan.slots[slot]
    terms = plan.terms[int(row[SlotField.TERM_FROM]) : int(row[SlotField.TERM_TO])]
    return tuple((int(cell), int(compare), int(constant)) for cell, compare, constant in terms)


def _cells_read(plan: Plan, slot: int) -> set[int]:
    cells = {cell for cell, _, _ in _terms(plan, slot)}
    value = _value(plan, slot)
    return cells if value < 0 else cells | {value}


def _check_kept(plan: Plan) -> None:
    lead = (int(Cell.TS_MS), int(Cell.EVENT_ID), int(Cell.LABEL))
    for entity in plan.entities:
        rest = [int(cell) for cell in entity.kept[3:]]
        valid = tuple(entity.kept[:3]) == lead and rest == sorted(set(rest) - set(lead))
        if not valid or any(not 0 <= cell < 63 for cell in rest):
            raise ValueError(
                f"entity {entity.name}: expected kept cells {lead} and then ascending cells "
                f"from 0 to 62, got {entity.kept}"
            )
    for slot, row in enumerate(plan.slots):
        text, number = plan.slot_texts[slot], int(row[SlotField.ENTITY])
        if not 0 <= number < len(plan.entities):
            raise ValueError(f"slot `{text}`: expected one of {len(plan.entities)} entities")
        if row[SlotField.WINDOW_MS] < 0 or row[SlotField.DELAY_MS] < 0:
            raise ValueError(f"slot `{text}`: expected a window and delay of at least 0 ms")
        if _value(plan, slot) < 0 and row[SlotField.AGGREGATE] not in (
            Aggregate.COUNT,
            Aggregate.SINCE,
        ):
            raise ValueError(f"slot `{text}`: expected a cell to aggregate, got none")
        lacking = sorted(_cells_read(plan, slot) - set(plan.entities[number].kept))
        if lacking:
            names = ", ".join(Cell(cell).name for cell in lacking)
            raise ValueError(
                f"slot `{text}`: entity {plan.entities[number].name} doesn't keep {names}"
            )


def _customer(plan: Plan) -> int:
    """Return the entity that labels are joined through: a local one where there is a choice."""
    found = [i for i, entity in enumerate(plan.entities) if entity.key == Cell.CUSTOMER_ID]
    return min(found, key=lambda i: (plan.entities[i].shared, i), default=-1)


def _label_key(plan: Plan, number: int, customer: int) -> int:
    """Return where the customer's history keeps the key of an entity that needs labels."""
    needed = any(
        Cell.LABEL in _cells_read(plan, slot)
        for slot, row in enumerate(plan.slots)
        if row[SlotField.ENTITY] == number
    )
    if number == customer or not needed:
        return NOT_REACHED
    entity = plan.entities[number]
    if customer >= 0 and entity.key == Cell.CUSTOMER_ID:
        return SAME_CUSTOMER
    if customer < 0 or entity.key not in plan.entities[customer].kept:
        raise ValueError(
            f"entity {entity.name}: its slots read labels, so the customer's history must keep "
            f"{Cell(entity.key).name}"
        )
    return plan.entities[customer].kept.index(entity.key)
