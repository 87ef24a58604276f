"""What a sub-expression is while it is compiled."""

from typing import NamedTuple

from features.expressions.fields import Field
from features.expressions.slots import Request
from features.expressions.types import Type


class Value(NamedTuple):
    """A typed sub-expression: a node of the graph or, for text, a field, a literal or a `top`.

    A literal stays text until its surroundings ask for a duration. A number or an amount that is
    just a field has both, node and field. `top` asks for the most frequent value of a field: the
    comparison that it stands in completes the request.
    """

    type: Type
    node: int = -1
    field: Field | None = None
    literal: str | None = None
    top: tuple[Request, Field] | None = None
