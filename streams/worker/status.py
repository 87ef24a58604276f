"""What a worker is doing, for its health page, its watchdog and its log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """What a worker is busy with."""

    STARTING = "starting"
    JOINING = "waiting for the group to give out partitions"
    TAKING = "taking partitions"
    DECIDING = "deciding"
    STANDBY = "standing by: the group has more workers than partitions"
    STORE_AWAY = "waiting for the store, which is away"
    KAFKA_AWAY = "waiting for Kafka, which is away"
    FENCED = "another worker owns our partitions, waiting for the group"
    LEAVING = "leaving"


READY = frozenset({Phase.DECIDING, Phase.STANDBY})


@dataclass
class Status:
    """Written by the worker's threads, one field at a time; read by anyone.

    `progressed_s` is when something was decided last, or there was nothing to decide, or it was
    known what is waited for: a worker is stalled when that was long ago.
    """

    monotonic_s: Callable[[], float] = time.monotonic
    phase: Phase = Phase.STARTING
    partitions: tuple[int, ...] = ()
    lag_count: int = 0  # records that wait, as far as is known
    kafka_fault: str = ""  # what Kafka answered last instead of what was asked
    progressed_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.progressed_s = self.monotonic_s()

    def enter(self, phase: Phase) -> None:
        """Say what is done from now on."""
        self.phase = phase

    def progress(self) -> None:
        """Note that all is well, or that it is known what is waited for."""
        self.progressed_s = self.monotonic_s()

    def idle_s(self) -> float:
        """Return for how long nothing went on."""
        return self.monotonic_s() - self.progressed_s

    def unready(self) -> list[str]:
        """Return why no records are decided now; empty where they are."""
        reasons = [] if self.phase in READY else [str(self.phase)]
        if self.kafka_fault:
            reasons.append(f"Kafka: {self.kafka_fault}")
        return reasons
