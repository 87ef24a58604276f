"""Conditions on stored events: `where=`, and what `rate`, `share` and the streaks count.

They are the logic of expressions: a comparison with an absent field is false, and `not` of it true.
"""

import ast
import json
import math
from dataclasses import dataclass
from decimal import Decimal

from features.columns import Cell, Kind
from features.errors import SourceError, nearest_name
from features.expressions.catalogue import IS_MISSING, LABEL, VERDICTS
from features.expressions.clauses import (
    SYMBOLS,
    TERM_COUNT_MAX,
    Clauses,
    Term,
    TooManyTermsError,
    conjunction,
    disjunction,
    missing,
    negation,
    present,
)
from features.expressions.constants import Constants, duration_of, number_of
from features.expressions.declarations import CUSTOMER
from features.expressions.fields import LABELLED_KINDS, Field, a_stored, scale
from features.expressions.parser import DEPTH_MAX, Source
from features.expressions.types import Type, duration_text
from features.expressions.workspace import Workspace
from features.plan import Comparison

_COMPARISONS: dict[type[ast.cmpop], Comparison] = {
    ast.Eq: Comparison.EQ,
    ast.NotEq: Comparison.NE,
    ast.Lt: Comparison.LT,
    ast.LtE: Comparison.LE,
    ast.Gt: Comparison.GT,
    ast.GtE: Comparison.GE,
}
_FLIPPED = {
    Comparison.LT: Comparison.GT,
    Comparison.LE: Comparison.GE,
    Comparison.GT: Comparison.LT,
    Comparison.GE: Comparison.LE,
}
_EQUALITY = (Comparison.EQ, Comparison.NE)
_EXPECTED = "`field op constant`, `field in [..]`, `is_missing(field)` or a verdict"
_SMALL_ENOUGH = f"a condition of at most {TERM_COUNT_MAX} terms, as a conjunction of `or`s"
_INT64_MAX = 2**63 - 1


def both(source: Source, node: ast.expr, one: Clauses, other: Clauses) -> Clauses:
    """Return the conjunction of two conditions. Raises SourceError at `node` beyond the limit."""
    try:
        return conjunction(one, other)
    except TooManyTermsError:
        raise source.error(node, _SMALL_ENOUGH) from None


@dataclass(slots=True)
class ConditionCompiler:
    """Compiles conditions on the stored events of one kind; SourceError on anything else."""

    source: Source
    workspace: Workspace
    kind: Kind
    _depth: int = 0

    def clauses(self, node: ast.expr) -> Clauses:
        """Return a condition in conjunctive normal form, in canonical order."""
        try:
            return self._build(node, negated=False)
        except TooManyTermsError:
            raise self.source.error(node, _SMALL_ENOUGH) from None

    def _build(self, node: ast.expr, *, negated: bool) -> Clauses:
        if self._depth >= DEPTH_MAX:
            raise self.source.error(node, f"at most {DEPTH_MAX} levels of nesting", "more")
        self._depth += 1
        clauses = self._built(node, negated)
        self._depth -= 1
        return clauses

    def _built(self, node: ast.expr, negated: bool) -> Clauses:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return self._build(node.operand, negated=not negated)
        if isinstance(node, ast.BoolOp):
            parts = [self._build(value, negated=negated) for value in node.values]
            every = isinstance(node.op, ast.And) != negated
            return conjunction(*parts) if every else disjunction(*parts)
        if isinstance(node, ast.Name):
            return self._name(node, negated)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._is_missing(node, node.func, negated)
        if not isinstance(node, ast.Compare):
            raise self.source.error(node, _EXPECTED)
        sides = [node.left, *node.comparators]
        parts = [
            self._comparison(left, operator, right, negated)
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False)
        ]
        return disjunction(*parts) if negated else conjunction(*parts)

    def _name(self, node: ast.Name, negated: bool) -> Clauses:
        """Return a verdict or a named condition that stands alone."""
        if node.id in VERDICTS:
            self._check_labelled(node)
            return self._verdict(Comparison.EQ, node, negated)
        names = self.workspace.stored_names(self.kind)
        found = self.workspace.stored_type(self.kind, node.id) if node.id in names else None
        if found is not Type.BOOL:
            known = self._known()
            nearest = None if node.id in known else nearest_name(node.id, known)
            raise self.source.error(node, _EXPECTED, None, nearest)
        field = self.workspace.stored(self.kind, node.id)
        return self._terms(field, (Term(field.cell, Comparison.EQ, 1, field.name),), negated)

    def _is_missing(self, node: ast.Call, function: ast.Name, negated: bool) -> Clauses:
        if function.id != IS_MISSING:
            raise self.source.error(node, _EXPECTED, None, nearest_name(function.id, [IS_MISSING]))
        if len(node.args) != 1 or node.keywords:
            raise self.source.error(node, "is_missing(field)")
        field = self._field(node.args[0])
        term = present if negated else missing
        return ((term(field.cell, field.name),),)

    def _comparison(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, negated: bool
    ) -> Clauses:
        if isinstance(operator, ast.In | ast.NotIn):
            return self._membership(left, right, negated, excluded=isinstance(operator, ast.NotIn))
        comparison = _COMPARISONS.get(type(operator))
        if comparison is None:
            raise self.source.error(right, "a comparison by == != < <= > >= in or `not in`")
        if self._is_stored(right) and not self._is_stored(left):
            left, comparison, right = right, _FLIPPED.get(comparison, comparison), left
        if isinstance(left, ast.Name) and left.id == LABEL:
            self._check_labelled(left)
            return self._verdict(comparison, right, negated)
        field = self._field(left)
        if field.type is Type.BOOL:
            raise self.source.error(left, f"`{field.name}` alone: it is a condition")
        return self._terms(field, (self._term(field, comparison, right),), negated)

    def _membership(
        self, left: ast.expr, items: ast.expr, negated: bool, *, excluded: bool
    ) -> Clauses:
        """Return `left in items`, or not in them, or the negation of one of these."""
        field = self._field(left)
        constants = self._constants.items(items, texts=field.type is Type.TEXT)
        terms = tuple(self._term(field, Comparison.EQ, item, text) for item, text in constants)
        # An empty list holds what no cell does.
        terms = terms or (Term(field.cell, Comparison.EQ, _INT64_MAX, field.name, "nothing"),)
        if not excluded:
            return self._terms(field, terms, negated)
        if not negated:
            return conjunction(*(((negation(term),),) for term in terms))
        return conjunction(((*terms, *self._absent(field)),))

    def _terms(self, field: Field, terms: tuple[Term, ...], negated: bool) -> Clauses:
        """Return the disjunction of terms of one field, or its negation."""
        if not negated:
            return conjunction((terms,))
        return conjunction(*(((negation(term), *self._absent(field)),) for term in terms))

    def _absent(self, field: Field) -> tuple[Term, ...]:
        return () if field.required else (missing(field.cell, field.name),)

    def _is_stored(self, node: ast.expr) -> bool:
        names = (LABEL, *self.workspace.stored_names(self.kind))
        return isinstance(node, ast.Name) and node.id in names

    def _known(self) -> tuple[str, ...]:
        labels = (LABEL, *VERDICTS) if self.kind in LABELLED_KINDS else ()
        return (*self.workspace.stored_names(self.kind), *labels)

    @property
    def _constants(self) -> Constants:
        return Constants(self.source, self.workspace.declarations)

    def _field(self, node: ast.expr) -> Field:
        name = node.id if isinstance(node, ast.Name) else ""
        if name not in self.workspace.stored_names(self.kind):
            raise self._unknown(node, name)
        return self.workspace.stored(self.kind, name)

    def _unknown(self, node: ast.expr, name: str) -> SourceError:
        names = self.workspace.stored_names(self.kind)
        expected = f"a field of {a_stored(self.kind)}"
        if self.kind is not Kind.TRANSACTION:
            expected += f": {', '.join(names)}"
        return self.source.error(node, expected, None, nearest_name(name, self._known()))

    def _check_labelled(self, node: ast.Name) -> None:
        if self.kind not in LABELLED_KINDS:
            raise self._unknown(node, node.id)

    def _verdict(self, comparison: Comparison, node: ast.expr, negated: bool) -> Clauses:
        name = node.id if isinstance(node, ast.Name) else None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        if name not in VERDICTS:
            raise self.source.error(
                node, "`fraud` or `legitimate`", None, nearest_name(name or "", VERDICTS)
            )
        if comparison not in _EQUALITY:
            raise self.source.error(node, "== or != for a label", SYMBOLS[comparison])
        entities = (entity.name for entity in self.workspace.declarations.entities)
        if self.kind is Kind.TRANSACTION and CUSTOMER not in entities:
            raise self.source.error(
                node, f"an entity named `{CUSTOMER}`, through which labels are joined", "none"
            )
        code = VERDICTS[name]
        term = Term(int(Cell.LABEL), comparison, int(code), LABEL, code.name.lower())
        # The label of an event is never missing: where nobody has spoken it is UNKNOWN.
        return ((negation(term) if negated else term,),)

    def _term(
        self, field: Field, comparison: Comparison, node: ast.expr, text: str | None = None
    ) -> Term:
        """Return the comparison of a field with a node's constant, or with a list's `text`."""
        if field.type is Type.TEXT:
            return self._text(field, comparison, node, text)
        if field.type is Type.DURATION:
            return self._duration(field, comparison, node)
        return self._number(field, comparison, node)

    def _text(self, field: Field, comparison: Comparison, node: ast.expr, text: str | None) -> Term:
        if comparison not in _EQUALITY:
            expected = f"== or != for `{field.name}`, which is text"
            raise self.source.error(node, expected, SYMBOLS[comparison])
        if text is None:
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                raise self.source.error(node, f"a string to compare with `{field.name}`")
            text = node.value
        cell = self._constants.cell_of(node, field, text)
        return Term(field.cell, comparison, cell, field.name, json.dumps(text, ensure_ascii=False))

    def _duration(self, field: Field, comparison: Comparison, node: ast.expr) -> Term:
        length_ms = duration_of(node)
        if length_ms is None:
            expected = f'a duration such as "10m" to compare with `{field.name}`'
            raise self.source.error(node, expected)
        spelt = json.dumps(duration_text(length_ms))
        return Term(field.cell, comparison, length_ms, field.name, spelt)

    def _number(self, field: Field, comparison: Comparison, node: ast.expr) -> Term:
        value = number_of(node)
        if value is None or not math.isfinite(value):
            raise self.source.error(node, f"a number to compare with `{field.name}`")
        units = scale(field, self.workspace.declarations.currency_exponent)
        raw = Decimal(str(value)) * units
        if comparison in _EQUALITY and raw != raw.to_integral_value():
            raise self.source.error(node, f"a multiple of 1/{units} for `{field.name}`")
        # Between two whole units no cell lies: rounding towards the allowed side is exact.
        upwards = comparison in (Comparison.GE, Comparison.LT)
        constant = math.ceil(raw) if upwards else math.floor(raw)
        if abs(constant) > _INT64_MAX:
            raise self.source.error(node, f"a number that `{field.name}` can have")
        spelt = format(Decimal(constant) / units, "f")
        return Term(field.cell, comparison, constant, field.name, spelt)
