"""Codes: every word of the records has one, and no two texts share one."""

from itertools import product
from string import ascii_uppercase
from typing import get_args

import pytest

from features.codes import CODE_MAX, ENUMERATION_WORDS_MAX, ENUMERATIONS, ISO_2_FROM, code_of

WORDS = {word for words in ENUMERATIONS for word in get_args(words)}


def test_codes_are_different_and_fit_two_bytes() -> None:
    texts = [*WORDS, *map("".join, product(ascii_uppercase, repeat=2))]
    texts += map("".join, product(ascii_uppercase, repeat=3))
    codes = {code_of(text) for text in texts}
    assert len(codes) == len(texts)
    assert min(codes) > 0 and max(codes) == CODE_MAX < 2**16
    assert all(len(get_args(words)) < ENUMERATION_WORDS_MAX for words in ENUMERATIONS)
    assert len(ENUMERATIONS) * ENUMERATION_WORDS_MAX <= ISO_2_FROM


def test_stored_numbers_stay() -> None:
    assert [code_of(text) for text in ("purchase", "out", "pos", "phone", "DE", "EUR")] == [
        1, 129, 257, 263, 1024 + 3 * 26 + 4, 2048 + (4 * 26 + 20) * 26 + 17,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "de", "D", "EURO", "D1", "purchases"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a known word or an ISO code"):
        code_of(text)
