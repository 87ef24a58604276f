"""What a replay leaves behind: decisions as Parquet with a hash, messages as JSON lines.

The hash of all decisions is a SHA-256 over the rows one after the other, so it depends neither on
how the stream was cut into batches nor on how Parquet encodes it. A row is, in this order and
little-endian (a text is its length in bytes as uint32, then its UTF-8 bytes):

    ts_ms int64 | score float64 | event_id text | action text | rule count uint32, each rule id
    text | policy_version text | model_versions text

A score of minus zero counts as zero, and every NaN as the same NaN.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from replay.model_log import ModelLog

HASHED_ROWS = 8_192  # rows are hashed and turned into Arrow in blocks of about this many
ROW_GROUP_ROWS = 131_072
DECISIONS_FILE = "decisions.parquet"
_WORDS = pa.dictionary(pa.int32(), pa.string())
DECISIONS_SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("ts_ms", pa.int64()),
        ("score", pa.float64()),
        ("action", _WORDS),
        ("rule_ids", pa.list_(pa.string())),
        ("policy_version", _WORDS),
        ("model_versions", _WORDS),
    ]
)
_FIXED = np.dtype([("ts_ms", "<i8"), ("score", "<f8"), ("id_bytes", "<u4")])


class _Context(NamedTuple):
    """What the rows of a block have in common."""

    action_names: tuple[str, ...]
    rule_ids: tuple[str, ...]
    policy_version: str


class _Columns(NamedTuple):
    """Rows of a block; `versions` are codes, numbering the block's texts of model versions."""

    event_ids: list[str]
    ts_ms: NDArray[np.int64]
    scores: NDArray[np.float64]
    action_codes: NDArray[np.int64]
    rule_hits: NDArray[np.bool_]
    versions: NDArray[np.int64]


class DecisionsWriter:
    """Streams decisions to `decisions.parquet` in a directory and hashes them as it goes.

    Use it as a context manager or call `close`; `sha256` is final after that.
    """

    def __init__(self, directory: Path | str) -> None:
        self.row_count = 0
        self._hash = hashlib.sha256()
        self._waiting: list[_Columns] = []
        self._waiting_count = 0
        self._context: _Context | None = None
        self._versions: dict[str, int] = {}  # a new version comes often: no block ends for it
        self._batches: list[Any] = []
        self._batched_count = 0
        self._file = pa.parquet.ParquetWriter(
            Path(directory) / DECISIONS_FILE, DECISIONS_SCHEMA, compression="zstd"
        )

    def write(
        self,
        event_ids: Sequence[str],
        ts_ms: NDArray[np.int64],
        scores: NDArray[np.float64],
        actions: Sequence[str] | NDArray[Any],
        rule_hits: NDArray[Any],
        rule_ids: Sequence[str],
        policy_version: str,
        model_versions: str,
        action_names: Sequence[str] | None = None,
    ) -> None:
        """Append n decisions in their order.

        `actions` are n names, or n codes that number `action_names`. `rule_hits` has shape
        (n, rules) with columns in the order of `rule_ids`. Raises ValueError for other shapes and
        for a code without a name.
        """
        count = len(event_ids)
        if count == 0:
            return
        hits = np.asarray(rule_hits, dtype=np.bool_).reshape(count, -1)
        shapes = (len(ts_ms), len(scores), len(actions), hits.shape[1])
        if shapes != (count, count, count, len(rule_ids)):
            expected = f"columns of {count} rows and {len(rule_ids)} rules"
            raise ValueError(f"decisions: expected {expected}, got {shapes}")
        known = self._context.action_names if self._context is not None else ()
        names, codes = _coded(actions, action_names, known)
        context = _Context(names, tuple(rule_ids), policy_version)
        if context != self._context:
            self._flush()
            self._context = context
        own = _Columns(
            list(event_ids),
            np.array(ts_ms, dtype=np.int64),
            np.array(scores, dtype=np.float64),
            codes,
            hits.copy(),
            np.full(count, self._versions.setdefault(model_versions, len(self._versions))),
        )
        self._waiting.append(own)
        self._waiting_count += count
        self.row_count += count
        if self._waiting_count >= HASHED_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left; may be called again."""
        self._flush()
        self._write_row_group()
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of the rows so far, in hexadecimal."""
        self._flush()
        return self._hash.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _flush(self) -> None:
        if not self._waiting or self._context is None:
            return
        rows = _Columns(
            [event_id for part in self._waiting for event_id in part.event_ids],
            np.concatenate([part.ts_ms for part in self._waiting]),
            np.concatenate([part.scores for part in self._waiting]),
            np.concatenate([part.action_codes for part in self._waiting]),
            np.concatenate([part.rule_hits for part in self._waiting]),
            np.concatenate([part.versions for part in self._waiting]),
        )
        versions = tuple(self._versions)
        self._waiting, self._waiting_count, self._versions = [], 0, {}
        batch = _record_batch(rows, self._context, versions)
        self._hash.update(_row_bytes(rows, self._context, versions, batch.column("event_id")))
        self._batches.append(batch)
        self._batched_count += batch.num_rows
        if self._batched_count >= ROW_GROUP_ROWS:
            self._write_row_group()

    def _write_row_group(self) -> None:
        if self._batches:
            table = pa.Table.from_batches(self._batches, DECISIONS_SCHEMA).unify_dictionaries()
            self._file.write_table(table)
            self._batches, self._batched_count = [], 0


def _coded(
    actions: Sequence[str] | NDArray[Any],
    action_names: Sequence[str] | None,
    known: tuple[str, ...],
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return action names and codes; names already `known` keep their codes."""
    if action_names is not None:
        codes = np.array(actions, dtype=np.int64)
        if codes.min() < 0 or codes.max() >= len(action_names):
            raise ValueError(f"actions: expected codes below {len(action_names)}, got {codes}")
        return tuple(action_names), codes
    numbers = {name: code for code, name in enumerate(known)}
    found = [numbers.setdefault(str(name), len(numbers)) for name in actions]
    return tuple(numbers), np.array(found, dtype=np.int64)


def _record_batch(rows: _Columns, context: _Context, versions: tuple[str, ...]) -> Any:
    count = len(rows.event_ids)
    places, columns = np.nonzero(rows.rule_hits)
    offsets = np.searchsorted(places, np.arange(count + 1)).astype(np.int32)
    rule_ids = pa.array(context.rule_ids, pa.string()).take(pa.array(columns))
    policy_versions = np.zeros(count, dtype=np.int64)
    arrays = [
        pa.array(rows.event_ids, pa.string()),
        pa.array(rows.ts_ms),
        pa.array(rows.scores),
        _words(rows.action_codes, context.action_names),
        pa.ListArray.from_arrays(pa.array(offsets), rule_ids),
        _words(policy_versions, (context.policy_version,)),
        _words(rows.versions, versions),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=DECISIONS_SCHEMA)


def _words(codes: NDArray[np.int64], words: tuple[str, ...]) -> Any:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32)), pa.array(words, pa.string())
    )


def _row_bytes(
    rows: _Columns, context: _Context, versions: tuple[str, ...], event_ids: Any
) -> memoryview:
    """Return the canonical bytes of the rows, one after the other."""
    count = len(rows.event_ids)
    fixed = np.empty(count, dtype=_FIXED)
    fixed["ts_ms"] = rows.ts_ms
    scores = rows.scores + 0.0  # turns minus zero into zero
    fixed["score"] = np.where(np.isnan(scores), np.nan, scores)
    fixed["id_bytes"] = pc.binary_length(event_ids).to_numpy()
    starts = np.arange(count + 1, dtype=np.int32) * _FIXED.itemsize
    buffers = [None, pa.py_buffer(starts.tobytes()), pa.py_buffer(fixed.tobytes())]
    head = pa.Array.from_buffers(pa.binary(), count, buffers)
    joined = pc.binary_join_element_wise(
        head,
        event_ids.cast(pa.binary()),
        _tails(rows, context, versions),
        pa.scalar(b"", pa.binary()),
    )
    first, last = np.frombuffer(joined.buffers()[1], dtype=np.int32)[[0, count]]
    return memoryview(joined.buffers()[2])[first:last]


def _tails(rows: _Columns, context: _Context, versions: tuple[str, ...]) -> Any:
    """Return the bytes after the event id; rows that agree in all of it share them."""
    patterns = np.zeros(len(rows.event_ids), dtype=np.int64)  # 0: no rule
    hit = np.flatnonzero(rows.rule_hits.any(axis=1))
    unique_hits = np.zeros((0, rows.rule_hits.shape[1]), dtype=np.bool_)
    if len(hit):
        packed = np.ascontiguousarray(np.packbits(rows.rule_hits[hit], axis=1))
        as_one = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
        _, first, pattern = np.unique(as_one, return_index=True, return_inverse=True)
        unique_hits = rows.rule_hits[hit[first]]
        patterns[hit] = pattern + 1
    pattern_count = len(unique_hits) + 1
    codes = (rows.versions * len(context.action_names) + rows.action_codes) * pattern_count
    used, place = np.unique(codes + patterns, return_inverse=True)
    tails = []
    for code in used.tolist():
        rest, pattern = divmod(code, pattern_count)
        version, action = divmod(rest, len(context.action_names))
        chosen = np.flatnonzero(unique_hits[pattern - 1]).tolist() if pattern else []
        rules = b"".join(_text(context.rule_ids[rule]) for rule in chosen)
        count = struct.pack("<I", len(chosen))
        decided_by = _text(context.policy_version) + _text(versions[version])
        tails.append(_text(context.action_names[action]) + count + rules + decided_by)
    return pa.array(tails, pa.binary()).take(pa.array(place))


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded


class _Message(msgspec.Struct, gc=False):
    """The parts of an output message that are counted."""

    risk: str = ""
    action: str = ""
    offer: str = ""
    channel: str = ""
    task: str = ""
    path: str = ""


class MessagesWriter:
    """Writes output messages to `alerts`, `offers`, `tasks` and `dead-letters.jsonl`.

    All four files are made, even where they stay empty; what is said of models goes to `models`,
    other topics are not kept. `counts` has
    the messages of each file, `tallies` how many there are by (risk, action) of an alert, (offer,
    channel), (task,) and (path,) of a dead letter.
    """

    FILES = ("alerts", "offers", "tasks", "dead-letters")

    def __init__(self, directory: Path | str) -> None:
        self.counts = dict.fromkeys(self.FILES, 0)
        self.tallies: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in self.FILES}
        self._files: dict[str, IO[bytes]] = {
            name: (Path(directory) / f"{name}.jsonl").open("wb") for name in self.FILES
        }
        self._decode = msgspec.json.Decoder(_Message).decode
        self.models = ModelLog(directory)

    def write(self, topic: str, value: bytes) -> None:
        """Append one message, a JSON object without line breaks."""
        name = topic.partition(".")[0]
        if name not in self._files:
            self.models.write(name, value)
            return
        self._files[name].write(value + b"\n")
        self.counts[name] += 1
        message = self._decode(value)
        kinds = {
            "alerts": (message.risk, message.action),
            "offers": (message.offer, message.channel),
            "tasks": (message.task,),
            "dead-letters": (message.path,),
        }
        self.tallies[name][kinds[name]] += 1

    def close(self) -> None:
        """Close the files; may be called again."""
        self.models.close()
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
