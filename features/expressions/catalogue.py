"""The functions, aggregates and names that expressions may use: add one here and it is known.

`about` and `example` stand in the reference page; every example is compiled and evaluated by the
tests, over the declarations of `features.expressions.reference`.
"""

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
    about: str
    example: str
    keeps_type: bool = False


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """How an aggregate is called: `parameters` in their order, the window last.

    `kind` is the slot's aggregate (None where several slots make up the value), `subject` what its
    field must be: "" (it has none), "field", "number" (a field that has numbers), "key" (a text or
    a merchant category) or "condition". `parameter` is the slot's where no argument gives it;
    `excludes_current` says that the current event never counts.
    """

    name: str
    kind: Aggregate | None
    result: Type | None  # None: the type of the field
    about: str
    example: str
    subject: str = ""
    parameters: tuple[str, ...] = ("window",)
    parameter: int = 0
    window_required: bool = True
    excludes_current: bool = False

    @property
    def signature(self) -> str:
        """Return the call for messages, such as `first(field, window=None)`."""
        shown = ", ".join(self.parameters)
        return f"{self.name}({shown})" if self.window_required else f"{self.name}({shown}=None)"


ARGUMENT_COUNT_MAX = 32
MILLION = 1_000_000
LABEL = "label"
PROFILE, MODEL, LISTS = "profile", "model", "lists"
NAMESPACES = (PROFILE, MODEL, LISTS)

FUNCTIONS: dict[str, Function] = {
    "abs": Function(
        "abs(x)", Opcode.ABS, 1, 1, "The value without its sign.", "abs(balance)", keeps_type=True
    ),
    "log1p": Function(
        "log1p(x)", Opcode.LOG1P, 1, 1,
        "The natural logarithm of 1 + x; undefined where x ≤ −1.", "log1p(amount)",
    ),
    "sqrt": Function(
        "sqrt(x)", Opcode.SQRT, 1, 1, "The square root; undefined below 0.", "sqrt(amount)"
    ),
    "floor": Function(
        "floor(x)", Opcode.FLOOR, 1, 1,
        "The largest whole number that is not above x.", "floor(amount / 10)", keeps_type=True,
    ),
    "min": Function(
        "min(x, y, …)", Opcode.MIN, 2, ARGUMENT_COUNT_MAX,
        "The smallest; undefined where one of them is.", "min(amount, balance)",
    ),
    "max": Function(
        "max(x, y, …)", Opcode.MAX, 2, ARGUMENT_COUNT_MAX,
        "The largest; undefined where one of them is.", "max(amount, 10)",
    ),
    "coalesce": Function(
        "coalesce(x, default)", Opcode.COALESCE, 2, 2,
        "x, or the default where x is absent or undefined.",
        'coalesce(customer.mean(amount, "7d", including_current=False), 0)',
    ),
    "is_missing": Function(
        "is_missing(x)", Opcode.IS_NAN, 1, 1,
        "Whether a field is absent or a value undefined. In `where=` and other conditions on "
        "stored events: of one field.",
        "is_missing(merchant_id)",
    ),
    "hour": Function("hour()", Opcode.HOUR, 0, 0, "The hour of the event, UTC, 0 to 23.", "hour()"),
    "weekday": Function(
        "weekday()", Opcode.WEEKDAY, 0, 0, "The weekday, UTC; Monday is 0.", "weekday() >= 5"
    ),
    "day_of_month": Function(
        "day_of_month()", Opcode.DAY_OF_MONTH, 0, 0,
        "The day of the month, UTC, 1 to 31.", "day_of_month() <= 3",
    ),
    "distance_km": Function(
        "distance_km(entity)", Opcode.DISTANCE, 1, 1,
        "The great-circle distance from the entity's last known place to here, in km.",
        "distance_km(card)",
    ),
    "speed_kmh": Function(
        "speed_kmh(entity)", Opcode.DISTANCE, 1, 1,
        "That distance over the time since then; undefined where no time has passed.",
        "speed_kmh(card) > 900",
    ),
}  # fmt: skip
UNARY_FUNCTIONS = ("abs", "log1p", "sqrt", "floor")
FOLDING_FUNCTIONS = ("min", "max", "coalesce")
CALENDAR_FUNCTIONS = ("hour", "weekday", "day_of_month")
PLACE_FUNCTIONS = ("distance_km", "speed_kmh")
IS_MISSING = "is_missing"


def _of_number(
    name: str, kind: Aggregate | None, about: str, example: str, result: Type | None = None,
    parameters: tuple[str, ...] = ("field", "window"), parameter: int = 0, newest: bool = False,
) -> AggregateCall:  # fmt: skip
    """Return an aggregate of a field that has numbers; `newest`: of one earlier event."""
    return AggregateCall(
        name, kind, result, about, example, "number", parameters, parameter,
        window_required=not newest, excludes_current=newest,
    )  # fmt: skip


def _of_condition(
    name: str, kind: Aggregate | None, about: str, example: str, result: Type = Type.NUMBER,
    window_required: bool = True,
) -> AggregateCall:  # fmt: skip
    return AggregateCall(
        name, kind, result, about, example, "condition", ("condition", "window"),
        window_required=window_required,
    )  # fmt: skip


_SHARE = "The share of the events that meet a condition; undefined where there are none."
_AGGREGATES = (
    AggregateCall(
        "count", Aggregate.COUNT, Type.NUMBER, "How many events.", 'card.count("10m") >= 5'
    ),
    _of_number(
        "sum", Aggregate.SUM, "The sum, of money exact to the minor unit; 0 of nothing.",
        'customer.sum(amount, "30d")',
    ),
    _of_number("mean", Aggregate.MEAN, "The mean.", 'amount > 4 * customer.mean(amount, "30d")'),
    _of_number(
        "std", Aggregate.STD, "The population standard deviation.", 'customer.std(amount, "30d")'
    ),
    _of_number("min", Aggregate.MIN, "The smallest value.", 'card.min(amount, "7d")'),
    _of_number("max", Aggregate.MAX, "The largest value.", 'card.max(amount, "10m") < 500'),
    _of_number(
        "median", Aggregate.QUANTILE, "The median: `quantile` of share 0.5.",
        'amount / customer.median(amount, "90d")', parameter=MILLION // 2,
    ),
    _of_number(
        "quantile", Aggregate.QUANTILE,
        "The quantile of a share from 0 to 1, linear between order statistics (Hyndman and Fan, "
        "type 7).",
        'amount > customer.quantile(amount, 0.99, "90d")',
        parameters=("field", "share", "window"),
    ),
    _of_number(
        "first", Aggregate.FIRST, "The value of the window's oldest event before this one.",
        'customer.first(amount, "90d")', newest=True,
    ),
    _of_number(
        "last", Aggregate.LAST, "The value of the newest event before this one.",
        "amount == card.last(amount)", newest=True,
    ),
    AggregateCall(
        "since", Aggregate.SINCE, Type.DURATION,
        "The time since the newest event before this one.",
        'card.since() < "2m"', window_required=False, excludes_current=True,
    ),
    AggregateCall(
        "seen", Aggregate.SEEN, Type.BOOL,
        "Whether an event before this one has this record's value of the field; false where this "
        "record has none.",
        'not customer.seen(merchant_id, "90d")', "field", ("field", "window"),
        excludes_current=True,
    ),
    AggregateCall(
        "distinct", Aggregate.DISTINCT, Type.NUMBER, "How many different values.",
        'terminal.distinct(customer_id, "24h")', "field", ("field", "window"),
    ),
    _of_condition("rate", None, _SHARE, 'terminal.rate(fraud, "7d", delay="7d") > 0.1'),
    _of_condition("share", None, "The same as `rate`.", 'card.share(amount < 5, "1d")'),
    _of_condition(
        "streak", Aggregate.STREAK,
        "How many of the newest events in a row meet a condition; 0 where the newest does not.",
        "terminal.streak(fraud)", window_required=False,
    ),
    _of_condition(
        "streak_age", Aggregate.STREAK_AGE,
        "The time since the first event of that run; undefined where there is no run.",
        'customer.streak_age(amount < 5, "30d") > "1d"', Type.DURATION, window_required=False,
    ),
    _of_number(
        "zscore", None,
        "How many standard deviations this record's value lies above the mean; undefined where "
        "all values are equal.",
        'customer.zscore(amount, "90d") > 3', Type.NUMBER,
    ),
    _of_number(
        "ewma", Aggregate.EWMA,
        "The mean in which an event's weight halves with every `half_life` of its age.",
        'customer.ewma(amount, half_life="7d", window="90d")',
        parameters=("field", "half_life", "window"),
    ),
    _of_number(
        "trend", Aggregate.TREND,
        "The change a day: the slope of the least-squares line over time; undefined where all "
        "events have one time.",
        'customer.trend(balance, "90d") < 0',
    ),
    AggregateCall(
        "top", Aggregate.TOP, Type.TEXT,
        "The most frequent value; of equally frequent ones the one used most recently. It may "
        "stand beside `==` or `!=` with a field of this record, or in `is_missing`.",
        'customer.top(country, "90d") != country', "key", ("field", "window"),
    ),
)  # fmt: skip
AGGREGATES: dict[str, AggregateCall] = {call.name: call for call in _AGGREGATES}


OPTIONS: dict[str, tuple[str, str]] = {  # name -> what it does, an example
    "of": (
        "The kind of records whose history is meant: `transaction` where it is not given, "
        "`interaction`, `outcome`, `label` or `contact`.",
        'customer.count("7d", of=contact, where=channel == "sms")',
    ),
    "where": (
        "Only events that meet a condition on their own fields: comparisons with constants, "
        "`in [..]`, `is_missing(field)`, verdicts and named values, joined by `and`, `or`, `not`.",
        'card.count("1h", where=amount <= 5 or mcc in [5411, 5499])',
    ),
    "delay": (
        "The window ends this long before the current event.",
        'terminal.count("7d", delay="1d")',
    ),
    "including_current": (
        "Whether the current event counts, `True` where it is not given. With a `delay` it never "
        "does; nor in `first`, `last`, `since` and `seen`, nor in histories of another kind.",
        'customer.mean(amount, "30d", including_current=False)',
    ),
}

PROFILE_FIELDS: dict[str, tuple[Type, str]] = {  # name -> type, what it says
    "assets": (Type.MONEY, "what the customer holds at the bank"),
    "products_count": (Type.NUMBER, "how many products the customer holds"),
    "age_years": (Type.NUMBER, "age"),
    "tenure_days": (Type.NUMBER, "days since the customer came to the bank"),
    "corporate": (Type.BOOL, "whether it is a company"),
    "risk_preference": (Type.NUMBER, "0 low, 1 medium, 2 high"),
    "consents_count": (Type.NUMBER, "how many consents were given"),
}

VERDICTS: dict[str, LabelCode] = {
    "fraud": LabelCode.FRAUD,
    "legitimate": LabelCode.LEGITIMATE,
    "genuine": LabelCode.LEGITIMATE,
}
