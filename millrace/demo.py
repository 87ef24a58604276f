"""The demo: simulated bank traffic through the embedded engine, with a live view."""

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel

from actions.policy import Policy
from features.records import Outcome
from millrace.board import Board
from millrace.live import live_view, summary_view
from replay.simulator import Simulator, SimulatorSettings
from replay.source_record import SourceRecord
from streams.embedded import LATENCY_MAX_NS, EmbeddedRuntime, EmbeddedSettings
from streams.private_redis import PrivateRedis
from streams.redis_store import RedisStore

FRAME_S = 0.25
PICTURE_WIDTH, PICTURE_HEIGHT = 118, 36
BATCH_MAX_COUNT = 256  # small batches: the demo shows latency, a replay throughput


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the demo simulates, and how fast: `speed` is event time over wall time."""

    simulation: SimulatorSettings
    play_s: float  # the simulated days are spread over this wall time


class Demo:
    """One run: a simulator, an engine with a private Redis, and a board."""

    def __init__(
        self, settings: DemoSettings, policy: Policy, runtime_store: RedisStore, console: Console
    ) -> None:
        self._settings = settings
        self._console = console
        self._simulator = Simulator(settings.simulation)
        self.board = Board(self._simulator.truth.fraud)
        self.runtime = EmbeddedRuntime(
            policy,
            runtime_store,
            self.board,
            EmbeddedSettings(batch_max_count=BATCH_MAX_COUNT),
            on_output=self.board.observe,
        )
        self.latency_ns = HdrHistogram(1_000, LATENCY_MAX_NS, 3)
        self._outcomes = msgspec.json.Decoder(Outcome)
        self._speed = settings.simulation.day_count * 86_400 / settings.play_s
        self._start_ms = settings.simulation.start_ms
        self._started_s = self._drawn_s = 0.0
        self.wall_s = 0.0

    def run(self) -> None:
        """Play the whole simulation; every record has its own arrival time, fixed beforehand."""
        self._started_s = time.perf_counter()
        with Live(self._view(), console=self._console, auto_refresh=False) as live:
            for chunk in self._simulator.chunks():
                self._play(chunk, live)
                for offer in self.board.take_offers():
                    self._simulator.answer(offer)
            live.update(self._view(), refresh=True)
        self.runtime.close()
        self.wall_s = time.perf_counter() - self._started_s
        self._console.print(self.summary())

    def _play(self, chunk: Sequence[SourceRecord], live: Live) -> None:
        """Hand over each record when its time has come; what is late waits no longer."""
        arrivals_s = [self._arrival_s(record.ts_ms) for record in chunk]
        taken = 0
        while taken < len(chunk):
            now_s = time.perf_counter()
            stop = min(bisect_right(arrivals_s, now_s, taken), taken + BATCH_MAX_COUNT)
            if stop == taken:
                self._idle(arrivals_s[taken], live)
                continue
            self._submit(chunk[taken:stop])
            done_s = time.perf_counter()
            for arrival_s in arrivals_s[taken:stop]:
                self.latency_ns.record_value(max(1_000, int((done_s - arrival_s) * 1e9)))
            taken = stop

    def _arrival_s(self, ts_ms: int) -> float:
        return self._started_s + (ts_ms - self._start_ms) / 1000 / self._speed

    def _idle(self, until_s: float, live: Live) -> None:
        """Draw a frame if one is due, else sleep until the next record arrives."""
        now_s = time.perf_counter()
        if now_s - self._drawn_s >= FRAME_S:
            live.update(self._view(), refresh=True)
            self._drawn_s = time.perf_counter()
        elif until_s > now_s:
            time.sleep(until_s - now_s)

    def _submit(self, records: Sequence[SourceRecord]) -> None:
        for record in records:
            if record.topic == "outcomes":
                self.board.take_outcome(self._outcomes.decode(record.value))
        self.runtime.submit(
            [record.topic for record in records],
            [record.key for record in records],
            [record.value for record in records],
        )

    def _view(self) -> Layout:
        spent_s = max(time.perf_counter() - self._started_s, 1e-9) if self._started_s else 1e-9
        played_ms = self.board.event_ms - self._start_ms if self.board.event_ms else 0
        progress = played_ms / (self._settings.simulation.day_count * 86_400_000)
        return live_view(self.board, progress, self.board.record_count / spent_s, self.latency_ns)

    def summary(self) -> Panel:
        """Return the closing panel."""
        notes = {
            "state": f"{self.runtime.checkpoint_count:,} checkpoints to a private Redis, "
            "each with its offsets in one script call",
            "next": "`millrace simulate --customers 2000 --days 30 --seed 7 --out sim`, then "
            "`millrace replay sim --out run` and open run/report.html; "
            "policies: actions/policies/bank",
        }
        return summary_view(self.board, self.wall_s, self.latency_ns, notes)

    def save_picture(self, file: Path) -> None:
        """Save the last screen and the summary as an SVG picture."""
        console = Console(record=True, width=PICTURE_WIDTH, height=PICTURE_HEIGHT, file=StringIO())
        console.print(self._view())
        console.print(self.summary())
        console.save_svg(str(file), title="millrace demo")

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
            "wall_s": round(self.wall_s, 3),
            "latency_us": {
                name: self.latency_ns.get_value_at_percentile(p) / 1000
                for name, p in percentiles.items()
            },
            "alerts": board.alert_count,
            "fraud_stopped": asdict(board.caught),
            "fraud_missed": asdict(board.missed),
            "false_alarms": asdict(board.false_alarms),
            "offers_made": dict(board.offers_made),
            "offers_held_back": board.control_count,
            "outcomes": dict(board.outcomes),
            "model_versions": board.model_versions,
            "examples_learned": board.learned_count,
            "checkpoints": self.runtime.checkpoint_count,
        }


def run_demo(settings: DemoSettings, policy: Policy, console: Console) -> Demo:
    """Run the demo from nothing: a private Redis is started and stopped."""
    with PrivateRedis() as redis:
        store = RedisStore(redis.url)
        try:
            demo = Demo(settings, policy, store, console)
            demo.run()
        finally:
            store.close()
    return demo
