"""Reasons in words: a score's largest contributions, by the sentences of the policy."""

from collections.abc import Mapping, Sequence
from string import Formatter

import numpy as np

from features.errors import RecordError, nearest_name
from features.records import Reason
from online_models.framing import FloatArray

FALLBACK = "{input} is {value}"
NO_VALUE = "not known"


class Explainer:
    """Turns contributions of one model into reasons.

    `sentences` maps an input to a text in which `{value}` stands for the input's value; a number
    format may follow, as in `{value:.2f}`; else a short one is chosen. An input without a sentence
    is named plainly. At most `limit` reasons are given. Raises RecordError for a
    sentence of an unknown input, another field than `value`, or a bad number format.
    """

    def __init__(
        self, model: str, inputs: Sequence[str], sentences: Mapping[str, str], limit: int = 3
    ) -> None:
        self.model = model
        self.inputs = tuple(inputs)
        self._limit = limit
        for name in sentences:
            if name not in self.inputs:
                path, known = f"$.sentences.{name}", ", ".join(self.inputs)
                nearest = nearest_name(name, self.inputs)
                raise RecordError(path, f"one of the inputs: {known}", f"`{name}`", nearest)
        self._templates = [_parse(name, sentences.get(name)) for name in self.inputs]

    def reasons(self, contributions: FloatArray, values: FloatArray) -> tuple[Reason, ...]:
        """Return the inputs that raised the score most, largest first, ties in input order.

        `contributions` in log-odds and `values` have shape (k,), the row of one event; only
        contributions above 0 count. A value that is absent (NaN) is shown as "not known". Raises
        ValueError for another shape.
        """
        expected = (len(self.inputs),)
        if contributions.shape != expected or values.shape != expected:
            got = f"{contributions.shape}, {values.shape}"
            raise ValueError(f"contributions, values: expected shape {expected}, got {got}")
        largest = np.argsort(-contributions, kind="stable")[: self._limit]
        return tuple(
            Reason(
                source=f"model:{self.model}:{self.inputs[i]}",
                text=_fill(self._templates[i], float(values[i])),
                weight=float(contributions[i]),
            )
            for i in largest
            if contributions[i] > 0.0
        )


Template = list[tuple[str, str | None]]  # literal text, then the format of the value behind it


def _parse(name: str, sentence: str | None) -> Template:
    """Return the pieces of a sentence; format fields reach nothing but the value."""
    if sentence is None:
        sentence = FALLBACK.replace("{input}", name.replace("{", "{{").replace("}", "}}"))
    path = f"$.sentences.{name}"
    template: Template = []
    try:
        for literal, field, spec, conversion in Formatter().parse(sentence):
            if field is not None and (field != "value" or conversion):
                shown = field + (f"!{conversion}" if conversion else "")
                raise RecordError(path, "only the field {value}", f"{{{shown}}}")
            if spec:
                format(0.0, spec)
            template.append((literal, None if field is None else (spec or "")))
    except ValueError as error:
        raise RecordError(path, "a text with {value} or {value:.2f}", str(error)) from error
    return template


def _fill(template: Template, value: float) -> str:
    return "".join(
        literal if spec is None else literal + _show(value, spec) for literal, spec in template
    )


def _show(value: float, spec: str) -> str:
    if np.isnan(value):
        return NO_VALUE
    if spec:
        return format(value, spec)
    if value.is_integer():
        return f"{value + 0.0:.0f}"  # + 0.0 turns -0.0 into 0.0
    return f"{value:.2f}" if abs(value) >= 1000.0 else f"{value:.4g}"
