"""YAML with positions: every fault names the file, the line and the column (from 1)."""

from collections.abc import Collection
from typing import Any, NamedTuple

import yaml

from features.errors import SourceError, nearest_name


class Entry(NamedTuple):
    """A key of a YAML mapping and its value, both as nodes that know their place."""

    key: yaml.ScalarNode
    value: yaml.Node


class NodeReader:
    """Reads composed YAML nodes of one file; raises SourceError where they are not as expected."""

    def __init__(self, file: str) -> None:
        self.file = file

    def compose(self, text: str) -> yaml.Node:
        """Return the root node of a YAML text; raises SourceError where it is not YAML."""
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            problem = error.problem or "a fault"
            raise SourceError(self.file, line, column, "valid YAML", problem) from error
        except yaml.YAMLError as error:
            got = " ".join(str(error).split())
            raise SourceError(self.file, 1, 1, "valid YAML", got) from error
        if root is None:
            raise SourceError(self.file, 1, 1, "a mapping with the key `tables`", "nothing")
        return root

    def fault(
        self, node: yaml.Node, expected: str, got: str, nearest: str | None = None
    ) -> SourceError:
        """Return the error for a node."""
        mark = node.start_mark
        return SourceError(self.file, mark.line + 1, mark.column + 1, expected, got, nearest)

    def entries(
        self, node: yaml.Node, what: str, known: Collection[str] | None = None
    ) -> dict[str, Entry]:
        """Return the entries of a mapping node; refuses unknown (if `known`) and repeated keys."""
        if not isinstance(node, yaml.MappingNode):
            raise self.fault(node, f"a mapping: {what}", describe(node))
        found: dict[str, Entry] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.fault(key, "a plain key", describe(key))
            name = str(key.value)
            if known is not None and name not in known:
                expected = f"a key of {what} ({', '.join(known)})"
                raise self.fault(key, expected, f"`{name}`", nearest_name(name, known))
            if name in found:
                raise self.fault(key, "each key once", f"`{name}` again")
            found[name] = Entry(key, value)
        return found

    def items(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        """Return the items of a sequence node that is not empty."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.fault(node, f"a list: {what}", describe(node))
        return list(node.value)

    def text(self, node: yaml.Node, what: str) -> str:
        """Return a scalar as it is written (so that `NO` stays Norway and `1` stays "1")."""
        if not isinstance(node, yaml.ScalarNode) or _is_null(node):
            raise self.fault(node, what, describe(node))
        return str(node.value)

    def choice(self, node: yaml.Node, what: str, known: Collection[str]) -> str:
        """Return a scalar that must be one of the known names."""
        expected = f"{what} ({', '.join(known)})"
        name = self.text(node, expected)
        if name not in known:
            raise self.fault(node, expected, f"`{name}`", nearest_name(name, known))
        return name

    def flag(self, node: yaml.Node, what: str) -> bool:
        """Return a boolean scalar."""
        return self.choice(node, what, ("true", "false")) == "true"

    def integer(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        """Return an integer scalar of [low, high]."""
        expected = f"{what}, an integer from {low} to {high}"
        value = self.scalar(node, expected)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fault(node, expected, describe(node))
        return value

    def scalar(self, node: yaml.Node, what: str) -> Any:
        """Return a scalar as YAML understands it: str, int, float, bool or None."""
        if not isinstance(node, yaml.ScalarNode):
            raise self.fault(node, what, describe(node))
        return self.plain(node)

    def plain(self, node: yaml.Node) -> Any:
        """Return any node as plain Python data; raises SourceError for a tag that isn't plain."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_document(node)
        except yaml.YAMLError as error:
            raise self.fault(node, "plain data", str(node.tag)) from error
        finally:
            loader.dispose()


def describe(node: yaml.Node) -> str:
    """Return in words what a node is."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list" if node.value else "an empty list"
    return "nothing" if _is_null(node) else f"`{node.value}`"


def _is_null(node: yaml.Node) -> bool:
    return str(node.tag) == "tag:yaml.org,2002:null"
