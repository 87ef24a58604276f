"""What the expressions of one plan share while they are compiled: graph, slots and externals."""

from dataclasses import dataclass

from features.columns import Kind
from features.expressions.declarations import Declarations, check_declarations
from features.expressions.fields import STORED_FIELDS, Field, scale
from features.expressions.graph import Graph, Node
from features.expressions.named_values import NamedValues
from features.expressions.slots import Request, SlotTable
from features.expressions.types import Type
from features.expressions.value import Value
from features.kernels.opcodes import Opcode
from features.plan import Aggregate


@dataclass(frozen=True, slots=True)
class Workspace:
    """Builds the nodes that read inputs, scaled from raw units to those of expressions."""

    declarations: Declarations
    graph: Graph
    slots: SlotTable
    named: NamedValues
    externals: list[str]

    @classmethod
    def of(cls, declarations: Declarations) -> "Workspace":
        """Return an empty workspace. Raises MillraceError for wrong declarations."""
        check_declarations(declarations)
        named = NamedValues(declarations.lets)
        return cls(declarations, Graph(), SlotTable(declarations), named, [])

    def field(self, field: Field) -> Value:
        """Return the value of a field of the current record."""
        if field.type is Type.TEXT:
            return Value(Type.TEXT, field=field)
        divisor = float(scale(field, self.declarations.currency_exponent))
        node = Node(Opcode.CELL, rows=(field.cell,), floats=(divisor,))
        return Value(field.type, self.graph.add(node), field=field)

    def stored_names(self, kind: Kind) -> tuple[str, ...]:
        """Return the names that stand for a value of a stored event of this kind."""
        return (*STORED_FIELDS[kind], *(self.named if kind is Kind.TRANSACTION else ()))

    def stored_type(self, kind: Kind, name: str) -> Type | None:
        """Return the type of a stored name; None for a named value that nothing needed so far."""
        if kind is Kind.TRANSACTION and name in self.named:
            value = self.named.values.get(name)
            return None if value is None else value.type
        return STORED_FIELDS[kind][name].type

    def stored(self, kind: Kind, name: str) -> Field:
        """Return what one of the `stored_names` stands for; a named value is kept from now on."""
        if kind is not Kind.TRANSACTION or name not in self.named:
            return STORED_FIELDS[kind][name]
        rows = self.graph.slots_behind(self.named.values[name].node)
        kept = self.named.keep(name, max(map(self.slots.stage, rows), default=0))
        self.slots.keep(kept, self.named.stages[name])
        return self.named.field(name)

    def slot(self, request: Request, field: Field | None = None) -> int:
        """Return the node of a slot's value, in the unit of `field` where one is given."""
        divisor = 1 if field is None else scale(field, self.declarations.currency_exponent)
        if request.aggregate in (Aggregate.MEAN, Aggregate.STD):
            request, divisor = request._replace(scale=divisor), 1
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

    def kept_by_stage(self) -> list[list[tuple[str, int]]]:
        """Return, for each stage, the kept values (name, node) that its slots make known."""
        stages = self.named.stages
        return [
            [(name, self.named.values[name].node) for name in stages if stages[name] == stage]
            for stage in range(max(stages.values(), default=-1) + 1)
        ]
