"""Windows that reach back beyond what their history still holds: answered with the help of tiles.

A window's events are those that the history holds, and those that were folded. Of a tile that lies
inside a window all events count; of one that the window cuts, nobody knows which do. So a value is
known to lie in an interval; the answer is the likeliest value in it, and its error the distance to
the farther end. What tiles can't tell of has an infinite error.
"""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells
from features.kernels import extremes
from features.kernels.answers import answer_sums
from features.kernels.arena import later_than
from features.kernels.folding import doubtful_count
from features.kernels.jit import inlined, part
from features.kernels.layout import (
    NEVER_MS,
    Control,
    CurrentField,
    EntityField,
    FamilyField,
    FamilyState,
    HistoryField,
    Layout,
    MemberField,
    Method,
    Scratch,
    State,
    Table,
    Want,
)
from features.kernels.moments import add_square
from features.kernels.overlaps import add_overlaps, clear_part, is_complete
from features.kernels.running import SUMS_AT
from features.kernels.terms import value_if
from features.kernels.tiles import CERTAIN, HELD, UNCERTAIN, GuessField, PartField
from features.kernels.unions import answer_distinct

_MOST = np.iinfo(np.int64).max


@part
def _add_held(
    layout: Layout, state: State, history: int, family: int, first: int, last: int, skip: int,
    sums: Table,
) -> None:  # fmt: skip
    """Add the events [first, last) of a history to a row of `Scratch.parts`."""
    own = state.histories[history]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    for i in range(first, last):
        value = value_if(state.arena, start + i, capacity, layout.families, family, layout.terms)
        if value == MISSING or i == skip:
            continue
        sums[PartField.COUNT] += 1
        sums[PartField.SUM] += value
        sums[PartField.SQUARES], sums[PartField.LOW_SQUARES] = add_square(
            sums[PartField.SQUARES], sums[PartField.LOW_SQUARES], value
        )
        sums[PartField.LEAST] = min(sums[PartField.LEAST], value)
        sums[PartField.MOST] = max(sums[PartField.MOST], value)


@part
def _add_running(layout: Layout, state: State, scratch: Scratch, history: int, family: int) -> None:
    """Take what a history holds from the running state of the family's widest window.

    Extremes that nobody asks for are unknown.
    """
    pool, sums = state.pool, scratch.parts[HELD]
    words = state.histories[history, HistoryField.RUNNING]
    words += layout.families[family, FamilyField.STATE]
    at = words + SUMS_AT
    sums[PartField.COUNT], sums[PartField.SUM] = pool[at], pool[at + 1]
    sums[PartField.SQUARES], sums[PartField.LOW_SQUARES] = pool[at + 2], pool[at + 3]
    if pool[at] == 0:
        return
    wants, queue = layout.families[family, FamilyField.WANTS], words + FamilyState.EXTREMES
    sums[PartField.MOST], sums[PartField.LEAST] = _MOST, NEVER_MS
    if wants & Want.LARGEST:
        sums[PartField.MOST] = extremes.front_value(pool, queue)
    if wants & Want.SMALLEST:
        sums[PartField.LEAST] = -extremes.front_value(pool, queue + extremes.QUEUE_WORDS)


@inlined
def _widest(layout: Layout, scratch: Scratch, family: int) -> int:
    """Return where the family's widest window begins."""
    member = layout.families[family, FamilyField.MEMBER_FROM]
    return int(scratch.positions[layout.members[member, MemberField.LOW_BOUND]])


@part
def _take_held(
    layout: Layout, state: State, scratch: Scratch, entity: int, family: int, first: int,
    high: int, skip: int,
) -> None:  # fmt: skip
    """Fill what a history holds, without doubt, of a window: its events [`first`, `high`)."""
    history = scratch.current[entity, CurrentField.HISTORY]
    method, sums = layout.families[family, FamilyField.METHOD], scratch.parts[HELD]
    clear_part(sums)
    if layout.families[family, FamilyField.NEEDS] & ~state.histories[history, HistoryField.KNOWN]:
        return
    if method == Method.ENDS:
        held = max(high - first, 0) - (1 if first <= skip < high else 0)
        sums[PartField.COUNT] = held
        if held > 0:
            sums[PartField.LEAST], sums[PartField.MOST] = 0, 0
    elif scratch.current[entity, CurrentField.RUNS] and first == _widest(layout, scratch, family):
        _add_running(layout, state, scratch, history, family)
    else:
        _add_held(layout, state, history, family, first, high, skip, sums)


@part
def _is_held(
    layout: Layout, state: State, history: int, family: int, first: int, high: int, skip: int,
    current: int,
) -> bool:  # fmt: skip
    """Say whether one of the events [first, high) answers SEEN, SINCE or LAST."""
    own = state.histories[history]
    start, capacity = own[HistoryField.START], own[HistoryField.CAPACITY]
    seen = layout.families[family, FamilyField.METHOD] == Method.SEEN
    for i in range(high - 1, first - 1, -1):
        value = value_if(state.arena, start + i, capacity, layout.families, family, layout.terms)
        if value != MISSING and i != skip and (not seen or value == current):
            return True
    return False


@part
def _answer_latest(
    layout: Layout, state: State, scratch: Scratch, entity: int, family: int, member: int,
    doubtful_to: int, high: int, skip: int, current: int, row: int,
    slot_values: NDArray[np.float64], errors: NDArray[np.float64],
) -> None:  # fmt: skip
    """Say whether what was found of SEEN, SINCE or LAST is certain: nothing newer was dropped.

    `doubtful_to` events may stand before one that was dropped.
    """
    output = layout.members[member, MemberField.OUTPUT]
    value, history = slot_values[output, row], scratch.current[entity, CurrentField.HISTORY]
    seen = layout.families[family, FamilyField.METHOD] == Method.SEEN
    found = value > 0.0 if seen else not np.isnan(value)
    if found and doubtful_to > 0:
        found = _is_held(layout, state, history, family, doubtful_to, high, skip, current)
    errors[output, row] = 0.0 if found else np.inf


@part
def _answer_tiles(
    layout: Layout, state: State, scratch: Scratch, entity: int, family: int, member: int,
    low: int, edge_ms: int, end_ms: int, doubtful_to: int, high: int, skip: int, row: int,
    slot_values: NDArray[np.float64], errors: NDArray[np.float64],
) -> None:  # fmt: skip
    """Answer a slot that tiles tell of; `scratch.parts[HELD]` is filled for its window.

    Of its events from `low` on, those before `doubtful_to` are uncertain.
    """
    history = scratch.current[entity, CurrentField.HISTORY]
    if layout.families[family, FamilyField.METHOD] == Method.DISTINCT:
        answer_distinct(
            layout, state, scratch, entity, family, member, low, doubtful_to, high, skip,
            edge_ms, end_ms, row, slot_values, errors,
        )  # fmt: skip
        return
    uncertain = scratch.parts[UNCERTAIN]
    clear_part(uncertain)
    scratch.guess[:] = 0.0
    scratch.guess[GuessField.LEAST], scratch.guess[GuessField.MOST] = np.inf, -np.inf
    for field in range(len(scratch.parts[CERTAIN])):
        scratch.parts[CERTAIN, field] = scratch.parts[HELD, field]
    if low < doubtful_to:
        _add_held(layout, state, history, family, low, min(doubtful_to, high), skip, uncertain)
        uncertain[PartField.INSIDE_MAX] = uncertain[PartField.COUNT]
        scratch.guess[GuessField.COUNT] = uncertain[PartField.COUNT]
        scratch.guess[GuessField.SUM] = uncertain[PartField.SUM]
    tiles = state.histories[history, HistoryField.TILES]
    number = layout.members[member, MemberField.SERIES]
    add_overlaps(layout, state, scratch, tiles, number, edge_ms, end_ms)
    answer_sums(layout, scratch, family, member, row, slot_values, errors)


@inlined
def _hides_folded(
    layout: Layout, scratch: Scratch, entity: int, family: int, kind: int, floor_ts: int,
    ts_ms: int, doubtful_to: int,
) -> bool:  # fmt: skip
    """Say whether the row's own event, which doesn't count, may be one that was folded."""
    if layout.families[family, FamilyField.INCLUDING_CURRENT]:
        return False
    position = scratch.current[entity, CurrentField.POSITION]
    if position < 0:
        return bool(layout.entities[entity, EntityField.KIND] == kind and ts_ms <= floor_ts)
    return bool(position < doubtful_to)


@part
def _dropped_count(
    layout: Layout, state: State, entity: int, history: int, doubtful_to: int
) -> int:
    """Return how many events may stand before one that was dropped, here or elsewhere.

    `doubtful_to` do because of what was dropped here.
    """
    if not state.control[Control.HAS_FOREIGN] or not layout.entities[entity, EntityField.SHARED]:
        return doubtful_to
    own = state.histories[history]
    floor_ts = own[HistoryField.FLOOR_TS]
    return later_than(state.arena, own[HistoryField.START], own[HistoryField.COUNT], floor_ts)


@part
def look_beyond(
    layout: Layout, state: State, scratch: Scratch, entity: int, kind: int, ts_ms: int,
    stage: int, cells: Cells, row: int, slot_values: NDArray[np.float64],
    errors: NDArray[np.float64],
) -> None:  # fmt: skip
    """Answer an entity's slots of one stage whose windows reach beyond its history's floor.

    To be called after `compute`, where the widest window reaches that far.
    """
    history = scratch.current[entity, CurrentField.HISTORY]
    position = scratch.current[entity, CurrentField.POSITION]
    floor_ts, families = state.histories[history, HistoryField.FLOOR_TS], layout.families
    doubtful_to = doubtful_count(state, history)
    dropped_to = _dropped_count(layout, state, entity, history, doubtful_to)
    for family in range(layout.spans[entity, stage], layout.spans[entity, stage + 1]):
        end_ms = ts_ms - layout.bounds[families[family, FamilyField.HIGH_BOUND]]
        high = scratch.positions[families[family, FamilyField.HIGH_BOUND]]
        skip = -1 if families[family, FamilyField.INCLUDING_CURRENT] else position
        cell, method = (
            families[family, FamilyField.VALUE_CELL],
            families[family, FamilyField.METHOD],
        )
        hides = _hides_folded(
            layout, scratch, entity, family, kind, floor_ts, ts_ms, doubtful_to
        )  # fmt: skip
        held_from = -1
        for member in range(
            families[family, FamilyField.MEMBER_FROM], families[family, FamilyField.MEMBER_TO]
        ):
            edge_ms = ts_ms - layout.bounds[layout.members[member, MemberField.LOW_BOUND]]
            if floor_ts <= edge_ms:
                break  # the widest window stands first
            number = layout.members[member, MemberField.SERIES]
            if method == Method.SEEN or method == Method.LATEST:
                current = cells[cell, row] if cell >= 0 else 0
                _answer_latest(
                    layout, state, scratch, entity, family, member, dropped_to, high, skip,
                    current, row, slot_values, errors,
                )  # fmt: skip
            elif (
                number < 0
                or (hides and ts_ms <= end_ms)
                or not is_complete(layout, state, history, number, edge_ms)
            ):
                errors[layout.members[member, MemberField.OUTPUT], row] = np.inf
            else:
                low = scratch.positions[layout.members[member, MemberField.LOW_BOUND]]
                first = max(doubtful_to, low)
                if held_from != first and method != Method.DISTINCT:
                    _take_held(layout, state, scratch, entity, family, first, high, skip)
                    held_from = first
                _answer_tiles(
                    layout, state, scratch, entity, family, member, low, edge_ms, end_ms, first,
                    high, skip, row, slot_values, errors,
                )  # fmt: skip
