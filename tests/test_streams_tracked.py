"""A policy begins to ask for histories that nobody kept: values say so until they know enough."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from actions.policy import Policy
from actions.policy_compiler import compile_policy
from features.columns import Cell, Kind
from features.hashing import IdHasher
from features.histories import FeatureEngine, Features
from features.status import Status
from replay.simulator import Simulator, SimulatorSettings
from replay.sources import SourceRecord
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.reader import FeatureReader
from streams.sinks import MemorySink
from streams.store import MemoryStore
from streams.tracked import ALWAYS_MS, TrackedKinds

PARTITION_COUNT = 3
DAY_MS = 86_400_000
OLD = """\
name: old
currency: EUR
history: {reach: 30d, cap: 4096}
entities:
  customer: {key: customer_id, scope: local}
rules:
  - {id: r, risk: any, action: review, reason: any, when: 'customer.count("3d") > 9'}
"""
NEW = """\
name: new
currency: EUR
history: {reach: 30d, cap: 4096}
entities:
  customer: {key: customer_id, scope: local}
  card: {key: card_id, scope: local}
  terminal: {key: terminal_id, scope: shared}
rules:
  - {id: r, risk: any, action: review, reason: any, when: 'customer.count("3d") > 9'}
  - {id: t, risk: any, action: review, reason: any, when: 'terminal.sum(amount, "1d") > 9'}
  - {id: c, risk: any, action: review, reason: any, when: 'card.count("2d", delay="12h") > 9'}
  - id: i
    risk: any
    action: review
    reason: any
    when: 'customer.count("1d", of=interaction) > 9'
"""
LOOKS_BACK_MS = {"terminal.sum": DAY_MS, "card.count": 5 * DAY_MS // 2, "interaction": DAY_MS}


class Said(NamedTuple):
    """What the slots said of the rows of one batch."""

    kinds: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    features: Features


@pytest.fixture(scope="module")
def records() -> list[SourceRecord]:
    settings = SimulatorSettings(customer_count=40, day_count=8, seed=5)
    return [
        SourceRecord(record.topic, record.key, 0, record.value)
        for chunk in Simulator(settings).chunks()
        for record in chunk
    ]


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Said]]:
    """Return what hears all that feature engines say from now on."""
    update = FeatureEngine.update

    def begin() -> list[Said]:
        heard: list[Said] = []

        def updated(engine: FeatureEngine, kinds: Any, cells: Any, partitions: Any) -> Features:
            features = update(engine, kinds, cells, partitions)
            heard.append(Said(kinds.copy(), cells[Cell.TS_MS].copy(), features))
            return features

        monkeypatch.setattr(FeatureEngine, "update", updated)
        return heard

    return begin


def run(store: MemoryStore, policy: str, records: Sequence[SourceRecord]) -> None:
    """Decide those of the records that the store does not have yet."""
    runtime = EmbeddedRuntime(
        Policy.parse({"p.yaml": policy}), store, MemorySink(), EmbeddedSettings(PARTITION_COUNT, 64)
    )
    topics, keys, _, values = zip(*records, strict=True)
    runtime.submit(topics, keys, values)
    runtime.close()


def joined(heard: Sequence[Said]) -> Said:
    kinds, times_ms, features = zip(*heard, strict=True)
    values, errors, _ = zip(*features, strict=True)
    both = Features(np.concatenate(values, axis=1), np.concatenate(errors, axis=1))
    return Said(np.concatenate(kinds), np.concatenate(times_ms), both)


def test_what_was_never_kept_is_not_called_exact(
    records: list[SourceRecord], listen: Callable[[], list[Said]]
) -> None:
    heard = listen()
    run(MemoryStore(), NEW, records)
    truth = joined(heard)
    store, half = MemoryStore(), len(records) // 2
    run(store, OLD, records[:half])
    clocks_ms = [int(store.load([(str(p), b"clock")])[0] or 0) for p in range(PARTITION_COUNT)]
    heard = listen()
    # A restart on the way: since when something is kept outlives it.
    run(store, NEW, records[: half + 200])
    run(store, NEW, records)
    said = joined(heard)
    rows = np.flatnonzero(said.kinds == Kind.TRANSACTION)
    of_all = half + rows
    assert np.array_equal(said.times_ms[rows], truth.times_ms[of_all])
    exact = said.features.errors[:, rows] == 0.0
    same = said.features.values[:, rows] == truth.features.values[:, of_all]
    same |= np.isnan(said.features.values[:, rows]) & np.isnan(truth.features.values[:, of_all])
    assert (same | ~exact).all()
    # It would be called exact wrongly otherwise, and is exact again once windows reach no further.
    assert (~same).any(axis=1).sum() >= 2
    texts = new_texts()
    for slot, text in enumerate(texts):
        spans_ms = [span_ms for part, span_ms in LOOKS_BACK_MS.items() if part in text]
        late = said.times_ms[rows] - (spans_ms[0] if spans_ms else 0) >= max(clocks_ms)
        assert exact[slot, late].all() and late.any()
        early = said.times_ms[rows] - (spans_ms[0] if spans_ms else 0) < min(clocks_ms)
        assert not exact[slot, early & ~np.isnan(said.features.values[slot, rows])].any()
        assert bool(early.any()) == bool(spans_ms)


def new_texts() -> list[str]:
    return list(compile_policy(Policy.parse({"p.yaml": NEW}), IdHasher().one).slot_texts)


def test_a_reading_says_the_same(records: list[SourceRecord]) -> None:
    store, half = MemoryStore(), len(records) // 2
    run(store, OLD, records[:half])
    customer = records[half - 1].key
    # Read by a policy that no engine has run yet, then by one that has just begun.
    for count in (0, 100):
        if count:
            run(store, NEW, records[: half + count])
        reading = FeatureReader(Policy.parse({"p.yaml": NEW}), store).read("customer", customer)
        statuses = {text: value.status for text, value in reading.values.items()}
        assert statuses.pop('customer.count("3d")') == Status.EXACT
        assert set(statuses.values()) == {Status.APPROXIMATE}
        assert all(np.isinf(reading.values[text].bound) for text in statuses)


def test_a_kind_that_was_not_kept_for_a_while_begins_anew() -> None:
    card, by_account = {"card": "card:card_id"}, {"card": "card:account_id"}
    first = TrackedKinds(card)
    assert first.late == {}
    stored = first.change()
    assert stored == b"card:card_id %d" % ALWAYS_MS and first.change() is None
    other = TrackedKinds(by_account)
    other.restore(stored, clock_ms=50)
    assert other.late == {"card": 50}
    again = TrackedKinds(card)
    again.restore(other.change(), clock_ms=70)
    assert again.late == {"card": 70}
    unnoted = TrackedKinds(card)
    unnoted.restore(None, clock_ms=90)  # stored before this was noted
    assert unnoted.late == {} and unnoted.change() is not None
