"""YAML read so that every value still knows its file, line and column.

PyYAML's node tree is kept (never its constructed objects): each value is read as the type that the
schema asks for, so `no` is not a boolean by accident and a rate such as 0.1 stays exact.
"""

import datetime
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import TypeVar

import yaml

from features.errors import SourceError, nearest_name
from features.expressions import ExpressionText, duration_ms

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_SHOWN_CHARACTERS_MAX = 60
# How a letter of a value may look in the source, inside single or double quotes.
_AS_WRITTEN = {"'": "''?", '"': r'\\?"', "\\": r"\\\\?"}
Word = TypeVar("Word", bound=str)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int


class Item:
    """One YAML node with its place. Readers raise SourceError where the node is not as asked."""

    def __init__(self, node: yaml.Node, file: str, text: str) -> None:
        self.node = node
        self.file = file
        self._text = text

    @cached_property
    def place(self) -> Place:
        """Where the node's content starts (a scalar's first character, after any quote)."""
        if isinstance(self.node, yaml.ScalarNode):
            return self._place_at(self._content_start())
        mark = self.node.start_mark
        return Place(self.file, mark.line + 1, mark.column + 1)

    def fault(
        self, expected: str, got: str | None = None, nearest: str | None = None
    ) -> SourceError:
        """Return the error that says what was expected here."""
        place = self.place
        got = self._shown() if got is None else got
        return SourceError(place.file, place.line, place.column, expected, got, nearest)

    def fields(
        self, what: str, required: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, "Item"]:
        """Read a mapping with known keys; a key that is unknown, twice or absent is an error."""
        known = (*required, *optional)
        found: dict[str, Item] = {}
        for key, value in self.entries(f"{what} (keys {', '.join(known)})"):
            name = key.node.value
            if name not in known:
                raise key.fault(f"a key of {what}", f"`{name}`", nearest_name(name, known))
            found[name] = value
        for name in required:
            if name not in found:
                near = nearest_name(name, found)
                raise self.fault(f"{what} with key `{name}`", "none", near)
        return found

    def entries(self, what: str) -> list[tuple["Item", "Item"]]:
        """Read a mapping with free scalar keys, in their order; a repeated key is an error."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.fault(what)
        seen: dict[str, int] = {}
        entries = []
        for key_node, value_node in self.node.value:
            key = Item(key_node, self.file, self._text)
            if not isinstance(key_node, yaml.ScalarNode):
                raise key.fault("a plain key")
            if key_node.value in seen:
                first = seen[key_node.value]
                raise key.fault("each key once", f"`{key_node.value}` again, first in line {first}")
            seen[key_node.value] = key.place.line
            entries.append((key, Item(value_node, self.file, self._text)))
        return entries

    def items(self, what: str) -> list["Item"]:
        """Read a sequence."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.fault(what)
        return [Item(node, self.file, self._text) for node in self.node.value]

    def text(self, what: str = "text") -> str:
        """Read a scalar as text without outer blanks; empty and null are errors."""
        if not isinstance(self.node, yaml.ScalarNode) or self._is_null():
            raise self.fault(what)
        value: str = self.node.value.strip()
        if not value:
            raise self.fault(what, "an empty text")
        return value

    def identifier(self, what: str) -> str:
        """Read a name: lower-case letters, digits and `_`, a letter first."""
        name = self.text(what)
        if not _IDENTIFIER.fullmatch(name):
            raise self.fault(f"{what}: lower-case letters, digits and `_`, a letter first")
        return name

    def choice(self, what: str, known: Sequence[Word]) -> Word:
        """Read one of the known words."""
        text = self.text(what)
        for word in known:
            if word == text:
                return word
        raise self.fault(
            f"{what}: one of {', '.join(known)}", f"`{text}`", nearest_name(text, known)
        )

    def choices(self, what: str, known: Sequence[Word]) -> tuple[Word, ...]:
        """Read a sequence of known words, each at most once."""
        words: list[Word] = []
        for item in self.items(f"a list of {what}"):
            word = item.choice(what, known)
            if word in words:
                raise item.fault(f"each {what} once", f"`{word}` again")
            words.append(word)
        return tuple(words)

    def boolean(self, what: str) -> bool:
        """Read `true` or `false`."""
        return self.choice(what, ("true", "false")) == "true"

    def decimal(
        self, what: str, least: Decimal | int, most: Decimal | int | None = None
    ) -> Decimal:
        """Read an exact decimal number within [least, most]."""
        bounds = f"{what}: a number of at least {least}" + (
            "" if most is None else f", at most {most}"
        )
        try:
            number = Decimal(self.text(bounds))
        except InvalidOperation:
            raise self.fault(bounds) from None
        if not number.is_finite() or number < least or (most is not None and number > most):
            raise self.fault(bounds)
        return number

    def number(self, what: str, least: float, most: float | None = None) -> float:
        """Read a number within [least, most]."""
        exact_most = None if most is None else Decimal(str(most))
        return float(self.decimal(what, Decimal(str(least)), exact_most))

    def integer(self, what: str, least: int, most: int) -> int:
        """Read an integer within [least, most]."""
        text = self.text(what)
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise self.fault(f"{what}: an integer from {least} to {most}")
        return int(text)

    def duration_ms(self, what: str) -> int:
        """Read a positive duration such as `90d`, `24h`, `10m`."""
        expected = f"{what}: a duration such as 10m, 24h or 7d"
        length_ms = duration_ms(self.text(expected))
        if not length_ms:
            raise self.fault(expected)
        return length_ms

    def date_ms(self, what: str) -> int:
        """Read a date (ISO 8601) as epoch milliseconds of its midnight, UTC."""
        expected = f"{what}: a date such as 2024-01-31"
        try:
            date = datetime.date.fromisoformat(self.text(expected))
        except ValueError:
            raise self.fault(expected) from None
        return (date.toordinal() - datetime.date(1970, 1, 1).toordinal()) * 86_400_000

    def expression(self, what: str) -> ExpressionText:
        """Read the text of an expression, placed at its first character.

        One that spans lines keeps the breaks and indentation of the file, so that a place within
        it can be counted too (the compiler reads it inside brackets).
        """
        text = self.text(f"{what}: an expression")
        place = self.place
        if self._style in (None, "|", ">"):
            text = self._text[self._content_start() : self.node.end_mark.index].rstrip()
        return ExpressionText(text, place.file, place.line, place.column)

    def fragment_places(self, fragments: Iterable[str]) -> list[Place]:
        """Return where the `{fragment}` of a scalar's value stand, given in the order of the value.

        Each is looked up in the source text with its blanks and quotes as YAML may have
        written them; one that only exists after escapes were read is placed at the scalar.
        """
        position = self._content_start()
        end = self.node.end_mark.index
        places = []
        for fragment in fragments:
            match = _as_written(fragment).search(self._text, position, end)
            if match is None:
                places.append(self.place)
                continue
            places.append(self._place_at(match.start(1)))
            position = match.end()
        return places

    @property
    def _style(self) -> str | None:
        return self.node.style if isinstance(self.node, yaml.ScalarNode) else None

    def _is_null(self) -> bool:
        return bool(self.node.tag == "tag:yaml.org,2002:null")

    def _content_start(self) -> int:
        """Return the index of the first character that is not blank, quote or block header."""
        start: int = self.node.start_mark.index
        style = self._style
        if style in ("|", ">"):
            start = self._text.find("\n", start) + 1
        elif style in ("'", '"'):
            start += 1
        end = max(start, self.node.end_mark.index)
        blanks = len(self._text[start:end]) - len(self._text[start:end].lstrip())
        return start if blanks == end - start else start + blanks

    def _place_at(self, index: int) -> Place:
        line_start = self._text.rfind("\n", 0, index) + 1
        return Place(self.file, self._text.count("\n", 0, index) + 1, index - line_start + 1)

    def _shown(self) -> str:
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        if self._is_null() or not self.node.value:
            return "nothing"
        value = " ".join(str(self.node.value).split())
        if len(value) > _SHOWN_CHARACTERS_MAX:
            value = value[:_SHOWN_CHARACTERS_MAX] + "…"
        return f"`{value}`"


def _as_written(fragment: str) -> re.Pattern[str]:
    """Return a pattern for `{fragment}` as it may stand in the source; group 1 is the fragment."""
    words = (
        "".join(_AS_WRITTEN.get(letter, re.escape(letter)) for letter in word)
        for word in fragment.split()
    )
    return re.compile(r"(?<!\{)\{\s*(" + r"\s+".join(words) + ")")


def compose(file: str, text: str) -> Item | None:
    """Return the root of a YAML text; None where it holds nothing.

    Raises SourceError where the text is not YAML, or has more than one document.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise SourceError(file, line, column, "YAML", error.problem or "something else") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise SourceError(file, 1, 1, "YAML", " ".join(str(error).split())) from None
    return None if node is None else Item(node, file, text)
