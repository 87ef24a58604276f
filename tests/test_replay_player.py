"""The player: pace keeps every record, the truth meets its rows, and a gap is not passed over."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_tables import DAY_MS, T0, mapped, parquet, rows_of

import replay.player
from actions.policy import Policy
from replay.evaluation_log import Evaluated
from replay.player import IncompleteReplayError, ReplaySettings, paced, play
from replay.source_record import SourceRecord
from replay.sources import Source, SourceChunk, open_source
from replay.summary import evaluate
from streams.embedded import EmbeddedSettings
from streams.policy_files import read_policy
from streams.store import MemoryStore

CHUNK_COUNT = 7  # records a chunk: so small that batches, chunks and slices end at different rows


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy()


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        return self.now_s

    def perf_counter(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@dataclass
class Chunks:
    """A source that is a list of chunks."""

    given: list[SourceChunk]

    def chunks(self) -> Iterator[SourceChunk]:
        return iter(self.given)


def chunked(times_ms: list[int], sizes: list[int]) -> Chunks:
    """Cut records of these times into chunks; the truth of a row is its number."""
    records = [SourceRecord("t", "k", ts, str(n).encode()) for n, ts in enumerate(times_ms)]
    numbers = np.arange(len(records))
    found, start = [], 0
    for size in [*sizes, len(records)]:
        stop = min(start + size, len(records))
        if stop > start:
            truth, known_ms = numbers[start:stop].astype(np.int8), numbers[start:stop] * 10
            found.append(SourceChunk(records[start:stop], truth, known_ms))
        start = stop
    return Chunks(found)


@given(
    steps_ms=st.lists(st.sampled_from((-5_000, 0, 0, 1, 400, 2_000)), max_size=30),
    sizes=st.lists(st.integers(1, 9), max_size=12),
    speed=st.sampled_from((0.5, 1.0, 60.0)),
)
def test_pace_keeps_order_and_loses_nothing(
    steps_ms: list[int], sizes: list[int], speed: float
) -> None:
    times_ms = (T0 + np.cumsum(steps_ms)).tolist() if steps_ms else []
    source: Any = chunked(times_ms, sizes)
    clock = FakeClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay.player, "time", clock)
        started_s = clock.now_s
        came_s: list[float] = []
        played: list[SourceChunk] = []
        for chunk in paced(source, speed):
            assert chunk.records
            played.append(chunk)
            came_s += [clock.now_s - started_s] * len(chunk.records)
    records = [record for chunk in played for record in chunk.records]
    assert [int(record.value) for record in records] == list(range(len(times_ms)))
    assert [int(n) for chunk in played for n in chunk.truth] == list(range(len(times_ms)))
    assert [int(n) for c in played for n in c.known_ms] == [10 * n for n in range(len(times_ms))]
    for time_ms, second in zip(times_ms, came_s, strict=True):
        # Nothing comes before its time; a late record comes with those before it.
        assert second >= (time_ms - times_ms[0]) / 1000 / speed - 1e-9
    assert all(chunk.truth.shape == chunk.known_ms.shape for chunk in played)


def test_pace_waits_no_longer_than_it_must() -> None:
    clock = FakeClock()
    source: Any = chunked([T0, T0 + 60_000, T0 + 120_000], [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay.player, "time", clock)
        came_s = [clock.now_s - 1_000 for _ in paced(source, 60.0)]
    assert came_s == pytest.approx([0, 1, 2], abs=replay.player.PACE_SLICE_S)


def test_without_a_speed_chunks_pass_untouched() -> None:
    source: Any = chunked([T0, T0 + DAY_MS], [1])
    assert list(paced(source, None)) == source.given


@dataclass
class SmallChunks:
    """A source in chunks of CHUNK_COUNT records."""

    source: Source

    def chunks(self) -> Iterator[SourceChunk]:
        return self.source.chunks(CHUNK_COUNT)


Played = tuple[dict[str, Any], Evaluated]


@pytest.fixture
def play_table(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Played]:
    """Return a function that plays a table and gives the summary and the evaluation's log."""
    logs: list[Evaluated] = []

    def spy(log: Evaluated, *others: Any) -> Any:
        logs.append(log)
        return evaluate(log, *others)

    monkeypatch.setattr(replay.player, "evaluate", spy)

    def run(
        columns: dict[str, Any], name: str, batch_max_count: int, speed: float | None = None
    ) -> Played:
        source: Any = SmallChunks(open_source(parquet(tmp_path / "t.parquet", columns), mapped()))
        runtime = EmbeddedSettings(2, batch_max_count, emit_training=False)
        settings = ReplaySettings(speed, runtime=runtime)
        summary = play(source, policy, MemoryStore(), tmp_path / name, settings)
        return summary, logs[-1]

    return run


def table() -> dict[str, Any]:
    """Return 60 payments half a day apart, of which every third is fraud and some are bad rows.

    Labels come after seven days, so from row 14 on they stand between payments.
    """
    columns = rows_of([43_200 * n for n in range(60)], frauds=range(0, 60, 3))
    amounts = [f"{n + 1}.00" for n in range(60)]
    for row in (0, 5, 6, 29, 59):
        amounts[row] = "much"
    return {**columns, "AMT": amounts}


@pytest.mark.parametrize("batch_max_count", [1, 5, 512])
def test_the_truth_meets_its_rows(
    play_table: Callable[..., Played], tmp_path: Path, batch_max_count: int
) -> None:
    summary, log = play_table(table(), "out", batch_max_count)
    good = [n for n in range(60) if n not in (0, 5, 6, 29, 59)]
    label_count = 20  # one for each fraud, whether its row can be decided or not
    assert summary["records"] == {"in": 60 + label_count, "decided": 55 + label_count,
                                  "dead_lettered": 5}  # fmt: skip
    # The amount tells which row it is: row n pays n + 1 euros.
    assert log.amount.tolist() == [100 * (n + 1) for n in good]
    assert log.ts_ms.tolist() == [T0 + n * 43_200_000 for n in good]
    assert log.truth.tolist() == [int(n % 3 == 0) for n in good]
    expected_ms = [T0 + n * 43_200_000 + 7 * DAY_MS if n % 3 == 0 else -1 for n in good]
    assert log.known_ms.tolist() == expected_ms
    decisions = pq.read_table(tmp_path / "out" / "decisions.parquet")
    assert decisions["event_id"].to_pylist() == [f"e{n}" for n in good]
    np.testing.assert_array_equal(decisions["score"].to_numpy(), log.score)


def test_pace_changes_no_decision(
    play_table: Callable[..., Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, fast_log = play_table(table(), "fast", 512)
    monkeypatch.setattr(replay.player, "time", FakeClock())
    slow, slow_log = play_table(table(), "slow", 512, speed=86_400.0)
    assert slow["wall_s"] >= 30  # thirty days at a day a second of the fake clock
    assert slow["decisions_sha256"] == fast["decisions_sha256"]
    assert slow["records"] == fast["records"]
    for slow_column, fast_column in zip(slow_log, fast_log, strict=True):
        np.testing.assert_array_equal(slow_column, fast_column)


def test_records_that_nobody_decided_end_the_replay_with_an_error(
    policy: Policy, tmp_path: Path
) -> None:
    """A store that is ahead of the source makes the engine skip records: that must not pass."""
    file = parquet(tmp_path / "t.parquet", table())
    store = MemoryStore()
    play(open_source(file, mapped()), policy, store, tmp_path / "first")
    message = "expected 80 records decided or dead-lettered, got 0 \\+ 0"
    with pytest.raises(IncompleteReplayError, match=message):
        play(open_source(file, mapped()), policy, store, tmp_path / "second")
    summary = orjson.loads((tmp_path / "second" / "summary.json").read_bytes())
    assert summary["records"] == {"in": 80, "decided": 0, "dead_lettered": 0}
    assert (tmp_path / "second" / "report.html").exists()
