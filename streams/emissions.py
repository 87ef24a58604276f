"""What the processor sends out."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.records import TrainingExample


class Emission(NamedTuple):
    """One message for an output topic: `value` is JSON on a single line."""

    topic: str
    key: str
    value: bytes


@dataclass(slots=True)
class Decisions:
    """The decided transactions of one run, as columns of length n in input order.

    `sequence` is each one's place in the whole input; `amounts_minor` is in the policy's currency;
    `rule_hits` has a first axis of n.
    """

    event_ids: list[str]
    ts_ms: NDArray[np.int64]
    customers: NDArray[np.int64]
    cards: NDArray[np.int64]
    amounts_minor: NDArray[np.int64]
    scores: NDArray[np.float64]
    actions: NDArray[Any]
    rule_hits: NDArray[Any]
    sequence: NDArray[np.int64]
    policy_version: str
    model_versions: str


@dataclass(slots=True)
class Output:
    """What came of a batch or a heartbeat: messages, matured examples, decisions, counts."""

    emissions: list[Emission] = field(default_factory=list)
    training: list[TrainingExample] = field(default_factory=list)
    decisions: list[Decisions] = field(default_factory=list)
    record_count: int = 0
    dead_letter_count: int = 0

    def extend(self, other: "Output") -> None:
        """Append what `other` holds, and add its counts."""
        self.emissions += other.emissions
        self.training += other.training
        self.decisions += other.decisions
        self.record_count += other.record_count
        self.dead_letter_count += other.dead_letter_count
