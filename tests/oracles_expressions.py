"""Slow, obvious meaning of expressions: Python's tree walked over dict records and plain lists.

A record is a dict of wire values (strings, `amount` and `balance` in minor units, `lat` and `lon`
in micro-degrees, `value` in millionths, None where absent) with a `kind` and a `label`. `past` is
the list of records of all kinds that arrived before, in the order of their arrival, which is not
that of their times. The oracle reads the text itself and knows nothing of slots or bytecode;
`fill_slots` reads a plan's tables and knows nothing of texts.
"""

import ast
import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

Record = dict[str, Any]
NAN = math.nan
REACH_MS = 90 * 86_400_000
UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
DAY_MS = UNIT_MS["d"]
UNITS = {"amount": 100, "balance": 100, "lat": 10**6, "lon": 10**6, "value": 10**6}
KEYS = {
    "customer": "customer_id",
    "card": "card_id",
    "terminal": "terminal_id",
    "device": "device_id",
}
LETS = {
    "ratio": "amount / customer.mean(amount, '7d', including_current=False)",
    "pause": "customer.since()",
    "odd": "ratio > 2 or mcc == 5411",
    "risen": "customer.max(ratio, '60d') - ratio",
    "doubled": "amount * 2 - 1",
}
LET_UNITS = {"ratio": 10**6, "pause": 1, "odd": 1, "risen": 10**6, "doubled": 10**6}
MANY = ["M1", *(f"other{i}" for i in range(40))]
LISTS = {"watched": ["M1", "M9"], "near": ["DE", "FR"], "many": MANY, "nobody": []}
KEPT_UNITS_MAX = 2**51
LABELS = {"unknown": 0, "legitimate": 1, "genuine": 1, "fraud": 2}
OF_FIELD = (
    "sum", "mean", "std", "min", "max", "first", "last", "seen", "distinct", "zscore", "median",
    "trend", "top",
)  # fmt: skip
PARAMETERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(OF_FIELD, ("field", "window")),
    **dict.fromkeys(("rate", "share", "streak", "streak_age"), ("condition", "window")),
    "quantile": ("field", "share", "window"),
    "ewma": ("field", "half_life", "window"),
}
EARTH_RADIUS_KM = 6371.0088


def hashed(text: str) -> int:
    """Return a stand-in for the keyed hash: exact, and beyond what a float64 can hold."""
    return int.from_bytes(text.encode()[-7:].rjust(7, b"\0")) - 2**62


def milliseconds(text: str) -> int:
    return int(text[:-1]) * UNIT_MS[text[-1]]


def summary(kind: str, values: list[int], units: int = 1) -> float:
    """Aggregate values in event order of which so many `units` make one, rounding at the end."""
    count = len(values)
    if kind == "count":
        return count
    if kind == "sum":
        return sum(values) / units
    if count == 0:
        return NAN
    mean = Fraction(sum(values), count)
    return {
        "mean": float(mean / units),
        "std": math.sqrt(sum((value - mean) ** 2 for value in values) / count) / units,
        "min": min(values) / units,
        "max": max(values) / units,
        "first": values[0] / units,
        "last": values[-1] / units,
    }[kind]


def quantile(values: list[float], share: float) -> float:
    """Type 7 of Hyndman and Fan: linear between the order statistics around (n - 1) share."""
    if not values:
        return NAN
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def ewma(timed: list[tuple[int, float]], half_life_ms: int) -> float:
    """`timed`: (age in ms, value)."""
    if not timed:
        return NAN
    youngest_ms = min(age_ms for age_ms, _ in timed)  # the same factor in every weight cancels
    weights = [0.5 ** ((age_ms - youngest_ms) / half_life_ms) for age_ms, _ in timed]
    total = sum(weight * value for weight, (_, value) in zip(weights, timed, strict=True))
    return total / sum(weights)


def trend(timed: list[tuple[int, float]]) -> float:
    """`timed`: (age in ms, value). The change of the value a day."""
    if len({age_ms for age_ms, _ in timed}) < 2:
        return NAN
    days = [-age_ms / DAY_MS for age_ms, _ in timed]
    middle = sum(days) / len(days)
    mean = sum(value for _, value in timed) / len(timed)
    spread = sum((day - middle) ** 2 for day in days)
    pairs = zip(days, timed, strict=True)
    return sum((day - middle) * (value - mean) for day, (_, value) in pairs) / spread


def top(values: list[Any]) -> Any:
    """Return the most frequent of values in event order, of ties the one used last; or None."""
    counts = Counter(values)
    most = max(counts.values(), default=0)
    return next((value for value in reversed(values) if counts[value] == most), None)


def run_length(met: list[bool]) -> int:
    """Return how many of the newest events in a row are met, `met` in event order."""
    return next((n for n, one in enumerate(reversed(met)) if not one), len(met))


def haversine_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    (lat, lon), (lat_b, lon_b) = (tuple(map(math.radians, place)) for place in (a, b))
    chord = (
        math.sin((lat_b - lat) / 2) ** 2
        + math.cos(lat) * math.cos(lat_b) * math.sin((lon_b - lon) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


class Oracle:
    """Evaluates texts for one record. A condition is 1.0 or 0.0, absence NaN."""

    def __init__(
        self, record: Record, past: list[Record], externals: dict[str, float],
        known: dict[tuple[int, str], float | None] | None = None,
    ) -> None:  # fmt: skip
        self.record = record
        self.past = past
        self.externals = externals
        self.kept: dict[tuple[int, str], float | None] = {} if known is None else known

    def value(self, text: str) -> float:
        result = float(self.walk(ast.parse(text, mode="eval").body))
        return result if math.isfinite(result) else NAN

    def walk(self, node: ast.expr) -> Any:
        return getattr(self, f"walk_{type(node).__name__.lower()}")(node)

    def walk_constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, str) and node.value[-1] in UNIT_MS and node.value[0].isdigit():
            return milliseconds(node.value)
        return node.value

    def walk_name(self, node: ast.Name) -> Any:
        if node.id in LETS:
            return self.walk(ast.parse(LETS[node.id], mode="eval").body)
        return self.field(self.record, node.id)

    def field(self, record: Record, name: str) -> Any:
        value = self.raw(record, name)
        if value is None:
            return NAN if name in (*UNITS, *LETS, "mcc", "ts_ms") else None
        return value / unit(name) if unit(name) > 1 else value

    def raw(self, record: Record, name: str) -> Any:
        """Return what is stored of a field or named value of an event, None where absent."""
        if name not in LETS:
            return record.get(name)
        arrived = self.past.index(record) if record in self.past else len(self.past)
        if (arrived, name) not in self.kept:
            then = Oracle(record, self.past[:arrived], self.externals, self.kept)
            value = then.value(LETS[name]) * LET_UNITS[name]
            fits = abs(value) <= KEPT_UNITS_MAX
            self.kept[arrived, name] = round(value) if fits else None
        return self.kept[arrived, name]

    def walk_attribute(self, node: ast.Attribute) -> Any:
        name = ast.unparse(node)
        if name.startswith("lists."):
            return LISTS[name.removeprefix("lists.")]
        return self.externals[name] / (100 if name == "profile.assets" else 1)

    def walk_unaryop(self, node: ast.UnaryOp) -> float:
        value = self.walk(node.operand)
        return float(not true(value)) if isinstance(node.op, ast.Not) else -value

    def walk_binop(self, node: ast.BinOp) -> float:
        return arithmetic(node.op, self.walk(node.left), self.walk(node.right))

    def walk_boolop(self, node: ast.BoolOp) -> float:
        values = [true(self.walk(value)) for value in node.values]
        return float(all(values) if isinstance(node.op, ast.And) else any(values))

    def walk_ifexp(self, node: ast.IfExp) -> Any:
        return self.walk(node.body if true(self.walk(node.test)) else node.orelse)

    def walk_list(self, node: ast.List) -> list[Any]:
        return [self.walk(item) for item in node.elts]

    def walk_compare(self, node: ast.Compare) -> float:
        values = [self.walk(node.left), *(self.walk(side) for side in node.comparators)]
        pairs = zip(values, node.ops, values[1:], strict=False)
        return float(all(holds(left, op, right) for left, op, right in pairs))

    def walk_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            assert isinstance(node.func.value, ast.Name)
            return self.history(node.func.value.id, node.func.attr, node)
        assert isinstance(node.func, ast.Name)
        if node.func.id in ("speed_kmh", "distance_km"):
            return self.travel(node.func.id, ast.unparse(node.args[0]))
        moment = datetime.fromtimestamp(self.record["ts_ms"] // 1000, UTC)
        values = [self.walk(argument) for argument in node.args]
        functions: dict[str, Callable[..., Any]] = {
            "hour": lambda: moment.hour,
            "weekday": moment.weekday,
            "day_of_month": lambda: moment.day,
            "is_missing": lambda x: float(absent(x)),
            "coalesce": lambda x, default: default if absent(x) else x,
            "min": lambda *xs: NAN if any(map(absent, xs)) else min(xs),
            "max": lambda *xs: NAN if any(map(absent, xs)) else max(xs),
            "abs": abs,
            "floor": lambda x: float(math.floor(x)) if math.isfinite(x) else x,
            "sqrt": lambda x: math.sqrt(x) if x >= 0 else NAN,
            "log1p": lambda x: math.log1p(x) if x > -1 else NAN,
        }
        return functions[node.func.id](*values)

    def window(
        self, entity: str, kind: str, start_ms: int, end_ms: int, current: bool
    ) -> list[Record] | None:
        """Return the entity's events with time in (start, end], oldest first; None if absent."""
        key = self.record[KEYS[entity]]
        if key is None:
            return None
        events = [*self.past, *([self.record] if current else [])]
        events = [event for event in events if event["kind"] == kind]
        events = [event for event in events if event[KEYS[entity]] == key]
        events = [event for event in events if start_ms < event["ts_ms"] <= end_ms]
        return sorted(events, key=lambda event: (event["ts_ms"], hashed(event["event_id"])))

    def history(self, entity: str, aggregate: str, node: ast.Call) -> Any:
        options = {str(keyword.arg): keyword.value for keyword in node.keywords}
        names = PARAMETERS.get(aggregate, ("window",))
        options |= dict(zip(names, node.args, strict=False))
        length_ms = self.walk(options["window"]) if "window" in options else REACH_MS
        delay_ms = self.walk(options["delay"]) if "delay" in options else 0
        current = aggregate not in ("first", "last", "since", "seen")
        if "including_current" in options:
            current = self.walk(options["including_current"])
        end_ms = self.record["ts_ms"] - delay_ms
        kind = ast.unparse(options["of"]) if "of" in options else "transaction"
        events = self.window(entity, kind, end_ms - length_ms, end_ms, current)
        if events is None:
            return None if aggregate == "top" else NAN
        if "where" in options:
            events = [event for event in events if self.meets(event, options["where"])]
        if "condition" in options:
            met = [self.meets(event, options["condition"]) for event in events]
            return self.of_conditions(aggregate, events, met)
        if aggregate == "since":
            return self.record["ts_ms"] - events[-1]["ts_ms"] if events else NAN
        if aggregate == "count":
            return len(events)
        return self.of_values(aggregate, events, options, end_ms)

    def of_conditions(self, aggregate: str, events: list[Record], met: list[bool]) -> float:
        if aggregate in ("rate", "share"):
            return sum(met) / len(met) if met else NAN
        length = run_length(met)
        if aggregate == "streak":
            return length
        return self.record["ts_ms"] - events[-length]["ts_ms"] if length else NAN

    def of_values(
        self, aggregate: str, events: list[Record], options: dict[str, ast.expr], end_ms: int
    ) -> Any:
        name = ast.unparse(options["field"])
        stored = [(end_ms - event["ts_ms"], self.raw(event, name)) for event in events]
        timed = [(age_ms, value) for age_ms, value in stored if value is not None]
        values = [value for _, value in timed]
        if aggregate == "top":
            return top(values)
        if aggregate == "seen":
            own = self.record.get(name)
            return float(own is not None and own in values)
        if aggregate == "distinct":
            return len(set(values))
        if aggregate in ("median", "quantile"):
            share = self.walk(options["share"]) if aggregate == "quantile" else 0.5
            return quantile(values, share) / unit(name)
        if aggregate == "ewma":
            return ewma(timed, self.walk(options["half_life"])) / unit(name)
        if aggregate == "trend":
            return trend(timed) / unit(name)
        if aggregate == "zscore":
            mean, std = (summary(kind, values, unit(name)) for kind in ("mean", "std"))
            own = self.walk(options["field"])
            return arithmetic(ast.Div(), own - mean, std)
        return summary(aggregate, values, unit(name))

    def meets(self, event: Record, node: ast.expr) -> bool:
        """Return whether a stored event meets a condition on it."""
        if isinstance(node, ast.Name):
            if node.id in LETS:
                return true(self.raw(event, node.id))
            return bool(LABELS[event["label"]] == LABELS[node.id])
        if isinstance(node, ast.UnaryOp):
            return not self.meets(event, node.operand)
        if isinstance(node, ast.BoolOp):
            values = [self.meets(event, value) for value in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.Call):
            return absent(self.stored(event, node.args[0]))
        assert isinstance(node, ast.Compare)
        sides = [self.stored(event, side) for side in (node.left, *node.comparators)]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return all(holds(left, op, right) for left, op, right in pairs)

    def stored(self, event: Record, node: ast.expr) -> Any:
        if not isinstance(node, ast.Name):
            return self.walk(node)
        if node.id == "label":
            return LABELS[event["label"]]
        return LABELS[node.id] if node.id in LABELS else self.field(event, node.id)

    def travel(self, kind: str, entity: str) -> float:
        now = self.record["ts_ms"]
        events = [
            event
            for event in self.window(entity, "transaction", now - REACH_MS, now, False) or []
            if event["lat"] is not None and event["lon"] is not None
        ]
        here = (self.field(self.record, "lat"), self.field(self.record, "lon"))
        if not events or any(map(absent, here)):
            return NAN
        last = events[-1]
        km = haversine_km(here, (last["lat"] / 1e6, last["lon"] / 1e6))
        if kind == "distance_km":
            return km
        return arithmetic(ast.Div(), km, (now - last["ts_ms"]) / 3_600_000)


def unit(name: str) -> int:
    """Return how many stored units of a field or named value make one."""
    return LET_UNITS[name] if name in LET_UNITS else UNITS.get(name, 1)


def absent(value: Any) -> bool:
    return value is None or value != value


def true(value: Any) -> bool:
    return not absent(value) and value != 0


def arithmetic(op: ast.operator, x: float, y: float) -> float:
    if absent(x) or absent(y):
        return NAN
    if isinstance(op, ast.Div | ast.Mod) and y == 0:
        return NAN
    if isinstance(op, ast.Pow):
        try:
            return math.pow(x, y)
        except ValueError:
            return NAN
        except OverflowError:
            return -math.inf if x < 0 and y % 2 == 1 else math.inf
    operations: dict[type[ast.operator], Callable[[float, float], float]] = {
        ast.Add: lambda a, b: a + b,
        ast.Sub: lambda a, b: a - b,
        ast.Mult: lambda a, b: a * b,
        ast.Div: lambda a, b: a / b,
        ast.Mod: lambda a, b: a % b,
    }
    return operations[type(op)](float(x), float(y))


def holds(left: Any, op: ast.cmpop, right: Any) -> bool:
    if absent(left) or absent(right):
        return False
    comparisons: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
        ast.Eq: lambda a, b: bool(a == b),
        ast.NotEq: lambda a, b: bool(a != b),
        ast.Lt: lambda a, b: bool(a < b),
        ast.LtE: lambda a, b: bool(a <= b),
        ast.Gt: lambda a, b: bool(a > b),
        ast.GtE: lambda a, b: bool(a >= b),
        ast.In: lambda a, b: a in b,
        ast.NotIn: lambda a, b: a not in b,
    }
    return comparisons[type(op)](left, right)
