"""Histories that leave memory and come back: nobody can tell, and memory stays bounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import Cell, LabelCode
from features.histories import Change, EntityKey, FeatureEngine
from features.plan import Aggregate, Entity
from tests.oracle_blobs import LEAD
from tests.oracle_histories import (
    NO_WHERE,
    Rows,
    Slot,
    Store,
    apply,
    fetch,
    label,
    make_entity,
    make_plan,
    make_rows,
    part,
    transaction,
)
from tests.strategies_histories import ENTITIES, plans, streams

AMOUNT = int(Cell.AMOUNT)
EVER_MS = 1 << 62
ALL = [0, 1, 2]
MIB = 1 << 20

limits = st.sampled_from([(1 << 40, 4096), (12, 4096), (1 << 40, 10), (5, 3), (0, 1)])


class SlowStore:
    """A store that takes changes in order, but only when it is told to."""

    def __init__(self) -> None:
        self.stored: Store = {}
        self._waiting: list[tuple[int, list[Change]]] = []

    def begin(self, engine: FeatureEngine) -> None:
        changes = engine.changes()
        self._waiting.append((engine.generation, changes))

    def confirm(self, engine: FeatureEngine, count: int) -> None:
        for generation, changes in self._waiting[:count]:
            apply(self.stored, changes)
            engine.confirmed(generation)
        del self._waiting[:count]


@settings(max_examples=100, deadline=None)
@given(plans(), streams(), limits, st.booleans(), st.data())
def test_leaving_and_coming_back_shows_neither_in_values_nor_in_bytes(
    slots: list[Slot], rows: Rows, limit: tuple[int, int], fresh: bool, data: st.DataObject
) -> None:
    plan = make_plan(ENTITIES, slots, *limit)
    whole, once = FeatureEngine(plan, ALL, assume_fresh=True), Store()
    expected = whole.update(*rows)
    apply(once, whole.changes())
    engine, store, at, pieces = FeatureEngine(plan, ALL, assume_fresh=fresh), SlowStore(), 0, []
    while at < len(rows[0]):
        to = at + data.draw(st.integers(1, 10))
        piece = part(rows, at, to)
        fetch(engine, store.stored, piece)
        pieces.append(engine.update(*piece))
        at = to
        if data.draw(st.booleans()):
            store.begin(engine)
        store.confirm(engine, data.draw(st.integers(0, 2)))
        engine.evict(data.draw(st.integers(0, 9)))
    store.begin(engine)
    store.confirm(engine, len(rows[0]) + 1)
    values = [piece.values for piece in pieces] or [expected.values]
    errors = [piece.errors for piece in pieces] or [expected.errors]
    assert np.concatenate(values, axis=1).tobytes() == expected.values.tobytes()
    assert np.concatenate(errors, axis=1).tobytes() == expected.errors.tobytes()
    assert store.stored == once
    assert engine.unmatched_labels == whole.unmatched_labels


def keeping(*cells: int) -> tuple[Entity, ...]:
    return (make_entity("customer", Cell.CUSTOMER_ID, False, *cells),)


def payments(*customers: int, ts_ms: int = 1) -> Rows:
    return make_rows(
        transaction(0, ts_ms, i, customer_id=customer, amount=1)
        for i, customer in enumerate(customers)
    )


def test_only_what_the_store_has_for_certain_may_leave() -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0], assume_fresh=True)
    engine.update(*payments(1, 2, 3))
    assert engine.evict(9) == 0, "nothing was handed out"
    engine.changes()
    assert engine.evict(9) == 0, "nothing was confirmed"
    engine.update(*payments(2, ts_ms=2))
    engine.confirmed(engine.generation)
    assert engine.evict(9) == 2
    assert [key.key for key in engine.missing(*payments(1, 2, 3, 4))] == [1, 3, 4]
    engine.changes()
    assert engine.evict(9) == 0, "a later change of it is not confirmed"
    engine.confirmed(engine.generation)
    assert engine.evict(9) == 1
    assert engine.memory.resident_count == 0


def test_what_was_used_least_recently_leaves_first() -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0], assume_fresh=True)

    def commit() -> None:
        engine.changes()
        engine.confirmed(engine.generation)

    engine.update(*payments(*range(1, 9)))
    commit()
    assert engine.evict(2) == 2  # the first round only takes the marks of use away
    engine.load((key, None) for key in engine.missing(*payments(3, 5)))
    engine.update(*payments(3, 5, ts_ms=2))
    commit()
    assert engine.evict(4) == 4
    assert [key.key for key in engine.missing(*payments(*range(1, 9)))] == [1, 2, 4, 6, 7, 8]


def test_a_shared_history_leaves_and_comes_back_as_a_whole() -> None:
    slots: list[Slot] = [(1, Aggregate.COUNT, -1, EVER_MS, 0, NO_WHERE, True)]
    engine = FeatureEngine(make_plan(ENTITIES, slots), ALL, assume_fresh=True)
    engine.update(*make_rows(transaction(i % 3, i, i, terminal_id=8) for i in range(7)))
    store: Store = {}
    apply(store, engine.changes())
    engine.update(*make_rows([transaction(2, 7, 7, terminal_id=8)]))
    engine.confirmed(engine.generation)
    assert engine.evict(9) == 0, "the part of one partition has changed"
    apply(store, engine.changes())
    engine.confirmed(engine.generation)
    assert engine.evict(9) == 1
    rows = make_rows([transaction(0, 8, 8, terminal_id=8)])
    assert engine.missing(*rows) == [EntityKey(p, "terminal", 8) for p in ALL]
    fetch(engine, store, rows)
    assert engine.update(*rows).values[0, 0] == 9


def test_a_label_of_an_event_that_left_brings_it_back() -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0], assume_fresh=True)
    engine.update(*payments(5))
    store: Store = {}
    apply(store, engine.changes())
    engine.confirmed(engine.generation)
    assert engine.evict(1) == 1
    rows = make_rows([label(0, 0, 5, LabelCode.FRAUD)])
    fetch(engine, store, rows)
    engine.update(*rows)
    assert engine.unmatched_labels == 0
    assert len(engine.changes()) == 1


def test_the_index_finds_everyone_after_any_order_of_leaving() -> None:
    """Keys that collide stand behind each other; those behind one that leaves move up."""
    rng = np.random.default_rng(7)
    engine = FeatureEngine(make_plan(keeping(), []), [0], assume_fresh=True)
    keys = np.arange(1100).tolist()  # more than half of the smallest index
    resident: set[int] = set()
    for ts_ms in range(20):
        chosen = rng.choice(keys, size=300, replace=False).tolist()
        rows = payments(*chosen, ts_ms=ts_ms)
        missing = {key.key for key in engine.missing(*rows)}
        assert ts_ms == 0 or missing == set(chosen) - resident
        engine.load((EntityKey(0, "customer", key), None) for key in sorted(missing))
        engine.update(*rows)
        engine.changes()
        engine.confirmed(engine.generation)
        engine.evict(int(rng.integers(1, 250)))
        gone = {key.key for key in engine.missing(*payments(*keys))}
        resident = set(keys) - gone
        assert engine.memory.resident_count == len(resident)


def test_memory_stays_within_its_bound_and_the_arena_stops_growing() -> None:
    plan = make_plan(keeping(AMOUNT), [(0, Aggregate.SUM, AMOUNT, EVER_MS, 0, NO_WHERE, True)])
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    engine.memory_bytes_max = 16 * MIB
    free = FeatureEngine(plan, [0], assume_fresh=True)
    store: Store = {}
    rng = np.random.default_rng(3)
    for ts_ms in range(400):
        rows = payments(*rng.integers(150_000, size=500).tolist(), ts_ms=ts_ms)
        rows[1][Cell.EVENT_ID] += 1000 * ts_ms
        if not engine.make_room(500):
            apply(store, engine.changes())
            engine.confirmed(engine.generation)
            assert engine.make_room(500)
        fetch(engine, store, rows)
        assert engine.update(*rows).values.tobytes() == free.update(*rows).values.tobytes()
        assert engine.memory.allocated_bytes <= 16 * MIB
    assert free.memory.allocated_bytes > 2 * engine.memory.allocated_bytes
    use = engine.memory
    assert use.resident_count + use.evicted_count > free.memory.resident_count
    assert use.loaded_count > 0


def test_a_bound_that_falls_gives_memory_back() -> None:
    cells = [cell for cell in Cell if cell not in LEAD]
    engine = FeatureEngine(make_plan(keeping(*cells), []), [0], assume_fresh=True)
    engine.update(*payments(*range(30_000)))
    engine.changes()
    engine.confirmed(engine.generation)
    before = engine.memory
    engine.memory_bytes_max = before.allocated_bytes // 2
    assert engine.make_room(100)
    after = engine.memory
    assert after.allocated_bytes <= before.allocated_bytes * 17 // 32
    assert after.resident_count > 5_000


@pytest.mark.parametrize("customer_count", [10, 5_000])
def test_a_bound_that_can_not_be_kept_is_told_and_not_enforced(customer_count: int) -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0], assume_fresh=True)
    engine.memory_bytes_max = 1
    assert not engine.make_room(customer_count)
    rows = payments(*range(customer_count))
    assert engine.update(*rows).values.shape == (0, customer_count)
    assert engine.memory.resident_count == customer_count
