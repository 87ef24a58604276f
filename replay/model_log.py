"""What a run said of its models: reports, promotions and drift, kept and written down."""

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from features.records import ContestantMeasures, Drift, ModelPromoted, ModelRefused, ModelReport

MEASURES = (
    "auc", "average_precision", "recall_at_budget", "log_loss", "calibration_error",
)  # fmt: skip
_TYPES: dict[str, type[msgspec.Struct]] = {
    "model-reports": ModelReport,
    "model-promotions": ModelPromoted,
    "model-refusals": ModelRefused,
    "drift": Drift,
}


MODEL_TOPICS = tuple(_TYPES)


class ModelLog:
    """Takes the records of four topics; each has a file in `directory` once there is one."""

    def __init__(self, directory: Path | str) -> None:
        self.reports: list[ModelReport] = []
        self.promotions: list[ModelPromoted] = []
        self.refusals: list[ModelRefused] = []
        self.drifts: list[Drift] = []
        self._directory = Path(directory)
        self._files: dict[str, IO[bytes]] = {}

    def write(self, topic: str, value: bytes) -> None:
        """Take one record; those of other topics are passed over."""
        if topic not in _TYPES:
            return
        if topic not in self._files:
            self._files[topic] = (self._directory / f"{topic}.jsonl").open("wb")
        self._files[topic].write(value + b"\n")
        record = msgspec.json.decode(value, type=_TYPES[topic])
        if isinstance(record, ModelReport):
            self.reports.append(record)
        elif isinstance(record, ModelPromoted):
            self.promotions.append(record)
        elif isinstance(record, ModelRefused):
            self.refusals.append(record)
        elif isinstance(record, Drift):
            self.drifts.append(record)

    def newest(self) -> Mapping[str, ModelReport]:
        """Return the last report of each model."""
        return {report.model: report for report in self.reports}

    def summary(self) -> dict[str, Any]:
        """Return, by model, its champion, the last measures of its contestants, and what happened.

        The measures are prequential: over the last matured examples, weighted, by the scores given
        when deciding; they are not those of the evaluation window.
        """
        return {
            model: {
                "champion": report.champion,
                "version": report.version,
                "examples": report.example_count,
                "frauds": report.fraud_count,
                "contestants": {c.contestant: _facts(c) for c in report.contestants},
                "refused": sorted({r.contestant for r in self.refusals if r.model == model}),
                "promotions": sum(p.model == model for p in self.promotions),
                "drift_alarms": sum(d.model == model for d in self.drifts),
            }
            for model, report in self.newest().items()
        }

    def close(self) -> None:
        """Close the files; may be called again."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()


def _facts(measures: ContestantMeasures) -> dict[str, Any]:
    return {"pipeline": measures.pipeline, **{name: getattr(measures, name) for name in MEASURES}}
