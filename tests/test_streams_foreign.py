"""Several processes and one Redis: what the others know arrives, and its age is told."""

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import child_processes
import foreign_workers
import pytest
from foreign_workers import PARTITIONS, SETTINGS, Worker, wait_until

from streams.foreign import ForeignReader, ForeignSettings
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore
from streams.store import MemoryStore

Make = Callable[..., Worker]


@pytest.fixture
def make(redis_url: str, redis_prefix: str) -> Iterator[Make]:
    """Return what makes workers over one real Redis; they end with the test."""
    with ExitStack() as stack:

        def worker(*owned: int, settings: ForeignSettings = SETTINGS) -> Worker:
            store = stack.enter_context(closing(RedisStore(redis_url, redis_prefix)))
            return stack.enter_context(closing(Worker(store, owned, settings)))

        yield worker


def whole() -> Worker:
    """Return a worker that owns everything: what it says is the truth."""
    return Worker(MemoryStore(), PARTITIONS)


def exchange(*workers: Worker) -> None:
    for worker in workers:
        worker.commit()
    for worker in workers:
        worker.read_others()


def test_workers_that_read_each_other_decide_as_one_would(make: Make) -> None:
    workers, one, rng = (make(0), make(1, 2)), whole(), random.Random(3)
    for number, (partition, terminal) in enumerate([(0, "t"), (0, "u"), (1, "t"), (1, "u")]):
        for worker in (workers[partition], one):
            worker.pay(partition, number, 0, 1, terminal)
    for number in range(10, 70):
        partition, late_minutes = rng.randrange(3), rng.choice([0, 0, 0, 1, 50])
        minute, amount, terminal = number - late_minutes + 50, rng.randrange(1, 9), rng.choice("tu")
        exchange(*workers)
        told = workers[partition > 0].pay(partition, number, minute, amount, terminal)
        assert told == one.pay(partition, number, minute, amount, terminal)


def test_what_was_never_read_is_stale_and_then_no_more(make: Make) -> None:
    ours, theirs = make(0), make(1, 2)
    theirs.pay(1, 1, 0, 5)
    theirs.pay(2, 2, 1, 6)
    theirs.commit()
    assert ours.pay(0, 3, 2, 7) == "1 payments of 7, 1 lately"
    assert ours.others is not None
    assert ours.others.stale_count == 1
    ours.read_others()
    assert ours.pay(0, 4, 3, 8) == "4 payments of 26, 3 lately"
    assert ours.others.stale_count == 1
    assert ours.others.staleness_ms < 10_000
    assert ours.others.read_count >= 2
    assert ours.others.read_bytes > 0
    assert ours.others.lag_ms == 3 * 60_000, "their slowest clock is at minute 0, ours at 3"


def test_a_worker_alone_notes_nothing_for_others(redis_url: str, redis_prefix: str) -> None:
    with closing(RedisStore(redis_url, redis_prefix)) as store:
        alone = Worker(store, PARTITIONS)
        alone.pay(0, 1, 0, 5)
        assert [found.shared for found in alone.processor.changes().values()] == [[], [], []]
        begin, _ = store.shared_changes("0", None)
        alone.pay(0, 2, 0, 5)
        alone.commit()
        assert store.shared_changes("0", begin) == (begin, [])
    with pytest.raises(ValueError, match="expected a processor with foreign partitions"):
        ForeignReader(MemoryStore(), alone.processor)


def test_many_entities_come_in_portions(make: Make) -> None:
    small = ForeignSettings(refresh_ms=5, portion_bytes=200, portion_max_count=7)
    ours, theirs = make(0, settings=small), make(1, 2)
    names = [f"t{n}" for n in range(100)]
    for number, name in enumerate(names):
        theirs.pay(1, number, 0, 2, name)
        ours.pay(0, 1_000 + number, 1, 1, name)
    exchange(theirs, ours)
    for number, name in enumerate(names):
        assert ours.pay(0, 2_000 + number, 2, 1, name) == "3 payments of 4, 2 lately"
    assert ours.others is not None
    assert ours.others.stale_count == 100, "those before they were read"


def test_what_left_memory_is_read_again_when_it_comes_back(make: Make) -> None:
    ours, theirs = make(0), make(1, 2)
    theirs.pay(1, 1, 0, 2)
    ours.pay(0, 2, 1, 3)
    exchange(theirs, ours)
    ours.commit()
    assert ours.processor.residency.evict(100) > 0
    theirs.pay(2, 3, 2, 4)
    theirs.commit()
    assert ours.pay(0, 4, 3, 5) == "2 payments of 8, 1 lately"
    ours.read_others()
    assert ours.pay(0, 5, 4, 6) == "5 payments of 20, 3 lately"


def test_a_reader_that_missed_too_much_reads_everything_again(make: Make) -> None:
    ours, theirs = make(0), make(1, 2)
    theirs.pay(1, 1, 0, 2)
    ours.pay(0, 2, 1, 3)
    exchange(theirs, ours)
    again = make(1, 2)  # another owner: what was seen of the one before counts no more
    again.pay(2, 3, 2, 4)
    again.commit()
    ours.read_others()
    assert ours.pay(0, 5, 4, 6) == "4 payments of 15, 3 lately"


def test_what_can_not_be_read_stays_stale_until_it_can(make: Make, redis_url: str) -> None:
    ours, theirs = make(0), make(1, 2)
    theirs.pay(1, 1, 0, 2)
    ours.pay(0, 2, 1, 3)
    exchange(theirs, ours)
    assert ours.others is not None
    stale_count = ours.others.stale_count
    assert theirs.processor.foreign is not None
    (name,) = theirs.processor.foreign.all_resident()
    (sound,) = theirs.store.load([("1", name)])
    assert sound is not None
    theirs.overwrite(1, name, sound[:7] + b"\x63" + sound[8:])
    wait_until(lambda: bool(ours.apply().refused_count), "the value was refused")
    assert ours.pay(0, 3, 2, 4) == "3 payments of 9, 2 lately", "what it was before"
    assert ours.others.stale_count == stale_count + 1
    theirs.overwrite(1, name, sound)
    ours.read_others()
    ours.read_others()
    assert ours.pay(0, 4, 3, 5) == "4 payments of 14, 2 lately"
    assert ours.others.stale_count == stale_count + 1


@pytest.fixture
def directory() -> Iterator[Path]:
    """Return a folder with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="foreign-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_redis_that_is_killed_makes_copies_old_and_stops_nothing(directory: Path) -> None:
    settings = ForeignSettings(refresh_ms=5, staleness_ms_max=200)
    first = PrivateRedis(directory, keep=True)
    with ExitStack() as stack:
        stores = [stack.enter_context(closing(RedisStore(first.url, "m"))) for _ in range(2)]
        ours = stack.enter_context(closing(Worker(stores[0], [0], settings)))
        theirs = stack.enter_context(closing(Worker(stores[1], [1, 2], settings)))
        theirs.pay(1, 1, 0, 2)
        ours.pay(0, 2, 1, 3)
        exchange(theirs, ours)
        assert ours.others is not None
        os.kill(first.pid, signal.SIGKILL)
        wait_until(lambda: ours.apply().staleness_ms > 200, "copies were old")
        ours.apply()
        stale_count = ours.others.stale_count
        assert ours.pay(0, 3, 2, 4) == "3 payments of 9, 2 lately"
        assert ours.others.stale_count == stale_count + 1
        assert ours.others.failed_count > 0
        first.stop()
        second = PrivateRedis(directory, keep=True)
        stack.callback(second.stop)
        assert second.url == first.url
        theirs.pay(2, 4, 3, 5)
        exchange(theirs, ours)
        assert ours.others.staleness_ms < 200
        assert ours.pay(0, 5, 4, 6) == "5 payments of 20, 3 lately"
        assert ours.others.stale_count == stale_count + 1


def test_another_process_is_read_and_its_death_takes_nothing_away(
    make: Make, redis_url: str, redis_prefix: str, tmp_path: Path
) -> None:
    ours = make(0)
    ours.pay(0, 1, 0, 3)
    program = [foreign_workers.__file__, redis_url, redis_prefix, "1", "40"]
    child = child_processes.start(program, tmp_path)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "committed 40\n", child.stderr and child.stderr.read()
        ours.read_others()
        assert ours.pay(0, 2, 50, 4) == "42 payments of 47, 2 lately"
        child.kill()
    ours.read_others()
    assert ours.pay(0, 3, 50, 5) == "43 payments of 52, 2 lately"


def test_a_reader_ends_at_once_whatever_it_waits_for(make: Make) -> None:
    ours, theirs = make(0), make(1, 2)
    theirs.pay(1, 1, 0, 2)
    theirs.commit()
    ours.pay(0, 2, 1, 3)
    ours.apply()  # nobody applies from now on: the reader waits until somebody does
    ours.close()
    assert ours.others is not None
    assert not ours.others.is_running
