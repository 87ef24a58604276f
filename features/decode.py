"""From bytes to typed records and cells: the slow path, and the source of every error message."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import orjson
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from features.codes import code_of
from features.columns import MISSING, Cell, Cells, Kind, LabelCode, empty_cells
from features.errors import RecordError, nearest_name
from features.hashing import IdHasher
from features.raw import RawRecord
from features.records import (
    INPUT_RECORDS,
    Contact,
    Interaction,
    Label,
    Outcome,
    Profile,
    Record,
    Transaction,
)

ONE_TOPIC = "events"  # a topic that carries every kind of record
MICRO = 1_000_000
_FIELDS = Transaction.__struct_fields__

KIND_OF: dict[type, Kind] = {
    Transaction: Kind.TRANSACTION,
    Label: Kind.LABEL,
    Profile: Kind.PROFILE,
    Interaction: Kind.INTERACTION,
    Outcome: Kind.OUTCOME,
    Contact: Kind.CONTACT,
}
ID_FIELDS = (
    "event_id",
    "customer_id",
    "account_id",
    "card_id",
    "merchant_id",
    "terminal_id",
    "payee_id",
    "device_id",
    "ip",
)
CODE_FIELDS = ("type", "direction", "channel", "country", "currency")

# amount_minor int64[n], currency code int64[n], ts_ms int64[n] -> converted int64[n], known bool[n]
MoneyConverter = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    tuple[NDArray[np.int64], NDArray[np.bool_]],
]


@dataclass(slots=True)
class Batch:
    """A run of records in input order, typed and as cells; refused rows have no record.

    `first` is the sequence number of row 0 in the whole input.
    """

    raws: Sequence[RawRecord]
    records: list[Record | None]
    kinds: NDArray[np.uint8]
    partitions: NDArray[np.uint16]
    cells: Cells
    refused: list[tuple[int, RecordError]] = field(default_factory=list)
    first: int = 0

    def cut(self, start: int, stop: int) -> "Batch":
        """Return rows [start, stop) as a batch of their own; arrays are views."""
        return Batch(
            self.raws[start:stop],
            self.records[start:stop],
            self.kinds[start:stop],
            self.partitions[start:stop],
            self.cells[:, start:stop],
            [(row - start, error) for row, error in self.refused if start <= row < stop],
            self.first + start,
        )


class Decoder:
    """Validates records by topic and turns batches of them into cells."""

    def __init__(self, hasher: IdHasher, convert_money: MoneyConverter) -> None:
        self._hasher = hasher
        self._convert_money = convert_money
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            topic: msgspec.json.Decoder(kind) for topic, kind in INPUT_RECORDS.items()
        }
        self._decoders[ONE_TOPIC] = msgspec.json.Decoder(Record)

    def decode(self, raws: Sequence[RawRecord]) -> Batch:
        """Return the batch; a bad record becomes a refused row and the rest goes on."""
        records: list[Record | None] = []
        refused: list[tuple[int, RecordError]] = []
        for row, raw in enumerate(raws):
            try:
                records.append(self._decoders[raw.topic].decode(raw.value))
            except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError) as error:
                records.append(None)
                refused.append((row, explain(raw, error)))
        count = len(raws)
        kinds = np.fromiter((KIND_OF.get(type(r), Kind.REFUSED) for r in records), np.uint8, count)
        partitions = np.fromiter((raw.partition for raw in raws), np.uint16, count)
        batch = Batch(raws, records, kinds, partitions, empty_cells(count), refused)
        self._fill(batch)
        return batch

    def _fill(self, batch: Batch) -> None:
        rows = np.flatnonzero(batch.kinds == Kind.TRANSACTION)
        if rows.size:
            transactions = [batch.records[row] for row in rows.tolist()]
            self._fill_transactions(batch, rows, transactions)
        for row in np.flatnonzero(batch.kinds > Kind.TRANSACTION).tolist():
            record: Any = batch.records[row]
            batch.cells[Cell.TS_MS, row] = record.ts_ms
            batch.cells[Cell.CUSTOMER_ID, row] = self._hasher.one(record.customer_id)
            if type(record) is Label:
                batch.cells[Cell.EVENT_ID, row] = self._hasher.one(record.event_id)
                fraud = record.verdict == "fraud"
                batch.cells[Cell.LABEL, row] = LabelCode.FRAUD if fraud else LabelCode.LEGITIMATE

    def _fill_transactions(
        self, batch: Batch, rows: NDArray[np.intp], transactions: list[Any]
    ) -> None:
        count = len(transactions)
        cells = empty_cells(count)
        # One tuple a record and one transposition: less work than reading field by field.
        columns = dict(zip(_FIELDS, zip(*map(astuple, transactions), strict=True), strict=True))
        self._fill_ids(cells, columns)
        for offset, name in enumerate(CODE_FIELDS):
            cells[Cell.TYPE + offset] = [_CODES[code] for code in columns[name]]
        cells[Cell.TS_MS] = columns["ts_ms"]
        cells[Cell.LABEL] = LabelCode.UNKNOWN
        for cell, name, scale in (
            (Cell.MCC, "mcc", 1),
            (Cell.LAT, "lat", MICRO),
            (Cell.LON, "lon", MICRO),
        ):
            cells[cell] = _whole(columns[name], scale)
        amounts = np.array(columns["amount_minor"], dtype=np.int64)
        cells[Cell.AMOUNT], known = self._convert_money(
            amounts, cells[Cell.CURRENCY], cells[Cell.TS_MS]
        )
        balances = _whole(columns["balance_minor"], 1)
        present = balances != MISSING
        if present.any():
            # A balance of which nothing is known is converted as if it were nothing, and left out.
            converted, fits = self._convert_money(
                np.where(present, balances, 0), cells[Cell.CURRENCY], cells[Cell.TS_MS]
            )
            cells[Cell.BALANCE] = np.where(present & fits, converted, MISSING)
        batch.cells[:, rows] = cells
        for position in np.flatnonzero(~known).tolist():
            self._refuse_currency(batch, int(rows[position]), transactions[position])

    def _fill_ids(self, cells: Cells, columns: dict[str, tuple[Any, ...]]) -> None:
        """Hash all ids of a batch in one call; a field that no record carries costs nothing."""
        texts: list[str | None] = []
        present = []
        for offset, name in enumerate(ID_FIELDS):
            column = columns[name]
            if column[0] is not None or any(text is not None for text in column):
                present.append(Cell.EVENT_ID + offset)
                texts += column
        cells[present] = self._hasher.many(texts).reshape(len(present), -1)

    def _refuse_currency(self, batch: Batch, row: int, transaction: Transaction) -> None:
        batch.kinds[row] = Kind.REFUSED
        batch.records[row] = None
        batch.cells[:, row] = MISSING
        expected = "a currency that the policy's rate table covers at this time"
        error = RecordError("$.currency", expected, repr(transaction.currency))
        batch.refused.append((row, error))
        batch.refused.sort(key=lambda item: item[0])


def _whole(column: tuple[float | None, ...], scale: int) -> NDArray[np.int64]:
    """Return numbers times `scale` as integers, rounded half to even; None becomes MISSING."""
    if column.count(None) == len(column):
        return np.full(len(column), MISSING)
    if scale == 1:
        return np.array([MISSING if value is None else value for value in column], dtype=np.int64)
    numbers = np.array(column, dtype=np.float64)  # None becomes NaN
    absent = np.isnan(numbers)
    return np.where(
        absent, MISSING, np.rint(np.where(absent, 0.0, numbers) * scale).astype(np.int64)
    )


class _Codes(dict[str | None, int]):
    """The numbers of enumerations and ISO codes, each worked out once: there are few."""

    def __missing__(self, text: str) -> int:
        value = self[text] = code_of(text)
        return value


_CODES = _Codes({None: int(MISSING)})

_AT = re.compile(r" - at `(?P<path>[^`]*)`$")
_EXPECTED_GOT = re.compile(r"^Expected (?P<expected>.*), got (?P<got>.*)$")
_MISSING_FIELD = re.compile(r"^Object missing required field `(?P<name>[^`]*)`$")


def explain(raw: RawRecord, error: Exception) -> RecordError:
    """Turn a decoder's refusal into path, expected, got and the nearest known name."""
    if isinstance(error, KeyError):
        topics = [*INPUT_RECORDS, ONE_TOPIC]
        expected = "a topic of " + ", ".join(topics)
        return RecordError("$", expected, repr(raw.topic), nearest_name(raw.topic, topics))
    if not isinstance(error, msgspec.ValidationError):
        return RecordError("$", "a JSON object in UTF-8", f"{_clip(raw.value)} ({error})")
    message = str(error)
    at = _AT.search(message)
    path = at["path"] if at else "$"
    message = _AT.sub("", message)
    if match := _MISSING_FIELD.match(message):
        return _missing_field(raw, path, match["name"])
    value = _value_at(raw.value, path)
    if match := _EXPECTED_GOT.match(message):
        return RecordError(path, match["expected"].replace("`", ""), _shown(value, match["got"]))
    if message.startswith(("Invalid enum value", "Invalid value")):
        known = _known_values(raw, path)
        got = _shown(value, "an unknown value")
        nearest = nearest_name(value, known) if isinstance(value, str) else None
        return RecordError(path, "one of " + ", ".join(known), got, nearest)
    if message.endswith("out of range"):
        return RecordError(path, "a number that fits its type", "one that is too large")
    return RecordError(
        path, message.removeprefix("Expected ").replace("`", ""), _shown(value, "null")
    )


def _missing_field(raw: RawRecord, path: str, name: str) -> RecordError:
    holder = _value_at(raw.value, path)
    keys = list(holder) if isinstance(holder, dict) else []
    kind = _record_type(raw)
    known = set(kind.__struct_fields__) if kind else set()
    nearest = nearest_name(name, [key for key in keys if key not in known])
    got = "none" if nearest is None else f"none, but an unknown field `{nearest}`"
    return RecordError(f"{path}.{name}", "a required field", got, name if nearest else None)


def _record_type(raw: RawRecord) -> type[Struct] | None:
    if raw.topic in INPUT_RECORDS:
        return INPUT_RECORDS[raw.topic]
    tag = _value_at(raw.value, "$.kind")
    tags = {kind.__struct_config__.tag: kind for kind in KIND_OF}  # type: ignore[attr-defined]
    return tags.get(tag) if isinstance(tag, str) else None


def _known_values(raw: RawRecord, path: str) -> list[str]:
    """List the values allowed at `path`: the tags, or the literals of the field's type."""
    if path == "$.kind":
        if raw.topic == ONE_TOPIC:
            return [str(kind.__struct_config__.tag) for kind in KIND_OF]  # type: ignore[attr-defined]
        return [str(INPUT_RECORDS[raw.topic].__struct_config__.tag)]
    kind = _record_type(raw)
    if kind is None:
        return []
    schema = msgspec.json.schema_components((kind,))[1]
    properties = schema[kind.__name__]["properties"]
    entry = properties.get(path.removeprefix("$.").split("[")[0].split(".")[0], {})
    options = [entry, entry.get("items", {}), *entry.get("anyOf", [])]
    return sorted({str(value) for option in options for value in option.get("enum", [])})


def _value_at(value: bytes, path: str) -> Any:
    """Return what stands at a JSON path such as `$.a.b[2]`, or None."""
    try:
        found: Any = orjson.loads(value)
        for step in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
            found = found[step[0]] if step[0] else found[int(step[1])]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return None
    return found


def _shown(value: Any, fallback: str) -> str:
    if value is None:
        return fallback.replace("`", "")
    return f"{type(value).__name__} {_clip(repr(value))}"


def _clip(value: str | bytes, limit: int = 80) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
