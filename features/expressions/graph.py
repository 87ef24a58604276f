"""Computations as a graph in which equal sub-expressions are one node.

Nodes are numbered in the order of their making, so that a node's inputs always have smaller
numbers. Equality is that of the canonical form: operands of commutative operations are sorted,
and `a > b` is `b < a`.
"""

from typing import NamedTuple

from features.kernels.opcodes import Opcode

_COMMUTATIVE = (Opcode.ADD, Opcode.MUL, Opcode.EQ, Opcode.NE, Opcode.AND, Opcode.OR)
_READS_SLOTS = (Opcode.SLOT, Opcode.DISTANCE)
_WITH_CONSTANT = {
    Opcode.ADD: Opcode.ADD_K,
    Opcode.MUL: Opcode.MUL_K,
    Opcode.DIV: Opcode.DIV_K,
    Opcode.LT: Opcode.LT_K,
    Opcode.LE: Opcode.LE_K,
    Opcode.EQ: Opcode.EQ_K,
    Opcode.NE: Opcode.NE_K,
}
_WITH_CONSTANT_LEFT = {  # 5 < x is x > 5
    Opcode.ADD: Opcode.ADD_K,
    Opcode.MUL: Opcode.MUL_K,
    Opcode.LT: Opcode.GT_K,
    Opcode.LE: Opcode.GE_K,
    Opcode.EQ: Opcode.EQ_K,
    Opcode.NE: Opcode.NE_K,
}


class Node(NamedTuple):
    """One computation: nodes it reads, then row numbers, then constants; see `Opcode`."""

    opcode: Opcode
    inputs: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    floats: tuple[float, ...] = ()
    ints: tuple[int, ...] = ()


class Graph:
    """Interned nodes. `reads_model[i]` says whether node i depends on a model's score."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.reads_model: list[bool] = []
        self._numbers: dict[Node, int] = {}

    def add(self, node: Node, *, reads_model: bool = False) -> int:
        """Return the number of a node, equal for equal nodes."""
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self.nodes)
            self.nodes.append(node)
            inherited = any(self.reads_model[i] for i in node.inputs)
            self.reads_model.append(reads_model or inherited)
        return number

    def constant(self, value: float) -> int:
        """Return the node of a number."""
        return self.add(Node(Opcode.CONST, floats=(value,)))

    def unary(self, opcode: Opcode, x: int) -> int:
        """Return the node of an operation on one node."""
        if opcode is Opcode.NEG and (value := self._constant(x)) is not None:
            return self.constant(-value)
        return self.add(Node(opcode, (x,)))

    def binary(self, opcode: Opcode, x: int, y: int) -> int:
        """Return the node of an operation on two nodes, a constant one being built in."""
        left, right = self._constant(x), self._constant(y)
        if right is not None and left is None:
            if opcode is Opcode.SUB:  # x - c and x + (-c) are the same in IEEE 754
                return self.add(Node(Opcode.ADD_K, (x,), floats=(-right,)))
            if opcode in _WITH_CONSTANT:
                return self.add(Node(_WITH_CONSTANT[opcode], (x,), floats=(right,)))
        if left is not None and right is None and opcode in _WITH_CONSTANT_LEFT:
            return self.add(Node(_WITH_CONSTANT_LEFT[opcode], (y,), floats=(left,)))
        if opcode in _COMMUTATIVE:
            x, y = min(x, y), max(x, y)
        return self.add(Node(opcode, (x, y)))

    def slots_behind(self, number: int) -> set[int]:
        """Return the rows of the slots that a node depends on."""
        found: set[int] = set()
        rows: set[int] = set()
        pending = [number]
        while pending:
            node = self.nodes[pending.pop()]
            if node.opcode in _READS_SLOTS:
                rows.update(node.rows)
            pending.extend(x for x in node.inputs if x not in found)
            found.update(node.inputs)
        return rows

    def _constant(self, number: int) -> float | None:
        node = self.nodes[number]
        return node.floats[0] if node.opcode is Opcode.CONST else None
