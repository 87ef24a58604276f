"""Reads what a model's section says of challengers, calibration, reports, drift and promotion."""

from collections.abc import Mapping, Sequence
from typing import get_args

from actions.yaml_positions import Item, Place
from online_models.calibration import METHODS
from online_models.judging import (
    Contestant,
    DetectorName,
    DriftSettings,
    JudgingSettings,
    PromotionSettings,
    Response,
    Watched,
)
from online_models.options import ModelOptions

JUDGING_KEYS = ("calibration", "report", "drift", "promote")
WINDOW_COUNT_MAX = 1_000_000
DETECTOR_NAMES: tuple[DetectorName, ...] = get_args(DetectorName)
WATCHED: tuple[Watched, ...] = get_args(Watched)
RESPONSES: tuple[Response, ...] = get_args(Response)


def read_challengers(
    item: Item | None, champion: str, inputs: Sequence[str], options: ModelOptions
) -> tuple[tuple[Contestant, ...], tuple[Place, ...]]:
    """Read the challengers of the model whose pipeline is `champion`, with where each stands.

    A challenger is known by its `id`, its pipeline's name if it has none; it sees those of the
    model's inputs that it names, or all.
    """
    challengers: list[Contestant] = []
    places: list[Place] = []
    for entry in item.items("a list of challengers") if item else ():
        fields = entry.fields("a challenger", ("pipeline",), ("id", "inputs"))
        pipeline = fields["pipeline"]
        named = fields.get("id", pipeline)
        name = named.identifier("challenger id")
        if name == champion or name in [known.name for known in challengers]:
            raise named.fault(
                "a challenger id that neither the champion's pipeline nor another challenger has",
                f"`{name}` again",
            )
        seen = tuple(inputs)
        if "inputs" in fields:
            chosen = fields["inputs"].choices("input", seen)
            if not chosen:
                raise fields["inputs"].fault("at least one input", "an empty list")
            seen = chosen
        own = options.of_inputs(seen)
        challengers.append(Contestant(name, pipeline.identifier("pipeline"), seen, own))
        places.append(pipeline.place)
    return tuple(challengers), tuple(places)


def read_judging(fields: Mapping[str, Item]) -> JudgingSettings:
    """Read the keys JUDGING_KEYS of a model; what is absent stays as in JudgingSettings."""
    default = JudgingSettings()
    report: Mapping[str, Item] = {}
    if "report" in fields:
        report = fields["report"].fields("report", (), ("every", "over", "alerts_per_day"))
    window_count = default.window_count
    if "over" in report:
        window_count = report["over"].integer("over: examples", 100, WINDOW_COUNT_MAX)
    return JudgingSettings(
        calibration=(
            fields["calibration"].choice("calibration", METHODS)
            if "calibration" in fields
            else default.calibration
        ),
        every_ms=report["every"].duration_ms("every") if "every" in report else default.every_ms,
        window_count=window_count,
        alerts_per_day=(
            report["alerts_per_day"].number("alerts_per_day", 0.01, 1e9)
            if "alerts_per_day" in report
            else default.alerts_per_day
        ),
        drift=_read_drift(fields["drift"]) if "drift" in fields else None,
        promotion=_read_promotion(fields["promote"], window_count) if "promote" in fields else None,
    )


def _read_drift(item: Item) -> DriftSettings:
    keys = ("detector", "watch", "every", "response", "faster")
    fields, default = item.fields("drift", (), keys), DriftSettings()
    watch = fields["watch"].choices("watch", WATCHED) if "watch" in fields else default.watch
    if not watch:
        raise fields["watch"].fault("at least one of error, score, inputs", "an empty list")
    response: Response = default.response
    if "response" in fields:
        response = fields["response"].choice("response", RESPONSES)
    faster: Mapping[str, Item] = {}
    if "faster" in fields:
        if response != "faster":
            raise fields["faster"].fault("`faster` only with `response: faster`", f"`{response}`")
        faster = fields["faster"].fields("faster", ("factor", "over"))
    return DriftSettings(
        detector=(
            fields["detector"].choice("detector", DETECTOR_NAMES)
            if "detector" in fields
            else default.detector
        ),
        watch=tuple(name for name in WATCHED if name in watch),
        every_ms=fields["every"].duration_ms("every") if "every" in fields else default.every_ms,
        response=response,
        faster_factor=(
            faster["factor"].number("factor", 1, 100) if faster else default.faster_factor
        ),
        faster_over_count=(
            faster["over"].integer("over: examples", 1, WINDOW_COUNT_MAX)
            if faster
            else default.faster_over_count
        ),
    )


def _read_promotion(item: Item, window_count: int) -> PromotionSettings:
    fields = item.fields("promote", ("better_by", "over"))
    return PromotionSettings(
        better_by=fields["better_by"].number("better_by", 0, 1),
        # Compared within the window of the reports: no more examples are kept.
        over_count=fields["over"].integer("over: examples", 100, window_count),
    )
