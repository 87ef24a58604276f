"""Slow, obvious meaning of expressions: Python's tree walked over dict records and plain lists.

A record is a dict of wire values (strings, `amount` and `balance` in minor units, `lat` and `lon`
in micro-degrees, None where absent) with a `label`. `past` is the list of events that arrived
before, in any order. The oracle reads the text itself and knows nothing of slots or bytecode;
`fill_slots` reads a plan's tables and knows nothing of texts.
"""

import ast
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

Record = dict[str, Any]
NAN = math.nan
REACH_MS = 90 * 86_400_000
UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
UNITS = {"amount": 100, "balance": 100, "lat": 1_000_000, "lon": 1_000_000}
KEYS = {"customer": "customer_id", "card": "card_id", "terminal": "terminal_id"}
LABELS = {"unknown": 0, "legitimate": 1, "genuine": 1, "fraud": 2}
EARTH_RADIUS_KM = 6371.0088


def hashed(text: str) -> int:
    """Return a stand-in for the keyed hash: exact, and beyond what a float64 can hold."""
    return int.from_bytes(text.encode()[-7:].rjust(7, b"\0")) - 2**62


def milliseconds(text: str) -> int:
    return int(text[:-1]) * UNIT_MS[text[-1]]


def summary(kind: str, values: list[float]) -> float:
    """Aggregate raw values in event order, as the contract of the slots defines it."""
    count = len(values)
    if kind == "count":
        return count
    if kind == "sum":
        return sum(values)
    if count == 0:
        return NAN
    mean = sum(values) / count
    return {
        "mean": mean,
        "std": math.sqrt(sum((value - mean) ** 2 for value in values) / count),
        "min": min(values),
        "max": max(values),
        "first": values[0],
        "last": values[-1],
    }[kind]


def haversine_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    (lat, lon), (lat_b, lon_b) = (tuple(map(math.radians, place)) for place in (a, b))
    chord = (
        math.sin((lat_b - lat) / 2) ** 2
        + math.cos(lat) * math.cos(lat_b) * math.sin((lon_b - lon) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))


class Oracle:
    """Evaluates texts for one record. A condition is 1.0 or 0.0, absence NaN."""

    def __init__(self, record: Record, past: list[Record], externals: dict[str, float]) -> None:
        self.record = record
        self.past = past
        self.externals = externals

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
        return self.field(self.record, node.id)

    def field(self, record: Record, name: str) -> Any:
        value = record[name]
        if value is None:
            return NAN if name in (*UNITS, "mcc", "ts_ms") else None
        return value / UNITS[name] if name in UNITS else value

    def walk_attribute(self, node: ast.Attribute) -> float:
        name = ast.unparse(node)
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

    def window(self, entity: str, start_ms: int, end_ms: int, current: bool) -> list[Record] | None:
        """Return the entity's events with time in (start, end], oldest first; None if absent."""
        key = self.record[KEYS[entity]]
        if key is None:
            return None
        events = [event for event in self.past if event[KEYS[entity]] == key]
        events += [self.record] if current else []
        events = [event for event in events if start_ms < event["ts_ms"] <= end_ms]
        return sorted(events, key=lambda event: (event["ts_ms"], hashed(event["event_id"])))

    def history(self, entity: str, kind: str, node: ast.Call) -> Any:
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        arguments = list(node.args)
        subject = None if kind in ("count", "since") else arguments.pop(0)
        length_ms = self.walk(arguments[0]) if arguments else REACH_MS
        delay_ms = self.walk(options["delay"]) if "delay" in options else 0
        current = kind not in ("first", "last", "since", "seen")
        if "including_current" in options:
            current = self.walk(options["including_current"])
        end_ms = self.record["ts_ms"] - delay_ms
        events = self.window(entity, end_ms - length_ms, end_ms, current)
        if events is None:
            return NAN
        if "where" in options:
            events = [event for event in events if self.meets(event, options["where"])]
        if kind in ("rate", "share"):
            assert subject is not None
            met = [event for event in events if self.meets(event, subject)]
            return len(met) / len(events) if events else NAN
        if kind == "since":
            return self.record["ts_ms"] - events[-1]["ts_ms"] if events else NAN
        return self.of_values(kind, events, ast.unparse(subject) if subject else None)

    def of_values(self, kind: str, events: list[Record], name: str | None) -> float:
        if name is None:
            return summary(kind, [1.0] * len(events))
        values = [event[name] for event in events if event[name] is not None]
        if kind == "seen":
            own = self.record[name]
            return NAN if own is None else float(own in values)
        if kind == "distinct":
            return len(set(values))
        unit = UNITS.get(name, 1)
        if kind == "zscore":
            mean, std = summary("mean", values) / unit, summary("std", values) / unit
            return arithmetic(ast.Div(), self.field(self.record, name) - mean, std)
        return summary(kind, values) / unit

    def meets(self, event: Record, node: ast.expr) -> bool:
        """Return whether a stored event meets a condition on it."""
        if isinstance(node, ast.Name):
            return bool(LABELS[event["label"]] == LABELS[node.id])
        if isinstance(node, ast.BoolOp):
            return all(self.meets(event, value) for value in node.values)
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
            for event in self.window(entity, now - REACH_MS, now, False) or []
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
