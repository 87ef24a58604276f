"""How a benchmark is timed, and what it says about itself in the results."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WARM_UP_ROUNDS = 2  # the first compiles kernels, the second says how long a round takes
PREPARATION_FACTOR = 4.0  # preparing may take this many times as long as what is timed
ROUNDS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Measure:
    """Times one function; `event_count` is how many events one call of it handles.

    `what` is the row's name in the table; `baseline` the `what` of another row of the same module,
    against which the ratio is taken.
    """

    benchmark: Any
    about: str
    time_max_s: float
    rounds_min: int

    def calls(
        self,
        what: str,
        event_count: int,
        target: Callable[[], Any],
        *,
        baseline: str | None = None,
    ) -> None:
        """Time calls that can be repeated as often as one likes."""
        self._describe(what, event_count, baseline)
        target()
        self.benchmark(target)

    def steps(
        self,
        what: str,
        event_count: int,
        target: Callable[..., Any],
        prepare: Callable[[], tuple[Any, ...]],
        *,
        baseline: str | None = None,
        rounds_max: int = ROUNDS_MAX,
    ) -> None:
        """Time calls that change a state: each gets new input from `prepare`, which isn't timed."""
        self._describe(what, event_count, baseline)
        rounds = 1
        if self.benchmark.enabled:
            for _ in range(WARM_UP_ROUNDS):
                begun_s = time.perf_counter()
                arguments = prepare()
                ready_s = time.perf_counter()
                target(*arguments)
                done_s = time.perf_counter()
            by_timed = self.time_max_s / (done_s - ready_s)
            by_all = self.time_max_s * PREPARATION_FACTOR / (done_s - begun_s)
            rounds = max(self.rounds_min, int(min(by_timed, by_all)))
            rounds = max(1, min(rounds, rounds_max - WARM_UP_ROUNDS))
        self.benchmark.pedantic(target, setup=lambda: (prepare(), {}), rounds=rounds)

    def _describe(self, what: str, event_count: int, baseline: str | None) -> None:
        facts = {"what": what, "events": event_count, "baseline": baseline, "about": self.about}
        self.benchmark.extra_info.update(facts)
