"""Named values (`let`): in which order they are compiled, and which of them histories keep.

In an expression the name is the value itself. Inside an aggregate it is what was kept with each
event: the value as it was when that event arrived, rounded to its scale.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping

from features.columns import Cell
from features.expressions.fields import MICRO, Field
from features.expressions.parser import ExpressionText, Source
from features.expressions.types import NUMERIC
from features.expressions.value import Value
from features.plan import KeptValue

_UNSEEN = ("ctx", "kind")  # of a node of Python's tree: what the author did not write


class NamedValues:
    """The named values of one plan: texts, compiled values by name, and the kept ones."""

    def __init__(self, texts: Mapping[str, ExpressionText]) -> None:
        self.values: dict[str, Value] = {}
        self.kept: dict[str, KeptValue] = {}
        self.stages: dict[str, int] = {}  # of the kept ones: after which slots they are known
        self._texts = texts
        self._sources: dict[str, Source] = {}
        self._digests: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def source(self, name: str) -> Source:
        """Return the parsed text of a name. Raises SourceError where it is not an expression."""
        if name not in self._sources:
            self._sources[name] = Source(self._texts[name])
        return self._sources[name]

    def needed(self, source: Source, own: str = "") -> list[str]:
        """Return the names that a text depends on and that have no value yet, innermost first.

        `own` is the text's own name, where it has one. Raises SourceError at a name that depends
        on itself.
        """
        ordered: list[str] = []
        path = [(own, source, self._names_in(source))]
        while path:
            name, reader, nodes = path[-1]
            node = next(nodes, None)
            if node is None:
                path.pop()
                ordered.append(name)
                continue
            open_names = [entry[0] for entry in path]
            if node.id in open_names:
                through = " → ".join([*open_names[open_names.index(node.id) :], node.id])
                raise reader.error(node, "a value that does not depend on itself", f"`{through}`")
            if node.id not in self.values and node.id not in ordered:
                inner = self.source(node.id)
                path.append((node.id, inner, self._names_in(inner)))
        return ordered[:-1]

    def add(self, name: str, value: Value) -> None:
        """Take the compiled value of a name; those that it depends on come first."""
        self.values[name] = value
        self._digests[name] = self._digest(self.source(name).root)

    def keep(self, name: str, stage: int) -> KeptValue:
        """Have histories keep a compiled value, which slots up to `stage` make known."""
        if name not in self.kept:
            fingerprint = int.from_bytes(self._digests[name], "big") >> 1
            scale = MICRO if self.values[name].type in NUMERIC else 1
            cell = len(Cell) + len(self.kept)
            self.kept[name] = KeptValue(name, cell, scale, fingerprint)
            self.stages[name] = stage
        return self.kept[name]

    def field(self, name: str) -> Field:
        """Return a kept value as a field of stored transactions."""
        kept = self.kept[name]
        return Field(
            name, kept.cell, self.values[name].type, "a named value", scale=kept.scale, kept=True
        )

    def _names_in(self, source: Source) -> Iterator[ast.Name]:
        nodes = ast.walk(source.root)
        return (node for node in nodes if isinstance(node, ast.Name) and node.id in self._texts)

    def _digest(self, node: ast.AST) -> bytes:
        """Return the hash of what a tree says, a named value standing for its own tree.

        So neither layout nor the names of inner values, nor whether they have one, change it.
        """
        if isinstance(node, ast.Name) and node.id in self._digests:
            return self._digests[node.id]
        digest = hashlib.blake2b(type(node).__name__.encode(), digest_size=8)
        for name, value in ast.iter_fields(node):
            if name in _UNSEEN:
                continue
            for item in value if isinstance(value, list) else [value]:
                part = self._digest(item) if isinstance(item, ast.AST) else repr(item).encode()
                digest.update(name.encode() + b"=" + part + b";")
        return digest.digest()
