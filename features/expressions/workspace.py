"""What the expressions of one plan share while they are compiled: graph, slots and externals."""

from dataclasses import dataclass
from typing import NamedTuple

from features.expressions.graph import Graph, Node
from features.expressions.slots import Request, SlotTable
from features.expressions.types import Declarations, Field, Type, check_declarations, scale
from features.kernels.opcodes import Opcode
from features.plan import Aggregate

_VALUE_AGGREGATES = (
    Aggregate.SUM,
    Aggregate.MEAN,
    Aggregate.STD,
    Aggregate.MIN,
    Aggregate.MAX,
    Aggregate.FIRST,
    Aggregate.LAST,
)


class Value(NamedTuple):
    """A typed sub-expression: a node of the graph or, for text, a field or a literal.

    A literal stays text until its surroundings ask for a duration.
    """

    type: Type
    node: int = -1
    field: Field | None = None
    literal: str | None = None


@dataclass(frozen=True, slots=True)
class Workspace:
    """Builds the nodes that read inputs, scaled from raw units to those of expressions."""

    declarations: Declarations
    graph: Graph
    slots: SlotTable
    externals: list[str]

    @classmethod
    def of(cls, declarations: Declarations) -> "Workspace":
        """Return an empty workspace. Raises MillraceError for wrong declarations."""
        check_declarations(declarations)
        return cls(declarations, Graph(), SlotTable(declarations), [])

    def field(self, field: Field) -> Value:
        """Return the value of a field of the current record."""
        if field.type is Type.TEXT:
            return Value(Type.TEXT, field=field)
        divisor = float(scale(field.cell, self.declarations.currency_exponent))
        node = Node(Opcode.CELL, rows=(int(field.cell),), floats=(divisor,))
        return Value(field.type, self.graph.add(node))

    def slot(self, request: Request) -> int:
        """Return the node of a slot's value; aggregates of a field come in the field's unit."""
        divisor = 1
        if request.aggregate in _VALUE_AGGREGATES:
            divisor = scale(request.value, self.declarations.currency_exponent)
        row = self.slots.slot(request)
        return self.graph.add(Node(Opcode.SLOT, rows=(row,), floats=(float(divisor),)))

    def external(self, name: str, result: Type) -> Value:
        """Return the value of a column of the externals; money in it is in minor units."""
        if name not in self.externals:
            self.externals.append(name)
        money = result is Type.MONEY
        divisor = float(10**self.declarations.currency_exponent) if money else 1.0
        node = Node(Opcode.EXTERNAL, rows=(self.externals.index(name),), floats=(divisor,))
        return Value(result, self.graph.add(node, reads_model=name.startswith("model.")))
