"""Ids that are hashes of what they stand for, so that a repeat has the same id."""

import hashlib

ID_BYTES = 16
_SEPARATOR = "\0"  # no id holds it, so ("a", "bc") and ("ab", "c") differ


def deterministic_id(*parts: str) -> str:
    """Return the BLAKE2b hash (RFC 7693) of the parts, 16 bytes in hexadecimal."""
    data = _SEPARATOR.join(parts).encode()
    return hashlib.blake2b(data, digest_size=ID_BYTES).hexdigest()


def keyed_share(key: str, *parts: str) -> float:
    """Return a number in [0, 1) that is fixed by the parts and uniform over them.

    `key` separates experiments: with another key the same parts fall elsewhere.
    """
    key_bytes = hashlib.blake2b(key.encode(), digest_size=32).digest()
    data = _SEPARATOR.join(parts).encode()
    digest = hashlib.blake2b(data, digest_size=8, key=key_bytes).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53
