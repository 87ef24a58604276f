"""Calls that look into the history of an entity: `card.count("10m")`, `speed_kmh(card)`."""

import ast
from dataclasses import dataclass

from features.columns import Cell
from features.errors import nearest_name
from features.expressions.catalogue import AGGREGATES, OPTIONS, AggregateCall
from features.expressions.conditions import ConditionCompiler
from features.expressions.graph import Node
from features.expressions.parser import Source
from features.expressions.slots import Request, Term, present, sorted_terms
from features.expressions.types import FIELDS, Field, Type, duration_ms, duration_text
from features.expressions.workspace import Value, Workspace
from features.kernels.opcodes import Opcode
from features.plan import Aggregate

HOUR_MS = 3_600_000.0


@dataclass(frozen=True, slots=True)
class _Call:
    """A bound call: the window and the options that all aggregates have."""

    entity: int
    window_ms: int
    delay_ms: int
    terms: tuple[Term, ...]
    including_current: bool

    def request(
        self, aggregate: Aggregate, value: int = -1, more: tuple[Term, ...] = ()
    ) -> Request:
        """Return the request for one slot of this call, with further terms where needed."""
        terms = sorted_terms([*self.terms, *more])
        return Request(
            self.entity, aggregate, value, self.window_ms, self.delay_ms, terms,
            self.including_current,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AggregateCompiler:
    """Compiles calls over histories to slots. Raises SourceError at the first wrong argument."""

    source: Source
    workspace: Workspace

    def aggregate(self, call: ast.Call, entity_name: str, method: ast.Attribute) -> Value:
        """Return the value of `entity.aggregate(...)`."""
        spec = AGGREGATES.get(method.attr)
        if spec is None:
            raise self.source.attribute_error(
                method, f"an aggregate of `{entity_name}`", f"unknown name `{method.attr}`",
                nearest_name(method.attr, AGGREGATES),
            )  # fmt: skip
        arguments = self._bind(call, spec)
        bound = self._call(self._entity(entity_name), spec, arguments)
        subject = arguments.get(_parameters(spec)[0])
        if spec.subject == "condition" and subject is not None:
            return self._fraction(bound, subject)
        if subject is None or not spec.subject:
            assert spec.kind is not None and spec.result is not None
            return Value(spec.result, self.workspace.slot(bound.request(spec.kind)))
        field = self._field(subject, numbers_only=spec.subject == "number")
        if spec.kind is None:
            return self._zscore(bound, field)
        node = self.workspace.slot(bound.request(spec.kind, int(field.cell)))
        return Value(spec.result or field.type, node)

    def place(self, name: str, entity_name: str) -> Value:
        """Return `distance_km(entity)` or `speed_kmh(entity)`: from its last known place to here.

        Only events with both coordinates count. The speed is undefined where no time has passed;
        the distance is not.
        """
        reach_ms = self.workspace.declarations.history_reach_ms
        located = (present(int(Cell.LAT), "lat known"), present(int(Cell.LON), "lon known"))
        call = _Call(self._entity(entity_name), reach_ms, 0, located, including_current=False)
        graph, slots = self.workspace.graph, self.workspace.slots
        rows = tuple(
            slots.slot(call.request(Aggregate.LAST, int(cell))) for cell in (Cell.LAT, Cell.LON)
        )
        distance = graph.add(Node(Opcode.DISTANCE, rows=rows))
        if name == "distance_km":
            return Value(Type.NUMBER, distance)
        since = self.workspace.slot(call.request(Aggregate.SINCE))
        hours = graph.binary(Opcode.DIV, since, graph.constant(HOUR_MS))
        return Value(Type.NUMBER, graph.binary(Opcode.DIV, distance, hours))

    def _entity(self, name: str) -> int:
        names = [entity.name for entity in self.workspace.declarations.entities]
        return names.index(name)

    def _bind(self, call: ast.Call, spec: AggregateCall) -> dict[str, ast.expr]:
        """Return the arguments by name of their parameter."""
        parameters = _parameters(spec)
        if len(call.args) > len(parameters):
            extra = call.args[len(parameters)]
            raise self.source.error(extra, f"{spec.signature} and options by keyword")
        arguments = dict(zip(parameters, call.args, strict=False))
        known = (*parameters, *OPTIONS)
        for keyword in call.keywords:
            if keyword.arg not in known:
                raise self.source.error(
                    keyword,
                    f"an option of {spec.signature}: {', '.join(known)}",
                    None,
                    nearest_name(keyword.arg or "", known),
                )
            if keyword.arg in arguments:
                got = f"a second `{keyword.arg}`"
                raise self.source.error(keyword, f"{spec.signature}", got)
            arguments[keyword.arg] = keyword.value
        required = parameters if spec.window_required else parameters[:-1]
        for name in required:
            if name not in arguments:
                raise self.source.error(call, spec.signature, f"{self.source.snippet(call)}")
        return arguments

    def _call(self, entity: int, spec: AggregateCall, arguments: dict[str, ast.expr]) -> _Call:
        reach_ms = self.workspace.declarations.history_reach_ms
        delay_node = arguments.get("delay")
        delay_ms = 0 if delay_node is None else self._duration(delay_node, "a delay")
        window_node = arguments.get("window")
        if window_node is None or _is_none(window_node, spec):
            window_ms, window_node = max(1, reach_ms - delay_ms), delay_node
        else:
            window_ms = self._duration(window_node, "a window")
        if window_node is not None and window_ms + delay_ms > reach_ms:
            raise self.source.error(
                window_node,
                f"a window and delay of at most {duration_text(reach_ms)} together, the reach "
                "of histories",
                duration_text(window_ms + delay_ms),
            )
        where = arguments.get("where")
        return _Call(
            entity,
            window_ms,
            delay_ms,
            () if where is None else self._conditions().terms(where),
            self._including_current(spec, arguments.get("including_current")),
        )

    def _conditions(self) -> ConditionCompiler:
        return ConditionCompiler(self.source, self.workspace.declarations)

    def _including_current(self, spec: AggregateCall, node: ast.expr | None) -> bool:
        if node is None:
            return not spec.excludes_current
        if not isinstance(node, ast.Constant) or not isinstance(node.value, bool):
            raise self.source.error(node, "True or False")
        if node.value and spec.excludes_current:
            raise self.source.error(node, f"False: {spec.signature} leaves the current event out")
        return node.value

    def _duration(self, node: ast.expr, what: str) -> int:
        text = node.value if isinstance(node, ast.Constant) else None
        ms = duration_ms(text) if isinstance(text, str) else None
        if not ms:
            raise self.source.error(node, f'{what} such as "30s", "10m", "24h" or "7d"')
        return ms

    def _field(self, node: ast.expr, *, numbers_only: bool) -> Field:
        field = FIELDS.get(node.id) if isinstance(node, ast.Name) else None
        known = [f.name for f in FIELDS.values() if not numbers_only or f.type is not Type.TEXT]
        expected = f"a field with numbers: {', '.join(known)}" if numbers_only else "a field"
        if field is None:
            name = node.id if isinstance(node, ast.Name) else ""
            raise self.source.error(node, expected, None, nearest_name(name, known))
        if numbers_only and field.type is Type.TEXT:
            raise self.source.error(node, expected, f"`{field.name}`, which is text")
        return field

    def _fraction(self, call: _Call, condition: ast.expr) -> Value:
        terms = self._conditions().terms(condition)
        met = self.workspace.slot(call.request(Aggregate.COUNT, more=terms))
        all_events = self.workspace.slot(call.request(Aggregate.COUNT))
        return Value(Type.NUMBER, self.workspace.graph.binary(Opcode.DIV, met, all_events))

    def _zscore(self, call: _Call, field: Field) -> Value:
        graph = self.workspace.graph
        value = self.workspace.field(field).node
        mean = self.workspace.slot(call.request(Aggregate.MEAN, int(field.cell)))
        std = self.workspace.slot(call.request(Aggregate.STD, int(field.cell)))
        above = graph.binary(Opcode.SUB, value, mean)
        return Value(Type.NUMBER, graph.binary(Opcode.DIV, above, std))


def _parameters(spec: AggregateCall) -> tuple[str, ...]:
    if not spec.subject:
        return ("window",)
    return ("condition" if spec.subject == "condition" else "field", "window")


def _is_none(node: ast.expr, spec: AggregateCall) -> bool:
    return not spec.window_required and isinstance(node, ast.Constant) and node.value is None
