"""Shared histories of several processes: with the parts of the others read, as one process's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import MISSING, Cell, LabelCode
from features.histories import Change, EntityKey, FeatureEngine, HistoryError
from features.plan import Aggregate, Plan
from features.status import Status, slot_statuses
from tests.oracle_histories import (
    NO_WHERE,
    Oracle,
    Rows,
    Slot,
    Store,
    apply,
    fetch,
    label,
    make_plan,
    make_rows,
    part,
    transaction,
)
from tests.strategies_histories import ENTITIES, SHARED_TERMINAL, plans, streams

AMOUNT = int(Cell.AMOUNT)
EVER_MS = 1 << 62
OWNED = ([0], [1, 2])
limits = st.sampled_from([(1 << 40, 4096), (1 << 40, 4096), (12, 4096), (1 << 40, 9), (5, 3)])


class Process:
    """An engine over some partitions that reads the parts of the others from a common store."""

    def __init__(
        self, plan: Plan, owned: list[int], store: Store, run_from_count: int = 48
    ) -> None:
        self.owned = owned
        self.foreign = [p for p in (0, 1, 2) if p not in owned]
        self.engine = FeatureEngine(
            plan, owned, assume_fresh=True, run_from_count=run_from_count,
            foreign_partitions=self.foreign,
        )  # fmt: skip
        self._store = store
        self._known: dict[tuple[str, int], None] = {}

    def take(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fetch(self.engine, self._store, rows)
        values, errors, ages_ms = self.engine.update(*rows)
        assert ages_ms is not None
        return values, errors, ages_ms

    def commit(self) -> list[Change]:
        changes = self.engine.changes()
        assert {change.owner.partition for change in changes} <= set(self.owned)
        apply(self._store, changes)
        self.engine.confirmed(self.engine.generation)
        return changes

    def read_others(self) -> None:
        """Read all that is wanted, then what was read before, changed or not."""
        assert self.engine.foreign is not None
        wanted = self.engine.foreign.wanted()
        self.engine.load_foreign(self._parts(wanted), is_first=True)
        resident = self.engine.foreign.resident(list(self._known))
        again = [key for key, here in zip(self._known, resident, strict=True) if here]
        self.engine.load_foreign(self._parts(again))
        self._known |= dict.fromkeys(wanted)

    def _parts(self, owners: list[tuple[str, int]]) -> list[tuple[EntityKey, bytes | None]]:
        keys = [EntityKey(p, name, key) for name, key in owners for p in self.foreign]
        return [(key, bytes(self._store[key]) if key in self._store else None) for key in keys]


def of_their_partition(rows: Rows) -> Rows:
    """Give each partition event ids of its own: an event belongs to one customer."""
    kinds, cells, partitions = rows
    cells = cells.copy()
    named = cells[Cell.EVENT_ID] != MISSING
    cells[Cell.EVENT_ID, named] = 3 * cells[Cell.EVENT_ID, named] + partitions[named]
    return kinds, cells, partitions


@settings(max_examples=100, deadline=None)
@given(plans(), streams(), limits, st.sampled_from([2, 48]), st.data())
def test_with_all_parts_read_a_process_knows_what_one_process_would_know(
    slots: list[Slot], drawn: Rows, limit: tuple[int, int], run_from_count: int, data: st.DataObject
) -> None:
    rows, plan, store = of_their_partition(drawn), make_plan(ENTITIES, slots, *limit), Store()
    truth = Oracle(plan).take_all(rows)
    whole = FeatureEngine(plan, [0, 1, 2], assume_fresh=True).update(*rows)
    processes = [Process(plan, owned, store, run_from_count) for owned in OWNED]
    for row in range(len(rows[0])):
        exchanged = data.draw(st.booleans())
        if exchanged:
            for process in processes:
                process.commit()
            for process in processes:
                process.read_others()
                assert process.commit() == [], "reading changes nothing of ours"
        owner = processes[int(rows[2][row] > 0)]
        values, errors, ages_ms = owner.take(part(rows, row, row + 1))
        if exchanged:
            sure = (errors[:, 0] == 0.0) & (ages_ms[:, 0] == 0.0)
            np.testing.assert_allclose(values[sure, 0], truth[sure, row], rtol=1e-9, atol=1e-9)
            exact = sure & (whole.errors[:, row] == 0.0)
            assert values[exact, 0].tobytes() == whole.values[exact, row].tobytes()
            if limit == (1 << 40, 4096):
                assert (errors == 0.0).all()
        if data.draw(st.integers(0, 4)) == 0:
            owner.commit()
            owner.engine.evict(data.draw(st.integers(0, 9)))
    for process in processes:
        process.commit()
    alone = FeatureEngine(plan, [0, 1, 2])
    alone.load((key, bytes(value)) for key, value in store.items())  # all of it is sound


def terminal_plan(*aggregates: Aggregate, event_cap: int = 4096) -> Plan:
    slots = [
        (SHARED_TERMINAL, kind, -1 if kind == Aggregate.COUNT else AMOUNT, EVER_MS, 0, NO_WHERE, 1)
        for kind in aggregates
    ]
    return make_plan(ENTITIES, slots, event_cap=event_cap)


def paid(partition: int, *events: int, amount: int = 1) -> Rows:
    """Payments at one terminal whose time is their number."""
    return make_rows(
        transaction(partition, n, n, customer_id=partition, terminal_id=8, amount=amount)
        for n in events
    )


def pair(plan: Plan) -> tuple[Process, Process]:
    store = Store()
    return Process(plan, [0], store), Process(plan, [1, 2], store)


def test_a_value_is_stale_until_the_others_were_read_and_again_when_they_are_old() -> None:
    ours, theirs = pair(terminal_plan(Aggregate.COUNT))
    theirs.take(paid(1, 10, 11, 12))
    theirs.commit()
    values, errors, ages_ms = ours.take(paid(0, 20))
    assert (values[0, 0], ages_ms[0, 0]) == (1, math.inf)
    assert ours.engine.foreign is not None
    ours.read_others()
    values, errors, ages_ms = ours.take(paid(0, 21))
    assert (values[0, 0], errors[0, 0], ages_ms[0, 0]) == (5, 0, 0)
    ours.engine.foreign.age_ms = 2_500.0
    features = ours.engine.update(*paid(0, 22))
    statuses = slot_statuses(features, features.ages_ms)
    assert features.ages_ms is not None and features.ages_ms[0, 0] == 2_500
    assert statuses.codes[0, 0] == Status.STALE
    assert ours.engine.foreign.stale_count == 2


def test_a_row_without_the_entity_is_not_stale() -> None:
    ours, _ = pair(terminal_plan(Aggregate.COUNT))
    rows = make_rows([transaction(0, 1, 1, customer_id=4, amount=1)])
    assert ours.take(rows)[2][0, 0] == 0


def test_a_part_that_only_grew_joins_a_history_that_keeps_running() -> None:
    """Sixty events and more: past the count from which windows are kept running."""
    ours, theirs = pair(terminal_plan(Aggregate.COUNT, Aggregate.SUM, Aggregate.MAX))
    ours.take(paid(0, *range(0, 120, 2), amount=3))
    for n in range(120, 180, 2):
        theirs.take(paid(1, n + 1, amount=n))
        theirs.commit()
        ours.read_others()
        values = ours.take(paid(0, n + 2, amount=3))[0]
        their_count = (n - 120) // 2 + 1
        own_count = 61 + (n - 120) // 2
        expected_sum = 3 * own_count + sum(range(120, n + 1, 2))
        assert values[:, 0].tolist() == [own_count + their_count, expected_sum, n]


def test_a_label_elsewhere_flips_the_copy_here() -> None:
    fraud = ((int(Cell.LABEL), 0, int(LabelCode.FRAUD)),)
    slot = (SHARED_TERMINAL, Aggregate.COUNT, -1, EVER_MS, 0, fraud, True)
    ours, theirs = pair(make_plan(ENTITIES, [slot]))
    theirs.take(paid(1, 10, 11))
    theirs.commit()
    ours.take(paid(0, 20))
    ours.read_others()
    assert ours.take(paid(0, 21))[0][0, 0] == 0
    theirs.take(make_rows([label(1, 10, 1, LabelCode.FRAUD)]))
    theirs.commit()
    ours.read_others()
    assert ours.take(paid(0, 22))[0][0, 0] == 1
    assert len(ours.commit()) == 2, "the customer's history and our part of the terminal's"


def test_an_event_that_two_partitions_hold_counts_once() -> None:
    ours, theirs = pair(terminal_plan(Aggregate.COUNT))
    theirs.take(paid(1, 10, 11))
    theirs.commit()
    ours.take(paid(0, 10))
    ours.read_others()
    assert ours.take(paid(0, 12))[0][0, 0] == 3
    assert ours.take(paid(0, 11))[0][0, 0] == 2, "10 and 11: it came from there before"


def test_what_does_not_fit_is_folded_or_said_to_be_missing() -> None:
    ours, theirs = pair(terminal_plan(Aggregate.COUNT, Aggregate.FIRST, event_cap=8))
    theirs.take(paid(1, *range(10, 16)))
    theirs.commit()
    ours.take(paid(0, 1, 2, 20, 21))
    ours.read_others()
    floor_ts = ours.engine.floor_ts(EntityKey(0, "terminal", 8))
    assert floor_ts == 2, "the oldest two of ten found no place"
    assert ours.commit() != []
    values, errors, _ = ours.take(paid(0, 22))
    assert errors[:, 0].tolist() == [0, math.inf]
    assert values[0, 0] == 11, "two of ours and two of theirs were folded, and the new one came"


def test_nothing_of_ours_is_lost_in_the_store_by_reading() -> None:
    """Events that the copies crowd out of memory stay stored until we write anew."""
    store = Store()
    plan = terminal_plan(Aggregate.COUNT, event_cap=8)
    ours, theirs = Process(plan, [0], store), Process(plan, [1, 2], store)
    theirs.take(paid(1, *range(10, 18)))
    theirs.commit()
    ours.take(paid(0, 1, 2))
    ours.commit()
    key = EntityKey(0, "terminal", 8)
    before = bytes(store[key])
    ours.read_others()
    assert ours.commit() == []
    assert ours.engine.evict(9) == 2
    ours.take(paid(0, 3))
    ours.commit()
    assert bytes(store[key])[: len(before)] == before
    assert len(store[key]) > len(before)


def test_a_part_can_be_loaded_by_itself_whatever_stood_beside_it() -> None:
    """Copies, or a part that another process wrote, may have enlarged the block in memory."""
    plan, store = terminal_plan(Aggregate.COUNT), Store()
    ours, theirs = Process(plan, [0], store), Process(plan, [1, 2], store)
    theirs.take(paid(1, *range(10, 15)))
    theirs.commit()
    ours.take(paid(0, *range(20, 25)))
    ours.commit()
    both = FeatureEngine(plan, [0, 1, 2])
    rows = paid(0, *range(30, 36))
    fetch(both, store.copy(), rows)
    both.update(*rows)
    later = {key: bytearray(value) for key, value in store.items()}
    apply(later, both.changes())
    ours.read_others()
    ours.take(rows)
    ours.commit()
    for found in (store, later):
        again = FeatureEngine(plan, [0])
        fetch(again, found, paid(0, 40))
        assert again.update(*paid(0, 40)).values[0, 0] == 12


def test_a_part_that_went_away_leaves_and_a_history_that_left_is_not_refilled() -> None:
    ours, theirs = pair(terminal_plan(Aggregate.COUNT))
    theirs.take(paid(1, 10, 11))
    theirs.commit()
    ours.take(paid(0, 20))
    ours.read_others()
    key = EntityKey(1, "terminal", 8)
    ours.engine.load_foreign([(key, None)])
    assert ours.take(paid(0, 21))[0][0, 0] == 2
    ours.commit()
    assert ours.engine.foreign is not None
    asked = [("terminal", 8), ("nobody", 8), ("card", 1)]
    assert ours.engine.foreign.resident(asked) == [True, False, False]
    assert ours.engine.foreign.residents() == [("terminal", 8)]
    ours.engine.evict(9)
    assert ours.engine.foreign.resident(asked) == [False, False, False]
    assert ours.engine.foreign.residents() == []
    ours.engine.load_foreign([(key, None)])
    assert ours.engine.memory.resident_count == 0


def test_what_is_no_foreign_part_is_refused() -> None:
    ours, theirs = pair(terminal_plan(Aggregate.COUNT))
    ours.take(paid(0, 1))
    for wrong in (EntityKey(0, "terminal", 8), EntityKey(1, "customer", 1)):
        with pytest.raises(ValueError, match="a shared entity's part that isn't ours"):
            ours.engine.load_foreign([(wrong, None)])
    with pytest.raises(HistoryError, match="partition 1"):
        ours.engine.load_foreign([(EntityKey(1, "terminal", 8), b"x" * 50)])
    del theirs
