"""What a policy can say about how a model is judged: settings, with what holds without them."""

from dataclasses import dataclass
from typing import Literal

from online_models.calibration import WINDOW_COUNT, Method
from online_models.options import NO_OPTIONS, ModelOptions

DAY_MS = 86_400_000
DetectorName = Literal["adwin", "page_hinkley", "kswin"]
Watched = Literal["error", "score", "inputs"]
Response = Literal["alert", "reset", "faster"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A pipeline of the catalogue with those of the model's inputs that it sees, in their order.

    `options` are those of its inputs; a pipeline that takes none passes them over.
    """

    name: str
    pipeline: str
    inputs: tuple[str, ...]
    options: ModelOptions = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class DriftSettings:
    """What is watched, by which of River's detectors, and what follows when the error rises.

    Values of `every_ms` are looked at together. `faster` counts each of the next
    `faster_over_count` examples `faster_factor` times.
    """

    detector: DetectorName = "adwin"
    watch: tuple[Watched, ...] = ("error", "score", "inputs")
    every_ms: int = 7 * DAY_MS
    response: Response = "alert"
    faster_factor: float = 3.0
    faster_over_count: int = 2_000


@dataclass(frozen=True, slots=True)
class PromotionSettings:
    """A challenger takes over whose average precision is better by this over so many examples."""

    better_by: float
    over_count: int


@dataclass(frozen=True, slots=True)
class JudgingSettings:
    """How a model's contestants are calibrated, measured, watched and promoted.

    Measured every `every_ms` of event time over the last `window_count` matured examples;
    `alerts_per_day` is the budget of the recall. Without `calibration`, a pipeline whose scores are
    no probabilities gets a sigmoid.
    """

    calibration: Method | None = None
    every_ms: int = DAY_MS
    window_count: int = WINDOW_COUNT
    alerts_per_day: float = 100.0
    drift: DriftSettings | None = None
    promotion: PromotionSettings | None = None
