"""Sentences with `{expression}` places, filled with numbers as people write them.

`{amount:money}` has the currency's decimals and its code, `{share:percent}` a percentage,
`{age:duration}` milliseconds as days, hours or minutes. Without a format, a whole number shows no
decimals and any other shows two. `{{` and `}}` stand for braces.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from actions.yaml_positions import Item
from features.errors import nearest_name
from features.expressions import ExpressionText

FORMATS = ("money", "percent", "duration")
_UNITS_MS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed sentence: `texts` has one piece more than `fields` (expression, format)."""

    texts: tuple[str, ...]
    fields: tuple[tuple[ExpressionText, str], ...]

    def fill(self, values: Sequence[float], currency: str, exponent: int) -> str:
        """Return the sentence with `values`, one for each field; NaN reads `unknown`."""
        pieces = [self.texts[0]]
        for (_, style), value, text in zip(self.fields, values, self.texts[1:], strict=True):
            pieces += (formatted(value, style, currency, exponent), text)
        return "".join(pieces)


def formatted(value: float, style: str, currency: str, exponent: int) -> str:
    """Return a number in plain writing; `style` is one of FORMATS or empty."""
    if value != value:
        return "unknown"
    if value in (float("inf"), float("-inf")):
        return "unlimited"
    if style == "money":
        return f"{value:.{exponent}f} {currency}"
    if style == "percent":
        return f"{_plain(round(value * 100, 1), 1)} %"
    if style == "duration":
        size_ms, unit = next((u for u in _UNITS_MS if value >= u[0]), (1, "ms"))
        return f"{_plain(round(value / size_ms, 1), 1)} {unit}"
    return _plain(value, 2)


def parse_template(item: Item, what: str) -> Template:
    """Read a sentence from a YAML scalar. Raises SourceError on a brace without its partner."""
    text = " ".join(item.text(what).split())
    texts, raw_fields = _split(text, item, what)
    split_fields = [_split_format(field, item) for field in raw_fields]
    places = item.fragment_places(expression for expression, _ in split_fields)
    fields = tuple(
        (ExpressionText(expression, place.file, place.line, place.column), style)
        for (expression, style), place in zip(split_fields, places, strict=True)
    )
    return Template(tuple(texts), fields)


def _plain(value: float, decimals: int) -> str:
    return str(int(value)) if value == int(value) else f"{value:.{decimals}f}"


def _split(text: str, item: Item, what: str) -> tuple[list[str], list[str]]:
    """Return the texts around the fields, and the fields; quotes in a field hide its braces."""
    texts = [""]
    fields: list[str] = []
    position = 0
    while position < len(text):
        letter = text[position]
        if letter in "{}" and text[position : position + 2] == letter * 2:
            texts[-1] += letter
            position += 2
        elif letter == "{":
            end = _field_end(text, position + 1)
            if end < 0 or not text[position + 1 : end].strip():
                raise item.fault(what, f"`{text[position:]}`: a `{{` without expression or `}}`")
            fields.append(text[position + 1 : end].strip())
            texts.append("")
            position = end + 1
        elif letter == "}":
            raise item.fault(what, f"`{text[: position + 1]}`: a `}}` without `{{`")
        else:
            texts[-1] += letter
            position += 1
    return texts, fields


def _field_end(text: str, start: int) -> int:
    """Return the index of the `}` that ends a field, or -1."""
    quote = ""
    for index in range(start, len(text)):
        letter = text[index]
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == "}":
            return index
    return -1


def _split_format(field: str, item: Item) -> tuple[str, str]:
    expression, colon, style = field.rpartition(":")
    style = style.strip()
    if not colon or not style.isidentifier():
        return field, ""
    if style not in FORMATS:
        known = ", ".join(FORMATS)
        raise item.fault(f"a format ({known})", f"`{style}`", nearest_name(style, FORMATS))
    return expression.strip(), style
