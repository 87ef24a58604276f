"""Operators and functions of values: their types and the nodes that compute them."""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass

from features.columns import Cell
from features.errors import SourceError
from features.expressions.clauses import Clauses, present
from features.expressions.conditions import both
from features.expressions.constants import Constants, number_of
from features.expressions.fields import Field
from features.expressions.graph import Graph, Node
from features.expressions.parser import Source
from features.expressions.slots import Request
from features.expressions.types import NUMERIC, Type, duration_ms
from features.expressions.value import Value
from features.expressions.workspace import Workspace
from features.kernels.opcodes import Opcode
from features.plan import Aggregate

ARITHMETIC: dict[type[ast.operator], tuple[str, Opcode]] = {
    ast.Add: ("+", Opcode.ADD),
    ast.Sub: ("-", Opcode.SUB),
    ast.Mult: ("*", Opcode.MUL),
    ast.Div: ("/", Opcode.DIV),
    ast.Mod: ("%", Opcode.MOD),
    ast.Pow: ("**", Opcode.POW),
}
_ORDER: dict[type[ast.cmpop], tuple[Opcode, bool]] = {  # opcode, whether to swap the sides
    ast.Lt: (Opcode.LT, False),
    ast.LtE: (Opcode.LE, False),
    ast.Gt: (Opcode.LT, True),
    ast.GtE: (Opcode.LE, True),
}
_EQUALITY: dict[type[ast.cmpop], Opcode] = {ast.Eq: Opcode.EQ, ast.NotEq: Opcode.NE}
_IDS = range(Cell.EVENT_ID, Cell.TYPE)
_DURATION_EXAMPLE = 'a duration such as "10m"'


@dataclass(frozen=True, slots=True)
class OperatorCompiler:
    """Types and builds operations; each operand comes with its node of the syntax tree."""

    source: Source
    workspace: Workspace

    @property
    def _graph(self) -> Graph:
        return self.workspace.graph

    def mismatch(self, node: ast.expr, expected: str, value: Value) -> SourceError:
        """Return the error of an operand that has the wrong type."""
        return self.source.error(node, expected, f"{self.source.snippet(node)}, {value.type}")

    def condition(self, node: ast.expr, value: Value) -> int:
        """Return the node of a condition."""
        if value.type is not Type.BOOL:
            raise self.mismatch(node, f"{Type.BOOL}", value)
        return value.node

    def number(self, node: ast.expr, value: Value) -> Value:
        """Return a number or an amount of money."""
        if value.type not in NUMERIC:
            raise self.mismatch(node, "a number or money", value)
        return value

    def duration(self, node: ast.expr, value: Value) -> Value:
        """Return a duration, from a literal if need be."""
        if value.type is Type.DURATION:
            return value
        ms = duration_ms(value.literal) if value.literal is not None else None
        if ms is None:
            raise self.mismatch(node, _DURATION_EXAMPLE, value)
        return Value(Type.DURATION, self._graph.constant(float(ms)))

    def fold(self, opcode: Opcode, nodes: Sequence[ast.expr], values: Sequence[Value]) -> Value:
        """Return the minimum, maximum or first present of several values of one type."""
        values = self.same_type(nodes, values)
        if opcode is not Opcode.COALESCE and values[0].type is Type.BOOL:
            raise self.mismatch(nodes[0], "a number, money or a duration", values[0])
        folded = values[0].node
        for value in values[1:]:
            if opcode is Opcode.COALESCE:
                folded = self._graph.add(Node(opcode, (folded, value.node)))
            else:
                folded = self._graph.binary(opcode, folded, value.node)
        return Value(values[0].type, folded)

    def same_type(self, nodes: Sequence[ast.expr], values: Sequence[Value]) -> list[Value]:
        """Return values that may stand for one another; money among numbers makes all money."""
        types = {value.type for value in values}
        if Type.DURATION in types:
            return [self.duration(node, value) for node, value in zip(nodes, values, strict=True)]
        for node, value in zip(nodes, values, strict=True):
            if value.type is Type.TEXT:
                raise self.mismatch(node, "a number, money, a duration or a condition", value)
            if (value.type is Type.BOOL) != (values[0].type is Type.BOOL):
                raise self.mismatch(node, f"{values[0].type}", value)
        result = Type.MONEY if Type.MONEY in types else values[0].type
        return [Value(result, value.node) for value in values]

    def arithmetic(
        self, operator: ast.operator, nodes: tuple[ast.expr, ast.expr], left: Value, right: Value
    ) -> Value:
        """Return `left operator right`. Durations add, scale, and divide to a number."""
        symbol, opcode = ARITHMETIC[type(operator)]
        if Type.DURATION in (left.type, right.type):
            return self._of_durations(symbol, opcode, nodes, left, right)
        x, y = self.number(nodes[0], left), self.number(nodes[1], right)
        money_count = (x.type is Type.MONEY) + (y.type is Type.MONEY)
        is_money = {
            "*": money_count == 1,
            "/": x.type is Type.MONEY and y.type is not Type.MONEY,
            "**": False,
        }.get(symbol, money_count > 0)
        node = self._graph.binary(opcode, x.node, y.node)
        return Value(Type.MONEY if is_money else Type.NUMBER, node)

    def _of_durations(
        self, symbol: str, opcode: Opcode, nodes: tuple[ast.expr, ast.expr], left: Value,
        right: Value,
    ) -> Value:  # fmt: skip
        if symbol not in "+-*/":
            at = 0 if left.type is Type.DURATION else 1
            raise self.mismatch(nodes[at], f"a number or money beside {symbol}", (left, right)[at])
        result = Type.DURATION
        if symbol in "+-":
            x, y = self.duration(nodes[0], left), self.duration(nodes[1], right)
        elif symbol == "/" and right.type not in NUMERIC:
            x, y = self.duration(nodes[0], left), self.duration(nodes[1], right)
            result = Type.NUMBER
        elif left.type is Type.DURATION:
            x, y = left, self.number(nodes[1], right)
        elif symbol == "*":
            x, y = self.number(nodes[0], left), right
        else:
            raise self.mismatch(nodes[0], _DURATION_EXAMPLE, left)
        return Value(result, self._graph.binary(opcode, x.node, y.node))

    def comparison(
        self, operator: ast.cmpop, nodes: tuple[ast.expr, ast.expr], left: Value, right: Value
    ) -> int:
        """Return the node of `left operator right`."""
        if Type.DURATION in (left.type, right.type):
            left, right = self.duration(nodes[0], left), self.duration(nodes[1], right)
        if Type.TEXT in (left.type, right.type):
            return self._text_comparison(operator, nodes, left, right)
        if left.type is Type.BOOL or right.type is Type.BOOL:
            if left.type is not right.type:
                raise self.mismatch(nodes[1], f"{left.type}", right)
            if type(operator) not in _EQUALITY:
                raise self.mismatch(nodes[0], "a number, money or a duration", left)
        if type(operator) in _EQUALITY:
            return self._graph.binary(_EQUALITY[type(operator)], left.node, right.node)
        opcode, swapped = _ORDER[type(operator)]
        x, y = (right, left) if swapped else (left, right)
        return self._graph.binary(opcode, x.node, y.node)

    def _text_comparison(
        self, operator: ast.cmpop, nodes: tuple[ast.expr, ast.expr], left: Value, right: Value
    ) -> int:
        if left.top is not None or right.top is not None:
            return self._top_comparison(operator, nodes, left, right)
        for node, value, other in ((nodes[1], right, left), (nodes[0], left, right)):
            if value.type is not Type.TEXT:
                raise self.mismatch(node, f"{other.type}", value)
        if type(operator) not in _EQUALITY:
            raise self.mismatch(nodes[0], "a number, money or a duration beside < <= > >=", left)
        equal = isinstance(operator, ast.Eq)
        if left.field is not None and right.field is not None:
            opcode = Opcode.HASH_EQ_CELL if equal else Opcode.HASH_NE_CELL
            cells = sorted((left.field.cell, right.field.cell))
            return self._graph.add(Node(opcode, rows=tuple(cells)))
        field, at = (left.field, 1) if left.field is not None else (right.field, 0)
        literal = (left, right)[at].literal
        if field is None or literal is None:
            raise self.mismatch(nodes[0], "a field on one side", left)
        opcode = Opcode.HASH_EQ if equal else Opcode.HASH_NE
        constant = self._hash(nodes[at], field, literal)
        return self._graph.add(Node(opcode, rows=(field.cell,), ints=(constant,)))

    def _top_comparison(
        self, operator: ast.cmpop, nodes: tuple[ast.expr, ast.expr], left: Value, right: Value
    ) -> int:
        """Return the node of `entity.top(field, …) == field`; != asks that both are known."""
        at, top, other = (1, left.top, right) if left.top is not None else (0, right.top, left)
        assert top is not None
        request, counted = top
        if type(operator) not in _EQUALITY:
            raise self.source.error(nodes[1 - at], "== or != beside `top`")
        if other.field is None or not _comparable(counted, other.field):
            expected = f"a field of this record to compare with a {counted.name}"
            raise self.source.error(nodes[at], expected)
        slot = self.workspace.slot(request._replace(match=other.field.cell))
        wanted = self._graph.constant(1.0 if isinstance(operator, ast.Eq) else 0.0)
        return self._graph.binary(Opcode.EQ, slot, wanted)

    def _hash(self, node: ast.expr, field: Field, literal: str) -> int:
        return Constants(self.source, self.workspace.declarations).cell_of(node, field, literal)

    def membership(
        self, operator: ast.cmpop, nodes: tuple[ast.expr, ast.expr], value: Value
    ) -> int:
        """Return the node of `value in [constants]` or `value not in [constants]`."""
        wanted = isinstance(operator, ast.In)
        of_text = value.type is Type.TEXT
        constants = Constants(self.source, self.workspace.declarations)
        items = constants.items(nodes[1], texts=of_text)
        if not of_text:
            return self._number_membership(wanted, nodes[0], [item for item, _ in items], value)
        if value.field is None:
            raise self.mismatch(nodes[0], "a field", value)
        hashes: set[int] = set()
        for item, text in items:
            if text is None and isinstance(item, ast.Constant) and isinstance(item.value, str):
                text = item.value
            if text is None:
                raise self.source.error(item, f"a string, as `{value.field.name}` is text")
            hashes.add(constants.cell_of(item, value.field, text))
        opcode = Opcode.HASH_IN if wanted else Opcode.HASH_NOT_IN
        run = (len(hashes), *sorted(hashes))
        return self._graph.add(Node(opcode, rows=(value.field.cell,), ints=run))

    def _number_membership(
        self, wanted: bool, node: ast.expr, items: list[ast.expr], value: Value
    ) -> int:
        self.number(node, value)
        numbers: set[float] = set()
        for item in items:
            number = number_of(item)
            if number is None or abs(number) == float("inf"):
                raise self.source.error(item, f"a constant that is {value.type}")
            numbers.add(float(number))
        opcode = Opcode.IN_K if wanted else Opcode.NOT_IN_K
        run = (float(len(numbers)), *sorted(numbers))
        return self._graph.add(Node(opcode, (value.node,), floats=run))

    def constant(self, node: ast.Constant) -> Value:
        """Return a number, a condition or a literal text."""
        if isinstance(node.value, bool):
            return Value(Type.BOOL, self._graph.constant(float(node.value)))
        if isinstance(node.value, str):
            return Value(Type.TEXT, literal=node.value)
        number = number_of(node)
        if number is None:
            raise self.source.error(node, "a number, a string, True or False")
        if abs(number) == float("inf"):
            raise self.source.error(node, "a number below 1.8e308")
        return Value(Type.NUMBER, self._graph.constant(float(number)))

    def is_missing(self, node: ast.expr, value: Value) -> Value:
        """Return whether a value is absent or undefined."""
        if value.top is not None:
            return Value(Type.BOOL, self._no_top(node, *value.top))
        if value.type is not Type.TEXT:
            return Value(Type.BOOL, self._graph.unary(Opcode.IS_NAN, value.node))
        if value.field is None:
            raise self.source.error(node, "a field or a computed value", json.dumps(value.literal))
        cell = value.field.cell
        return Value(Type.BOOL, self._graph.add(Node(Opcode.CELL_MISSING, rows=(cell,))))

    def _no_top(self, node: ast.expr, request: Request, field: Field) -> int:
        """Return whether no event of a window has a value of the field."""
        known: Clauses = ((present(field.cell, field.name),),)
        clauses = both(self.source, node, request.clauses, known)
        counted = request._replace(aggregate=Aggregate.COUNT, value=-1, clauses=clauses)
        nothing = self._graph.constant(0.0)
        found = self._graph.binary(Opcode.LT, nothing, self.workspace.slot(counted))
        return self._graph.unary(Opcode.NOT, found)


def _comparable(counted: Field, own: Field) -> bool:
    """Return whether two fields hold the same sort of thing: the same field, or two ids."""
    return counted.cell == own.cell or (counted.cell in _IDS and own.cell in _IDS)
