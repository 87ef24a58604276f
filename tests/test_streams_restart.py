"""Real faults: a killed engine, a second owner and a Redis that goes away leave no trace."""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import child_processes
import msgspec
import pytest
import restart_child
from restart_child import PARTITION_COUNT, Records

from actions.policy import Policy
from features.errors import MillraceError
from features.records import OUTPUT_RECORDS
from replay.simulator import Simulator, SimulatorSettings
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.policy_files import read_policy
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore
from streams.sinks import MemorySink, topic_family
from streams.store import FencedError, MemoryStore, Store, StoreUnavailableError

KILL_COUNT = 3
TIMEOUT_S = 0.2  # of a store whose server stands still
State = dict[tuple[str, bytes], bytes]
Lines = dict[str, list[bytes]]  # topic family -> emissions in order


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy()


@pytest.fixture(scope="module")
def records() -> Records:
    """Fifteen simulated days with frauds and labels, and a bad record now and then."""
    simulation = SimulatorSettings(customer_count=100, day_count=15, seed=4, fraud_rate=0.05)
    found = [(r.topic, r.key, r.value) for c in Simulator(simulation).chunks() for r in c]
    for place in range(0, len(found), 200):
        found.insert(place, ("events", f"C{place}", b'{"kind": "transactoin"}'))
    return found


def runtime_of(
    policy: Policy,
    store: Store,
    sink: MemorySink,
    sleep: Callable[[float], None] = time.sleep,
    patience_ms: int = 30_000,
) -> EmbeddedRuntime:
    """Return an engine that checkpoints only when it is told to."""
    settings = EmbeddedSettings(
        PARTITION_COUNT, batch_max_count=50, checkpoint_ms=10**9, store_patience_ms=patience_ms
    )
    return EmbeddedRuntime(policy, store, sink, settings, sleep=sleep)


def submit(runtime: EmbeddedRuntime, records: Records) -> None:
    topics, keys, values = zip(*records, strict=True)
    runtime.submit(topics, keys, values)


def state_of(store: Store) -> State:
    owners = [*map(str, range(PARTITION_COUNT)), "trainer"]
    return {(owner, key): value for owner in owners for key, value in store.scan(owner)}


def lines_of(*sinks: MemorySink) -> Lines:
    lines: Lines = {}
    for sink in sinks:
        for topic, emissions in sink.by_topic.items():
            lines.setdefault(topic_family(topic), []).extend(e.value for e in emissions)
    return lines


@pytest.fixture(scope="module")
def whole(policy: Policy, records: Records) -> tuple[State, Lines]:
    """State and emissions of a run that nothing disturbs."""
    store, sink = MemoryStore(), MemorySink()
    runtime = runtime_of(policy, store, sink)
    submit(runtime, records)
    runtime.close()
    lines = lines_of(sink)
    # A comparison in which nothing alerts, learns or is refused would prove little.
    assert {"alerts", "training", "dead-letters"} <= {topic for topic in lines if lines[topic]}
    state = state_of(store)
    assert ("trainer", b"fraud:version") in state
    return state, lines


def identity(family: str, line: bytes) -> tuple[object, ...]:
    """Return what says which emission this is: its id, or its place in the input."""
    names = {
        "dead-letters": ("topic", "partition", "offset"),
        "training": ("model", "event"),
        "alerts": ("alert_id",),
        "offers": ("action_id",),
    }
    record = msgspec.json.decode(line, type=OUTPUT_RECORDS[family])
    return tuple(getattr(record, name) for name in names[family])


def check_repeats(found: Lines, whole: Lines) -> None:
    """Nothing is lost, nothing is new, and what is repeated is the same byte for byte."""
    for family in {*found, *whole}:
        lines = found.get(family, [])
        assert set(lines) == set(whole.get(family, []))
        by_identity: dict[tuple[object, ...], set[bytes]] = {}
        for line in lines:
            by_identity.setdefault(identity(family, line), set()).add(line)
        assert all(len(versions) == 1 for versions in by_identity.values())


class Killer:
    """Starts the child and kills it in the middle of its work."""

    def __init__(self, arguments: list[str], bytecode: Path) -> None:
        self._arguments = [restart_child.__file__, *arguments]
        self._bytecode = bytecode

    def run(self, kill_after: int | None) -> int:
        """Return the number of checkpoints that the child resumed from.

        It is killed once it says that it handed over `kill_after` records: where exactly that
        hits it is chance.
        """
        child = child_processes.start(self._arguments, self._bytecode)
        assert child.stdout is not None
        try:
            resumed = child.stdout.readline().split()
            assert resumed[:1] == ["resumed"], child.communicate()[1]
            if kill_after is not None:
                while int(child.stdout.readline()) < kill_after:
                    pass
                child.send_signal(signal.SIGKILL)
            error = child.communicate()[1]
        finally:
            child.kill()
            child.wait()
        expected = 0 if kill_after is None else -signal.SIGKILL
        assert child.returncode == expected, error
        return int(resumed[1])


def test_an_engine_that_is_killed_goes_on_where_it_was(
    records: Records,
    whole: tuple[State, Lines],
    redis_url: str,
    redis_prefix: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file, told = tmp_path / "records", tmp_path / "told"
    file.write_bytes(msgspec.msgpack.encode(records))
    bytecode = tmp_path_factory.getbasetemp() / "bytecode"
    killer = Killer([str(file), redis_url, redis_prefix, str(told)], bytecode)
    random_ = random.Random(20_250_701)
    moments = sorted(random_.sample(range(100, len(records) * 4 // 5), KILL_COUNT))
    resumed = [killer.run(moment) for moment in moments] + [killer.run(None)]
    assert resumed[0] == 0
    assert resumed == sorted(set(resumed))  # each life made checkpoints that the next took up
    with closing(RedisStore(redis_url, redis_prefix)) as store:
        assert state_of(store) == whole[0]
    lines = {path.stem: path.read_bytes().splitlines() for path in told.iterdir()}
    check_repeats(lines, whole[1])


def test_a_second_owner_fences_the_first_off(
    policy: Policy,
    records: Records,
    whole: tuple[State, Lines],
    redis_url: str,
    redis_prefix: str,
) -> None:
    sinks = [MemorySink(), MemorySink()]
    third = len(records) // 3
    with ExitStack() as closing_all:
        stores = [
            closing_all.enter_context(closing(RedisStore(redis_url, redis_prefix))) for _ in sinks
        ]
        first = runtime_of(policy, stores[0], sinks[0])
        submit(first, records[:third])
        first.checkpoint()
        second = runtime_of(policy, stores[1], sinks[1])
        before = state_of(stores[1])
        assert before
        submit(first, records[third : 2 * third])
        with pytest.raises(FencedError):
            first.checkpoint()
        assert state_of(stores[1]) == before
        submit(second, records)  # the source is read again; what is committed is skipped
        second.close()
        with pytest.raises(FencedError):
            first.checkpoint()
        assert state_of(stores[1]) == whole[0]
    check_repeats(lines_of(*sinks), whole[1])


class Fragile:
    """A Redis on an address that stays, with a directory that outlives each server.

    The kernel ends a private server with the thread that started it: here one that stays.
    """

    def __init__(self, folder: Path) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._folder = folder
        self._link = folder / "redis.sock"
        self.url = f"unix://{self._link}"
        self._server: PrivateRedis | None = None
        self.start()

    def start(self) -> None:
        self._server = self._thread.submit(PrivateRedis, self._folder / "data").result()
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self._server.socket_path)

    def stop(self) -> None:
        if self._server is not None:
            self.thaw()  # a frozen server would not hear that it is to end
            self._server.stop()
            self._server = None

    def close(self) -> None:
        self.stop()
        self._thread.shutdown()
        shutil.rmtree(self._folder)

    def freeze(self) -> None:
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGCONT)


@pytest.fixture
def fragile() -> Iterator[Fragile]:
    # A socket's path has to be short: shorter than that of a test's own folder may be.
    with closing(Fragile(Path(tempfile.mkdtemp(prefix="millrace-test-")))) as server:
        yield server


class Waits:
    """Stands for sleeping: counts, and brings the server back at the `patience`-th time."""

    def __init__(self, come_back: Callable[[], None], patience: int = 2) -> None:
        self.count = 0
        self._come_back = come_back
        self._patience = patience

    def __call__(self, seconds: float) -> None:
        assert seconds > 0
        self.count += 1
        if self.count == self._patience:
            self._come_back()


@pytest.mark.parametrize("fault", ["frozen", "restarted"])
@pytest.mark.parametrize("resumed", [False, True], ids=["first life", "second life"])
def test_a_redis_that_goes_away_is_waited_for(
    policy: Policy,
    records: Records,
    whole: tuple[State, Lines],
    fragile: Fragile,
    fault: str,
    resumed: bool,
) -> None:
    """A second life also reads from the store: entities come as the stream names them."""
    leave, come_back = (
        (fragile.freeze, fragile.thaw) if fault == "frozen" else (fragile.stop, fragile.start)
    )
    waits = Waits(come_back)
    sinks = [MemorySink(), MemorySink()]
    middle = len(records) // 2
    with closing(RedisStore(fragile.url, timeout_s=TIMEOUT_S)) as store:
        if resumed:
            runtime = runtime_of(policy, store, sinks[0])
            submit(runtime, records[: middle // 2])
            runtime.checkpoint()
        runtime = runtime_of(policy, store, sinks[1], waits)
        submit(runtime, records[:middle])
        leave()
        submit(runtime, records[middle:])
        runtime.checkpoint()
        assert waits.count >= 2
        runtime.close()
        assert state_of(store) == whole[0]
    check_repeats(lines_of(*sinks), whole[1])


def test_patience_ends_and_a_restart_takes_up_the_last_checkpoint(
    policy: Policy, records: Records, whole: tuple[State, Lines], fragile: Fragile
) -> None:
    sinks = [MemorySink(), MemorySink()]
    with closing(RedisStore(fragile.url, timeout_s=TIMEOUT_S)) as store:
        runtime = runtime_of(policy, store, sinks[0], patience_ms=0)
        submit(runtime, records[: len(records) // 2])
        runtime.checkpoint()
        submit(runtime, records[len(records) // 2 :])
        fragile.stop()
        with pytest.raises(StoreUnavailableError):
            runtime.checkpoint()
        fragile.start()
        runtime = runtime_of(policy, store, sinks[1])
        submit(runtime, records)
        runtime.close()
        assert state_of(store) == whole[0]
    check_repeats(lines_of(*sinks), whole[1])


def test_a_checkpoint_that_failed_is_not_passed_over(
    policy: Policy, records: Records, whole: tuple[State, Lines], fragile: Fragile
) -> None:
    """Its changes are no longer marked as changed: the next one has to send them, or to refuse."""
    with closing(RedisStore(fragile.url, timeout_s=TIMEOUT_S)) as store:
        runtime = runtime_of(policy, store, MemorySink(), patience_ms=0)
        submit(runtime, records[: len(records) // 2])
        fragile.stop()
        with pytest.raises(StoreUnavailableError):
            runtime.checkpoint()
        fragile.start()
        try:
            submit(runtime, records[len(records) // 2 :])
            runtime.close()
        except MillraceError:  # a refusal will do: then nothing was stored
            assert state_of(store) == {}
        else:
            assert state_of(store) == whole[0]
