"""Windows beyond the cap over parts that several processes own: tiles of all of them."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from features.columns import Cell
from features.histories import EntityKey, FeatureEngine, Features
from features.plan import Aggregate, Plan
from tests.oracle_histories import (
    NO_WHERE,
    Oracle,
    Rows,
    Slot,
    Store,
    fetch,
    make_entity,
    make_plan,
    make_rows,
    part,
    transaction,
)
from tests.test_histories_foreign import OWNED, Process, of_their_partition
from tests.test_histories_tiles import CHANNEL, ENTITIES, REACH_MS, holds, slots, streams

AMOUNT = int(Cell.AMOUNT)
EVER_MS = 1 << 62
caps = st.sampled_from([1, 3, 8, 20])


def spread(rows: Rows) -> Rows:
    """Let the second partition's rows be those of two, and give each event ids of its own."""
    kinds, cells, partitions = rows
    partitions = partitions.copy()
    partitions[(partitions == 1) & (np.arange(len(partitions)) % 3 == 0)] = 2
    return of_their_partition((kinds, cells, partitions))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(slots(), min_size=1, max_size=6), streams(), caps, caps, st.sampled_from([2, 48]),
    st.data(),
)  # fmt: skip
def test_with_all_parts_read_no_value_is_further_from_the_truth_than_it_says(
    asked: list[Slot], drawn: Rows, event_cap: int, other_cap: int, run_from_count: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    rows, store = spread(drawn), Store()
    plan = make_plan(ENTITIES, asked, REACH_MS, event_cap)
    other = make_plan(ENTITIES, asked, REACH_MS, other_cap)
    truth = Oracle(plan).take_all(rows)
    processes = [
        Process(each, owned, store, run_from_count)
        for each, owned in zip((plan, other), OWNED, strict=True)
    ]
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
        sure = (ages_ms[:, 0] == 0.0) & exchanged
        unsure = np.where(sure, errors[:, 0], np.inf)[:, np.newaxis]
        holds(plan, Features(values, unsure), truth[:, row : row + 1])
        assert not np.isfinite(errors[(ages_ms > 0.0) & (errors > 0.0)]).any()
        if data.draw(st.integers(0, 4)) == 0:
            owner.commit()
            owner.engine.evict(data.draw(st.integers(0, 9)))
    for process in processes:
        process.commit()
    alone = FeatureEngine(plan, [0, 1, 2])
    alone.load((key, bytes(value)) for key, value in store.items())  # all of it is sound


BEFORE = (  # what the policy before kept of a terminal: no channel
    ENTITIES[0],
    make_entity("terminal", Cell.TERMINAL_ID, True, AMOUNT),
)


def is_of_amounts(slot: Slot) -> bool:
    cells = {slot[2], slot.match, *(term[0] for term in slot[5])}
    return CHANNEL not in cells


@settings(max_examples=200, deadline=None)
@given(
    st.lists(slots(), min_size=1, max_size=6), st.lists(slots().filter(is_of_amounts), max_size=4),
    streams(), caps, caps, st.data(),
)  # fmt: skip
def test_parts_of_another_policy_are_bounded_or_say_that_they_are_not(
    asked: list[Slot], before: list[Slot], drawn: Rows, event_cap: int, other_cap: int,
    data: st.DataObject,
) -> None:  # fmt: skip
    """The second process still has the policy before, which keeps less and asks for other tiles."""
    rows, store = spread(drawn), Store()
    plan = make_plan(ENTITIES, asked, REACH_MS, event_cap)
    ours = Process(plan, [0], store, 2)
    theirs = Process(make_plan(BEFORE, before, REACH_MS, other_cap), [1, 2], store)
    truth = Oracle(plan).take_all(rows)
    for row in range(len(rows[0])):
        if rows[2][row] > 0:
            theirs.take(part(rows, row, row + 1))
            continue
        exchanged = data.draw(st.booleans())
        if exchanged:
            exchange(ours, theirs)
        values, errors, ages_ms = ours.take(part(rows, row, row + 1))
        sure = (ages_ms[:, 0] == 0.0) & exchanged
        unsure = np.where(sure, errors[:, 0], np.inf)[:, np.newaxis]
        holds(plan, Features(values, unsure), truth[:, row : row + 1])


SUMS = (Aggregate.COUNT, Aggregate.SUM, Aggregate.MEAN, Aggregate.STD, Aggregate.MIN, Aggregate.MAX)


def over_terminal(
    *aggregates: Aggregate, event_cap: int, span_ms: int = EVER_MS, including_current: bool = True
) -> Plan:
    asked = [
        (1, kind, -1 if kind == Aggregate.COUNT else AMOUNT, span_ms, 0, NO_WHERE,
         including_current)
        for kind in aggregates
    ]  # fmt: skip
    return make_plan(ENTITIES, asked, REACH_MS, event_cap)


def paid(partition: int, *times: int, customer: int | None = None) -> Rows:
    """Payments at one terminal whose number, and amount, are their time."""
    return make_rows(
        transaction(partition, t, t, customer_id=customer or partition + 1, terminal_id=8, amount=t)
        for t in times
    )


def pair(plan: Plan) -> tuple[Process, Process]:
    store = Store()
    return Process(plan, [0], store), Process(plan, [1, 2], store)


def exchange(*processes: Process) -> None:
    for process in processes:
        process.commit()
    for process in processes:
        process.read_others()


def test_lifetime_sums_of_several_processes_are_those_of_one_bit_for_bit() -> None:
    """Whoever folded what: of a window that cuts no tile nothing is uncertain."""
    rng = np.random.default_rng(11)
    plan = over_terminal(*SUMS, Aggregate.DISTINCT, event_cap=16)
    processes = pair(plan)
    whole = FeatureEngine(plan, [0, 1, 2], assume_fresh=True)
    for i in range(600):
        partition = int(rng.integers(0, 3))
        row = paid(partition, i)
        row[1][AMOUNT] = int(rng.integers(0, 30))
        expected = whole.update(*row)
        values, errors, ages_ms = processes[int(partition > 0)].take(row)
        if i > 2:
            assert not ages_ms.any() and not errors.any() and not expected.errors.any()
            assert values.tobytes() == expected.values.tobytes()
        exchange(*processes)


def test_a_cut_tile_says_the_same_wherever_its_part_is_owned() -> None:
    """Theirs dropped 1 to 4, a quarter of 16: which of 2 and 3 are in a window nobody knows."""
    plan = over_terminal(*SUMS, event_cap=16, span_ms=170)
    ours, theirs = pair(plan)
    whole = FeatureEngine(plan, [0, 1, 2], assume_fresh=True)
    earlier = paid(1, *range(1, 18))
    theirs.take(earlier)
    whole.update(*earlier)
    ours.take(paid(0, 18))
    whole.update(*paid(0, 18))
    exchange(theirs, ours)
    values, errors, _ = ours.take(paid(0, 171))  # a window of (1, 171]
    expected = whole.update(*paid(0, 171))
    assert values.tobytes() == expected.values.tobytes()
    assert errors.tobytes() == expected.errors.tobytes()
    # 5 to 18, 171, and one to three of 2, 3 and 4: the likeliest of four even events is three.
    assert (values[0, 0], errors[0, 0]) == (18, 2)


def test_our_own_events_before_the_floor_of_others_stay_certain() -> None:
    asked, store = (Aggregate.COUNT, Aggregate.SUM), Store()
    ours = Process(over_terminal(*asked, event_cap=64), [0], store)
    theirs = Process(over_terminal(*asked, event_cap=16), [1, 2], store)
    ours.take(paid(0, 1, 3, 5))
    theirs.take(paid(1, *range(20, 37)))
    exchange(theirs, ours)
    values, errors, _ = ours.take(paid(0, 7, 40))
    assert values[:, 0].tolist() == [4, 16]
    assert values[:, 1].tolist() == [3 + 17 + 2, 9 + sum(range(20, 37)) + 47]
    assert not errors.any()


def test_an_event_that_its_owner_had_dropped_when_it_came_is_uncertain_here_too() -> None:
    """1 to 4 were dropped there; then comes 2, sent again for all that anybody knows."""
    plan = over_terminal(Aggregate.COUNT, Aggregate.SUM, event_cap=16)
    ours, theirs = pair(plan)
    theirs.take(paid(1, *range(1, 18)))
    theirs.take(paid(1, 2, customer=7))
    ours.take(paid(0, 18))
    exchange(theirs, ours)
    values, errors, _ = ours.take(paid(0, 19))
    truth = [19, sum(range(1, 20))]
    assert (np.abs(values[:, 0] - truth) <= errors[:, 0]).all()
    assert errors[:, 0].tolist() == [1, 2]


def test_no_newest_value_is_certain_where_others_may_have_dropped_a_newer_one() -> None:
    asked = (Aggregate.LAST, Aggregate.SEEN, Aggregate.COUNT)  # the last has tiles
    plan = over_terminal(*asked, event_cap=16, including_current=False)
    ours, theirs = pair(plan)
    ours.take(paid(0, 1))
    theirs.take(paid(1, *range(20, 37)))
    exchange(ours, theirs)
    late = ours.take(paid(0, 22))  # 20 to 23 were folded there
    assert late[1][:2, 0].tolist() == [math.inf, math.inf]
    assert ours.take(paid(0, 50))[0][0, 0] == 36


def test_a_part_is_replaced_whole_and_its_tiles_leave_with_it() -> None:
    plan = over_terminal(Aggregate.COUNT, event_cap=8)
    ours, theirs = pair(plan)
    ours.take(paid(0, 1))
    theirs.take(paid(1, *range(10, 30)))
    exchange(theirs, ours)
    for t in (31, 32):
        ours.read_others()
        assert ours.take(paid(0, t))[0][0, 0] == 20 + t - 29
    key = EntityKey(1, "terminal", 8)
    ours.engine.load_foreign([(key, None)])
    values, errors, _ = ours.take(paid(0, 33))
    assert (values[0, 0], errors[0, 0]) == (4, 0)
    ours.read_others()
    assert ours.take(paid(0, 34))[0][0, 0] == 25


def test_foreign_tiles_are_never_stored_from_here_and_leave_memory_with_their_entity() -> None:
    plan = over_terminal(Aggregate.COUNT, Aggregate.SUM, event_cap=8)
    store, sizes = Store(), set()
    ours, theirs = Process(plan, [0], store), Process(plan, [1, 2], store)
    theirs.take(paid(1, *range(10, 30)))
    theirs.commit()
    for turn in range(5):
        ours.take(paid(0, *range(40 + 10 * turn, 48 + 10 * turn)))
        ours.read_others()
        assert ours.take(paid(0, 48 + 10 * turn))[0][0, 0] == 20 + 9 * (turn + 1)
        ours.commit()
        ours.engine.evict(9)
        assert ours.engine.memory.resident_count == 0
        sizes.add(ours.engine.memory.used_bytes)
    assert len(sizes) == 1
    alone = FeatureEngine(plan, [0])
    rows = paid(0, 99)
    fetch(alone, {key: value for key, value in store.items() if key.partition == 0}, rows)
    features = alone.update(*rows)
    assert (features.values[0, 0], features.errors[0, 0]) == (46, 0)


def test_what_was_not_read_or_is_old_bounds_nothing() -> None:
    plan = over_terminal(Aggregate.COUNT, event_cap=16, span_ms=170)
    ours, theirs = pair(plan)
    theirs.take(paid(1, *range(1, 18)))
    theirs.commit()
    ours.take(paid(0, 18))
    ours.read_others()
    assert ours.take(paid(0, 171))[1][0, 0] == 2
    assert ours.engine.foreign is not None
    ours.engine.foreign.age_ms = 2_500.0
    assert ours.take(paid(0, 171, 172))[1][0, 1] == math.inf


def test_a_policy_that_asks_for_more_waits_until_the_others_fold_for_it_too() -> None:
    """Their tiles are of the policy before: the window is bounded once it ends behind those."""
    older = over_terminal(Aggregate.COUNT, event_cap=16, span_ms=100)
    newer = over_terminal(Aggregate.SUM, event_cap=16, span_ms=170)
    store = Store()
    theirs = Process(older, [1, 2], store)
    theirs.take(paid(1, *range(1, 18)))
    theirs.commit()
    ours = Process(newer, [0], store)
    ours.take(paid(0, 18))
    ours.read_others()
    errors = ours.take(paid(0, 171, 175))[1]
    assert errors[0].tolist() == [math.inf, 0], "1 to 4 were dropped"
