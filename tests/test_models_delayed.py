"""Pending labels against a slow, obvious oracle: any cut, any restart, the cap, damage."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models_pending_oracle import HORIZON_MS, SEED, in_sample, oracle_run, scores_of, values_of

from features.errors import RecordError
from online_models import delayed, pending_rows
from online_models.delayed import PendingLabels
from online_models.kernels import sample_mask


def as_tuple(e):
    assert e.model == "fraud"
    return (e.event, e.ts_ms, e.matured_ms, e.fraud, e.weight, e.features, e.scores)


def new(sample=1.0, cap=10**6, score_count=0):
    return PendingLabels("fraud", 2, HORIZON_MS, sample, SEED, cap, score_count)


def batch_run(stream, sample, cap, cuts, restarts=frozenset()):
    """The real thing, cut into batches; a restart goes through a store of blobs."""
    pending, store, out = new(sample, cap, 1), {}, []
    clock, batch = -(10**9), []
    # Without records of other kinds, the clock before each row follows from the rows.
    has_ticks = any(kind == "tick" for kind, _, _ in stream)

    def flush():
        if batch:
            events, ts, values, clocks = zip(*batch, strict=True)
            clocks_ms = np.array(clocks) if has_ticks else None
            scores = np.array([scores_of(row) for row in values])
            pending.append(np.array(events), np.array(ts), np.array(values), clocks_ms, scores)
            batch.clear()

    for step, (kind, event, ts) in enumerate(stream):
        if kind == "transaction":
            batch.append((event, ts, values_of(step), clock))
            clock = max(clock, ts)
        elif kind == "tick":
            clock = max(clock, ts)
        else:
            flush()
            clock = max(clock, ts)
            out += map(as_tuple, pending.mature(clock))
            pending.label(event, kind == "fraud")
        if step in cuts or step in restarts or step == len(stream) - 1:
            flush()
            out += map(as_tuple, pending.mature(clock))
        if step in restarts or step == len(stream) - 1:
            for name, blob in pending.changes():
                if blob is None:
                    del store[name]
                else:
                    store[name] = blob
            assert pending.changes() == []
        if step in restarts:
            pending = new(sample, cap, 1)
            pending.load(store)
    counts = (pending.dropped_count, pending.unmatched_count, pending.repeated_count)
    return out, counts, store


def stream_of(rng, length):
    """Records in order of arrival: time mostly rises, some are late, some far too late.

    Events are few, so that repeats, second verdicts and labels that match are common; times step
    in fives, so that rows stand exactly at the horizon.
    """
    now, stream = 0, []
    kinds = ["transaction"] * 8 + ["fraud", "legitimate"] + rng.choice([["tick"], []])
    event_count = rng.choice([3, 30])
    for _ in range(length):
        kind = rng.choice(kinds)
        late_ms = rng.choice([0, 0, 0, 5, 20, 25, 40]) if kind == "transaction" else 0
        now += rng.choice([0, 0, 1, 5, 5, 20])
        stream.append((kind, rng.randrange(event_count) * 7919 - 40_000, now - late_ms))
    return stream


def places_of(rng, length, share):
    return frozenset(step for step in range(length) if rng.random() < share)


@pytest.fixture(autouse=True, scope="module")
def small_chunks():
    """Chunks of four rows, so that short streams cross many of their borders."""
    patch = pytest.MonkeyPatch()
    for module in (delayed, pending_rows):
        patch.setattr(module, "CHUNK_ROWS", 4)
    patch.setattr(pending_rows, "TABLE_SLOTS_MIN", 4)
    yield
    patch.undo()


@given(
    rng=st.randoms(use_true_random=False),
    length=st.integers(0, 60),
    sample=st.sampled_from([1.0, 0.5]),
    cap=st.sampled_from([1, 3, 5, 100]),
    share=st.sampled_from([0.02, 0.1, 0.5]),
)
def test_any_cut_and_any_restart_give_the_oracles_examples(rng, length, sample, cap, share):
    stream = stream_of(rng, length)
    cuts, restarts = places_of(rng, length, share), places_of(rng, length, share)
    expected, expected_counts = oracle_run(stream, sample, cap)
    out, counts, store = batch_run(stream, sample, cap, cuts)
    assert out == expected
    assert counts == expected_counts
    one_by_one = batch_run(stream, sample, cap, frozenset(range(length)))
    assert (out, counts, store) == one_by_one
    restarted = batch_run(stream, sample, cap, cuts, restarts)
    assert (out, counts, store) == restarted


def append(pending, *rows):
    events, ts = zip(*rows, strict=True)
    pending.append(np.array(events), np.array(ts), np.array([[1.0, 2.0]] * len(rows)))


def test_a_label_at_the_horizon_still_wins_and_one_later_does_not():
    pending = new()
    append(pending, (1, 100), (2, 101))
    assert pending.mature(100 + HORIZON_MS) == []
    [silent] = pending.mature(101 + HORIZON_MS)
    assert (silent.event, silent.matured_ms, silent.fraud) == (1, 100 + HORIZON_MS, False)
    pending.label(2, True)
    pending.label(1, True)
    assert pending.unmatched_count == 1
    [labelled] = pending.mature(102 + HORIZON_MS)
    assert (labelled.event, labelled.matured_ms, labelled.fraud) == (2, 101 + HORIZON_MS, True)


def test_frauds_and_the_silent_rest_come_out_in_the_order_of_events():
    pending = new()
    append(pending, (1, 102), (2, 100), (3, 101), (4, 100))
    pending.label(4, True)  # known first, and still not before its turn
    pending.label(1, True)
    assert pending.mature(100 + HORIZON_MS) == []
    assert [(e.event, e.fraud) for e in pending.mature(10**6)] == [
        (2, False),
        (4, True),
        (3, False),
        (1, True),
    ]


def test_rows_that_come_after_their_horizon_come_out_where_single_records_would_put_them():
    rows = [(1, 0), (2, 5), (3, 25), (4, -10), (5, 30)]
    # Row 3 moves the clock to 25: row 1 is due, row 2 (horizon at 25) not yet. Row 4 is due on
    # arrival. Row 5 moves the clock to 30: row 2 is due.
    expected = [1, 4, 2]
    single, whole = new(), new()
    out = []
    for row in rows:
        append(single, row)
        out += [e.event for e in single.mature(max(ts for _, ts in rows[: rows.index(row) + 1]))]
    assert out == expected
    append(whole, *rows)
    assert [e.event for e in whole.mature(30)] == expected


def test_an_event_is_known_until_its_horizon_has_passed():
    pending = new()
    append(pending, (1, 100))
    pending.label(1, True)
    append(pending, (9, 100 + HORIZON_MS))
    append(pending, (1, 100 + HORIZON_MS))  # the clock stands at the horizon: a repeat
    assert pending.repeated_count == 1
    append(pending, (9, 101 + HORIZON_MS))  # a repeat too
    append(pending, (1, 101 + HORIZON_MS))  # one later: a new event
    assert pending.repeated_count == 2
    assert [(e.event, e.ts_ms) for e in pending.mature(101 + HORIZON_MS)] == [(1, 100)]
    pending.label(1, False)
    assert pending.unmatched_count == 0


def test_labelled_rows_stand_against_repeats_and_take_verdicts_across_a_restart():
    pending = new()
    append(pending, (1, 100), (2, 105), (3, 105), (4, 110))
    for event in (1, 2, 3, 4):
        pending.label(event, event % 2 == 0)
    restarted = new()
    restarted.load(dict(pending.changes()))
    assert [e.event for e in restarted.mature(101 + HORIZON_MS)] == [1]
    append(restarted, (4, 105 + HORIZON_MS))
    assert restarted.repeated_count == 1
    restarted.label(3, True)
    assert [(e.event, e.fraud) for e in restarted.mature(10**6)] == [
        (2, True),
        (3, True),
        (4, True),
    ]


def test_rows_over_the_cap_free_their_memory():
    pending = new(cap=8)
    store = {}
    for event in range(100):
        append(pending, (event, 100))
        store |= dict(pending.changes())
    rows = [name for name, blob in store.items() if blob and name.startswith("rows")]
    assert len(rows) <= 8 // 4 + 1
    assert pending.dropped_count == 100 - 8


def test_the_last_verdict_counts():
    kept = next(event for event in range(100) if in_sample(event, 0.5))
    left_out = next(event for event in range(100) if not in_sample(event, 0.5))
    pending = new(sample=0.5)
    append(pending, (kept, 100), (left_out, 101))
    for event in (kept, left_out):
        pending.label(event, False)
        pending.label(event, True)
    pending.label(kept, False)
    assert [(e.event, e.fraud, e.weight) for e in pending.mature(102 + HORIZON_MS)] == [
        (kept, False, 2.0),
        (left_out, True, 1.0),
    ]
    assert pending.unmatched_count == 0


def test_a_verdict_without_a_waiting_event_is_counted_and_lost():
    pending = new(cap=2)
    append(pending, (1, 100), (2, 100))
    pending.label(1, True)
    append(pending, (3, 100))  # pushes the first row out, and its verdict with it
    assert pending.dropped_count == 1
    for event in (1, 9):  # dropped, and never seen
        pending.label(event, True)
    assert pending.unmatched_count == 2
    assert [(e.event, e.fraud) for e in pending.mature(10**6)] == [(2, False), (3, False)]
    pending.label(2, True)
    assert pending.unmatched_count == 3
    assert pending.mature(10**6) == []


def test_the_newest_rows_stay_under_the_cap():
    pending = new(cap=3)
    append(pending, *[(event, 100 + event) for event in range(5)])
    assert (pending.dropped_count, pending.pending_count) == (2, 3)
    pending.label(1, True)
    assert pending.unmatched_count == 1
    assert [e.event for e in pending.mature(10**6)] == [2, 3, 4]


def test_snapshots_hold_what_a_model_may_see():
    pending = new()
    values = np.array([[np.nan, 1.5], [np.inf, -1e101]])
    pending.append(np.array([1, 2]), np.array([100, 100]), values)
    values[:] = 7.0
    seen = np.array([e.features for e in pending.mature(10**6)])
    assert np.array_equal(seen, [[math.nan, 1.5], [math.nan, math.nan]], equal_nan=True)


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    st.floats(0, 1),
    st.integers(0, 2**63 - 1),
)
def test_the_sample_is_a_function_of_event_and_seed(events, share, seed):
    out = np.empty(len(events), dtype=np.bool_)
    sample_mask(np.array(events, dtype=np.int64), seed, share, out)
    assert out.tolist() == [in_sample(event, share, seed) for event in events]


def test_the_weighted_sample_stands_for_all_legitimate_events():
    pending = new(sample=0.2)
    n = 5000
    pending.append(np.arange(n), np.arange(n), np.zeros((n, 2)))
    for event in range(0, n, 50):
        pending.label(event, True)
        pending.label(event + 1, False)
    examples = pending.mature(10**6)
    frauds = [e.event for e in examples if e.fraud]
    legitimate = [e.event for e in examples if not e.fraud]
    assert frauds == list(range(0, n, 50))
    assert legitimate == [e for e in range(n) if e % 50 and in_sample(e, 0.2)]
    assert {(e.fraud, e.weight) for e in examples} == {(True, 1.0), (False, 5.0)}
    # Binomial with n = 4,900 and p = 0.2 has a standard deviation of 28, times 5: 140.
    assert 5.0 * len(legitimate) == pytest.approx(n - len(frauds), abs=600)


def test_a_shorter_horizon_applies_to_rows_from_before():
    pending = new()
    append(pending, (1, 100))
    store = dict(pending.changes())
    shorter = PendingLabels("fraud", 2, 5, 1.0, SEED, 100)
    shorter.load(store)
    assert [e.matured_ms for e in shorter.mature(106)] == [105]


def test_deleted_chunks_leave_the_store():
    pending = new()
    append(pending, *[(event, 100) for event in range(9)])
    store = dict(pending.changes())
    assert len(store) == 2 * 3 + 1  # three chunks of four rows, and the head
    pending.mature(10**6)
    after = dict(pending.changes())
    gone = [name for name, blob in after.items() if blob is None]
    assert gone == [f"{kind}-{n:012d}" for n in (0, 1) for kind in ("rows", "status")]
    assert sorted(name for name, blob in after.items() if blob) == ["head", f"status-{2:012d}"]


def test_scores_of_other_contestants_are_forgotten():
    pending = new(score_count=2)
    scores = np.array([[0.1, 0.2], [0.3, 0.4]])
    pending.append(np.array([1, 2]), np.array([100, 100]), np.zeros((2, 2)), None, scores)
    blobs = dict(pending.changes())
    for score_count, expected in ((2, [[0.1, 0.2], [0.3, 0.4]]), (3, [[], []]), (0, [[], []])):
        again = new(score_count=score_count)
        again.load(blobs)
        assert [e.scores for e in again.mature(10**6)] == expected


def saved():
    pending = new()
    append(pending, *[(event, 100) for event in range(6)])
    return dict(pending.changes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b.pop("head"), "a blob `head`"),
        (lambda b: b.pop(f"status-{0:012d}"), "a blob `status-000000000000`, got none"),
        (lambda b: b.pop(f"rows-{1:012d}"), "known blobs, got `status-000000000001`"),
        (lambda b: [b.pop(f"{k}-{1:012d}") for k in ("rows", "status")], "a blob `rows-0000"),
        (lambda b: b.update({"rowz-1": b""}), "known blobs, got `rowz-1`"),
        (lambda b: b.update({f"rows-{0:012d}": b["head"]}), "kind `rows`, got kind `head`"),
        (lambda b: b.update({f"rows-{0:012d}": b[f"rows-{1:012d}"]}), "4 rows in every column"),
        (lambda b: b.update({"head": b["head"][:-1]}), "checksum"),
    ],
)
def test_damaged_blobs_are_named(change, message):
    blobs = saved()
    change(blobs)
    with pytest.raises(RecordError, match=message):
        new().load(blobs)


def test_blobs_of_another_model_are_refused():
    for other in (
        PendingLabels("mule", 2, HORIZON_MS, 1.0, SEED, 9),
        PendingLabels("fraud", 3, HORIZON_MS, 1.0, SEED, 9),
    ):
        with pytest.raises(RecordError, match="`fraud` with 2"):
            other.load(saved())
    new().load({})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m", 0, 1, 1.0, 1, 1), "input_count"),
        (("m", 1, -1, 1.0, 1, 1), "horizon_ms"),
        (("m", 1, 1, 0.0, 1, 1), "legitimate_sample"),
        (("m", 1, 1, 1.5, 1, 1), "legitimate_sample"),
        (("m", 1, 1, 1.0, 1, 0), "cap_count"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, message):
    with pytest.raises(RecordError, match=message):
        PendingLabels(*arguments)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected shapes"):
        new().append(np.arange(2), np.arange(2), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected shapes"):
        new(score_count=1).append(np.arange(2), np.arange(2), np.zeros((2, 2)))


def test_seventy_thousand_pending_rows_take_less_than_20_megabytes(monkeypatch):
    for module in (delayed, pending_rows):
        monkeypatch.setattr(module, "CHUNK_ROWS", 256)
    append(new(), (1, 1))  # compiles the kernels before memory is counted
    rng = np.random.default_rng(3)
    events, features = rng.integers(-(2**63), 2**63 - 1, 70_000), rng.normal(size=(500, 24))
    tracemalloc.start()
    pending = PendingLabels("fraud", 24, HORIZON_MS, 1.0, SEED, 10**6)
    for start in range(0, 70_000, 500):
        batch = events[start : start + 500]
        pending.append(batch, np.full(500, start), features)
    held_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert pending.pending_count == 70_000
    assert held_bytes < 20_000_000
