"""The types of values, and durations as they are written."""

import re
from enum import StrEnum

_UNIT_MS = {
    "ms": 1,
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d|w)")


class Type(StrEnum):
    """The type of a value. Money mixes with numbers; the two are told apart in messages."""

    NUMBER = "a number"
    MONEY = "money"
    TEXT = "text"
    BOOL = "a condition"
    DURATION = "a duration"


NUMERIC = (Type.NUMBER, Type.MONEY)


def duration_ms(text: str) -> int | None:
    """Return the milliseconds of a duration such as "10m", or None where it is not one.

    A whole number and a unit: ms, s, m (minutes), h, d (24 hours) or w (7 days).
    """
    match = _DURATION.fullmatch(text)
    return int(match[1]) * _UNIT_MS[match[2]] if match else None


def duration_text(ms: int) -> str:
    """Return the shortest duration literal: 3,600,000 gives "1h"."""
    units = [unit for unit in _UNIT_MS if ms % _UNIT_MS[unit] == 0 and unit != "w"]
    return f"{ms // _UNIT_MS[units[-1]]}{units[-1]}"
