"""What the error tests share: a text with a mark at the place where it must be refused."""

import pytest
from strategies_expressions import DECLARATIONS

from features.errors import SourceError
from features.expressions import Declarations, ExpressionText, compile_plan

LINE, COLUMN = 10, 5


def refusal(text: str, declarations: Declarations = DECLARATIONS) -> SourceError:
    with pytest.raises(SourceError) as caught:
        compile_plan({"rule:r": ExpressionText(text, "p.yaml", LINE, COLUMN)}, declarations)
    assert caught.value.file == "p.yaml"
    return caught.value


def place(marked: str) -> tuple[str, int, int]:
    """Return a text without its mark `@`, and the line and column of the mark in the file."""
    before = marked[: marked.index("@")]
    line = before.count("\n")
    column = len(before) - (before.rfind("\n") + 1)
    return marked.replace("@", "", 1), LINE + line, column + (COLUMN if line == 0 else 1)


def refused_at(marked: str) -> SourceError:
    """Return the error of a text, which must stand at its mark `@`."""
    text, line, column = place(marked)
    error = refusal(text)
    assert (error.line, error.column) == (line, column), str(error)
    return error
