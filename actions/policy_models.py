"""The reader of a policy's section `models`: inputs, and how they are cut into bins."""

from collections.abc import Iterable, Sequence

from actions.policy_judging import JUDGING_KEYS, read_challengers, read_judging
from actions.policy_schema import ModelDeclaration, ModelInput
from actions.policy_sections import new_id
from actions.yaml_positions import Item, Place
from features.errors import RecordError
from online_models.explain import Explainer
from online_models.options import (
    BIN_COUNT_MAX,
    EDGE_COUNT_MAX,
    QUANTILE_COUNT,
    TAIL_COUNT,
    TAIL_FROM,
    WARM_UP_COUNT,
    InputBins,
    ModelOptions,
    bin_count_max,
)

WARM_UP_COUNT_MAX = 1_000_000
EDGE_MAX = 10**15
_OPTIONS = ("warm_up", "crosses")
_BINS = ("quantiles", "tail", "tail_from", "width", "up_to", "edges")


def read_models(items: Sequence[Item]) -> tuple[ModelDeclaration, ...]:
    """Read the models of all files, in order."""
    seen: dict[str, Place] = {}
    return tuple(_read_model(item, seen) for item in items)


def _read_model(item: Item, seen: dict[str, Place]) -> ModelDeclaration:
    required = ("id", "pipeline", "publish_every", "inputs")
    fields = item.fields("a model", required, (*_OPTIONS, "challengers", *JUDGING_KEYS))
    name, pipeline = new_id(fields["id"], "model", seen), fields["pipeline"]
    inputs, bins = _read_inputs(fields["inputs"])
    names = tuple(model_input.name for model_input in inputs)
    warm_up, crosses = fields.get("warm_up"), fields.get("crosses")
    options = ModelOptions(
        bins=tuple((name, _read_bins(body)) for name, body in bins.items()),
        crosses=_read_crosses(crosses, names) if crosses else (),
        warm_up_count=(
            warm_up.integer("warm_up", 1, WARM_UP_COUNT_MAX) if warm_up else WARM_UP_COUNT
        ),
    )
    bin_count = bin_count_max(names, options)
    if bin_count > BIN_COUNT_MAX:
        where = crosses or item
        raise where.fault(f"at most {BIN_COUNT_MAX} bins in all", f"{bin_count} of model `{name}`")
    said = [given.place for given in (*bins.values(), crosses, warm_up) if given is not None]
    challengers, places = read_challengers(
        fields.get("challengers"), pipeline.identifier("pipeline"), names, options
    )
    return ModelDeclaration(
        name=name,
        pipeline=pipeline.identifier("pipeline"),
        pipeline_place=pipeline.place,
        publish_every_ms=fields["publish_every"].duration_ms("publish_every"),
        inputs=inputs,
        options=options,
        challengers=challengers,
        challenger_places=places,
        judging=read_judging(fields),
        bins_place=min(said, key=lambda place: (place.line, place.column), default=None),
    )


def _read_inputs(item: Item) -> tuple[tuple[ModelInput, ...], dict[str, Item]]:
    """Return the inputs, and what is said of the bins of some."""
    inputs: list[ModelInput] = []
    bins: dict[str, Item] = {}
    for key, body in item.entries("inputs: {name: {value, reason, bins}}"):
        fields = body.fields("a model input", ("value", "reason"), ("bins",))
        name = key.identifier("input name")
        value = fields["value"].expression("value")
        inputs.append(ModelInput(name, value, _sentence(name, fields["reason"])))
        if "bins" in fields:
            bins[name] = fields["bins"]
    if not inputs:
        raise item.fault("at least one input")
    return tuple(inputs), bins


def _read_bins(item: Item) -> InputBins:
    """Read `{quantiles, tail, tail_from}`, `{width, up_to}` or `{edges}`."""
    fields = item.fields("bins", (), _BINS)
    kinds = [
        kind for kind in (_BINS[:3], _BINS[3:5], _BINS[5:]) if any(name in fields for name in kind)
    ]
    if len(kinds) != 1:
        got = f"keys {', '.join(fields)}" if fields else "no key"
        raise item.fault("quantiles, tail, tail_from; or width, up_to; or edges", got)
    if "edges" in fields:
        edges = fields["edges"]
        numbers = [edge.number("an edge", -EDGE_MAX, EDGE_MAX) for edge in edges.items("edges")]
        return InputBins(edges=_ascending(edges, numbers))
    if "width" in fields or "up_to" in fields:
        fields = item.fields("bins of equal width", ("width", "up_to"))
        width = fields["width"].number("width", 1e-9, EDGE_MAX)
        up_to = fields["up_to"].number("up_to", width, EDGE_MAX)
        count = round(up_to / width)
        if count >= EDGE_COUNT_MAX:
            raise fields["up_to"].fault(f"up_to: less than {EDGE_COUNT_MAX} bins of {width:g}")
        return InputBins(edges=tuple(width * step for step in range(count + 1)))
    half = EDGE_COUNT_MAX // 2
    quantiles, tail, share = (fields.get(name) for name in _BINS[:3])
    return InputBins(
        quantile_count=quantiles.integer("quantiles", 1, half) if quantiles else QUANTILE_COUNT,
        tail_count=tail.integer("tail", 0, half) if tail else TAIL_COUNT,
        tail_from=share.number("tail_from", 0.01, 1) if share else TAIL_FROM,
    )


def _ascending(item: Item, numbers: Iterable[float]) -> tuple[float, ...]:
    edges = tuple(numbers)
    if not edges or len(edges) > EDGE_COUNT_MAX or list(edges) != sorted(set(edges)):
        got = ", ".join(f"{edge:g}" for edge in edges) or "an empty list"
        raise item.fault(f"edges: 1 to {EDGE_COUNT_MAX} numbers, ascending", got)
    return edges


def _read_crosses(item: Item, inputs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read `[[input, input], …]`; each pair once, in whichever order."""
    crosses: list[tuple[str, str]] = []
    for body in item.items("crosses: a list of pairs of inputs"):
        pair = body.choices("input", inputs)
        if len(pair) != 2:
            raise body.fault("two inputs", f"{len(pair)}")
        if {*pair} in map(set, crosses):
            raise body.fault("each pair once", f"`{pair[0]}`, `{pair[1]}` again")
        crosses.append((pair[0], pair[1]))
    return tuple(crosses)


def _sentence(name: str, item: Item) -> str:
    """Return the sentence of a model input; it may hold `{value}`, with a number format."""
    sentence = " ".join(item.text("reason").split())
    try:
        Explainer(name, [name], {name: sentence})
    except RecordError as error:
        raise item.fault(f"reason: {error.expected}", error.got) from error
    return sentence
