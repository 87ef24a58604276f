"""A number that measures something says in what: `timeout_ms`, `assets_minor`, `cache_bytes`.

The rule looks at fields of classes, parameters of functions and annotated module names that are
typed as a plain int or float and named after a duration, an instant, a size or an amount.
"""

import ast
from collections.abc import Iterator

from tidy_rules import PACKAGES, FunctionNode, Source

MEASURES = frozenset({
    "timeout", "delay", "duration", "interval", "horizon", "window", "age", "latency", "elapsed",
    "ttl", "lag", "wait", "deadline", "period", "timestamp", "every", "backoff", "lateness",
    "amount", "balance", "price", "fee", "income", "spend", "assets",
    "size", "memory",
})  # fmt: skip
UNITS = frozenset({
    "ns", "us", "ms", "s", "minutes", "hours", "days", "weeks", "months", "years",
    "minor", "major", "bytes", "kib", "mib", "gib",
    "count", "events", "records", "rows", "columns", "entities", "keys", "bits",
    "share", "ratio", "rate", "factor", "percent", "km", "kmh", "degrees",
})  # fmt: skip
# A name that ends so doesn't measure: it numbers, places or marks something.
MARKS = frozenset({
    "index", "id", "row", "column", "cell", "slot", "offset", "key", "code", "hash", "register",
    "position", "from", "to", "version", "bucket", "weight", "score",
})  # fmt: skip

# (path, name) -> why this name may stand without a unit. An entry that no longer applies fails.
ALLOWED: dict[tuple[str, str], str] = {}


def is_plain_number(annotation: ast.expr | None) -> bool:
    """Return whether an annotation is int or float, possibly optional or Annotated."""
    if isinstance(annotation, ast.Name):
        return annotation.id in {"int", "float"}
    if isinstance(annotation, ast.BinOp):
        return is_plain_number(annotation.left) or is_plain_number(annotation.right)
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        if annotation.value.id == "Annotated" and isinstance(annotation.slice, ast.Tuple):
            return is_plain_number(annotation.slice.elts[0])
        return annotation.value.id in {"Optional", "Final"} and is_plain_number(annotation.slice)
    return False


def lacks_unit(name: str) -> bool:
    words = name.lower().strip("_").split("_")
    return bool(MEASURES & set(words)) and not UNITS & set(words) and words[-1] not in MARKS


def named_numbers(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Yield every field, parameter and annotated module name that is a plain number."""
    for node in source.nodes:
        if isinstance(node, FunctionNode):
            arguments = node.args
            for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                if is_plain_number(argument.annotation):
                    yield argument, argument.arg
        elif isinstance(node, ast.ClassDef | ast.Module):
            for statement in node.body:
                if (
                    isinstance(statement, ast.AnnAssign)
                    and isinstance(statement.target, ast.Name)
                    and is_plain_number(statement.annotation)
                ):
                    yield statement, statement.target.id


def numbers_carry_units(source: Source) -> Iterator[str]:
    if source.folder not in {*PACKAGES, "bench"}:
        return
    for node, name in named_numbers(source):
        if lacks_unit(name) and (source.path, name) not in ALLOWED:
            yield source.finding(
                node, f"in what is `{name}` measured? End it in _ms, _minor, _count, _bytes …"
            )
