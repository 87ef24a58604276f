"""The demo: simulated bank traffic through the embedded engine, with a live view.

Open loop: every record has an arrival time fixed beforehand, and its latency counts from then to
the moment when the sink has what the engine emits for it. The traffic comes from a process of its
own; here is only the engine, and the drawing of the screen between two batches.
"""

import gc
import os
import signal
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.panel import Panel

from actions.policy import Policy
from features.hashing import DEFAULT_KEY
from features.records import ENCODER, Outcome
from millrace.board import Board
from millrace.demo_summary import summary_dict, summary_view
from millrace.live import Pulse, Screen, printable, screen_lines
from millrace.picture import svg_of
from millrace.traffic import Hour, Traffic
from replay.simulator import Simulator, SimulatorSettings
from replay.source_record import SourceRecord
from streams.embedded import LATENCY_MAX_NS, EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Output
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore
from streams.store import MemoryStore, Store

FRAME_S = 0.25  # at most four frames a second
FRAME_LATE_S = 1.0  # and one a second even where there is no pause to draw in
TOLD_SHARE = 0.2  # without a terminal: a line after each fifth of the days
PICTURE_WIDTH, PICTURE_HEIGHT = 118, 34
BATCH_MAX_COUNT = 256  # small batches: the demo shows latency, a replay throughput
ENGINE = EmbeddedSettings(partition_count=1, batch_max_count=BATCH_MAX_COUNT)
# Enough frauds for a model to be published, and enough events for the histories to run out of room.
WARM_UP = SimulatorSettings(customer_count=450, day_count=20, seed=1, fraud_rate=0.02)
WARM_UP_BATCH_COUNT = 2_000
ENGINE_KERNEL = "histories.update"  # not compiled by reading a policy, but by the warm-up


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo simulates; the simulated days are spread over `play_s` of wall time."""

    simulation: SimulatorSettings
    play_s: float
    id_key: bytes = DEFAULT_KEY


class Demo:
    """One run: traffic, an engine on a store, a board and a screen."""

    def __init__(
        self, settings: DemoSettings, policy: Policy, store: Store, console: Console
    ) -> None:
        self._settings = settings
        self._console = console
        self.board = Board()
        engine = replace(ENGINE, id_key=settings.id_key)
        self.runtime = EmbeddedRuntime(
            policy, store, self.board, engine, on_output=self._take_output
        )
        self.latency_ns = HdrHistogram(1_000, LATENCY_MAX_NS, 3)
        self._outcomes = msgspec.json.Decoder(Outcome)
        self._day_count = settings.simulation.day_count
        self._speed = self._day_count * 86_400 / settings.play_s
        self._start_ms = settings.simulation.start_ms
        self._arrivals_s: list[float] = []  # of the hour that is being played
        self._loaded_count = 0  # records before the clock started
        self._taken_count = 0  # of its records, those whose emissions the sink has
        self._started_s = 0.0
        self._drawn_s = 0.0
        self._drawing_s = 0.0  # how long a frame took, at most
        self._told_share = TOLD_SHARE
        self.is_interrupted = False
        self.wall_s = 0.0

    def run(self, traffic: Traffic) -> None:
        """Play the traffic to its end, or until Ctrl-C; a half of an hour is never left over."""
        with Screen(self._console) as screen, _stopping_on_signals(self._interrupt):
            for hour in traffic.hours(lambda: not self.is_interrupted):
                if not self._started_s:
                    hour = self._load_profiles(hour)
                    self._started_s = time.perf_counter()
                self._play(hour, screen)
                traffic.answer(self.board.take_offers())
            self._stop_clock()
            self.runtime.close()

    def _interrupt(self) -> None:
        self.is_interrupted = True

    def _stop_clock(self) -> None:
        self.wall_s = time.perf_counter() - self._started_s if self._started_s else 0.0

    def _load_profiles(self, hour: Hour) -> Hour:
        """Load the bank's customers before the clock starts; return what else the hour holds.

        The simulation begins by telling of all of them within an hour, which no bank's day does:
        they would be most of the slowest percent.
        """
        rows = range(len(hour.topics))
        profiles = [row for row in rows if hour.topics[row] == "profiles"]
        self.runtime.submit(
            [hour.topics[row] for row in profiles],
            [hour.keys[row] for row in profiles],
            [hour.values[row] for row in profiles],
        )
        self._loaded_count = self.board.record_count
        rest = [row for row in rows if hour.topics[row] != "profiles"]
        return Hour(
            topics=[hour.topics[row] for row in rest],
            keys=[hour.keys[row] for row in rest],
            ts_ms=[hour.ts_ms[row] for row in rest],
            values=[hour.values[row] for row in rest],
            frauds=hour.frauds,
            uplifts=hour.uplifts,
        )

    def _play(self, hour: Hour, screen: Screen) -> None:
        """Hand over each record when its time has come; what is late waits no longer."""
        self.board.take_truth(hour.frauds, hour.uplifts)
        first_s = self._started_s - self._start_ms / 1000 / self._speed
        scale = 1 / 1000 / self._speed
        arrivals_s = [first_s + ts_ms * scale for ts_ms in hour.ts_ms]
        self._arrivals_s, self._taken_count = arrivals_s, 0
        start = 0
        while start < len(arrivals_s) and not self.is_interrupted:
            now_s = time.perf_counter()
            stop = min(bisect_right(arrivals_s, now_s, start), start + BATCH_MAX_COUNT)
            if stop > start:
                self._submit(hour, start, stop)
                start = stop
            self._between(arrivals_s[start] if start < len(arrivals_s) else now_s, screen)

    def _submit(self, hour: Hour, start: int, stop: int) -> None:
        topics, values = hour.topics[start:stop], hour.values[start:stop]
        if "outcomes" in topics:
            for topic, value in zip(topics, values, strict=True):
                if topic == "outcomes":
                    self.board.take_outcome(self._outcomes.decode(value))
        self.runtime.submit(topics, hour.keys[start:stop], values)

    def _take_output(self, output: Output) -> None:
        """Take the time: the sink has everything that is said about these records."""
        done_s = time.perf_counter()
        start, self._taken_count = self._taken_count, self._taken_count + output.record_count
        for arrival_s in self._arrivals_s[start : self._taken_count]:
            latency_ns = int((done_s - arrival_s) * 1e9)
            self.latency_ns.record_value(min(max(1_000, latency_ns), LATENCY_MAX_NS))
        self.board.observe(output)

    def _between(self, next_s: float, screen: Screen) -> None:
        """Draw a frame if one is due and nobody has to wait for it, else sleep towards `next_s`."""
        now_s = time.perf_counter()
        waited_s, pause_s = now_s - self._drawn_s, next_s - now_s
        due = waited_s >= FRAME_S and pause_s >= self._drawing_s
        if due or waited_s >= FRAME_LATE_S:
            self._show(screen)
            self._drawn_s = time.perf_counter()
            self._drawing_s = self._drawn_s - now_s
        elif pause_s > 0:
            time.sleep(min(pause_s, FRAME_S))

    def _show(self, screen: Screen) -> None:
        if screen.is_live:
            screen.draw(self.board, self.pulse())
            return
        pulse = self.pulse()
        if pulse.progress >= self._told_share:
            self._told_share = (pulse.progress // TOLD_SHARE + 1) * TOLD_SHARE
            self._console.print(
                f"day {pulse.progress * self._day_count:.0f} of {self._day_count}: "
                f"{self.board.record_count:,} records, {self.board.alert_count:,} alerts, "
                f"{sum(self.board.offers_made.values()):,} offers, latency {pulse.latency_text}",
                soft_wrap=True,
                highlight=False,
            )

    def pulse(self) -> Pulse:
        """Return how the run goes, or went."""
        spent_s = self.wall_s or time.perf_counter() - self._started_s
        played_ms = self.board.event_ms - self._start_ms if self.board.event_ms else 0
        return Pulse(
            played_ms / (self._day_count * 86_400_000),
            (self.board.record_count - self._loaded_count) / max(spent_s, 1e-9),
            *(self.latency_ns.get_value_at_percentile(p) / 1e6 for p in (50, 99, 99.9)),
        )

    def summary(self) -> Panel:
        """Return the closing panel."""
        heading = "what happened"
        if self.is_interrupted:
            played = self.pulse().progress * self._day_count
            heading += f" until you stopped it, {played:.1f} of {self._day_count} days"
        return summary_view(self.board, self.pulse(), self.wall_s, heading)

    def save_picture(self, file: Path) -> None:
        """Save the last screen and the summary as an SVG picture."""
        lines = screen_lines(self.board, self.pulse(), PICTURE_WIDTH, PICTURE_HEIGHT)
        parts = (printable(lines), self.summary())
        file.write_text(svg_of(parts, PICTURE_WIDTH, "millrace demo"), encoding="utf-8")

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for machines; money in minor units, latency in microseconds."""
        board = self.board
        percentiles = {"p50": 50, "p99": 99, "p999": 99.9}
        return {
            "records": {
                "in": board.record_count,
                "transactions": board.decided_count,
                "dead_lettered": board.dead_letter_count,
            },
            "complete": not self.is_interrupted,
            "wall_s": round(self.wall_s, 3),
            "latency_us": {
                name: self.latency_ns.get_value_at_percentile(p) / 1000
                for name, p in percentiles.items()
            },
            "checkpoints": self.runtime.checkpoint_count,
            **summary_dict(board),
        }


def run_demo(settings: DemoSettings, policy: Policy, console: Console, notices: Console) -> Demo:
    """Run the demo from nothing: traffic and a private Redis are started and stopped.

    `notices` is told what takes time before the play begins.
    """
    with Traffic(settings.simulation) as traffic, PrivateRedis() as redis:
        if not kernels_are_compiled():
            notices.print("compiling kernels, once: about a minute", highlight=False)
        warm_up(policy)
        store = RedisStore(redis.url)
        try:
            demo = Demo(settings, policy, store, console)
            with _no_collections():
                demo.run(traffic)
        finally:
            store.close()
    console.print(demo.summary())
    return demo


def kernels_are_compiled() -> bool:
    """Say whether an earlier run has left compiled kernels behind."""
    folder = os.environ.get("NUMBA_CACHE_DIR")  # set where `millrace` is imported
    return folder is not None and any(Path(folder).rglob(f"{ENGINE_KERNEL}-*.nbi"))


def warm_up(policy: Policy) -> None:
    """Let a throw-away engine meet every kind of record, so that all its kernels are compiled."""
    records = [record for chunk in Simulator(WARM_UP).chunks() for record in chunk]
    last = records[-1]
    outcome = Outcome(action_id="none", ts_ms=last.ts_ms, customer_id=last.key, result="seen")
    records.append(SourceRecord("outcomes", last.key, last.ts_ms, ENCODER.encode(outcome)))
    engine = EmbeddedSettings(partition_count=1, batch_max_count=WARM_UP_BATCH_COUNT)
    runtime = EmbeddedRuntime(policy, MemoryStore(), Board(), engine)
    for start in range(0, len(records), WARM_UP_BATCH_COUNT):
        topics, keys, _, values = zip(*records[start : start + WARM_UP_BATCH_COUNT], strict=True)
        runtime.submit(topics, keys, values)
    runtime.close()


@contextmanager
def _no_collections() -> Iterator[None]:
    """Collect no garbage while playing.

    A collection takes 30 ms, and finds about ten objects in 75,000 records: hardly anything that
    the engine makes is in a cycle.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def _stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C or termination signal; a second one acts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {int(number): signal.getsignal(number) for number in numbers}

    def take(number: int, frame: object) -> None:
        stop()
        signal.signal(number, before[number])

    for number in numbers:
        signal.signal(number, take)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
