"""What a plan's slots say of an entity at some moment, without an event of its own.

The histories are loaded into an engine of their own, which takes one probe: a record that has
nothing but the entity's key and the time. No slot counts it, so every value is that of the events
whose time lies in its window, by the same kernels as always; the engine is thrown away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.columns import Cell, Cells, Kind, LabelCode, empty_cells
from features.errors import MillraceError
from features.histories import EntityKey, FeatureEngine, Features
from features.kernels.layout import SPAN_MS_MAX
from features.plan import Aggregate, Plan, SlotField

KIND_MARK = "@"  # of an entity that remembers records of another kind: `card@interaction`


class Reading(NamedTuple):
    """Slots of one entity at `at_ms`, each array of shape (slots, 1).

    `cells` are those of the probe. Slots of other entities, and slots that compare with the
    current record, are undefined.
    """

    at_ms: int
    cells: Cells
    features: Features


def histories_of(plan: Plan, entity: str) -> tuple[str, ...]:
    """Return the names of the histories in which the plan remembers an entity's records."""
    return tuple(item.name for item in plan.entities if item.name.partition(KIND_MARK)[0] == entity)


def entities_of(plan: Plan) -> tuple[str, ...]:
    """Return the names of the plan's entities, each once."""
    return tuple(dict.fromkeys(item.name.partition(KIND_MARK)[0] for item in plan.entities))


def slots_of(plan: Plan, entity: str) -> tuple[int, ...]:
    """Return the slots that look at this entity's histories."""
    own = set(histories_of(plan, entity))
    return tuple(
        number
        for number, slot in enumerate(plan.slots)
        if plan.entities[int(slot[SlotField.ENTITY])].name in own
    )


def read_entity(
    plan: Plan,
    entity: str,
    key: int,
    stored: Iterable[tuple[EntityKey, bytes | None]],
    at_ms: int | None = None,
    late: Mapping[int, Mapping[str, int]] | None = None,
) -> Reading:
    """Return what the plan's slots say of an entity at `at_ms`, or at its newest event.

    `stored` holds the entity's histories (of a shared one: all partials); `late` says, by
    partition, since when some kinds of history are kept: see `Tracking.begin`. Raises HistoryError
    for one that can't be loaded and MillraceError where there is no event and no time is given.
    """
    items = list(stored)
    partitions = sorted({owner.partition for owner, _ in items})
    engine = FeatureEngine(_uncounted(plan), partitions)
    engine.load(items)
    for partition, since_ms in (late or {}).items():
        engine.tracking.begin(partition, since_ms)
    if at_ms is None:
        times = [ts for owner, _ in items if (ts := engine.newest_ts(owner)) is not None]
        if not times:
            raise MillraceError(f"{entity}: expected a history with events, got an empty one")
        at_ms = max(times)
    cells = _probe(plan, entity, key, at_ms)
    kinds = np.array([Kind.TRANSACTION], dtype=np.uint8)
    # Whoever shares the key field has no history here; what they say is not ours to tell.
    features = engine.update(kinds, cells, np.array(partitions[:1], dtype=np.uint16))
    hidden = np.ones(len(plan.slots), dtype=np.bool_)
    hidden[list(_standing_alone(plan, entity))] = False
    features.values[hidden] = np.nan
    features.errors[hidden] = 0.0
    return Reading(at_ms, cells, features)


def readable_outputs(plan: Plan, entity: str) -> tuple[str, ...]:
    """Return the outputs of the first program that follow from this entity's slots alone."""
    own = set(_standing_alone(plan, entity))
    program = plan.before_models
    return tuple(
        name
        for name in program.outputs
        if name not in program.of_record
        and program.reads[name]
        and own.issuperset(program.reads[name])
    )


def _standing_alone(plan: Plan, entity: str) -> tuple[int, ...]:
    """Return the entity's slots that compare nothing with the current record."""
    return tuple(
        slot
        for slot in slots_of(plan, entity)
        if plan.slots[slot, SlotField.AGGREGATE] not in (Aggregate.SEEN, Aggregate.TOP)
    )


def _uncounted(plan: Plan) -> Plan:
    """Return the plan with slots that never count the current event.

    Histories may grow by one event, and the probe lets none expire.
    """
    slots: NDArray[np.int64] = plan.slots.copy()
    slots[:, SlotField.INCLUDING_CURRENT] = 0
    return replace(plan, slots=slots, event_cap=plan.event_cap + 1, reach_ms=SPAN_MS_MAX)


def _probe(plan: Plan, entity: str, key: int, at_ms: int) -> Cells:
    """Return the cells of a record without an event id: no stored event has that one."""
    cells = empty_cells(1)
    cells[Cell.TS_MS] = at_ms
    cells[Cell.LABEL] = LabelCode.UNKNOWN
    for item in plan.entities:
        if item.name == entity:
            cells[item.key] = key
    return cells
