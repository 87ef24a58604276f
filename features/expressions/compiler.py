"""From one text to nodes of the graph: walks the syntax tree by a whitelist."""

import ast
from collections.abc import Callable, Mapping
from typing import Any

from features.errors import SourceError, nearest_name
from features.expressions.aggregates import AggregateCompiler
from features.expressions.catalogue import (
    AGGREGATES,
    CALENDAR_FUNCTIONS,
    FOLDING_FUNCTIONS,
    FUNCTIONS,
    IS_MISSING,
    LABEL,
    LISTS,
    MODEL,
    NAMESPACES,
    PLACE_FUNCTIONS,
    PROFILE,
    PROFILE_FIELDS,
    VERDICTS,
)
from features.expressions.fields import FIELDS, KINDS, STORED_FIELDS
from features.expressions.graph import Node
from features.expressions.operators import ARITHMETIC, OperatorCompiler
from features.expressions.parser import DEPTH_MAX, Source
from features.expressions.types import Type
from features.expressions.value import Value
from features.expressions.workspace import Workspace
from features.kernels.opcodes import Opcode


class ExpressionCompiler:
    """Compiles one text into the nodes of a shared workspace; `is_named` says it is a `let`."""

    def __init__(self, source: Source, workspace: Workspace, *, is_named: bool = False) -> None:
        self._source = source
        self._is_named = is_named
        self._workspace = workspace
        self._entities = tuple(entity.name for entity in workspace.declarations.entities)
        self._operators = OperatorCompiler(source, workspace)
        self._aggregates = AggregateCompiler(source, workspace)
        self._depth = 0
        self._builders: dict[type[ast.expr], Callable[[Any], Value]] = {
            ast.Constant: self._operators.constant,
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.Call: self._call,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._binary,
            ast.BoolOp: self._logic,
            ast.Compare: self._compare,
            ast.IfExp: self._conditional,
        }

    def compile(self) -> Value:
        """Return the value of the whole text. Raises SourceError; a text is not a result."""
        root = self._source.root
        value = self._build(root)
        if value.type is Type.TEXT:
            raise self._operators.mismatch(
                root, "a number, money, a duration or a condition", value
            )
        return value

    def _build(self, node: ast.expr) -> Value:
        builder = self._builders.get(type(node))
        if builder is None:
            raise self._source.error(
                node, "a field, a constant, an operator or a call of a known function"
            )
        if self._depth >= DEPTH_MAX:
            raise self._source.error(node, f"at most {DEPTH_MAX} levels of nesting", "more")
        self._depth += 1
        value = builder(node)
        self._depth -= 1
        return value

    def _name(self, node: ast.Name) -> Value:
        if node.id in FIELDS:
            return self._workspace.field(FIELDS[node.id])
        if node.id in self._workspace.named:
            return self._workspace.named.values[node.id]
        raise self._name_error(node)

    def _name_error(self, node: ast.Name) -> SourceError:
        name = node.id
        if name in self._entities:
            example = f'an aggregate such as {name}.count("10m")'
            return self._source.error(node, example, f"the entity `{name}` alone")
        if name in VERDICTS or name == LABEL:
            expected = "a value that is known when deciding"
            got = f"`{name}`, which belongs in where=, rate or share"
            return self._source.error(node, expected, got)
        if name in FUNCTIONS:
            return self._source.error(node, f"a call: {FUNCTIONS[name].signature}")
        if name in NAMESPACES:
            return self._source.error(node, f"`{name}.` and a name")
        if kinds := [kind for kind in KINDS if name in STORED_FIELDS[KINDS[kind]]]:
            expected = f"a field of a transaction; `{name}` belongs beside of={kinds[0]}"
            return self._source.error(node, expected)
        known = (*FIELDS, *self._workspace.named, *self._entities, *FUNCTIONS, *NAMESPACES)
        got = f"unknown name `{name}`"
        return self._source.error(node, "a field", got, nearest_name(name, known))

    def _attribute(self, node: ast.Attribute) -> Value:
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner == PROFILE:
            facts = {name: result for name, (result, _) in PROFILE_FIELDS.items()}
            return self._member(node, owner, "a profile field", facts)
        if owner == MODEL:
            models = dict.fromkeys(self._workspace.declarations.models, Type.NUMBER)
            return self._member(node, owner, "a declared model", models)
        if owner == LISTS:
            raise self._source.error(node, f"`field in {LISTS}.name`")
        if owner in self._entities:
            known = AGGREGATES.get(node.attr)
            expected = f"a call: {owner}.{known.signature}" if known else "an aggregate's call"
            nearest = None if known else nearest_name(node.attr, AGGREGATES)
            raise self._source.attribute_error(node, expected, f"`{node.attr}`", nearest)
        raise self._owner_error(node)

    def _member(
        self, node: ast.Attribute, owner: str, expected: str, known: Mapping[str, Type]
    ) -> Value:
        if self._is_named:
            expected = "a value of the record and its histories, as a named value may be kept"
            raise self._source.error(node, expected)
        if node.attr not in known:
            got = f"unknown name `{node.attr}`"
            nearest = nearest_name(node.attr, known)
            raise self._source.attribute_error(node, expected, got, nearest)
        return self._workspace.external(f"{owner}.{node.attr}", known[node.attr])

    def _owner_error(self, node: ast.Attribute) -> SourceError:
        """Return the error of `x.y` where x is neither an entity nor a namespace."""
        known = (*self._entities, *NAMESPACES)
        nearest = nearest_name(node.value.id, known) if isinstance(node.value, ast.Name) else None
        return self._source.error(node.value, f"one of {', '.join(known)} before the dot", None,
                                  nearest)  # fmt: skip

    def _call(self, node: ast.Call) -> Value:
        function = node.func
        if isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            if owner in self._entities:
                return self._aggregates.aggregate(node, owner, function)
            if owner in NAMESPACES:
                raise self._source.error(node, f"`{owner}.{function.attr}` without a call")
            raise self._owner_error(function)
        if not isinstance(function, ast.Name):
            raise self._source.error(function, "the name of a function")
        name = function.id
        if name not in FUNCTIONS:
            known = (*FUNCTIONS, *self._entities)
            got = f"unknown name `{name}`"
            raise self._source.error(function, "a function", got, nearest_name(name, known))
        self._check_arguments(node, name)
        if name in CALENDAR_FUNCTIONS:
            opcode = FUNCTIONS[name].opcode
            return Value(Type.NUMBER, self._workspace.graph.add(Node(opcode)))
        if name in PLACE_FUNCTIONS:
            return self._aggregates.place(node, name, self._entity_name(node.args[0]))
        return self._function(name, node.args)

    def _check_arguments(self, node: ast.Call, name: str) -> None:
        spec = FUNCTIONS[name]
        if node.keywords:
            raise self._source.error(node.keywords[0], f"{spec.signature} without keywords")
        for extra in node.args[spec.argument_count_max :]:
            raise self._source.error(extra, spec.signature)
        if len(node.args) < spec.argument_count_min:
            raise self._source.error(node, spec.signature)

    def _entity_name(self, node: ast.expr) -> str:
        name = node.id if isinstance(node, ast.Name) else ""
        if name not in self._entities:
            expected = f"an entity: {', '.join(self._entities)}"
            raise self._source.error(node, expected, None, nearest_name(name, self._entities))
        return name

    def _function(self, name: str, nodes: list[ast.expr]) -> Value:
        spec = FUNCTIONS[name]
        values = [self._build(node) for node in nodes]
        if name == IS_MISSING:
            return self._operators.is_missing(nodes[0], values[0])
        if name in FOLDING_FUNCTIONS:
            return self._operators.fold(spec.opcode, nodes, values)
        value = self._operators.number(nodes[0], values[0])
        result = value.type if spec.keeps_type else Type.NUMBER
        return Value(result, self._workspace.graph.unary(spec.opcode, value.node))

    def _unary(self, node: ast.UnaryOp) -> Value:
        value = self._build(node.operand)
        if isinstance(node.op, ast.Not):
            chosen = self._operators.condition(node.operand, value)
            return Value(Type.BOOL, self._workspace.graph.unary(Opcode.NOT, chosen))
        if isinstance(node.op, ast.Invert):
            raise self._source.error(node, "`not`", "`~`")
        value = self._operators.number(node.operand, value)
        if isinstance(node.op, ast.UAdd):
            return value
        return Value(value.type, self._workspace.graph.unary(Opcode.NEG, value.node))

    def _binary(self, node: ast.BinOp) -> Value:
        if type(node.op) not in ARITHMETIC:
            raise self._source.error(node, "one of the operators + - * / % **")
        left, right = self._build(node.left), self._build(node.right)
        return self._operators.arithmetic(node.op, (node.left, node.right), left, right)

    def _logic(self, node: ast.BoolOp) -> Value:
        opcode = Opcode.AND if isinstance(node.op, ast.And) else Opcode.OR
        joined = -1
        for operand in node.values:
            chosen = self._operators.condition(operand, self._build(operand))
            # Folded one by one: an operand's register is free again before the next is computed.
            joined = chosen if joined < 0 else self._workspace.graph.binary(opcode, joined, chosen)
        return Value(Type.BOOL, joined)

    def _compare(self, node: ast.Compare) -> Value:
        left_node, left = node.left, self._build(node.left)
        joined = -1
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            nodes = (left_node, right_node)
            if isinstance(operator, ast.In | ast.NotIn):
                if len(node.ops) > 1:
                    raise self._source.error(node, "`in` alone, not in a chain of comparisons")
                return Value(Type.BOOL, self._operators.membership(operator, nodes, left))
            if isinstance(operator, ast.Is | ast.IsNot):
                raise self._source.error(node, "== or !=")
            right = self._build(right_node)
            holds = self._operators.comparison(operator, nodes, left, right)
            graph = self._workspace.graph
            joined = holds if joined < 0 else graph.binary(Opcode.AND, joined, holds)
            left_node, left = right_node, right
        return Value(Type.BOOL, joined)

    def _conditional(self, node: ast.IfExp) -> Value:
        chosen = self._operators.condition(node.test, self._build(node.test))
        nodes = (node.body, node.orelse)
        yes, no = self._operators.same_type(nodes, [self._build(branch) for branch in nodes])
        select = Node(Opcode.SELECT, (chosen, yes.node, no.node))
        return Value(yes.type, self._workspace.graph.add(select))
