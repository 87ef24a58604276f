"""From a plan to the tables that the history kernels walk."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import Cell, Kind
from features.kernels.asked import cells_read, run_of, value_of, where_of
from features.kernels.checks import check
from features.kernels.conditions import is_present, needs_of, ranges_of
from features.kernels.lacking import ReadField
from features.kernels.layout import (
    NOT_REACHED,
    SAME_CUSTOMER,
    SPAN_MS_MAX,
    EntityField,
    FamilyField,
    Layout,
    MemberField,
    Method,
    RangeField,
    RunField,
    Table,
    Want,
    WindowField,
)
from features.kernels.running import state_words
from features.kernels.stages import compile_stages, stage_count
from features.kernels.tile_series import compile_series
from features.kernels.tiles import SeriesField
from features.plan import Aggregate, Plan, SlotField

RUN_FROM_COUNT = 48  # events: about where running on costs less than walking over them
_SUMMED = (  # in the order of WindowField
    Aggregate.COUNT,
    Aggregate.SUM,
    Aggregate.MEAN,
    Aggregate.STD,
    Aggregate.MIN,
    Aggregate.MAX,
)
_WANTED = {
    Aggregate.STD: Want.SQUARES,
    Aggregate.MAX: Want.LARGEST,
    Aggregate.MIN: Want.SMALLEST,
}
_METHODS = {
    **dict.fromkeys(_SUMMED, Method.SUMS),
    Aggregate.DISTINCT: Method.DISTINCT,
    Aggregate.SEEN: Method.SEEN,
    Aggregate.SINCE: Method.LATEST,
    Aggregate.LAST: Method.LATEST,
    Aggregate.FIRST: Method.FIRST,
    Aggregate.EWMA: Method.SERIES,
    Aggregate.TREND: Method.SERIES,
    Aggregate.STREAK: Method.RUN,
    Aggregate.STREAK_AGE: Method.RUN,
}


def compile_layout(plan: Plan, run_from_count: int = RUN_FROM_COUNT) -> Layout:
    """Return the tables of `plan`; raises ValueError where the plan contradicts itself."""
    check(plan)
    customer = _customer(plan)
    entities = np.zeros((len(plan.entities), len(EntityField)), dtype=np.int64)
    kept: list[int] = []
    bounds: list[int] = []
    families: list[list[int]] = []
    windows: list[list[int]] = []
    members: list[list[int]] = []
    terms: list[list[int]] = []
    series: list[list[int]] = []
    spans = np.zeros((len(plan.entities), stage_count(plan) + 1), dtype=np.int64)
    for number, entity in enumerate(plan.entities):
        row = entities[number]
        row[EntityField.KEY_CELL] = entity.key
        row[EntityField.SHARED] = entity.shared
        row[EntityField.WIDTH] = len(entity.kept) + entity.shared
        row[EntityField.KEPT_FROM] = len(kept)
        row[EntityField.KEPT_COUNT] = len(entity.kept)
        row[EntityField.LABEL_KEY] = _label_key(plan, number, customer)
        row[EntityField.CELLS] = sum(1 << cell for cell in entity.kept)
        row[EntityField.KIND] = entity.kind
        row[EntityField.BOUND_FROM] = len(bounds)
        row[EntityField.FAMILY_FROM] = len(families)
        stages = _compile_entity(plan, number, bounds, families, windows, members, terms)
        spans[number] = len(families) - len(stages) + np.searchsorted(stages, range(spans.shape[1]))
        row[EntityField.BOUND_TO] = len(bounds)
        row[EntityField.FAMILY_TO] = len(families)
        _place_states(row, families)
        row[EntityField.SERIES_FROM] = len(series)
        series += compile_series(plan, number, row, bounds, families, members, terms)
        kept.extend(entity.kept)
    return Layout(
        entities=entities,
        kept=np.array(kept, dtype=np.int64),
        bounds=np.array(bounds, dtype=np.int64),
        families=_table(families, len(FamilyField)),
        windows=_table(windows, len(WindowField)),
        members=_table(members, len(MemberField)),
        terms=_table(terms, len(RangeField)),
        spans=spans,
        **compile_stages(plan)._asdict(),
        reach_ms=min(plan.reach_ms, SPAN_MS_MAX),
        repeat_horizon_ms=min(plan.repeat_horizon_ms, SPAN_MS_MAX),
        event_cap=plan.event_cap,
        run_from_count=run_from_count,
        state_words=2 * int(entities[:, EntityField.STATE_WORDS].sum()),
        state_growing=int(entities[:, EntityField.STATE_GROWING].sum()),
        customer=customer,
        reads=_reads(plan),
        series=_table(series, len(SeriesField)),
    )


def _reads(plan: Plan) -> Table:
    """Return which columns each slot reads, and how far back."""
    rows = []
    for slot, row in enumerate(plan.slots):
        entity = int(row[SlotField.ENTITY])
        kept = plan.entities[entity].kept
        columns = sum(1 << kept.index(cell) for cell in cells_read(plan, slot))
        rows.append([entity, columns, _span_ms(row)[1]])
    return _table(rows, len(ReadField))


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
    windows: list[list[int]],
    members: list[list[int]],
    terms: list[list[int]],
) -> list[int]:
    """Append the bounds, families, members and terms of one entity to the tables.

    Returns the stages of the families, in ascending order.
    """
    kept = plan.entities[number].kept
    slots = [int(s) for s in np.flatnonzero(plan.slots[:, SlotField.ENTITY] == number)]
    spans = {s: _span_ms(plan.slots[s]) for s in slots}
    distances = sorted({distance for span in spans.values() for distance in span})
    bound_of = {distance: len(bounds) + i for i, distance in enumerate(distances)}
    bounds.extend(distances)
    groups: dict[_Family, list[int]] = {}
    for s in slots:
        groups.setdefault(_family(plan, s, kept, spans[s][0]), []).append(s)
    ordered = sorted(groups.items(), key=lambda item: item[0].stage)
    for family, group in ordered:
        own_windows = _windows(plan, group, {s: bound_of[spans[s][1]] for s in group})
        own_bounds = [row[WindowField.BOUND] for row in own_windows]
        kinds = {Aggregate(int(plan.slots[s, SlotField.AGGREGATE])) for s in group}
        families.append(
            [
                family.value,
                -1 if family.value < 0 else kept.index(family.value),
                len(terms),
                len(terms) + len(family.ranges),
                bound_of[family.delay_ms],
                family.including_current,
                len(members),
                len(members) + len(group),
                family.method,
                _needs(family, kept),
                len(terms) + len(family.ranges),
                len(terms) + len(family.ranges) + len(family.run),
                -1,
                len(windows),
                len(windows) + len(own_windows),
                sum(_WANTED.get(kind, 0) for kind in kinds),
                any(Cell.LABEL in cells_read(plan, s) for s in group),
                max((int(plan.slots[s, SlotField.SCALE]) for s in group), default=1),
            ]
        )
        terms.extend(list(row) for row in (*family.ranges, *family.run))
        windows.extend(own_windows)
        for s in sorted(group, key=lambda s: -spans[s][1]):
            aggregate, value = int(plan.slots[s, SlotField.AGGREGATE]), value_of(plan, s)
            column = -1 if value < 0 else kept.index(value)
            parameter, match = plan.slots[s, [SlotField.PARAMETER, SlotField.MATCH]].tolist()
            bound = bound_of[spans[s][1]]
            window = own_bounds.index(bound)
            members.append([s, aggregate, bound, column, parameter, match, window, -1])
    return [family.stage for family, _ in ordered]


def _windows(plan: Plan, group: list[int], bounds: dict[int, int]) -> list[list[int]]:
    """Return the rows of WindowField of a family, the widest window first.

    `bounds` has the bound of each slot of the group. Slots that ask for the very same, which no
    compiled plan has, get rows of their own.
    """
    rows: list[list[int]] = []
    for s in sorted(group, key=lambda s: -bounds[s]):
        kind = Aggregate(int(plan.slots[s, SlotField.AGGREGATE]))
        place = 1 + _SUMMED.index(kind) if kind in _SUMMED else None
        free = [row for row in rows if row[0] == bounds[s] and (not place or row[place] < 0)]
        row = free[0] if free else [bounds[s], *([-1] * len(_SUMMED))]
        if not free:
            rows.append(row)
        if place:
            row[place] = s
    return rows


def _place_states(row: NDArray[np.int64], families: list[list[int]]) -> None:
    """Give each family of an entity its place in the running state."""
    bound_count = row[EntityField.BOUND_TO] - row[EntityField.BOUND_FROM]
    words = int(RunField.BOUNDS + 2 * bound_count)
    growing_count, columns = 0, 0
    for family in families[int(row[EntityField.FAMILY_FROM]) :]:
        window_count = family[FamilyField.WINDOW_TO] - family[FamilyField.WINDOW_FROM]
        own = state_words(family[FamilyField.METHOD], window_count)
        if not own:
            continue
        family[FamilyField.STATE] = words
        words += own
        if family[FamilyField.METHOD] != Method.LATEST:
            columns |= family[FamilyField.NEEDS]
        growing_count += 2 if family[FamilyField.METHOD] == Method.SUMS else 1
    row[EntityField.STATE_WORDS] = words
    row[EntityField.STATE_GROWING] = growing_count
    row[EntityField.STATE_COLUMNS] = columns


class _Family(NamedTuple):
    """What slots must have in common to be found together."""

    value: int
    ranges: tuple[tuple[int, ...], ...]
    delay_ms: int
    including_current: int
    method: int
    matching: bool
    run: tuple[tuple[int, ...], ...]
    stage: int


def _family(plan: Plan, slot: int, kept: tuple[int, ...], delay_ms: int) -> _Family:
    aggregate, value = plan.slots[slot, SlotField.AGGREGATE], value_of(plan, slot)
    condition = where_of(plan, slot)
    if aggregate in (Aggregate.LAST, Aggregate.SINCE) and value >= 0:
        # That the value is known is one more condition: slots that ask for several values of the
        # same newest event, such as its latitude and longitude, are then found by one search.
        condition, value = (*condition, is_present(value)), -1
    return _Family(
        value,
        ranges_of(condition, kept),
        delay_ms,
        int(plan.slots[slot, SlotField.INCLUDING_CURRENT]),
        int(_method(plan, slot)),
        bool(aggregate == Aggregate.SEEN),
        ranges_of(run_of(plan, slot), kept),
        int(plan.slots[slot, SlotField.STAGE]),
    )


def _needs(family: _Family, kept: tuple[int, ...]) -> int:
    """Return the bitmap of the columns that must hold a value for an event to qualify."""
    needs = needs_of(family.ranges)
    return needs if family.value < 0 else needs | 1 << kept.index(family.value)


def _method(plan: Plan, slot: int) -> Method:
    aggregate = Aggregate(int(plan.slots[slot, SlotField.AGGREGATE]))
    if aggregate == Aggregate.COUNT and not where_of(plan, slot):
        return Method.ENDS
    return _METHODS.get(aggregate, Method.GATHER)


def _customer(plan: Plan) -> int:
    """Return the entity that labels are joined through: a local one where there is a choice."""
    found = [
        i
        for i, entity in enumerate(plan.entities)
        if entity.key == Cell.CUSTOMER_ID and entity.kind == Kind.TRANSACTION
    ]
    return min(found, key=lambda i: (plan.entities[i].shared, i), default=-1)


def _label_key(plan: Plan, number: int, customer: int) -> int:
    """Return where the customer's history keeps the key of an entity that needs labels."""
    if plan.entities[number].kind != Kind.TRANSACTION:
        return NOT_REACHED  # what its labels say was in the records themselves
    needed = any(
        Cell.LABEL in cells_read(plan, slot)
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
