"""What a worker tells Prometheus; observed per batch, never per record."""

import time
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from actions.policy import Policy
from features.records import Drift, ModelPromoted, ModelRefused
from online_models.contest import Report
from streams.emissions import Emission
from streams.foreign import ForeignState
from streams.residency import Resident

STAGES = ("fetch", "decode", "load", "features", "models", "actions", "emit")
_MEASURES = {
    "auc": "Area under the ROC curve",
    "average_precision": "Average precision",
    "recall_at_budget": "Share of frauds among the alerts that there is time for",
    "calibration_error": "Mean distance of score and share of fraud",
}
_STAGE_S = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10)
_CHECKPOINT_S = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30)
_CHECKPOINT_BYTES = (1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
_BATCH_RECORDS = (1, 4, 16, 64, 256, 1024, 4096)
# Of our copies of the parts of shared entities that other workers hold, by ForeignState's fields.
_SHARED = (
    ("staleness_seconds", "Time since the copies were last compared with the store."),
    ("lag_seconds", "How far the slowest partition of other workers is behind, in event time."),
    ("waiting", "Entities that wait for the first read of their copies."),
    ("stale_rows", "Records so far whose shared features were stale."),
    ("reads", "Copies read from the store so far."),
    ("read_bytes", "Bytes of copies read from the store so far."),
    ("read_failures", "Reads of copies so far that the store did not answer."),
    ("refusals", "Copies so far that this version can't read."),
)


class ModelMetrics:
    """What publications say of models."""

    def __init__(self, registry: CollectorRegistry) -> None:
        own: Any = {"registry": registry}
        contestant = ["model", "contestant"]
        self.drift = Counter(
            "millrace_drift", "Alarms of drift.", ["model", "what", "response"], **own
        )
        self.refused = Counter(
            "millrace_models_refused", "Contestants that can't learn fraud so rare.", contestant,
            **own,
        )  # fmt: skip
        self.promoted = Counter("millrace_models_promoted", "Promotions.", ["model"], **own)
        self.measures = {
            name: Gauge(f"millrace_model_{name}", f"{doc}, by the last report.", contestant, **own)
            for name, doc in _MEASURES.items()
        }

    def note(self, reports: Iterable[Report]) -> None:
        """Count and show reports."""
        for report in reports:
            if isinstance(report, Drift):
                self.drift.labels(report.model, report.what, report.response).inc()
            elif isinstance(report, ModelRefused):
                self.refused.labels(report.model, report.contestant).inc()
            elif isinstance(report, ModelPromoted):
                self.promoted.labels(report.model).inc()
            else:
                for found in report.contestants:
                    for name, gauge in self.measures.items():
                        value = getattr(found, name)
                        if value is not None:
                            gauge.labels(report.model, found.contestant).set(value)


class Metrics:
    """All of a worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        self.records = Counter("millrace_records", "Records decided or dead-lettered.", **own)
        self.dead_letters = Counter("millrace_dead_letters", "Records refused.", **own)
        self.emissions = Counter(
            "millrace_emissions", "Records written, by topic.", ["topic"], **own
        )
        self.batch = Histogram(
            "millrace_batch_records", "Records decided at once.", buckets=_BATCH_RECORDS, **own
        )
        stage = Histogram(
            "millrace_stage_seconds", "Time of a batch, by stage.", ["stage"], buckets=_STAGE_S,
            **own,
        )  # fmt: skip
        self.stages = {name: stage.labels(name) for name in STAGES}
        self.checkpoint_s = Histogram(
            "millrace_checkpoint_seconds", "From the flush of emissions to the store's answer.",
            buckets=_CHECKPOINT_S, **own,
        )  # fmt: skip
        self.checkpoint_bytes = Histogram(
            "millrace_checkpoint_bytes", "Values written in a checkpoint.",
            buckets=_CHECKPOINT_BYTES, **own,
        )  # fmt: skip
        self.lag = Gauge(
            "millrace_lag_records", "Records in Kafka that are not decided yet.",
            ["topic", "partition"], **own,
        )  # fmt: skip
        self.oldest_s = Gauge(
            "millrace_oldest_undecided_seconds", "Age of the oldest record not decided yet.", **own
        )
        self.partitions = Gauge("millrace_partitions", "Partitions that are ours.", **own)
        self.histories = Gauge("millrace_resident_histories", "Entities in memory.", **own)
        self.customers = Gauge("millrace_resident_customers", "Customers in memory.", **own)
        self.state_bytes = Gauge("millrace_state_bytes", "Memory that state takes.", **own)
        self.evictions = Gauge("millrace_evictions", "Entities that left memory so far.", **own)
        self.loads = Gauge("millrace_loads", "Histories read from the store so far.", **own)
        self._shared = {name: Gauge(f"millrace_shared_{name}", doc, **own) for name, doc in _SHARED}
        self.losses = Counter(
            "millrace_engine_losses", "Times that state in memory was dropped.", ["why"], **own
        )
        self.changes = Counter(
            "millrace_policy_changes", "Records of `policies` and `lists`, taken or refused.",
            ["topic", "result"], **own,
        )  # fmt: skip
        self._policy = Gauge(
            "millrace_policy", "1 for the policy that decides.", ["policy", "version"], **own
        )
        self.models = ModelMetrics(self.registry)
        self._emitted = {name: self.emissions.labels(name) for name in ("alerts", "training")}

    def note_policy(self, policy: Policy) -> None:
        """Show which policy decides now."""
        self._policy.clear()
        self._policy.labels(policy.name, policy.version).set(1)

    def note_emissions(self, emissions: Iterable[Emission]) -> None:
        """Count emissions by topic."""
        for topic, run in groupby(emissions, attrgetter("topic")):
            counter = self._emitted.get(topic)
            if counter is None:
                counter = self._emitted[topic] = self.emissions.labels(topic)
            counter.inc(sum(1 for _ in run))

    def note_shared(self, state: ForeignState | None) -> None:
        """Show how it stands with copies of other workers' shared histories; None: there are none.

        What counts up stays as it is without them, and begins anew with another engine.
        """
        if state is None:
            self._shared["staleness_seconds"].set(0)
            self._shared["lag_seconds"].set(0)
            self._shared["waiting"].set(0)
            return
        seconds = (state.staleness_ms / 1000, state.lag_ms / 1000)
        for gauge, value in zip(self._shared.values(), (*seconds, *state[2:]), strict=True):
            gauge.set(value)

    def note_resident(self, resident: Resident) -> None:
        """Show what is in memory."""
        self.histories.set(resident.history_count)
        self.customers.set(resident.customer_count)
        self.state_bytes.set(resident.used_bytes)
        self.evictions.set(resident.evicted_count)
        self.loads.set(resident.loaded_count)

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class StageClock:
    """Tells a histogram for each stage how long it took since the one before ended."""

    def __init__(
        self, metrics: Metrics, *, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._stages = metrics.stages
        self._now_ns = monotonic_ns
        self._since_ns = monotonic_ns()

    def start(self, since_ns: int | None = None) -> None:
        """Begin a batch, now or at a time before."""
        self._since_ns = self._now_ns() if since_ns is None else since_ns

    def __call__(self, stage: str) -> None:
        """Note the end of a stage."""
        now_ns = self._now_ns()
        self._stages[stage].observe((now_ns - self._since_ns) / 1e9)
        self._since_ns = now_ns
