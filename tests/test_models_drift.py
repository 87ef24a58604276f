"""Drift: found soon, not raised without it, over restarts and in any order of arrival."""

import numpy as np
import pytest
from river.drift import ADWIN

from features.errors import RecordError
from online_models.detectors import ADWIN_DELTA, DETECTORS
from online_models.drift import RECENT_COUNT, SCALE_COUNT, DriftWatch, Stream
from online_models.framing import pack_arrays, unpack_arrays

NAMES = sorted(DETECTORS)
# Values after a sudden shift until the alarm, at most, over the seeds below; KSWIN gets means of 20
# values and so has the least power.
FOUND_WITHIN_COUNT = {"adwin": 1_000, "page_hinkley": 1_200, "kswin": 2_000}


def alarm_at(stream, values):
    """Return the alarm and how many values the stream had by then."""
    for count, value in enumerate(values, start=1):
        if alarms := stream.update(np.array([value])):
            return alarms[0], count
    return None, None


@pytest.mark.parametrize("detector", NAMES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_sudden_shift_of_half_a_deviation_is_found(detector, seed):
    rng = np.random.default_rng(seed)
    stream = Stream("input:amount", detector)
    assert stream.update(100.0 + 20.0 * rng.normal(size=4_000)) == []
    alarm, count = alarm_at(stream, 110.0 + 20.0 * rng.normal(size=4_000))
    assert count <= FOUND_WITHIN_COUNT[detector]
    assert alarm.stream == "input:amount"
    # Means in the stream's own unit, within four standard errors.
    assert alarm.before == pytest.approx(100.0, abs=4 * 20.0 / np.sqrt(4_000))
    assert alarm.after == pytest.approx(110.0, abs=4 * 20.0 / np.sqrt(min(count, RECENT_COUNT)))


@pytest.mark.parametrize("detector", NAMES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_error_that_doubles_is_found(detector, seed):
    """One in twelve is badly wrong, then one in six: what a lost pattern of fraud looks like."""
    rng = np.random.default_rng(seed)

    def errors(count, share):
        wrong = rng.random(count) < share
        return np.where(wrong, rng.beta(8, 2, count), rng.beta(1, 20, count))

    stream = Stream("error:a", detector, is_unit=True)
    assert stream.update(errors(5_000, 1 / 12)) == []
    alarm, count = alarm_at(stream, errors(5_000, 1 / 6))
    assert count <= 2_500
    assert alarm.after > alarm.before


@pytest.mark.parametrize("detector", NAMES)
def test_without_drift_there_is_less_than_one_alarm_in_200_000_values(detector):
    count = 20_000 if detector == "kswin" else 60_000
    alarms = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        for values in (rng.normal(size=count), rng.exponential(size=count)):
            alarms += Stream("input:x", detector).update(values)
        wrong = np.where(rng.random(count) < 0.08, rng.random(count), 0.0)
        alarms += Stream("error:x", detector, is_unit=True).update(wrong)
    assert len(alarms) <= 6 * count // 200_000


def test_a_stream_gives_its_values_to_river():
    """The alarm comes with the very value at which River's ADWIN raises it."""
    rng = np.random.default_rng(8)
    values = np.concatenate([rng.random(3_000), rng.random(3_000) ** 0.5])
    river, expected = ADWIN(delta=ADWIN_DELTA), None
    for count, value in enumerate(values.tolist(), start=1):
        river.update(min(max(value, 0.0), 1.0))
        if river.drift_detected:
            expected = count
            break
    _, count = alarm_at(Stream("error:x", "adwin", is_unit=True), values)
    assert expected is not None
    assert count == expected


def test_after_an_alarm_a_new_detector_begins():
    rng = np.random.default_rng(3)
    stream = Stream("input:x", "adwin")
    levels = [0.0, 3.0, 0.0, 3.0]
    alarms = [a for level in levels for a in stream.update(level + rng.normal(size=2_000))]
    assert len(alarms) == 3
    assert [alarm.after > alarm.before for alarm in alarms] == [True, False, True]


def test_a_constant_and_too_few_values_raise_nothing():
    stream = Stream("input:x", "adwin")
    assert stream.update(np.full(SCALE_COUNT + 3_000, 7.0)) == []
    assert Stream("input:x", "adwin").update(np.arange(SCALE_COUNT - 1.0)) == []


@pytest.mark.parametrize("detector", NAMES)
def test_how_values_are_cut_does_not_show(detector):
    rng = np.random.default_rng(4)
    values = np.concatenate([rng.normal(size=6_000), rng.normal(size=3_000) + 2.0])
    whole, bit = Stream("input:x", detector), Stream("input:x", detector)
    expected = whole.update(values)
    found = [alarm for part in np.array_split(values, 97) for alarm in bit.update(part)]
    assert [a.stream for a in found] == [a.stream for a in expected]
    assert [a.before for a in found] == pytest.approx([a.before for a in expected])
    assert [a.after for a in found] == pytest.approx([a.after for a in expected])
    assert len(expected) == 1


BLOCK_COUNT, DRIFTS_IN, BLOCK_VALUES = 10, 6, 900


def blocks(count, names):
    """Events with what two streams have of them: the second one drifts."""
    rng = np.random.default_rng(6)
    for number in range(count):
        events = rng.integers(-(2**63), 2**63 - 1, BLOCK_VALUES)
        values = rng.normal(size=(BLOCK_VALUES, len(names)))
        values[:, -1] += 2.0 * (number >= DRIFTS_IN)
        values[rng.random(BLOCK_VALUES) < 0.1, 0] = np.nan
        yield events, values


def run(detector, stops, names=("a", "b")):
    watch, told = DriftWatch(detector, names), []
    for number, (events, values) in enumerate(blocks(BLOCK_COUNT, names)):
        for half, rows in enumerate((slice(0, 150), slice(150, None))):
            if (number, half) in stops:
                block = unpack_arrays(pack_arrays(watch.block()))
                states = watch.states()
                watch = DriftWatch(detector, names)
                watch.restore(block, states)
            watch.gather(events[rows], values[rows])
        told += [(number, alarm) for alarm in watch.close_block()]
    return told, watch.states()


@pytest.mark.parametrize("detector", NAMES)
def test_a_restart_leaves_no_trace(detector):
    steady = run(detector, set())
    assert [alarm.stream for _, alarm in steady[0]] == ["b"]
    everywhere = {(number, half) for number in range(10) for half in range(2)}
    for stops in ({(0, 1)}, {(6, 0)}, {(7, 1), (8, 0)}, everywhere):
        assert run(detector, stops) == steady


def test_a_block_is_taken_in_the_order_of_hashes():
    rng = np.random.default_rng(9)
    events = rng.permutation(3_000)
    # In the order of arrival all the large values come last: a detector would see a shift.
    values = np.sort(rng.normal(size=3_000))[:, None]
    watch = DriftWatch("adwin", ["x"])
    watch.gather(events, values)
    assert watch.close_block() == []
    assert len(Stream("x", "adwin").update(values[:, 0])) > 0
    again = DriftWatch("adwin", ["x"])
    order = rng.permutation(3_000)
    again.gather(events[order], values[order])
    again.close_block()
    assert again.states() == watch.states()


@pytest.mark.parametrize("detector", NAMES)
@pytest.mark.parametrize("stream", [0, 1])
def test_damaged_arrays_are_refused(detector, stream):
    watch = DriftWatch(detector, ["a", "b"])
    for events, values in blocks(3, ["a", "b"]):
        watch.gather(events, values)
        watch.close_block()
    states, block = watch.states(), watch.block()
    for name in ("scale", "earlier", "recent"):
        damaged = list(states)
        bad = pack_arrays({name: np.full(3, np.nan)})
        damaged[stream] = type(states[0])(states[stream].name, {**states[stream].arrays, **bad})
        with pytest.raises(RecordError, match=r"\$\.arrays"):
            DriftWatch(detector, ["a", "b"]).restore(block, damaged)
    with pytest.raises(RecordError, match=r"\$\.block\.values"):
        DriftWatch(detector, ["a", "b"]).restore({"events": np.arange(3)}, states)
