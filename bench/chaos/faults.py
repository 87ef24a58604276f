"""The faults. Each is made while records flow, and is over when its function returns."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.bank import Bank, RunError, Worker, wait_until
from bench.chaos.servers import Servers

AWAY_MAX_S = 2.0
LEAVE_MAX_S = 30.0
JOINED_MAX_S = 90.0
STARTED_MAX_S, LOOK_S = 5.0, 0.002


@dataclass
class Site:
    """Where a fault is made, and what is noted of it.

    `began_s` is when it was made, or when what was away came back: recovery counts from there.
    `moved` are the partitions that another worker has to take over.
    """

    servers: Servers
    bank: Bank
    draw: random.Random
    ended: set[Worker] = field(default_factory=set)  # those that were to end
    notes: dict[str, Any] = field(default_factory=dict)
    decided: dict[int, int] = field(default_factory=dict)  # before the first record of the round
    began_s: float = 0.0
    moved: set[int] = field(default_factory=set)

    def victim(self) -> Worker:
        """Return one of the workers that own partitions."""
        owners = [worker for worker in self.bank.running() if any(worker.took()[-1:])]
        return self.draw.choice(owners or self.bank.running())

    def note_moving(self, worker: Worker) -> None:
        """Note that this worker's partitions have to be taken over from now on."""
        self.moved = (worker.took() or [set()])[-1]
        self.began_s = time.monotonic()

    def kill(self, worker: Worker) -> None:
        """End a worker at once."""
        self.ended.add(worker)
        worker.signal(signal.SIGKILL)
        worker.ends()

    def leave(self, worker: Worker) -> None:
        """Have a worker leave in good order; fail where it does not."""
        self.ended.add(worker)
        worker.signal(signal.SIGTERM)
        started_s = time.monotonic()
        code = worker.ends(LEAVE_MAX_S)
        self.notes["leaving_s"] = round(time.monotonic() - started_s, 2)
        if code != 0:
            raise RunError(f"told to leave, {worker.last_words()}")


def kill_worker(site: Site) -> None:
    """`kill -9` of a worker that owns partitions; another takes its place."""
    worker = site.victim()
    site.note_moving(worker)
    site.kill(worker)
    site.bank.start_worker()


def leave(site: Site) -> None:
    """A worker is told to leave (SIGTERM), ends with code 0, and another joins."""
    worker = site.victim()
    site.note_moving(worker)
    site.leave(worker)
    site.bank.start_worker()


def join(site: Site) -> None:
    """A third worker joins, then one of the three leaves or is killed."""
    third = site.bank.start_worker()
    wait_until(lambda: bool(third.took()), "a third worker is in the group", JOINED_MAX_S)
    time.sleep(site.draw.uniform(0.0, 0.5))
    worker = site.draw.choice(site.bank.running())
    site.note_moving(worker)
    site.notes["end"] = site.draw.choice(("leaves", "killed"))
    (site.kill if site.notes["end"] == "killed" else site.leave)(worker)


def zombie(site: Site) -> None:
    """A worker stands still (SIGSTOP) until its partitions have moved, then wakes up."""
    worker, before = site.victim(), site.bank.epochs()
    site.note_moving(worker)
    seen_count = len(worker.took())
    worker.signal(signal.SIGSTOP)
    try:
        wait_until(
            lambda: all(site.bank.epochs()[p] > before[p] for p in site.moved),
            "the partitions have moved",
        )
        time.sleep(site.draw.uniform(0.0, 1.0))
    finally:
        worker.signal(signal.SIGCONT)
    wait_until(
        lambda: len(worker.took()) > seen_count or not worker.is_running,
        "the zombie is back in the group, or has ended",
        JOINED_MAX_S,
    )
    site.notes["came back"] = worker.is_running
    if not worker.is_running:
        site.notes["exit code"] = worker.process.returncode
        site.ended.add(worker)
        site.bank.start_worker()


def restart_broker(site: Site) -> None:
    """The broker is killed, or stopped in good order, and started again."""
    is_killed = site.draw.random() < 0.7
    site.notes["end"] = "killed" if is_killed else "stopped"
    (site.servers.kafka.kill if is_killed else site.servers.kafka.stop)()
    time.sleep(site.draw.uniform(0.0, 1.0))
    site.servers.kafka.start()
    site.began_s = time.monotonic()


def restart_redis(site: Site) -> None:
    """Redis is killed and started again on what it had stored."""
    site.servers.kill_redis()
    time.sleep(site.draw.uniform(0.0, AWAY_MAX_S))
    site.servers.start_redis()
    site.began_s = time.monotonic()


def freeze_redis(site: Site) -> None:
    """Redis stands still for longer than workers wait for an answer."""
    timeout_s = site.bank.settings.redis_timeout_ms / 1000
    _freeze_redis(site, timeout_s * site.draw.uniform(1.5, 4.0))
    site.began_s = time.monotonic()


def _freeze_redis(site: Site, duration_s: float) -> None:
    site.servers.freeze_redis()
    time.sleep(duration_s)
    site.servers.thaw_redis()


def cut_request(site: Site) -> None:
    """The connection is cut before Redis has a checkpoint whole."""
    _cut(site, site.servers.cutter.cut_requests)


def cut_answer(site: Site) -> None:
    """The connection is cut after Redis has made a checkpoint, before its answer came."""
    _cut(site, site.servers.cutter.cut_answers)


def _cut(site: Site, cut: Callable[..., None]) -> None:
    shares = [site.draw.random() for _ in range(site.draw.randint(1, 3))]
    site.notes["shares"] = [round(share, 3) for share in shares]
    cutter = site.servers.cutter
    cut(*shares)
    wait_until(lambda: not cutter.is_armed, "checkpoints were cut", 30.0)
    site.began_s = time.monotonic()


def leave_without_redis(site: Site) -> None:
    """A worker is told to leave while Redis stands still: it must not wait for it."""
    worker = site.victim()
    site.servers.freeze_redis()
    try:
        time.sleep(site.draw.uniform(0.1, 1.5))
        site.leave(worker)
    finally:
        site.servers.thaw_redis()
    site.note_moving(worker)
    site.bank.start_worker()


def kill_without_kafka(site: Site) -> None:
    """The broker stands still, and a worker whose output it has not acknowledged is killed."""
    worker = site.victim()
    # In the middle of the work: all records are there, and the first of them are decided.
    deadline_s = time.monotonic() + STARTED_MAX_S
    while site.bank.decided() == site.decided and time.monotonic() < deadline_s:
        time.sleep(LOOK_S)
    site.servers.freeze_kafka()
    try:
        time.sleep(site.draw.uniform(0.1, 0.6))
        site.kill(worker)
    finally:
        site.servers.thaw_kafka()
    site.note_moving(worker)
    site.bank.start_worker()


@dataclass(frozen=True)
class Fault:
    """How a fault is made; `is_sudden`: all records are there before it, else they trickle in."""

    make: Callable[[Site], None]
    is_sudden: bool = False

    @property
    def sentence(self) -> str:
        """What happens, for the report."""
        return (self.make.__doc__ or "").strip()


FAULTS = {
    "kill worker": Fault(kill_worker),
    "leave": Fault(leave),
    "join": Fault(join),
    "zombie": Fault(zombie),
    "restart broker": Fault(restart_broker),
    "restart redis": Fault(restart_redis),
    "freeze redis": Fault(freeze_redis),
    "cut request": Fault(cut_request),
    "cut answer": Fault(cut_answer),
    "leave without redis": Fault(leave_without_redis),
    "kill without kafka": Fault(kill_without_kafka, is_sudden=True),
}
