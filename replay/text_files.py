"""Text files as UTF-8, whatever bytes they hold: a byte that can't be read is marked, not fatal."""

import codecs
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# Unicode keeps this code point free for ever, so that no text means it.
_MARK = "\U0010fffe"
_MARK_BYTES = _MARK.encode()
_NOT_UTF8 = b"\xff"
_ERRORS = "millrace.mark"


def _mark(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _MARK * (error.end - error.start), error.end


codecs.register_error(_ERRORS, _mark)


class Utf8File:
    """A binary file object that turns a file of any encoding into UTF-8 as it is read."""

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self._file = path.open("rb")
        self._decoder = codecs.getincrementaldecoder(encoding)(_ERRORS)
        self._ready = b""
        self._ended = False
        self.closed = False

    def read(self, size_bytes: int = -1) -> bytes:
        """Return up to `size_bytes` bytes, fewer only at the end."""
        parts, ready_bytes = [self._ready], len(self._ready)
        while not self._ended and (size_bytes < 0 or ready_bytes < size_bytes):
            data = self._file.read(size_bytes)
            self._ended = size_bytes < 0 or not data
            parts.append(self._decoder.decode(data, final=self._ended).encode())
            ready_bytes += len(parts[-1])
        joined = b"".join(parts)
        end = len(joined) if size_bytes < 0 else size_bytes
        self._ready = joined[end:]
        return joined[:end]

    def readable(self) -> bool:
        """True: this is a file to be read."""
        return True

    def writable(self) -> bool:
        """False: nothing can be written."""
        return False

    def seekable(self) -> bool:
        """False: it is read once, from the beginning."""
        return False

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()
        self.closed = True


def unmarked(text: bytes) -> bytes:
    """Return a text in which each marked byte is one that no UTF-8 has, so that it is refused."""
    return text.replace(_MARK_BYTES, _NOT_UTF8)


def unmarked_batch(batch: Any) -> Any:
    """Return a batch of binary columns with `unmarked` done to each value."""
    columns = [
        pc.replace_substring(column, _MARK_BYTES, _NOT_UTF8)
        if pc.any(pc.match_substring(column, _MARK_BYTES)).as_py()
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
