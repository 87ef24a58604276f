"""Workers as children of a test, and the embedded run that they are held to."""

from actions.policy import Policy
from bench.bank import (
    EVENTS,
    Bank,
    Lines,
    Records,
    State,
    Worker,
    differing,
    state_of,
    wait_until,
    whole_topic,
    without_training,
)
from streams.embedded import EmbeddedRuntime, EmbeddedSettings
from streams.sinks import MemorySink, topic_family
from streams.store import MemoryStore

__all__ = [
    "Bank",
    "Lines",
    "Records",
    "State",
    "Worker",
    "differing",
    "embedded",
    "wait_until",
    "whole_topic",
    "without_training",
]


def embedded(policy: Policy, records: Records, partition_count: int) -> tuple[State, Lines]:
    """Return state and emissions of an embedded run over the same records."""
    store, sink = MemoryStore(), MemorySink()
    runtime = EmbeddedRuntime(policy, store, sink, EmbeddedSettings(partition_count))
    for start in range(0, len(records), 1000):
        _, keys, values = zip(*records[start : start + 1000], strict=True)
        runtime.submit([EVENTS] * len(keys), keys, values)
    runtime.close()
    lines: Lines = {}
    for topic, emissions in sink.by_topic.items():
        lines.setdefault(topic_family(topic), []).extend(e.value for e in emissions)
    state = state_of(store, partition_count)
    return state | {("trainer", key): value for key, value in store.scan("trainer")}, lines
