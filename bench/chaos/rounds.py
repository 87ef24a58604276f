"""Rounds: a slice of traffic flows into a bank, one fault is made, and everything is checked."""

import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from kafka.errors import KafkaError

from bench.bank import MILLRACE, Bank, Records, RunError, differing, wait_until, without_training
from bench.chaos.faults import FAULTS, Site
from bench.chaos.feeding import Feeder, Lookout
from bench.chaos.ledger import Ledger, WrongError
from bench.chaos.reference import Listener, Reference, histories, of_partitions
from bench.chaos.servers import Servers
from replay.simulator import Simulator, SimulatorSettings
from streams.policy_files import BANK_POLICY, read_policy
from streams.settings import Settings

BLOCK_COUNT = len(FAULTS)  # rounds of one bank, one for each fault, in an order of their own
WORKER_COUNT = 2
SLICE_COUNT = 1_200  # records of a round
FLOWING_S, AFTER_S = 2.0, 0.5
BAD_EVERY_COUNT = 97
BAD = b'{"kind": "transactoin"}'
LOG_TAIL_LINES = 25
REFUSED = re.compile(r"partition \d+: our epoch is \d+, the stored one")


@dataclass(frozen=True)
class Kind:
    """A kind of bank: what is claimed of it follows from its partitions and shared entities."""

    partitions_count: int
    shares: bool
    checkpoint_ms: int
    customers_count: int  # few, so that a slice has days, and months pass: salaries, labels, offers
    transactional: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether all that comes out and all that is stored follows from the input alone."""
        return self.partitions_count == 1 or not self.shares


BANKS = {
    "one partition": Kind(1, True, 20, 60),
    "local entities": Kind(4, False, 100, 60),
    # More, so that no event gets older than the reach of histories, 90 days: when what lies beyond
    # is dropped depends on which partitions' events share a block, and so on who owns them.
    "shared entities": Kind(4, True, 250, 200),
    "transactions": Kind(4, False, 100, 60, transactional=True),
}


@dataclass(frozen=True)
class Plan:
    """A round as its seed draws it; `slice_index` counts the rounds of its bank."""

    seed: int
    number: int
    bank: str
    fault: str
    slice_index: int

    def draw(self) -> random.Random:
        """Return the chance of this round."""
        return random.Random(f"{self.seed}:{self.number}")


def plans(seed: int, banks: Sequence[str] = tuple(BANKS)) -> Iterator[Plan]:
    """Yield rounds for ever: a block of all faults on one bank, then on the next."""
    slices = dict.fromkeys(banks, 0)
    number = 0
    while True:
        block = number // BLOCK_COUNT
        bank = banks[block % len(banks)]
        order = list(FAULTS)
        random.Random(f"{seed}:block {block}").shuffle(order)
        for fault in order:
            yield Plan(seed, number, bank, fault, slices[bank])
            slices[bank] += 1
            number += 1


def traffic(seed: int, bank: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield simulated traffic with frauds and labels, and a bad record now and then."""
    settings = SimulatorSettings(
        customer_count=BANKS[bank].customers_count,
        day_count=365,
        seed=seed * 10 + list(BANKS).index(bank),
        fraud_rate=0.05,
    )
    for place, record in enumerate(chain.from_iterable(Simulator(settings).chunks())):
        if place % BAD_EVERY_COUNT == 0:
            yield ("events", f"C{place}", BAD)
        yield (record.topic, record.key, record.value)


class BankRun:
    """A bank, the engine that it is held to, and what is known of both.

    `clients` is what the bank takes where its broker is of a special kind.
    """

    def __init__(
        self,
        servers: Servers,
        name: str,
        seed: int,
        program: Sequence[str] = MILLRACE,
        worker_count: int = WORKER_COUNT,
        **clients: Any,
    ) -> None:
        self._worker_count = worker_count
        self.name, self._kind = name, BANKS[name]
        self._servers = servers
        folder = servers.folder / name.replace(" ", "-")
        folder.mkdir()
        policy = without_training(BANK_POLICY, folder / "policy", local=not self._kind.shares)
        settings = Settings(
            kafka=servers.kafka.address,
            topic_prefix=f"{folder.name}-{servers.folder.name}.",
            group=f"{folder.name}-{servers.folder.name}",
            redis=servers.cutter.url,
            redis_prefix=folder.name,
            redis_timeout_ms=500,
            partitions_count=self._kind.partitions_count,
            checkpoint_ms=self._kind.checkpoint_ms,
            batch_max_count=50,
            session_timeout_ms=3_000,
            decisions=True,
            transactional=self._kind.transactional,
            listen="127.0.0.1:0",
        )
        self.bank = Bank(
            settings, policy, folder, store_url=servers.redis_url, program=program, **clients
        )
        self._reference = Reference(read_policy(policy), self._kind.partitions_count)
        self.ledger = Ledger(exact=self._kind.is_exact)
        self._listener = Listener(self.bank)
        self._traffic = traffic(seed, name)
        self._refused_count = 0
        self.ended: set[Any] = set()

    def open(self) -> None:
        """Have the workers share the partitions out."""
        while len(self.bank.running()) < self._worker_count:
            self.bank.start_worker()
        wait_until(self.bank.is_shared_out, "the workers have shared the partitions out")

    def skip(self, slice_count: int) -> None:
        """Decide the slices before a round that is to be repeated alone, undisturbed."""
        for _ in range(slice_count):
            records = self.next_slice()
            self.bank.produce(records)
            self.check(records)

    def play(self, plan: Plan) -> dict[str, Any]:
        """Play a round; return what the report says of it. Raises WrongError or RunError."""
        started_s = time.monotonic()
        self.open()
        ready_s = time.monotonic()
        fault, draw, records = FAULTS[plan.fault], plan.draw(), self.next_slice()
        split = len(records) * 2 // 3
        moment_s = 0.0 if fault.is_sudden else draw.uniform(0.0, FLOWING_S)
        site = Site(self._servers, self.bank, draw, self.ended, decided=self.bank.decided())
        repeats_count = self.ledger.repeats.total()
        lookout = Lookout(self.bank)
        try:
            feeder = Feeder(self.bank, records[:split], 0.0 if fault.is_sudden else FLOWING_S)
            time.sleep(moment_s)
            fault.make(site)
            feeder.finish()
            Feeder(self.bank, records[split:], AFTER_S).finish()
            self.check(records)
        finally:
            lookout.stop()
            self._servers.cutter.disarm()
        recovery_s = lookout.recovery_s(site.began_s, site.moved)
        return {
            "round": plan.number,
            "bank": plan.bank,
            "fault": plan.fault,
            "moment_s": round(moment_s, 3),
            "notes": site.notes,
            "records_count": len(records),
            "repeats_count": self.ledger.repeats.total() - repeats_count,
            "refused_count": self._newly_refused_count(),
            "recovery_s": None if recovery_s is None else round(recovery_s, 2),
            "ready_s": round(ready_s - started_s, 2),
            "round_s": round(time.monotonic() - started_s, 2),
        }

    def next_slice(self) -> Records:
        """Return the records of the next round."""
        return list(islice(self._traffic, SLICE_COUNT))

    def check(self, records: Records) -> None:
        """Wait until these last records are decided, then hold all to the undisturbed engine."""
        self.ledger.expect(self._reference.advance(records))
        wait_until(self.bank.is_decided, "everything that was put in is decided")
        for worker in self.bank.workers:
            if not worker.is_running and worker not in self.ended:
                raise RunError(worker.last_words())
        self.ledger.find(self._listener.new_lines())
        self.ledger.check()
        found, expected = of_partitions(self.bank.state()), of_partitions(self._reference.state())
        if not self._kind.is_exact:
            found, expected = histories(found), histories(expected)
        wrong = differing(found, expected)
        if wrong:
            raise WrongError(f"state: {len(wrong)} of {len(expected)} values differ: {wrong[:5]}")

    def _newly_refused_count(self) -> int:
        """Return how many writes were refused since the last call, as the workers' logs tell."""
        before = self._refused_count
        self._refused_count = sum(
            len(REFUSED.findall(worker.log.read_text())) for worker in self.bank.workers
        )
        return self._refused_count - before

    def rest(self, draw: random.Random) -> None:
        """End all workers, until this bank's next block: in good order or at once."""
        self.open()  # one that has just been started can't leave in good order yet
        site = Site(self._servers, self.bank, draw, self.ended)
        for worker in self.bank.running():
            (site.kill if draw.random() < 0.5 else site.leave)(worker)

    def tails(self) -> str:
        """Return the ends of the workers' logs."""
        return "\n".join(
            f"== {worker.log.name}\n{_tail(worker.log)}" for worker in self.bank.workers[-4:]
        )

    def close(self) -> None:
        """End all that belongs to this bank."""
        self._listener.close()
        self.bank.close()
        self._reference.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


@dataclass
class Chaos:
    """Plays rounds on one set of servers."""

    servers: Servers
    seed: int
    program: Sequence[str] = MILLRACE
    runs: dict[str, BankRun] = field(default_factory=dict)

    def play(self, chosen: Iterable[Plan], *, alone: bool = False) -> Iterator[dict[str, Any]]:
        """Play these rounds; yield what the report says of each.

        `alone`: what comes before a round on its bank is decided undisturbed. Raises WrongError
        with all that is needed to look into it and to play the round again.
        """
        current: BankRun | None = None
        for plan in chosen:
            run = self.runs.get(plan.bank)
            if run is None:
                run = self.runs[plan.bank] = BankRun(
                    self.servers, plan.bank, self.seed, self.program
                )
            try:
                if current not in (None, run):
                    current.rest(plan.draw())
                current = run
                if alone:
                    run.open()
                    run.skip(plan.slice_index)
                yield run.play(plan)
            except (WrongError, RunError, KafkaError) as error:
                raise WrongError(
                    f"seed {self.seed}, round {plan.number} ({plan.bank}, {plan.fault}): "
                    f"{type(error).__name__}: {error}\n{(current or run).tails()}\n"
                    f"Again: python -m bench.chaos --seed {self.seed} --round {plan.number}"
                ) from error

    def close(self) -> None:
        """End all banks."""
        for run in self.runs.values():
            run.close()
