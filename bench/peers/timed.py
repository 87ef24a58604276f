"""What a peer hands back, and a stopwatch that runs only while the peer works."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.peers.question import COLUMN, COLUMNS, Events, Values


@dataclass
class Answers:
    """A peer's values, one column an event in the order of arrival, and the time they took."""

    values: Values
    took_s: float = 0.0  # by the clock
    used_cpu_s: float = 0.0  # by this process and the servers that it started

    @classmethod
    def to(cls, events: Events) -> "Answers":
        """Return answers in which nothing is answered yet."""
        return cls(np.full((len(COLUMNS), len(events)), np.nan))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of the block; not for blocks of less than some hundred microseconds."""
        servers_s = servers_cpu_s()
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        yield
        self.used_cpu_s += time.process_time() - begun_cpu_s
        self.took_s += time.perf_counter() - begun_s
        self.used_cpu_s += servers_cpu_s() - servers_s

    def put(self, column: str, values: object, events: object) -> None:
        """Give one column's values of these events."""
        self.values[COLUMN[column], events] = values


def servers_cpu_s() -> float:
    """Return the processor's time of all processes below this one; 0 where there is no /proc."""
    ticks_of: dict[int, int] = {}
    parent_of: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(path.parent.name)
        parent_of[pid] = int(fields[1])
        ticks_of[pid] = int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
    total_ticks, parents = 0, {os.getpid()}
    while parents:
        children = {pid for pid, parent in parent_of.items() if parent in parents}
        total_ticks += sum(ticks_of[pid] for pid in children)
        parents = children
    return total_ticks / os.sysconf("SC_CLK_TCK")
