"""What a worker is doing, for its health page, its watchdog and its log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """What a worker is busy with."""

    JOINING = "waiting for the group to give out partitions"
    TAKING = "taking partitions"
    DECIDING = "deciding"
    STORE_AWAY = "waiting for the store"
    KAFKA_AWAY = "waiting for Kafka"
    FENCED = "another worker owns our partitions, waiting for the group"
    LEAVING = "leaving"


READY = frozenset({Phase.DECIDING})
# Waiting for somebody else is no stall: ending the worker would not help.
WAITING = frozenset({Phase.JOINING, Phase.STORE_AWAY, Phase.KAFKA_AWAY, Phase.LEAVING})


@dataclass
class Status:
    """Written by the worker's threads, one field at a time; read by anyone."""

    monotonic_s: Callable[[], float] = time.monotonic
    phase: Phase = Phase.JOINING
    reason: str = ""
    partitions: tuple[int, ...] = ()
    progressed_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.progressed_s = self.monotonic_s()

    def enter(self, phase: Phase, reason: str = "") -> None:
        """Say what is done from now on, and why where that isn't plain."""
        self.phase, self.reason = phase, reason

    def progress(self) -> None:
        """Note that something was decided, or that there was nothing to decide."""
        self.progressed_s = self.monotonic_s()

    def unready(self) -> str | None:
        """Return why no records are decided now, None where they are."""
        if self.phase in READY:
            return None
        return f"{self.phase}: {self.reason}" if self.reason else str(self.phase)
