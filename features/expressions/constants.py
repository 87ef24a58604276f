"""Constants in expressions: numbers, texts that a field can have, and lists of them."""

import ast
import json
import math
import re
import sys
from dataclasses import dataclass

from features.errors import nearest_name
from features.expressions.catalogue import LISTS
from features.expressions.declarations import Declarations
from features.expressions.fields import Field
from features.expressions.parser import Source
from features.expressions.types import Type, duration_ms


def number_of(node: ast.expr) -> int | float | None:
    """Return the number that a node spells, signed or not; infinite if too big; else None."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -1 if isinstance(node.op, ast.USub) else 1
        node = node.operand
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return sign * value if abs(value) <= sys.float_info.max else math.inf


def duration_of(node: ast.expr) -> int | None:
    """Return the milliseconds of a duration literal, None where a node is none."""
    text = node.value if isinstance(node, ast.Constant) else None
    return duration_ms(text) if isinstance(text, str) else None


@dataclass(frozen=True, slots=True)
class Constants:
    """Reads constants that are compared with fields. Raises SourceError where one cannot be."""

    source: Source
    declarations: Declarations

    def cell_of(self, node: ast.expr, field: Field, text: str) -> int:
        """Return the int64 of a text, which must be one that the field can have."""
        shown = json.dumps(text, ensure_ascii=False)
        if field.vocabulary and text not in field.vocabulary:
            expected = f"a {field.name}: one of {', '.join(field.vocabulary)}"
            raise self.source.error(node, expected, shown, nearest_name(text, field.vocabulary))
        if field.pattern and not re.fullmatch(field.pattern, text):
            expected = f"a {field.name} of the form {field.pattern}"
            upper = text.upper()
            nearest = upper if re.fullmatch(field.pattern, upper) else None
            raise self.source.error(node, expected, shown, nearest)
        return self.declarations.cell_of(field, text)

    def items(self, node: ast.expr, *, texts: bool) -> list[tuple[ast.expr, str | None]]:
        """Return what follows `in`: the nodes of `[..]`, or for `lists.x` the node and each text.

        `texts` says whether what stands before `in` is text: lists hold nothing else.
        """
        if isinstance(node, ast.List | ast.Tuple) and node.elts:
            return [(item, None) for item in node.elts]
        owner = node.value if isinstance(node, ast.Attribute) else None
        if not isinstance(owner, ast.Name) or owner.id != LISTS:
            raise self.source.error(node, "a list of constants, or one of `lists.`")
        assert isinstance(node, ast.Attribute)
        known = self.declarations.lists
        if node.attr not in known:
            nearest = nearest_name(node.attr, known)
            got = f"unknown name `{node.attr}`"
            raise self.source.attribute_error(node, "a declared list", got, nearest)
        if not texts:
            expected = f"{Type.TEXT} before `in {LISTS}.{node.attr}`"
            raise self.source.error(node, expected, "something else")
        return [(node, text) for text in known[node.attr]]
