"""Tiles as state: cuts, restarts, eviction, parts of several processes, and changed policies."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import Cell, LabelCode
from features.histories import EntityKey, FeatureEngine, Features, HistoryError
from features.kernels.layout import NEVER_MS
from features.plan import Aggregate, Comparison, Plan
from tests.oracle_blobs import HEAD_BYTES, RING_COUNT, Tile, read_blob
from tests.oracle_histories import (
    NO_WHERE,
    Oracle,
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
from tests.test_histories_tiles import ALL, ENTITIES, REACH_MS, holds, slots, streams

AMOUNT, CHANNEL, LABEL = int(Cell.AMOUNT), int(Cell.CHANNEL), int(Cell.LABEL)
EVER_MS = 1 << 62
OWNER = EntityKey(0, "customer", 5)
caps = st.sampled_from([1, 3, 8, 20])


def joined(pieces: list[Features], of: Features) -> tuple[bytes, bytes]:
    values = np.concatenate([piece.values for piece in pieces] or [of.values], axis=1)
    errors = np.concatenate([piece.errors for piece in pieces] or [of.errors], axis=1)
    return values.tobytes(), errors.tobytes()


@settings(max_examples=100, deadline=None)
@given(st.lists(slots(), max_size=6), streams(), caps, st.booleans(), st.data())
def test_neither_cuts_nor_restarts_nor_eviction_show(
    asked: list[Slot], rows: Rows, event_cap: int, restarting: bool, data: st.DataObject
) -> None:
    plan = make_plan(ENTITIES, asked, REACH_MS, event_cap)
    whole, once = FeatureEngine(plan, ALL, assume_fresh=True), Store()
    expected = whole.update(*rows)
    apply(once, whole.changes())
    engine, store, pieces = FeatureEngine(plan, ALL), Store(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows[0])), max_size=8)))
    for first, last in itertools.pairwise([0, *cuts, len(rows[0])]):
        piece = part(rows, first, last)
        fetch(engine, store, piece)
        pieces.append(engine.update(*piece))
        apply(store, engine.changes())
        engine.confirmed(engine.generation)
        if restarting:
            engine = FeatureEngine(plan, ALL)
        else:
            engine.evict(data.draw(st.integers(0, 3)))
    assert joined(pieces, expected) == (expected.values.tobytes(), expected.errors.tobytes())
    assert store == once


def of_partition(rows: Rows, partition: int) -> Rows:
    chosen = rows[2] == partition
    return rows[0][chosen], np.ascontiguousarray(rows[1][:, chosen]), rows[2][chosen]


@settings(max_examples=150, deadline=None)
@given(st.lists(slots(), min_size=1, max_size=6), streams(), streams(), caps, caps)
def test_parts_of_several_processes_keep_the_bound_together(
    asked: list[Slot], before: Rows, after: Rows, event_cap: int, later_cap: int
) -> None:
    """Two processes own a partition each; a third one merges what they stored, and goes on."""
    for rows in (before, after):
        rows[1][Cell.EVENT_ID] = 2 * rows[1][Cell.EVENT_ID] + rows[2]  # one partition an event
    plan, store = make_plan(ENTITIES, asked, REACH_MS, event_cap), Store()
    later = make_plan(ENTITIES, asked, REACH_MS, later_cap)
    oracle = Oracle(later)
    for partition in (0, 1):
        own = of_partition(before, partition)
        engine = FeatureEngine(plan, [partition], assume_fresh=True)
        engine.update(*own)
        apply(store, engine.changes())
        oracle.take_all(own)
    merged = FeatureEngine(later, [0, 1])
    fetch(merged, store, after)
    holds(later, merged.update(*after), oracle.take_all(after))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(slots(), max_size=6), st.lists(slots(), min_size=1, max_size=6), streams(),
    streams(), caps,
)  # fmt: skip
def test_what_a_new_policy_asks_for_is_bounded_or_says_that_it_is_not(
    old: list[Slot], asked: list[Slot], before: Rows, after: Rows, event_cap: int
) -> None:
    older = make_plan(ENTITIES, old, REACH_MS, event_cap)
    plan = make_plan(ENTITIES, asked, REACH_MS, event_cap)
    oracle, store = Oracle(plan), Store()
    for each, rows in ((older, before), (plan, after)):
        middle = len(rows[0]) // 2
        for piece in (part(rows, 0, middle), part(rows, middle, len(rows[0]))):
            engine = FeatureEngine(each, ALL)
            fetch(engine, store, piece)
            features, truth = engine.update(*piece), oracle.take_all(piece)
            apply(store, engine.changes())
            if each is plan:
                holds(plan, features, truth)


def paying(times: list[int], **fields: int) -> Rows:
    return make_rows(
        transaction(0, ts_ms, i, **({"customer_id": 5, "amount": ts_ms} | fields))
        for i, ts_ms in enumerate(times)
    )


def one(*asked: tuple[object, ...], event_cap: int = 4) -> Plan:
    entity = make_entity("customer", Cell.CUSTOMER_ID, False, AMOUNT, CHANNEL)
    return make_plan((entity,), asked, REACH_MS, event_cap)


def test_a_section_by_hand() -> None:
    """Windows of 100 ms: tiles are 4 ms wide, the least that 31 of them are as long."""
    plan = one((0, Aggregate.SUM, AMOUNT, 100, 0, NO_WHERE, True), event_cap=8)
    engine = FeatureEngine(plan, [0])
    engine.update(*paying([0, 5, 6, 9, 20, 21, 30, 31, 32]))  # of eight, a quarter is dropped
    (change,) = engine.changes()
    blob = read_blob(bytes(change.value))
    assert blob.section is not None
    assert (blob.floor_ts, blob.section.floor_event) == (5, 1)
    assert blob.section.unfolded_ts == NEVER_MS
    ((complete_from, tiles),) = blob.section.series.values()
    assert complete_from == NEVER_MS
    assert tiles == [Tile(0, 0, 0, 1, 0, 0, 0, 0, []), Tile(1, 5, 5, 1, 5, 25, 5, 5, [])]


def test_an_event_before_one_that_was_dropped_is_folded_as_doubtful() -> None:
    plan = one((0, Aggregate.SUM, AMOUNT, 100, 0, NO_WHERE, True), event_cap=8)
    engine = FeatureEngine(plan, [0])
    engine.update(*paying([0, 5, 6, 9, 20, 21, 30, 31, 32]))
    features = engine.update(*make_rows([transaction(0, 5, 1, customer_id=5, amount=5)]))
    # 0 and 5 were dropped; whether the 5 that came now is another one, nobody knows.
    assert (features.values[0, 0], features.errors[0, 0]) == (10, 5)
    engine.update(*paying([40, 41, 42]))
    section = read_blob(bytes(engine.changes()[-1].value)).section
    assert section is not None
    ((_, tiles),) = section.series.values()
    # 8 ring tiles of 4 ms each are as wide as a doubtful one.
    doubtful = [tile for tile in tiles if tile.place >= RING_COUNT]
    assert doubtful == [Tile(RING_COUNT, 5, 5, 1, 5, 25, 5, 5, [])]


def test_windows_over_labels_and_late_rows_beyond_all_tiles_know_nothing() -> None:
    fraud = ((LABEL, int(Comparison.EQ), int(LabelCode.FRAUD)),)
    plan = one(
        (0, Aggregate.COUNT, -1, 100, 0, fraud, True),
        (0, Aggregate.COUNT, -1, 100, 0, NO_WHERE, True),
        (0, Aggregate.FIRST, AMOUNT, 100, 0, NO_WHERE, False),
        (0, Aggregate.LAST, AMOUNT, 100, 0, NO_WHERE, False),
    )
    engine = FeatureEngine(plan, [0])
    features = engine.update(*paying([*range(0, 1_000, 10)]))
    assert features.errors[:, -1].tolist() == [np.inf, 0, np.inf, 0]
    assert features.values[[1, 3], -1].tolist() == [10, 980]
    engine.update(*make_rows([label(0, 99, 5, LabelCode.FRAUD)]))
    late = make_rows([transaction(0, 500, 1_000, customer_id=5, amount=1)])
    assert engine.update(*late).errors[[0, 1], 0].tolist() == [np.inf, np.inf]


def test_more_different_values_than_a_sketch_holds_are_estimated() -> None:
    rng = np.random.default_rng(5)
    count = 20_000
    plan = one(
        (0, Aggregate.DISTINCT, AMOUNT, EVER_MS, 0, NO_WHERE, True),
        (0, Aggregate.DISTINCT, AMOUNT, 10_000, 0, NO_WHERE, True),
        event_cap=64,
    )
    amounts = rng.integers(0, 5_000, count)
    rows = paying(list(range(count)))
    rows[1][AMOUNT] = amounts
    features = FeatureEngine(plan, [0], assume_fresh=True).update(*rows)
    for at in range(200, count, 700):
        for slot, first in ((0, 0), (1, max(at - 9_999, 0))):
            truth = len(set(amounts[first : at + 1].tolist()))
            value, error = features.values[slot, at], features.errors[slot, at]
            assert abs(value - truth) <= error
            assert 0 < error < 3.0 * truth
    # Half of the window's tiles have sketches of their own: 32 hashes each.
    assert features.errors[1, -1] < 0.9 * features.values[1, -1]


def test_few_different_values_are_counted_exactly_for_ever() -> None:
    plan = one((0, Aggregate.DISTINCT, AMOUNT, EVER_MS, 0, NO_WHERE, True))
    rows = paying(list(range(2_000)))
    rows[1][AMOUNT] = np.arange(2_000) % 31
    features = FeatureEngine(plan, [0], assume_fresh=True).update(*rows)
    assert not features.errors.any()
    assert features.values[0].tolist() == [min(i + 1, 31) for i in range(2_000)]


def folded() -> bytes:
    engine = FeatureEngine(one((0, Aggregate.SUM, AMOUNT, 100, 0, NO_WHERE, True)), [0])
    engine.update(*paying([*range(9)]))
    (change,) = engine.changes()
    return bytes(change.value)


@pytest.mark.parametrize(
    ("at", "value"), [(HEAD_BYTES + 16, b"\x02"), (HEAD_BYTES + 44, b"\xff"), (HEAD_BYTES, b"")]
)
def test_a_section_that_would_not_end_is_refused(at: int, value: bytes) -> None:
    blob = folded()
    broken = blob[:at] + value + blob[at + len(value) :] if value else blob[: at + 8]
    engine = FeatureEngine(one((0, Aggregate.SUM, AMOUNT, 100, 0, NO_WHERE, True)), [0])
    with pytest.raises(HistoryError, match=r"whole tiles behind the header|whole rows of events"):
        engine.load([(OWNER, broken)])


def test_what_leaves_memory_gives_its_tiles_back() -> None:
    asked = (0, Aggregate.SUM, AMOUNT, 100, 0, NO_WHERE, True)
    engine, store = FeatureEngine(one(asked), [0]), Store()
    sizes = []
    for turn in range(6):
        rows = paying([*range(100 * turn, 100 * turn + 50)], customer_id=turn)
        fetch(engine, store, rows)
        engine.update(*rows)
        apply(store, engine.changes())
        engine.confirmed(engine.generation)
        assert engine.evict(9) == 1
        sizes.append(engine.memory.used_bytes)
    assert len(set(sizes)) == 1
    plain = FeatureEngine(one(asked, event_cap=4096), [0])
    plain.update(*paying([*range(50)]))
    plain.changes()
    plain.confirmed(plain.generation)
    assert plain.evict(1) == 1
    assert sizes[0] - plain.memory.used_bytes >= 8 * 40 * 8  # a tile takes eight words
