"""Strings become 64-bit keyed hashes once, at ingest; everything stored uses those."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels.siphash import siphash_many
from features.kernels.words import WORD_PADDING

ID_KEY_BYTES = 16
DEFAULT_KEY = b"millrace-dev-key"  # a bank sets its own: see `MILLRACE_ID_KEY`


class IdHasher:
    """SipHash-2-4 under a secret 16-byte key, as int64; None hashes to `MISSING`."""

    def __init__(self, key: bytes = DEFAULT_KEY) -> None:
        if len(key) != ID_KEY_BYTES:
            raise ValueError(f"id key: expected {ID_KEY_BYTES} bytes, got {len(key)}")
        k0, k1 = np.frombuffer(key, dtype="<u8")
        self.key: tuple[np.uint64, np.uint64] = (k0, k1)

    def one(self, text: str) -> int:
        """Return the hash of one string's UTF-8 bytes."""
        return int(self.many([text])[0])

    def many(self, texts: Sequence[str | None]) -> NDArray[np.int64]:
        """Return the hashes of `texts`, int64, shape (len(texts),)."""
        out = np.empty(len(texts), dtype=np.int64)
        if not texts:
            return out
        absent = None in texts
        present = [text or "" for text in texts] if absent else texts
        joined = "".join(present)  # type: ignore[arg-type]
        if joined.isascii():  # one character is one byte: no id needs to be encoded by itself
            encoded: Sequence[Any] = present
            data = joined.encode()
        else:
            encoded = [text.encode() for text in present]  # type: ignore[union-attr]
            data = b"".join(encoded)
        ends = np.fromiter(accumulate(map(len, encoded)), np.int64, len(encoded))
        padded = np.frombuffer(data + WORD_PADDING, dtype=np.uint8)
        siphash_many(padded, ends, *self.key, out, MISSING)
        if absent:
            out[[i for i, text in enumerate(texts) if text is None]] = MISSING
        return out
