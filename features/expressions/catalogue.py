"""The functions, aggregates and names that expressions may use: add one here and it is known."""

from dataclasses import dataclass

from features.columns import LabelCode
from features.expressions.types import Type
from features.kernels.opcodes import Opcode
from features.plan import Aggregate


@dataclass(frozen=True, slots=True)
class Function:
    """A function of values: its signature for messages and the opcode that computes it."""

    signature: str
    opcode: Opcode
    argument_count_min: int
    argument_count_max: int
    keeps_type: bool = False


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """How an aggregate is called: `subject` is the first parameter, before the window.

    `kind` is the slot's aggregate (None where several slots make up the value);
    `excludes_current` says that the current event never counts.
    """

    signature: str
    kind: Aggregate | None
    result: Type | None  # None: the type of the field
    subject: str = ""  # "field", "number" (a field that has numbers) or "condition"
    window_required: bool = True
    excludes_current: bool = False


ARGUMENT_COUNT_MAX = 32

FUNCTIONS: dict[str, Function] = {
    "abs": Function("abs(x)", Opcode.ABS, 1, 1, keeps_type=True),
    "log1p": Function("log1p(x)", Opcode.LOG1P, 1, 1),
    "sqrt": Function("sqrt(x)", Opcode.SQRT, 1, 1),
    "floor": Function("floor(x)", Opcode.FLOOR, 1, 1, keeps_type=True),
    "min": Function("min(x, y, …)", Opcode.MIN, 2, ARGUMENT_COUNT_MAX),
    "max": Function("max(x, y, …)", Opcode.MAX, 2, ARGUMENT_COUNT_MAX),
    "coalesce": Function("coalesce(x, default)", Opcode.COALESCE, 2, 2),
    "is_missing": Function("is_missing(x)", Opcode.IS_NAN, 1, 1),
    "hour": Function("hour()", Opcode.HOUR, 0, 0),
    "weekday": Function("weekday()", Opcode.WEEKDAY, 0, 0),
    "day_of_month": Function("day_of_month()", Opcode.DAY_OF_MONTH, 0, 0),
    "distance_km": Function("distance_km(entity)", Opcode.DISTANCE, 1, 1),
    "speed_kmh": Function("speed_kmh(entity)", Opcode.DISTANCE, 1, 1),
}
UNARY_FUNCTIONS = ("abs", "log1p", "sqrt", "floor")
FOLDING_FUNCTIONS = ("min", "max", "coalesce")
CALENDAR_FUNCTIONS = ("hour", "weekday", "day_of_month")
PLACE_FUNCTIONS = ("distance_km", "speed_kmh")


def _of_number(name: str, kind: Aggregate, **options: bool) -> AggregateCall:
    window = "window" if options.get("window_required", True) else "window=None"
    return AggregateCall(f"{name}(field, {window})", kind, None, "number", **options)


AGGREGATES: dict[str, AggregateCall] = {
    "count": AggregateCall("count(window)", Aggregate.COUNT, Type.NUMBER),
    "sum": _of_number("sum", Aggregate.SUM),
    "mean": _of_number("mean", Aggregate.MEAN),
    "std": _of_number("std", Aggregate.STD),
    "min": _of_number("min", Aggregate.MIN),
    "max": _of_number("max", Aggregate.MAX),
    "first": _of_number("first", Aggregate.FIRST, window_required=False, excludes_current=True),
    "last": _of_number("last", Aggregate.LAST, window_required=False, excludes_current=True),
    "since": AggregateCall(
        "since(window=None)",
        Aggregate.SINCE,
        Type.DURATION,
        window_required=False,
        excludes_current=True,
    ),
    "seen": AggregateCall(
        "seen(field, window)", Aggregate.SEEN, Type.BOOL, "field", excludes_current=True
    ),
    "distinct": AggregateCall("distinct(field, window)", Aggregate.DISTINCT, Type.NUMBER, "field"),
    "rate": AggregateCall("rate(condition, window)", None, Type.NUMBER, "condition"),
    "share": AggregateCall("share(condition, window)", None, Type.NUMBER, "condition"),
    "zscore": AggregateCall("zscore(field, window)", None, Type.NUMBER, "number"),
}
OPTIONS = ("where", "delay", "including_current")

PROFILE_FIELDS: dict[str, Type] = {
    "assets": Type.MONEY,
    "products_count": Type.NUMBER,
    "age_years": Type.NUMBER,
    "tenure_days": Type.NUMBER,
    "corporate": Type.BOOL,
    "risk_preference": Type.NUMBER,  # 0 low, 1 medium, 2 high
    "consents_count": Type.NUMBER,
}

VERDICTS: dict[str, LabelCode] = {
    "fraud": LabelCode.FRAUD,
    "legitimate": LabelCode.LEGITIMATE,
    "genuine": LabelCode.LEGITIMATE,
}
