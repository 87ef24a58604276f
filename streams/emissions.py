"""What the processor gives back: records for the topics, and decisions as columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.errors import RecordError
from features.raw import RawRecord
from features.records import (
    ENCODER,
    OUTPUT_RECORDS,
    DeadLetter,
    Promotion,
    TrainingExample,
)
from online_models.contest import Report

REPORT_TOPICS = {record: topic for topic, record in OUTPUT_RECORDS.items()}


class Emission(NamedTuple):
    """One record to be written to an output topic, keyed by customer."""

    topic: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Decisions:
    """The verdicts on a run of transactions, one row each, in input order.

    `sequence` are positions in the whole input; `customers` and `cards` keyed hashes, MISSING
    where a transaction names no card; `amounts_minor` is in the policy's currency; `actions`
    holds codes, indices into `actions.policy_schema.ACTIONS`; `rule_hits` is (rows, rules), in the
    order of `rule_ids`: live rules first, then those in shadow.
    """

    event_ids: Sequence[str]
    sequence: NDArray[np.intp]
    ts_ms: NDArray[np.int64]
    customers: NDArray[np.int64]
    cards: NDArray[np.int64]
    amounts_minor: NDArray[np.int64]
    scores: NDArray[np.float64]
    actions: NDArray[np.uint8]
    rule_hits: NDArray[np.bool_]
    rule_ids: tuple[str, ...]
    policy_version: str
    model_versions: str  # such as `fraud:12,other:3`


@dataclass(slots=True)
class Output:
    """Everything that one step of the processor says to the outside."""

    emissions: list[Emission] = field(default_factory=list)
    decisions: list[Decisions] = field(default_factory=list)
    training: list[TrainingExample] = field(default_factory=list)
    training_partitions: list[int] = field(default_factory=list)  # where each example comes from
    promotions: list[tuple[int, Promotion]] = field(default_factory=list)  # by partition
    record_count: int = 0
    dead_letter_count: int = 0

    def add_training(self, partition: int, examples: Sequence[TrainingExample]) -> None:
        """Add examples that matured in a partition."""
        self.training.extend(examples)
        self.training_partitions.extend([partition] * len(examples))


def report_emission(report: Report) -> Emission:
    """Return the record of what a publication says of a model, keyed by the model."""
    return Emission(REPORT_TOPICS[type(report)], report.model, ENCODER.encode(report))


def dead_letter(raw: RawRecord, error: RecordError) -> DeadLetter:
    """Return what is told of a record that was refused."""
    return DeadLetter(
        raw=raw.value,
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        path=error.path,
        expected=error.expected,
        got=error.got,
        nearest=error.nearest,
    )
