"""`where=`, and the condition of `rate` and `share`: terms that a stored event must all meet."""

import ast
import json
import math
import re
import sys
from dataclasses import dataclass
from decimal import Decimal

from features.columns import Cell
from features.errors import nearest_name
from features.expressions.catalogue import VERDICTS
from features.expressions.parser import Source
from features.expressions.slots import Term, present, sorted_terms
from features.expressions.types import CUSTOMER, FIELDS, Declarations, Field, Type, scale
from features.plan import Comparison

LABEL = "label"
_EXPECTED = "`field op constant`, several joined by `and`"
_COMPARISONS: dict[type[ast.cmpop], Comparison] = {
    ast.Eq: Comparison.EQ,
    ast.NotEq: Comparison.NE,
    ast.Lt: Comparison.LT,
    ast.LtE: Comparison.LE,
    ast.Gt: Comparison.GT,
    ast.GtE: Comparison.GE,
}
_SYMBOLS = {
    Comparison.EQ: "==",
    Comparison.NE: "!=",
    Comparison.LT: "<",
    Comparison.LE: "<=",
    Comparison.GT: ">",
    Comparison.GE: ">=",
}
_FLIPPED = {
    Comparison.LT: Comparison.GT,
    Comparison.LE: Comparison.GE,
    Comparison.GT: Comparison.LT,
    Comparison.GE: Comparison.LE,
}
_INT64_MAX = 2**63 - 1


def check_text_constant(source: Source, node: ast.expr, field: Field, text: str) -> None:
    """Raise SourceError where a string can never be the value of the field."""
    if field.vocabulary and text not in field.vocabulary:
        raise source.error(
            node,
            f"a {field.name}: one of {', '.join(field.vocabulary)}",
            json.dumps(text, ensure_ascii=False),
            nearest_name(text, field.vocabulary),
        )
    if field.pattern and not re.fullmatch(field.pattern, text):
        raise source.error(
            node,
            f"a {field.name} of the form {field.pattern}",
            json.dumps(text, ensure_ascii=False),
            text.upper() if re.fullmatch(field.pattern, text.upper()) else None,
        )


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


@dataclass(frozen=True, slots=True)
class ConditionCompiler:
    """Compiles conditions on stored events. Raises SourceError on anything but such a condition."""

    source: Source
    declarations: Declarations

    def terms(self, node: ast.expr) -> tuple[Term, ...]:
        """Return the terms of a condition in canonical order."""
        return sorted_terms(self._terms(node))

    def _terms(self, node: ast.expr) -> list[Term]:
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            return [term for value in node.values for term in self._terms(value)]
        if isinstance(node, ast.Name) and node.id in VERDICTS:
            return [self._verdict(Comparison.EQ, node)]
        if not isinstance(node, ast.Compare):
            known = (*FIELDS, LABEL, *VERDICTS)
            unknown = isinstance(node, ast.Name) and node.id not in known
            raise self.source.error(
                node,
                _EXPECTED,
                None,
                nearest_name(node.id, known) if unknown and isinstance(node, ast.Name) else None,
            )
        sides = [node.left, *node.comparators]
        return [
            term
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False)
            for term in self._comparison(left, operator, right)
        ]

    def _comparison(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> list[Term]:
        if isinstance(operator, ast.NotIn) and isinstance(right, ast.List | ast.Tuple):
            pairs = [self._pair(left, Comparison.NE, item) for item in right.elts]
            return [term for pair in pairs for term in pair]
        comparison = _COMPARISONS.get(type(operator))
        if comparison is None:
            raise self.source.error(right, "a comparison by == != < <= > >= or `not in [..]`")
        if self._is_field(right) and not self._is_field(left):
            return self._pair(right, _FLIPPED.get(comparison, comparison), left)
        return self._pair(left, comparison, right)

    @staticmethod
    def _is_field(node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and (node.id in FIELDS or node.id == LABEL)

    def _pair(self, left: ast.expr, comparison: Comparison, constant: ast.expr) -> list[Term]:
        if not isinstance(left, ast.Name):
            raise self.source.error(left, "a field of the stored event")
        if left.id == LABEL:
            return [self._verdict(comparison, constant)]
        field = FIELDS.get(left.id)
        if field is None:
            nearest = nearest_name(left.id, (*FIELDS, LABEL))
            raise self.source.error(left, "a field of the stored event", None, nearest)
        if field.type is Type.TEXT:
            term = self._text(field, comparison, constant)
        else:
            term = self._number(field, comparison, constant)
        missing_passes = comparison in (Comparison.NE, Comparison.LT, Comparison.LE)
        return [term] if field.required or not missing_passes else [term, present(term.cell)]

    def _verdict(self, comparison: Comparison, node: ast.expr) -> Term:
        name = node.id if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        if name not in VERDICTS:
            raise self.source.error(
                node, "`fraud` or `legitimate`", None, nearest_name(name or "", VERDICTS)
            )
        if comparison not in (Comparison.EQ, Comparison.NE):
            raise self.source.error(node, "== or != for a label", _SYMBOLS[comparison])
        if CUSTOMER not in (entity.name for entity in self.declarations.entities):
            raise self.source.error(
                node, f"an entity named `{CUSTOMER}`, through which labels are joined", "none"
            )
        code = VERDICTS[name]
        text = f"{LABEL} {_SYMBOLS[comparison]} {code.name.lower()}"
        return Term(int(Cell.LABEL), comparison, int(code), text)

    def _text(self, field: Field, comparison: Comparison, node: ast.expr) -> Term:
        if comparison not in (Comparison.EQ, Comparison.NE):
            expected = f"== or != for `{field.name}`, which is text"
            raise self.source.error(node, expected, _SYMBOLS[comparison])
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            raise self.source.error(node, f"a string to compare with `{field.name}`")
        check_text_constant(self.source, node, field, node.value)
        spelt = json.dumps(node.value, ensure_ascii=False)
        text = f"{field.name} {_SYMBOLS[comparison]} {spelt}"
        return Term(int(field.cell), comparison, self.declarations.cell_of(field, node.value), text)

    def _number(self, field: Field, comparison: Comparison, node: ast.expr) -> Term:
        value = number_of(node)
        if value is None or not math.isfinite(value):
            raise self.source.error(node, f"a number to compare with `{field.name}`")
        units = scale(field.cell, self.declarations.currency_exponent)
        raw = Decimal(str(value)) * units
        if comparison in (Comparison.EQ, Comparison.NE) and raw != raw.to_integral_value():
            raise self.source.error(node, f"a multiple of 1/{units} for `{field.name}`")
        # Between two whole units no cell lies: rounding towards the allowed side is exact.
        upwards = comparison in (Comparison.GE, Comparison.LT)
        constant = math.ceil(raw) if upwards else math.floor(raw)
        if abs(constant) > _INT64_MAX:
            raise self.source.error(node, f"a number that `{field.name}` can have")
        spelt = format(Decimal(constant) / units, "f")
        text = f"{field.name} {_SYMBOLS[comparison]} {spelt}"
        return Term(int(field.cell), comparison, constant, text)
