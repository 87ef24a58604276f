"""Codes: every word of the records has one, and no two texts share one."""

from itertools import product
from string import ascii_uppercase
from typing import get_args

import pytest

from features import records
from features.codes import CODE_MAX, ISO_2_FROM, WORDS, code_of

ENUMERATIONS = (
    records.TransactionType,
    records.Direction,
    records.Channel,
    records.InteractionType,
    records.OutcomeResult,
    records.ContactChannel,
)


def test_every_enumerated_word_has_a_code() -> None:
    assert {word for words in ENUMERATIONS for word in get_args(words)} <= set(WORDS)


def test_codes_are_different_and_fit_two_bytes() -> None:
    texts = [*WORDS, *map("".join, product(ascii_uppercase, repeat=2))]
    texts += map("".join, product(ascii_uppercase, repeat=3))
    codes = {code_of(text) for text in texts}
    assert len(codes) == len(texts)
    assert min(codes) > 0 and max(codes) == CODE_MAX < 2**16
    assert len(WORDS) < ISO_2_FROM


@pytest.mark.parametrize("text", ["", "de", "D", "EURO", "D1", "purchases"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a known word or an ISO code"):
        code_of(text)
