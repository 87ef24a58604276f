"""The secret under which ids of people are hashed before anything about them is stored."""

import os

from features.errors import MillraceError
from features.hashing import DEFAULT_KEY, ID_KEY_BYTES

ID_KEY_VARIABLE = "MILLRACE_ID_KEY"


def id_key() -> bytes:
    """Return the key of the environment: 16 characters, or 32 hexadecimal digits.

    Without one it is the key for development. Raises MillraceError, which does not show the key.
    """
    text = os.environ.get(ID_KEY_VARIABLE, "")
    if not text:
        return DEFAULT_KEY
    key = text.encode()
    if len(key) == 2 * ID_KEY_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    if len(key) != ID_KEY_BYTES:
        expected = f"{ID_KEY_BYTES} bytes of text or {2 * ID_KEY_BYTES} hexadecimal digits"
        raise MillraceError(f"{ID_KEY_VARIABLE}: expected {expected}, got {len(key)} bytes")
    return key
