"""From a text to Python's syntax tree, and from a node of the tree back to file, line and column.

A text may span lines without brackets of its own: it is parsed inside a pair of added brackets,
each on its own line, which leaves every column as the author counts it.
"""

import ast
import re
import warnings
from dataclasses import dataclass

from features.errors import SourceError

TEXT_CHARACTERS_MAX = 10_000
DEPTH_MAX = 100  # levels of nesting
SNIPPET_CHARACTERS_MAX = 60
SYNTAX = "an expression in Python syntax"

Positioned = ast.expr | ast.keyword


@dataclass(frozen=True, slots=True)
class ExpressionText:
    """An expression as written, and the position of its first character, counted from 1."""

    text: str
    file: str
    line: int
    column: int


class Source:
    """A parsed text: `root` is its tree. Raises SourceError where it is not one expression."""

    def __init__(self, origin: ExpressionText) -> None:
        self.origin = origin
        self._text = origin.text.replace("\r\n", "\n").replace("\r", "\n")
        self._lines = self._text.split("\n")
        if len(self._text) > TEXT_CHARACTERS_MAX:
            got = f"{len(self._text)} characters"
            raise self._error_at(0, 0, f"at most {TEXT_CHARACTERS_MAX} characters", got)
        if not self._text.strip():
            raise self._error_at(0, 0, "an expression", "nothing")
        if "\0" in self._text:
            before = self._text[: self._text.index("\0")].split("\n")
            got = "a null character"
            raise self._error_at(len(before) - 1, len(before[-1]), SYNTAX, got)
        self.root = self._parse()

    def error(
        self, node: Positioned, expected: str, got: str | None = None, nearest: str | None = None
    ) -> SourceError:
        """Return the error of a node; `got` is the node's own text where it is not given."""
        line = node.lineno - 2
        return self._error_at(
            line,
            self._characters(line, node.col_offset),
            expected,
            self.snippet(node) if got is None else got,
            nearest,
        )

    def attribute_error(
        self, node: ast.Attribute, expected: str, got: str, nearest: str | None = None
    ) -> SourceError:
        """Return the error of the name after the dot."""
        line = (node.end_lineno or node.lineno) - 2
        end = self._characters(line, node.end_col_offset or node.col_offset)
        return self._error_at(line, max(0, end - len(node.attr)), expected, got, nearest)

    def snippet(self, node: Positioned) -> str:
        """Return the text of a node in backticks, on one line and cut where it is long."""
        if isinstance(node, ast.keyword):
            return f"`{node.arg}=`" if node.arg else "`**`"
        first, last = node.lineno - 2, (node.end_lineno or node.lineno) - 2
        start = self._characters(first, node.col_offset)
        end = self._characters(last, node.end_col_offset or node.col_offset)
        lines = self._lines[first : last + 1]
        lines[-1] = lines[-1][:end]
        lines[0] = lines[0][start:]
        text = " ".join(" ".join(lines).split())
        if len(text) > SNIPPET_CHARACTERS_MAX:
            text = text[: SNIPPET_CHARACTERS_MAX - 1] + "…"
        return f"`{text}`"

    def _parse(self) -> ast.expr:
        try:
            root = _tree(f"(\n{self._text}\n)")
        except SyntaxError as error:
            line = (error.lineno or 1) - 2
            whole_lines = "#" in self._text or error.msg.startswith("unterminated")
            if whole_lines and 0 <= line < len(self._lines):
                raise self._syntax_error(line, (error.offset or 1) - 1, error.msg) from None
            raise self._unwrapped_error() from None
        except (ValueError, MemoryError, RecursionError) as error:
            got = str(error) or "nesting too deep to read"
            raise self._error_at(0, 0, SYNTAX, got) from None
        if isinstance(root, ast.Tuple | ast.GeneratorExp) or root.lineno < 2:
            # The added brackets became part of the tree: the author's own do not pair up.
            raise self._unwrapped_error()
        return root

    def _unwrapped_error(self) -> SourceError:
        """Return Python's own error of the text without the added brackets, on one line.

        With them, Python suspects commas and finds the wrong bracket open. Only comments and
        strings that are not closed depend on where lines end.
        """
        flat = self._text.replace("\n", " ")
        indent = len(flat) - len(flat.lstrip())
        try:
            _tree(flat[indent:])
        except SyntaxError as error:
            # Python gives the offset 0 to an error at the end of the text.
            offset = min(indent + error.offset - 1, len(flat)) if error.offset else len(flat)
            before = self._text[:offset]
            column = offset - (before.rfind("\n") + 1)
            return self._syntax_error(before.count("\n"), column, error.msg)
        except (ValueError, MemoryError, RecursionError):
            return self._error_at(0, 0, SYNTAX, "nesting too deep to read")
        return self._error_at(0, 0, "one expression", "several, or a generator")

    def _syntax_error(self, line: int, column: int, message: str) -> SourceError:
        # Lines that Python counts itself would be those of the parsed text, not of the file.
        message = re.sub(r" on line \d+| \(detected at line \d+\)", "", message)
        return self._error_at(line, min(column, len(self._lines[line])), SYNTAX, message)

    def _characters(self, line: int, byte_offset: int) -> int:
        """Turn an offset in UTF-8 bytes, as in `ast`, into one in characters."""
        return len(self._lines[line].encode()[:byte_offset].decode(errors="ignore"))

    def _error_at(
        self, line: int, column: int, expected: str, got: str, nearest: str | None = None
    ) -> SourceError:
        """Return an error at a line and column of the text, both counted from 0."""
        origin = self.origin
        first_column = origin.column if line == 0 else 1
        return SourceError(
            origin.file, origin.line + line, first_column + column, expected, got, nearest
        )


def _tree(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings: the types check those
        return ast.parse(text, mode="eval").body
