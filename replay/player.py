"""The player: a source through the embedded engine, and everything that a replay leaves behind."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hdrh.histogram import HdrHistogram

from actions.policy import Policy
from actions.policy_schema import ACTIONS
from features.columns import MISSING
from features.errors import MillraceError
from replay.evaluation_log import Evaluated, EvaluationLog
from replay.outputs import DecisionsWriter, MessagesWriter
from replay.sources import Source, SourceChunk
from replay.summary import (
    EvaluationWindow,
    RunCounts,
    build_summary,
    evaluate,
    write_summary,
)
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.emissions import Decisions, Emission, Output
from streams.store import Store

PACE_SLICE_S = 0.05  # at a given speed, records wait at most this long for their neighbours


class IncompleteReplayError(MillraceError):
    """Some input records were neither decided nor dead-lettered."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """How to play; `speed` is event time over wall time, None as fast as possible."""

    speed: float | None = None
    window: EvaluationWindow = field(default_factory=EvaluationWindow)
    runtime: EmbeddedSettings = field(
        default_factory=lambda: EmbeddedSettings(checkpoint_ms=1_000, emit_training=False)
    )


class _Recorder:
    """Takes what the engine says and writes it down; a sink and an observer."""

    def __init__(self, decisions: DecisionsWriter, messages: MessagesWriter) -> None:
        self.log = EvaluationLog()
        self.accepted_count = 0
        self.model_versions = ""
        self.policies: dict[str, None] = {}  # versions, in the order in which they came to decide
        self._decisions = decisions
        self._messages = messages
        self._chunk: SourceChunk | None = None
        self._chunk_start = 0

    def begin(self, chunk: SourceChunk) -> None:
        """Say which chunk the next records are of: its truth is joined by position."""
        if self._chunk is not None:
            self._chunk_start += len(self._chunk.records)
        self._chunk = chunk

    def write(self, emissions: Sequence[Emission]) -> None:
        """Write messages to their files."""
        for topic, _, value in emissions:
            self._messages.write(topic, value)

    def flush(self) -> None:
        """Files are flushed when they are closed: a replay that is cut off starts again."""

    def close(self) -> None:
        """The writers are the caller's."""

    def observe(self, output: Output) -> None:
        """Write decisions, count records."""
        self.accepted_count += output.record_count - output.dead_letter_count
        for decisions in output.decisions:
            self._take(decisions)

    def _take(self, decisions: Decisions) -> None:
        assert self._chunk is not None
        self.model_versions = decisions.model_versions
        self.policies[decisions.policy_version] = None
        self._decisions.write(
            decisions.event_ids,
            decisions.ts_ms,
            decisions.scores,
            decisions.actions,
            decisions.rule_hits,
            decisions.rule_ids,
            decisions.policy_version,
            decisions.model_versions,
            ACTIONS,
        )
        rows = decisions.sequence - self._chunk_start
        cards = decisions.cards
        self.log.append(
            decisions.ts_ms,
            np.where(cards == MISSING, decisions.customers, cards),
            decisions.scores,
            self._chunk.truth[rows],
            self._chunk.known_ms[rows],
            decisions.amounts_minor,
            decisions.actions > 0,
        )


def play(
    source: Source,
    policy: Policy,
    store: Store,
    directory: Path,
    settings: ReplaySettings | None = None,
    *,
    title: str = "Replay",
    progress: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Decide everything in `source`, write the outputs into `directory`, return the summary.

    Raises IncompleteReplayError, after all outputs are written, where a record was neither
    decided nor dead-lettered.
    """
    settings = settings or ReplaySettings()
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as closing:
        decisions = closing.enter_context(DecisionsWriter(directory))
        messages = closing.enter_context(MessagesWriter(directory))
        recorder = _Recorder(decisions, messages)
        runtime = EmbeddedRuntime(
            policy, store, recorder, settings.runtime, on_output=recorder.observe
        )
        played = _decide_all(source, settings.speed, runtime, recorder, progress)
        latency_ns = runtime.latency_ns
        del runtime
        gc.collect()  # the evaluation needs room of its own
    return conclude(
        Played(
            played.record_count,
            recorder.accepted_count,
            played.wall_s,
            latency_ns,
            recorder.log.arrays(),
            recorder.model_versions,
            tuple(recorder.policies),
        ),
        decisions,
        messages,
        policy,
        directory,
        title=title,
        window=settings.window,
    )


class Played(NamedTuple):
    """What a run came to, besides what it has written."""

    record_count: int
    decided_count: int  # without dead letters
    wall_s: float
    latency_ns: HdrHistogram
    log: Evaluated
    model_versions: str  # such as `fraud:12,other:3`
    policies: tuple[str, ...]  # versions of all policies that decided something


def conclude(
    played: Played,
    decisions: DecisionsWriter,
    messages: MessagesWriter,
    policy: Policy,
    directory: Path,
    *,
    title: str,
    window: EvaluationWindow,
) -> dict[str, Any]:
    """Write summary and report of a run whose outputs are written; return the summary.

    Raises IncompleteReplayError where a record was neither decided nor dead-lettered.
    """
    dead_letter_count = messages.counts["dead-letters"]
    summary = build_summary(
        RunCounts(
            records_in=played.record_count,
            decided=played.decided_count,
            dead_lettered=dead_letter_count,
            alerts=messages.counts["alerts"],
            offers=messages.counts["offers"],
            tasks=messages.counts["tasks"],
        ),
        wall_s=played.wall_s,
        latency_ns=played.latency_ns,
        metrics=evaluate(played.log, window),
        off_policy=None,
        decisions_sha256=decisions.sha256,
        versions=_versions(policy, played),
        models=messages.models.summary(),
    )
    write_summary(directory, summary)
    _report(directory, title, policy, summary, played.log, window, messages, played.latency_ns)
    if played.decided_count + dead_letter_count != played.record_count:
        raise IncompleteReplayError(
            f"expected {played.record_count} records decided or dead-lettered, "
            f"got {played.decided_count} + {dead_letter_count}"
        )
    return summary


class _Fed(NamedTuple):
    record_count: int
    wall_s: float


def _decide_all(
    source: Source,
    speed: float | None,
    runtime: EmbeddedRuntime,
    recorder: _Recorder,
    progress: Callable[[int], None],
) -> _Fed:
    started_s = time.perf_counter()
    record_count = 0
    for chunk in paced(source, speed):
        recorder.begin(chunk)
        topics, keys, _, values = zip(*chunk.records, strict=True)
        runtime.submit(topics, keys, values)
        record_count += len(chunk.records)
        progress(len(chunk.records))
    runtime.close()
    return _Fed(record_count, time.perf_counter() - started_s)


def _report(
    directory: Path,
    title: str,
    policy: Policy,
    summary: dict[str, Any],
    log: Evaluated,
    window: EvaluationWindow,
    messages: MessagesWriter,
    latency_ns: HdrHistogram,
) -> None:
    # Matplotlib takes a second to import: nobody waits for it before the replay has run.
    from replay.report import ReportInput, write_report

    given = ReportInput(
        title=title,
        summary=summary,
        log=log,
        window=window,
        tallies=messages.tallies,
        latency_ns=latency_ns,
        models=messages.models,
        currency=policy.currency,
        minor_per_major=10**policy.currency_exponent,
    )
    write_report(directory, given)


def _versions(policy: Policy, played: Played) -> dict[str, Any]:
    """Return what decided; `policies` only where control records have changed the policy."""
    pairs = (item.rsplit(":", 1) for item in played.model_versions.split(",") if item)
    found = {
        "policy": played.policies[-1] if played.policies else policy.version,
        "models": {name: int(number) for name, number in pairs},
    }
    if len(played.policies) > 1:
        found["policies"] = list(played.policies)
    return found


def paced(source: Source, speed: float | None) -> Iterator[SourceChunk]:
    """Yield the source's chunks; at a given speed, cut so that each record comes in its time."""
    if speed is None:
        yield from source.chunks()
        return
    started_s = time.monotonic()
    first_ms: int | None = None
    for chunk in source.chunks():
        times_ms = np.maximum.accumulate([record.ts_ms for record in chunk.records])
        first_ms = int(times_ms[0]) if first_ms is None else first_ms
        due_s = (times_ms - first_ms) / 1000 / speed
        taken = 0
        while taken < len(due_s):
            now_s = time.monotonic() - started_s
            stop = int(np.searchsorted(due_s, now_s, side="right"))
            if stop <= taken:
                time.sleep(min(max(float(due_s[taken]) - now_s, 0.0) + 1e-4, PACE_SLICE_S))
                continue
            yield SourceChunk(
                chunk.records[taken:stop], chunk.truth[taken:stop], chunk.known_ms[taken:stop]
            )
            taken = stop
