"""Strings become 64-bit keyed hashes once, at ingest; everything stored uses those."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels.siphash import siphash_many

ID_KEY_BYTES = 16
DEFAULT_KEY = b"millrace-dev-key"  # a bank sets its own: see `MILLRACE_ID_KEY`


class IdHasher:
    """SipHash-2-4 under a secret 16-byte key, as int64; None hashes to `MISSING`."""

    def __init__(self, key: bytes = DEFAULT_KEY) -> None:
        if len(key) != ID_KEY_BYTES:
            raise ValueError(f"id key: expected {ID_KEY_BYTES} bytes, got {len(key)}")
        self._k0, self._k1 = np.frombuffer(key, dtype="<u8")

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
            data = np.frombuffer(joined.encode(), dtype=np.uint8)
        else:
            encoded = [text.encode() for text in present]  # type: ignore[union-attr]
            data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        ends = np.fromiter(accumulate(map(len, encoded)), np.int64, len(encoded))
        siphash_many(data, ends, self._k0, self._k1, out, MISSING)
        if absent:
            out[[i for i, text in enumerate(texts) if text is None]] = MISSING
        return out
