"""The expression language: texts in Python's syntax, compiled to a plan that kernels walk."""

from features.expressions.compiler import compile_plan, expression_type
from features.expressions.parser import ExpressionText
from features.expressions.types import (
    FIELDS,
    KEY_FIELDS,
    Declarations,
    EntityDeclaration,
    Type,
    duration_ms,
)

__all__ = [
    "FIELDS",
    "KEY_FIELDS",
    "Declarations",
    "EntityDeclaration",
    "ExpressionText",
    "Type",
    "compile_plan",
    "duration_ms",
    "expression_type",
]
