"""Calls that look into the history of an entity: `card.count("10m")`, `speed_kmh(card)`."""

import ast
from dataclasses import dataclass

from features.columns import Cell, Kind
from features.errors import nearest_name
from features.expressions.calls import BoundCall, CallBinder
from features.expressions.catalogue import AGGREGATES, AggregateCall
from features.expressions.clauses import conjunction, present
from features.expressions.fields import FIELDS, Field, a_stored
from features.expressions.graph import Node
from features.expressions.parser import Source
from features.expressions.types import Type
from features.expressions.value import Value
from features.expressions.workspace import Workspace
from features.kernels.opcodes import Opcode
from features.plan import Aggregate

HOUR_MS = 3_600_000.0
_WITHOUT_NUMBERS = (Type.TEXT, Type.BOOL)
_EXPECTED_SUBJECTS = {"number": "a field with numbers", "key": "a text or `mcc`"}


@dataclass(frozen=True, slots=True)
class AggregateCompiler:
    """Compiles calls over histories to slots. Raises SourceError at the first wrong argument."""

    source: Source
    workspace: Workspace

    @property
    def _binder(self) -> CallBinder:
        return CallBinder(self.source, self.workspace)

    def aggregate(self, call: ast.Call, entity_name: str, method: ast.Attribute) -> Value:
        """Return the value of `entity.aggregate(...)`."""
        spec = AGGREGATES.get(method.attr)
        if spec is None:
            raise self.source.attribute_error(
                method, f"an aggregate of `{entity_name}`", f"unknown name `{method.attr}`",
                nearest_name(method.attr, AGGREGATES),
            )  # fmt: skip
        arguments = self._binder.arguments(call, spec)
        bound = self._binder.bind(call, entity_name, spec, arguments)
        if spec.subject == "condition":
            return self._of_condition(spec, bound, arguments["condition"])
        if not spec.subject:
            assert spec.kind is not None and spec.result is not None
            return Value(spec.result, self.workspace.slot(bound.request(spec.kind)))
        return self._of_field(spec, bound, arguments)

    def place(self, call: ast.Call, name: str, entity_name: str) -> Value:
        """Return `distance_km(entity)` or `speed_kmh(entity)`: from its last known place to here.

        Only events with both coordinates count. The speed is undefined where no time has passed;
        the distance is not.
        """
        places = tuple(FIELDS[cell.name.lower()] for cell in (Cell.LAT, Cell.LON))
        located = conjunction(*(((present(field.cell, field.name),),) for field in places))
        latest = self._binder.latest(call, entity_name, located)
        graph, slots = self.workspace.graph, self.workspace.slots
        rows = tuple(slots.slot(latest.request(Aggregate.LAST, field.cell)) for field in places)
        distance = graph.add(Node(Opcode.DISTANCE, rows=rows))
        if name == "distance_km":
            return Value(Type.NUMBER, distance)
        since = self.workspace.slot(latest.request(Aggregate.SINCE))
        hours = graph.binary(Opcode.DIV, since, graph.constant(HOUR_MS))
        return Value(Type.NUMBER, graph.binary(Opcode.DIV, distance, hours))

    def _of_condition(self, spec: AggregateCall, call: BoundCall, condition: ast.expr) -> Value:
        assert spec.result is not None
        clauses = self._binder.condition(condition, call.kind)
        if spec.kind is not None:
            return Value(spec.result, self.workspace.slot(call.request(spec.kind, run=clauses)))
        narrowed = self._binder.narrowed(call, clauses)
        met = self.workspace.slot(narrowed.request(Aggregate.COUNT))
        all_events = self.workspace.slot(call.request(Aggregate.COUNT))
        return Value(spec.result, self.workspace.graph.binary(Opcode.DIV, met, all_events))

    def _of_field(
        self, spec: AggregateCall, call: BoundCall, arguments: dict[str, ast.expr]
    ) -> Value:
        node = arguments["field"]
        field = self._field(node, spec, call.kind)
        if spec.kind is None:
            return self._zscore(node, call, field)
        request = call.request(spec.kind, field.cell, parameter=self._parameter(spec, arguments))
        if spec.kind is Aggregate.TOP:
            return Value(Type.TEXT, top=(request, field))
        if spec.kind is Aggregate.SEEN:
            self._own(node, field, call.kind)
        in_units = field if spec.result is None else None
        return Value(spec.result or field.type, self.workspace.slot(request, in_units))

    def _parameter(self, spec: AggregateCall, arguments: dict[str, ast.expr]) -> int:
        if "share" in spec.parameters:
            return self._binder.share(arguments["share"])
        if "half_life" in spec.parameters:
            return self._binder.duration(arguments["half_life"], "a half-life")
        return spec.parameter

    def _field(self, node: ast.expr, spec: AggregateCall, kind: Kind) -> Field:
        """Return the field, or kept value, that a call is about."""
        name = node.id if isinstance(node, ast.Name) else ""
        names = self.workspace.stored_names(kind)
        known = [known for known in names if self._fits(known, spec.subject, kind)]
        expected = _EXPECTED_SUBJECTS.get(spec.subject, "a field")
        if spec.subject != "field" or kind is not Kind.TRANSACTION:
            expected += f": {', '.join(known) or 'there is none'}"
        if name not in names:
            raise self.source.error(node, expected, None, nearest_name(name, known))
        if name not in known:
            got = f"`{name}`, which is {self.workspace.stored_type(kind, name)}"
            raise self.source.error(node, expected, got)
        return self.workspace.stored(kind, name)

    def _fits(self, name: str, subject: str, kind: Kind) -> bool:
        """Return whether a name stands for what a call can be about."""
        found = self.workspace.stored_type(kind, name)
        if subject == "number":
            return found not in _WITHOUT_NUMBERS
        return subject == "field" or found is Type.TEXT or name == FIELDS["mcc"].name

    def _own(self, node: ast.expr, field: Field, kind: Kind) -> Field:
        """Return the field of the current record that a stored one is compared with."""
        own = FIELDS.get(field.name)
        if own is None or own.cell != field.cell:
            only = "a named value" if field.kept else f"which only {a_stored(kind)} has"
            expected = "a field that the current transaction has too"
            raise self.source.error(node, expected, f"`{field.name}`, {only}")
        return own

    def _zscore(self, node: ast.expr, call: BoundCall, field: Field) -> Value:
        graph = self.workspace.graph
        if field.kept:
            value = self.workspace.named.values[field.name].node
        else:
            value = self.workspace.field(self._own(node, field, call.kind)).node
        mean = self.workspace.slot(call.request(Aggregate.MEAN, field.cell), field)
        std = self.workspace.slot(call.request(Aggregate.STD, field.cell), field)
        above = graph.binary(Opcode.SUB, value, mean)
        return Value(Type.NUMBER, graph.binary(Opcode.DIV, above, std))
