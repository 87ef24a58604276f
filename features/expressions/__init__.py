"""The expression language: texts in Python's syntax, compiled to a plan that kernels walk."""

from features.expressions.declarations import Declarations, EntityDeclaration, taken_by
from features.expressions.fields import FIELDS, KEY_FIELDS
from features.expressions.parser import ExpressionText
from features.expressions.planner import compile_plan, expression_type
from features.expressions.types import Type, duration_ms

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
    "taken_by",
]
