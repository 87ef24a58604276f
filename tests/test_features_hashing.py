"""SipHash-2-4 against its paper's test vectors and a plain Python oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.columns import MISSING
from features.hashing import IdHasher

MASK = (1 << 64) - 1
PAPER_KEY = bytes(range(16))


def rotl(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & MASK


def sip_round(v: list[int]) -> None:
    v[0] = (v[0] + v[1]) & MASK
    v[1] = rotl(v[1], 13) ^ v[0]
    v[0] = rotl(v[0], 32)
    v[2] = (v[2] + v[3]) & MASK
    v[3] = rotl(v[3], 16) ^ v[2]
    v[0] = (v[0] + v[3]) & MASK
    v[3] = rotl(v[3], 21) ^ v[0]
    v[2] = (v[2] + v[1]) & MASK
    v[1] = rotl(v[1], 17) ^ v[2]
    v[2] = rotl(v[2], 32)


def siphash_oracle(key: bytes, message: bytes) -> int:
    """Section 2 of the paper, word for word."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= word
        sip_round(v)
        sip_round(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def as_int64(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def test_oracle_gives_the_value_printed_in_the_papers_appendix() -> None:
    assert siphash_oracle(PAPER_KEY, bytes(range(15))) == 0xA129CA6149BE45E5


@given(st.lists(st.text(max_size=40)), st.binary(min_size=16, max_size=16))
def test_many_equals_the_oracle(texts: list[str], key: bytes) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    expected = [as_int64(siphash_oracle(key, text.encode())) for text in texts]
    assert IdHasher(key).many(texts).tolist() == expected


def test_none_is_missing_and_empty_is_not() -> None:
    hashes = IdHasher(PAPER_KEY).many(["a", None, ""]).tolist()
    assert hashes[1] == MISSING
    assert hashes[2] == as_int64(siphash_oracle(PAPER_KEY, b""))
    assert hashes[0] == IdHasher(PAPER_KEY).one("a")


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 16 bytes, got 3"):
        IdHasher(b"abc")
