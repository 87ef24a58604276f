"""Enumerations and ISO codes as small integers.

They are nobody's pseudonym, so they need no keyed hash, and two bytes hold any of them.
"""

import re
from typing import get_args

from features.records import (
    Channel,
    ContactChannel,
    Direction,
    InteractionType,
    OutcomeResult,
    TransactionType,
)

# Stored histories hold these numbers. So a new word goes to the end of its enumeration, and a new
# enumeration to the end of this list; a word of several has the number that it gets first.
ENUMERATIONS = (
    TransactionType,
    Direction,
    Channel,
    InteractionType,
    OutcomeResult,
    ContactChannel,
)
ENUMERATION_WORDS_MAX = 128
_NUMBERS = {
    word: ENUMERATION_WORDS_MAX * number + position
    for number, words in reversed(list(enumerate(ENUMERATIONS)))
    for position, word in enumerate(get_args(words), 1)
}
ISO_2_FROM = 1024  # two capitals: ISO 3166-1 countries
ISO_3_FROM = 2048  # three capitals: ISO 4217 currencies
CODE_MAX = ISO_3_FROM + 26**3 - 1
_ISO = re.compile("[A-Z]{2,3}")


def code_of(text: str) -> int:
    """Return the number of a word of `WORDS` or of two or three capitals; ValueError for others."""
    number = _NUMBERS.get(text)
    if number is not None:
        return number
    if not _ISO.fullmatch(text):
        raise ValueError(f"expected a known word or an ISO code, got {text!r}")
    letters = 0
    for letter in text:
        letters = letters * 26 + ord(letter) - ord("A")
    return (ISO_2_FROM if len(text) == 2 else ISO_3_FROM) + letters
