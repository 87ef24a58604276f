"""Histories as stored bytes: changes, loading, what is missing."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.codes import CODE_MAX
from features.columns import CODE_CELLS, MISSING, Cell, Kind, LabelCode
from features.decode import MICRO
from features.histories import Change, EntityKey, FeatureEngine, HistoryError
from features.plan import Aggregate, Comparison, Entity, Plan
from features.records import TS_MS_MAX, TS_MS_MIN
from tests.oracle_blobs import HEAD_BYTES, LEAD, read_blob
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
from tests.strategies_histories import CUSTOMER, ENTITIES, SHARED_TERMINAL, plans, streams

AMOUNT, LABEL = int(Cell.AMOUNT), int(Cell.LABEL)
EVER_MS = 1 << 62
ALL = [0, 1, 2]
ROW_BYTES = 6 + 8 + 1 + 8  # of what `keeping(AMOUNT)` keeps

limits = st.sampled_from([(1 << 40, 4096), (12, 4096), (1 << 40, 10), (5, 3), (0, 1)])


def all_values(plan: Plan, rows: Rows, pieces: list[int], store: Store) -> np.ndarray:
    """Take the rows in pieces by one engine that stores after each."""
    engine = FeatureEngine(plan, ALL, assume_fresh=True)
    values = []
    for first, last in itertools.pairwise([0, *pieces, len(rows[0])]):
        values.append(engine.update(*part(rows, first, last)).values)
        apply(store, engine.changes())
    return np.concatenate(values, axis=1)


def cuts_of(data: st.DataObject, rows: Rows) -> list[int]:
    return sorted(data.draw(st.lists(st.integers(0, len(rows[0])), max_size=8)))


@settings(max_examples=100, deadline=None)
@given(plans(), streams(), limits, st.data())
def test_the_cut_of_batches_shows_neither_in_values_nor_in_bytes(
    slots: list[Slot], rows: Rows, limit: tuple[int, int], data: st.DataObject
) -> None:
    plan = make_plan(ENTITIES, slots, *limit)
    once: Store = {}
    pieces: Store = {}
    values = all_values(plan, rows, [], once)
    assert all_values(plan, rows, cuts_of(data, rows), pieces).tobytes() == values.tobytes()
    assert pieces == once


@settings(max_examples=60, deadline=None)
@given(plans(), streams(), limits, st.data())
def test_a_restart_in_mid_stream_changes_nothing(
    slots: list[Slot], rows: Rows, limit: tuple[int, int], data: st.DataObject
) -> None:
    plan = make_plan(ENTITIES, slots, *limit)
    expected_store: Store = {}
    expected = all_values(plan, rows, [], expected_store)
    store: Store = {}
    values = []
    for first, last in itertools.pairwise([0, *cuts_of(data, rows), len(rows[0])]):
        engine = FeatureEngine(plan, ALL)
        piece = part(rows, first, last)
        fetch(engine, store, piece)
        values.append(engine.update(*piece).values)
        apply(store, engine.changes())
        assert engine.changes() == []
    assert np.concatenate(values, axis=1).tobytes() == expected.tobytes()
    assert store == expected_store


def test_a_restart_keeps_the_size_of_a_block_and_so_the_time_of_its_next_trim() -> None:
    plan = make_plan(keeping(AMOUNT), [], reach_ms=10)
    owner = EntityKey(0, "customer", 5)
    times = [*[0] * 16, 100, *[101] * 7]  # a block of 16 fills up, then 100 drops all at 0
    first = FeatureEngine(plan, [0])
    first.update(*make_rows(transaction(0, t, i, customer_id=5) for i, t in enumerate(times)))
    assert first.floor_ts(owner) == 0
    store: Store = {}
    apply(store, first.changes())
    second = FeatureEngine(plan, [0])
    rows = make_rows([transaction(0, 200, 99, customer_id=5)])
    fetch(second, store, rows)
    second.update(*rows)
    # Eight events would fill a block of 8, and all of them are out of the reach of 200.
    assert second.floor_ts(owner) == 0


def test_a_blob_by_hand() -> None:
    cells = (AMOUNT, Cell.CHANNEL, Cell.MCC, Cell.LAT, Cell.PAYEE_ID)
    engine = FeatureEngine(make_plan(keeping(*cells), []), [3])
    fields = {"customer_id": 5, "amount": -100, "mcc": 9999, "lat": -90_000_000}
    engine.update(*make_rows([transaction(3, TS_MS_MAX, 70, **fields)]))
    (change,) = engine.changes()
    assert change.owner == EntityKey(3, "customer", 5)
    assert change.offset == 0
    by_hand = b"MRHIST\0\x02"
    bitmap = sum(1 << cell for cell in (*LEAD, *cells))
    by_hand += bitmap.to_bytes(6, "little") + b"\x01"  # labels are joined to a customer's events
    by_hand += b"\0"  # kept values
    by_hand += (b"\0" * 7 + b"\x80") * 2  # nothing was ever dropped, nothing is lacking
    by_hand += b"\0" * 7 + b"\x03"  # room for 2 ** 3 events
    by_hand += TS_MS_MAX.to_bytes(6, "little") + (70).to_bytes(8, "little") + b"\0"
    by_hand += b"\0" * 7 + b"\x80"  # no payee
    by_hand += b"\x00\x80" + (9999).to_bytes(2, "little")  # no channel
    by_hand += (-100).to_bytes(8, "little", signed=True)
    by_hand += (-90_000_000).to_bytes(4, "little", signed=True)
    assert bytes(change.value) == by_hand


def test_every_value_that_a_record_may_have_fits_its_stored_width() -> None:
    ends = {
        Cell.TS_MS: (TS_MS_MIN, TS_MS_MAX),
        Cell.LABEL: (min(LabelCode), max(LabelCode)),
        Cell.MCC: (0, 9999),
        Cell.LAT: (-90 * MICRO, 90 * MICRO),
        Cell.LON: (-180 * MICRO, 180 * MICRO),
        **dict.fromkeys(CODE_CELLS, (0, CODE_MAX)),
    }
    plan = make_plan(keeping(*[cell for cell in Cell if cell not in LEAD]), [])
    for end in (0, 1):
        fields = {cell.name.lower(): values[end] for cell, values in ends.items()}
        ts_ms = fields.pop("ts_ms")
        engine = FeatureEngine(plan, [0])
        engine.update(*make_rows([transaction(0, ts_ms, 1, **fields, customer_id=5)]))
        (change,) = engine.changes()
        (row,) = read_blob(bytes(change.value)).rows
        stored = dict(zip(plan.entities[0].kept, row, strict=True))
        assert {cell: stored[cell] for cell in ends} == {c: v[end] for c, v in ends.items()}


@pytest.mark.parametrize(
    ("cell", "value"), [(Cell.TS_MS, 1 << 47), (Cell.MCC, -(1 << 15)), (Cell.LABEL, 128)]
)
def test_a_value_beyond_its_stored_width_is_refused_before_anything_is_taken(
    cell: Cell, value: int
) -> None:
    engine = FeatureEngine(make_plan(keeping(Cell.MCC), []), [0])
    rows = make_rows(transaction(0, i, i, customer_id=5) for i in range(3))
    rows[1][cell, 1] = value
    with pytest.raises(ValueError, match=f"row 1: expected {cell.name} within .*, got {value}"):
        engine.update(*rows)
    assert engine.changes() == []
    rows[0][1] = Kind.REFUSED
    engine.update(*rows)
    assert len(read_blob(bytes(engine.changes()[0].value)).rows) == 2


def test_appended_events_are_written_alone() -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0])
    listed = [transaction(0, i, i, customer_id=5, amount=i) for i in range(6)]
    engine.update(*make_rows(listed[:4]))
    engine.changes()
    engine.update(*make_rows(listed[4:]))
    (rows,) = engine.changes()
    assert (rows.offset, len(rows.value)) == (HEAD_BYTES + 4 * ROW_BYTES, 2 * ROW_BYTES)
    # A late event and a label: from the first changed row on.
    engine.update(*make_rows([transaction(0, 3, 2, customer_id=5, amount=9)]))
    assert [c.offset for c in engine.changes()] == [HEAD_BYTES + 3 * ROW_BYTES]
    engine.update(*make_rows([label(0, 4, 5, LabelCode.FRAUD)]))
    assert [c.offset for c in engine.changes()] == [HEAD_BYTES + 5 * ROW_BYTES]
    # The ninth event makes a block of 16 out of one of 8, which the header tells.
    engine.update(*make_rows(transaction(0, 9, 9 + i, customer_id=5, amount=1) for i in range(2)))
    header, rows = engine.changes()
    assert (header.offset, len(header.value)) == (16, 24)
    assert rows.offset == HEAD_BYTES + 7 * ROW_BYTES
    # What changes nothing is not written: a repeated label, a repeated event.
    engine.update(*make_rows([label(0, 4, 5, LabelCode.FRAUD), listed[2]]))
    assert engine.changes() == []


def test_a_shared_entity_is_stored_as_one_partial_a_partition() -> None:
    plan = make_plan(ENTITIES, [])
    rows = make_rows(transaction(i % 3, i, i, terminal_id=8, amount=i) for i in range(7))
    engine = FeatureEngine(plan, ALL)
    engine.update(*rows)
    store: Store = {}
    apply(store, engine.changes())
    events = {key.partition: [r[1] for r in read_blob(b).rows] for key, b in store.items()}
    assert events == {0: [0, 3, 6], 1: [1, 4], 2: [2, 5]}


def test_partials_written_by_two_processes_merge_in_a_third() -> None:
    slots: list[Slot] = [
        (SHARED_TERMINAL, Aggregate.LAST, AMOUNT, EVER_MS, 0, NO_WHERE, False),
        (SHARED_TERMINAL, Aggregate.SUM, AMOUNT, 4, 0, NO_WHERE, True),
    ]
    plan = make_plan(ENTITIES, slots)
    store: Store = {}
    for partition, times in ((0, [1, 4, 6]), (1, [2, 3, 7])):
        engine = FeatureEngine(plan, [partition])
        listed = [transaction(partition, t, t, terminal_id=8, amount=10**t) for t in times]
        engine.update(*make_rows(listed))
        apply(store, engine.changes())
    merged = FeatureEngine(plan, [0, 1])
    rows = make_rows([transaction(1, 8, 8, terminal_id=8, amount=1)])
    fetch(merged, store, rows)
    assert merged.update(*rows).values[:, 0].tolist() == [10**7, 10**7 + 10**6 + 1]
    # A load beyond the cap keeps the newest events of both, and later writes them whole.
    capped = FeatureEngine(make_plan(ENTITIES, slots, event_cap=4), [0, 1])
    fetch(capped, store, rows)
    assert capped.floor_ts(EntityKey(0, "terminal", 8)) == 2
    capped.update(*rows)
    apply(store, capped.changes())
    left = [[r[0] for r in read_blob(store[EntityKey(p, "terminal", 8)]).rows] for p in (0, 1)]
    # 3, 4, 6, 7 were loaded; the cap of 4 was full, so its oldest quarter went.
    assert left == [[4, 6], [7, 8]]


def test_a_partial_that_grows_within_a_merged_block_can_be_loaded_again() -> None:
    plan = make_plan(ENTITIES, [])
    store: Store = {}
    # Blocks of their own: four events fill one of four places, two leave room in one.
    for partition, times in ((0, [1, 2, 3, 4]), (1, [5, 6])):
        engine = FeatureEngine(plan, [partition])
        engine.update(*make_rows(transaction(partition, t, t, terminal_id=8) for t in times))
        apply(store, engine.changes())
    merged = FeatureEngine(plan, [0, 1])
    rows = make_rows([transaction(0, 7, 7, terminal_id=8)])
    fetch(merged, store, rows)
    merged.update(*rows)  # the seventh of eight places, the fifth event of partition 0
    apply(store, merged.changes())
    again = FeatureEngine(plan, [0])
    fetch(again, store, rows)
    times = [row[0] for row in read_blob(store[EntityKey(0, "terminal", 8)]).rows]
    assert times == [1, 2, 3, 4, 7]


def keeping(*cells: int) -> tuple[Entity, ...]:
    return (make_entity("customer", Cell.CUSTOMER_ID, False, *cells),)


def test_a_blob_written_with_other_cells_is_mapped_and_then_replaced() -> None:
    slots: list[Slot] = [
        (CUSTOMER, Aggregate.SUM, AMOUNT, EVER_MS, 0, NO_WHERE, True),
        (CUSTOMER, Aggregate.FIRST, int(Cell.MCC), EVER_MS, 0, NO_WHERE, True),
        (CUSTOMER, Aggregate.LAST, LABEL, EVER_MS, 0, NO_WHERE, False),
    ]
    old = FeatureEngine(make_plan(keeping(Cell.CHANNEL, AMOUNT), []), [0])
    fields = {"customer_id": 5, "mcc": 77, "channel": 1}
    listed = [transaction(0, i, i, amount=10**i, **fields) for i in range(3)]
    old.update(*make_rows([*listed[:2], label(0, 1, 5, LabelCode.FRAUD)]))
    store: Store = {}
    apply(store, old.changes())
    new = FeatureEngine(make_plan(keeping(Cell.MCC, AMOUNT), slots), [0])
    rows = make_rows(listed[2:])
    fetch(new, store, rows)
    assert new.update(*rows).values[:, 0].tolist() == [111, 77, LabelCode.FRAUD]
    changes = new.changes()
    assert [c.offset for c in changes] == [0]
    mapped = [[0, 0, 0, MISSING, 1], [1, 1, 2, MISSING, 10], [2, 2, 0, 77, 100]]
    written = read_blob(bytes(changes[0].value))
    assert written.rows == mapped
    assert written.cells == [*LEAD, Cell.MCC, AMOUNT]
    assert (written.lacking, written.lacking_ts) == ({3}, 1)


def blob() -> bytes:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0])
    engine.update(*make_rows(transaction(0, i, i, customer_id=5, amount=1) for i in range(3)))
    (change,) = engine.changes()
    return bytes(change.value)


def with_bytes(at: int, value: bytes) -> bytes:
    return blob()[:at] + value + blob()[at + len(value) :]


def rows_again(count: int) -> bytes:
    return blob()[HEAD_BYTES:] * count


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", "a history's header"),
        (blob()[:-3], "whole rows of events"),
        (blob()[:16], "a history's header"),
        (b"X" + blob()[1:], "a history's header"),
        (with_bytes(7, b"\x01"), "format version 2"),
        (with_bytes(8, b"\x02"), "known cells, and TS_MS, EVENT_ID and LABEL among them"),
        (with_bytes(13, b"\x80"), "known cells"),
        (with_bytes(32, b"\x10"), "known cells"),  # lacking: a column that it has not
        (with_bytes(39, b"\x02"), "a capacity that is a power of two"),
        (with_bytes(39, b"\x40"), "a capacity that is a power of two"),
        (blob() + rows_again(2), "a capacity that is a power of two"),
        (blob() + bytes(8), "whole rows of events"),
        (with_bytes(15, b"\x09"), "whole rows of events"),
        (with_bytes(HEAD_BYTES + 5, b"\x01"), "events in ascending order of time and id"),
        (blob() + blob()[HEAD_BYTES:], "events in ascending order of time and id"),
    ],
)
def test_a_corrupt_blob_is_refused_by_name(value: bytes, expected: str) -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [4])
    owner, sound = EntityKey(4, "customer", 5), EntityKey(4, "customer", 6)
    with pytest.raises(HistoryError, match=re.escape(expected)) as error:
        engine.load([(sound, blob()), (owner, value)])
    assert str(error.value).startswith("history of customer 5 in partition 4: expected ")
    rows = make_rows([transaction(4, 1, 1, customer_id=6)])
    assert engine.missing(*rows) == [sound], "nothing is loaded beside a corrupt blob"


def test_loading_what_is_resident_or_unknown_is_refused() -> None:
    engine = FeatureEngine(make_plan(keeping(AMOUNT), []), [0])
    owner = EntityKey(0, "customer", 5)
    engine.load([(owner, blob())])
    with pytest.raises(ValueError, match="expected a history that isn't resident yet"):
        engine.load([(owner, blob())])
    with pytest.raises(ValueError, match="did you mean `customer`"):
        engine.load([(EntityKey(0, "custmer", 5), None)])


def test_missing_names_each_entity_once_and_a_shared_one_per_partition() -> None:
    engine = FeatureEngine(make_plan(ENTITIES, []), ALL)
    rows = make_rows(
        [
            transaction(1, 1, 1, customer_id=5, terminal_id=8),
            transaction(1, 2, 2, customer_id=5, terminal_id=8),
            label(2, 1, 6, LabelCode.FRAUD),
        ]
    )
    terminal = [EntityKey(p, "terminal", 8) for p in ALL]
    customers = [EntityKey(1, "customer", 5), EntityKey(2, "customer", 6)]
    assert engine.missing(*rows) == [customers[0], *terminal, customers[1]]
    engine.load((owner, None) for owner in [customers[0], *terminal])
    assert engine.missing(*rows) == customers[1:]
    assert FeatureEngine(make_plan(ENTITIES, []), ALL, assume_fresh=True).missing(*rows) == []


def test_a_label_reaches_the_other_entities_of_a_stored_event() -> None:
    where = ((LABEL, int(Comparison.EQ), int(LabelCode.FRAUD)),)
    slots: list[Slot] = [(SHARED_TERMINAL, Aggregate.COUNT, -1, EVER_MS, 0, where, True)]
    plan = make_plan(ENTITIES, slots)
    store: Store = {}
    first = FeatureEngine(plan, ALL)
    first.update(*make_rows([transaction(1, 1, 1, customer_id=5, terminal_id=8, card_id=2)]))
    apply(store, first.changes())
    second = FeatureEngine(plan, ALL)
    labels = make_rows([label(1, 1, 5, LabelCode.FRAUD)])
    assert second.missing(*labels) == [EntityKey(1, "customer", 5)]
    fetch(second, store, labels)
    second.update(*labels)
    # The card has no slot that reads labels: it is neither loaded nor written.
    changes: list[Change] = second.changes()
    assert {c.owner.entity for c in changes} == {"customer", "terminal"}
    apply(store, changes)
    third = FeatureEngine(plan, ALL)
    rows = make_rows([transaction(2, 9, 9, terminal_id=8)])
    fetch(third, store, rows)
    assert third.update(*rows).values[0, 0] == 1


def test_a_plan_that_contradicts_itself_is_refused() -> None:
    slot: Slot = (0, Aggregate.SUM, AMOUNT, 1, 0, NO_WHERE, True)
    with pytest.raises(ValueError, match="customer doesn't keep AMOUNT"):
        FeatureEngine(make_plan(keeping(Cell.MCC), [slot]), [0])
    with pytest.raises(ValueError, match="expected a cell to aggregate"):
        FeatureEngine(make_plan(keeping(AMOUNT), [(0, Aggregate.SUM, -1, 1, 0, (), True)]), [0])
    with pytest.raises(ValueError, match="at least 0 ms"):
        FeatureEngine(
            make_plan(keeping(AMOUNT), [(0, Aggregate.SUM, AMOUNT, -1, 0, (), True)]), [0]
        )
    unkept = (*keeping(AMOUNT), make_entity("terminal", Cell.TERMINAL_ID, True))
    reads_labels: Slot = (1, Aggregate.MAX, LABEL, 1, 0, NO_WHERE, True)
    with pytest.raises(ValueError, match="customer's history must keep TERMINAL_ID"):
        FeatureEngine(make_plan(unkept, [reads_labels]), [0])
    disordered = Entity("customer", Cell.CUSTOMER_ID, False, (0, 1, 20, 16, 4))
    with pytest.raises(ValueError, match="then ascending cells"):
        FeatureEngine(make_plan((disordered,), []), [0])
    with pytest.raises(ValueError, match="event_cap: expected at least 1, got 0"):
        FeatureEngine(make_plan(keeping(AMOUNT), [], event_cap=0), [0])
