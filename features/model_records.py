"""Records about models: examples that they learn from, and what is told of how good they are."""

from typing import Literal

from msgspec import Struct


class TrainingExample(Struct, frozen=True, kw_only=True, tag_field="kind", tag="training"):
    """A matured example: the features as they were seen when deciding.

    `event` is the event's keyed hash; `matured_ms` is `ts_ms` plus the policy's label horizon: what
    was known of the event by then is its label, and silence counts as legitimate. A feature that
    was absent is null in JSON, NaN in memory. `scores` are those given when deciding, by the
    model's contestants in the policy's order.
    """

    model: str
    event: int
    ts_ms: int
    matured_ms: int
    fraud: bool
    weight: float
    features: list[float | None]
    scores: list[float] = []


class CalibrationBin(Struct, frozen=True, kw_only=True):
    """Of a bin's examples: the mean score, and the share of fraud."""

    predicted: float
    observed: float


class ContestantMeasures(Struct, frozen=True, kw_only=True):
    """How good one contestant for a model is; null where a measure is not defined.

    `calibration` are bins of equal weight by rising score; `calibration_error` is the mean distance
    of their predicted from their observed share.
    """

    contestant: str
    pipeline: str
    learned_count: int
    auc: float | None
    average_precision: float | None
    recall_at_budget: float | None
    log_loss: float | None
    calibration_error: float | None
    calibration: tuple[CalibrationBin, ...]


class ModelReport(Struct, frozen=True, kw_only=True, tag_field="kind", tag="model_report"):
    """Champion and challengers of a model over its last matured examples, weighted.

    All are judged by the scores that they gave when deciding. `ts_ms` and `version` are those of
    the publication; the examples' event times are within [`from_ms`, `to_ms`].
    """

    model: str
    ts_ms: int
    version: int
    champion: str
    from_ms: int
    to_ms: int
    example_count: int
    fraud_count: int
    alerts_per_day: float
    contestants: tuple[ContestantMeasures, ...]


class ModelPromoted(Struct, frozen=True, kw_only=True, tag_field="kind", tag="model_promoted"):
    """A challenger became champion with this version; `by` is who asked for it."""

    model: str
    ts_ms: int
    version: int
    champion: str
    before: str
    by: Literal["command", "policy"]


class ModelRefused(Struct, frozen=True, kw_only=True, tag_field="kind", tag="model_refused"):
    """A contestant can't learn fraud as rare as it is, and is out of the contest for its model.

    `fraud_share` is the weighted share among the examples so far; `expected` and `got` say which
    setting of the pipeline is in the way. A `champion` that is out says what an untrained one says;
    of a `successor`, which drift made begin, the contestant goes on as it was. `version` is the
    newest by then.
    """

    model: str
    ts_ms: int
    version: int
    contestant: str
    pipeline: str
    role: Literal["champion", "challenger", "successor"]
    fraud_share: float
    expected: str
    got: str


class Drift(Struct, frozen=True, kw_only=True, tag_field="kind", tag="drift"):
    """What a model sees, says or gets wrong is no longer as it was.

    `what` is `input:<name>`, `score:<contestant>` or `error:<contestant>`; `before` and `after` are
    means: of the input, of the score's log-odds, of the squared error. `ts_ms` is the publication
    at which it was found, `response` what follows.
    """

    model: str
    ts_ms: int
    version: int
    what: str
    detector: str
    before: float
    after: float
    response: Literal["alert", "reset", "faster"]
