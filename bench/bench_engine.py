"""The whole engine on simulated traffic, bytes in to emissions out; an event is any record.

6,000 customers, of whose records about 60 % are transactions, the rest interactions, profiles and
labels. Two weeks fill the histories and train the model, hour by hour, until it alerts on a few
transactions in a hundred; what follows is timed. "Processor" is the engine without any I/O.
"Embedded" adds the log, the trainers and, where it says so, a checkpoint to a private Redis after
each 4,096 records.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import pytest

from actions.policy import Policy
from bench.measure import Measure
from bench.traffic import PARTITION_COUNT
from features.raw import RawRecord
from replay.simulator import Simulator, SimulatorSettings
from replay.source_record import SourceRecord
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Emission
from streams.partitioner import partitions_of
from streams.redis_store import RedisStore

ROUND_COUNT = 512
SUBMITTED_COUNT = 4_096
DAY_COUNT = 18
WARM_SHARE = 14 / DAY_COUNT
SMOKE_COUNT = 3 * (ROUND_COUNT + SUBMITTED_COUNT)
NEVER_MS = 10**12
WHOLE = "Processor, decode and process, batches of 512"


class NullSink:
    """Takes emissions and keeps none: the cost of a real sink is not ours."""

    def write(self, emissions: Sequence[Emission]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Warm:
    """A runtime in the middle of its traffic."""

    runtime: EmbeddedRuntime
    records: list[SourceRecord]
    at: int = 0

    def take(self, count: int) -> list[SourceRecord]:
        part = self.records[self.at : self.at + count]
        assert len(part) == count, "the simulated traffic is used up"
        self.at += count
        return part

    def raws(self, count: int) -> list[RawRecord]:
        part = self.take(count)
        partitions = partitions_of([r.key for r in part], PARTITION_COUNT).tolist()
        return [
            RawRecord(partition, r.topic, 0, r.value)
            for partition, r in zip(partitions, part, strict=True)
        ]

    def submit(self, part: Sequence[SourceRecord]) -> None:
        self.runtime.submit([r.topic for r in part], [r.key for r in part], [r.value for r in part])

    def rounds(self, event_count: int, share: float) -> int:
        """Return for how many rounds a share of the remaining traffic lasts."""
        return int((len(self.records) - self.at) * share) // event_count


@pytest.fixture(scope="module")
def warm(policy: Policy, redis_url: str, is_smoke: bool) -> Iterator[Warm]:
    customer_count = 250 if is_smoke else 6_000
    simulator = Simulator(SimulatorSettings(customer_count, DAY_COUNT, seed=1))
    records = list(chain.from_iterable(simulator.chunks()))
    settings = EmbeddedSettings(PARTITION_COUNT, checkpoint_ms=NEVER_MS)
    with closing(RedisStore(redis_url, "bench-engine")) as store:
        warm = Warm(EmbeddedRuntime(policy, store, NullSink(), settings), records)
        warm_count = min(int(len(records) * WARM_SHARE), len(records) - SMOKE_COUNT)
        for start in range(0, warm_count, SUBMITTED_COUNT):
            warm.submit(warm.take(min(SUBMITTED_COUNT, warm_count - start)))
        warm.runtime.checkpoint()
        yield warm


@pytest.mark.parametrize("batch_count", [512, 16, 1])
def test_processor(measure: Measure, warm: Warm, batch_count: int) -> None:
    processor = warm.runtime.processor

    def prepare() -> tuple[list[list[RawRecord]]]:
        raws = warm.raws(ROUND_COUNT)
        return ([raws[i : i + batch_count] for i in range(0, ROUND_COUNT, batch_count)],)

    def process(batches: list[list[RawRecord]]) -> None:
        for raws in batches:
            processor.process(processor.decode(raws))

    measure.steps(
        f"Processor, decode and process, batches of {batch_count}",
        ROUND_COUNT,
        process,
        prepare,
        baseline=None if batch_count == ROUND_COUNT else WHOLE,
        rounds_max=warm.rounds(ROUND_COUNT, 0.15),
    )


def test_embedded(measure: Measure, warm: Warm) -> None:
    def prepare() -> tuple[list[SourceRecord]]:
        warm.runtime.checkpoint()
        return (warm.take(SUBMITTED_COUNT),)

    measure.steps(
        "Embedded, no checkpoint",
        SUBMITTED_COUNT,
        warm.submit,
        prepare,
        baseline=WHOLE,
        rounds_max=warm.rounds(SUBMITTED_COUNT, 0.5),
    )


def test_embedded_with_checkpoints(measure: Measure, warm: Warm) -> None:
    def submit(part: list[SourceRecord]) -> None:
        warm.submit(part)
        warm.runtime.checkpoint()

    measure.steps(
        f"Embedded, a checkpoint after each {SUBMITTED_COUNT:,} records",
        SUBMITTED_COUNT,
        submit,
        lambda: (warm.take(SUBMITTED_COUNT),),
        baseline=WHOLE,
        rounds_max=warm.rounds(SUBMITTED_COUNT, 1.0),
    )


def test_simulator(measure: Measure, is_smoke: bool) -> None:
    settings = SimulatorSettings(100 if is_smoke else 5_000, 1, seed=2)
    event_count = sum(map(len, Simulator(settings).chunks()))
    measure.steps(
        "Simulator, a day of its traffic",
        event_count,
        lambda simulator: sum(map(len, simulator.chunks())),
        lambda: (Simulator(settings),),
    )
