"""From bytes to typed records to cells: slow, strict, and the oracle of the scanner.

msgspec validates a record and says what is wrong with it; its fields then become cells, a column
at a time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import astuple
from numpy.typing import NDArray

from features.codes import code_of
from features.columns import MISSING, Cell, Cells, Kind, LabelCode, empty_cells
from features.errors import RecordError
from features.hashing import IdHasher
from features.raw import RawRecord
from features.records import (
    ONE_TOPIC,
    TAKEN_RECORDS,
    Contact,
    Interaction,
    Label,
    ListChange,
    Outcome,
    PolicyChange,
    Profile,
    Promotion,
    Record,
    Transaction,
)
from features.refusals import explain

MICRO = 1_000_000

Columns = dict[str, tuple[Any, ...]]  # field -> its values, one a record


class CellForms(NamedTuple):
    """Which fields of a record fill which cells, by what becomes of them there."""

    kind: Kind
    ids: dict[Cell, str]  # hashed
    codes: dict[Cell, str]  # numbers of `features.codes`
    integers: dict[Cell, str]
    micros: dict[Cell, str]  # millionths, rounded half to even


def _of(*cells: Cell) -> dict[Cell, str]:
    return {cell: cell.name.lower() for cell in cells}


FORMS: dict[type[Struct], CellForms] = {
    Transaction: CellForms(
        Kind.TRANSACTION,
        _of(
            Cell.EVENT_ID, Cell.CUSTOMER_ID, Cell.ACCOUNT_ID, Cell.CARD_ID, Cell.MERCHANT_ID,
            Cell.TERMINAL_ID, Cell.PAYEE_ID, Cell.DEVICE_ID, Cell.IP,
        ),
        _of(Cell.TYPE, Cell.DIRECTION, Cell.CHANNEL, Cell.COUNTRY, Cell.CURRENCY),
        {Cell.MCC: "mcc", Cell.AMOUNT: "amount_minor", Cell.BALANCE: "balance_minor"},
        _of(Cell.LAT, Cell.LON),
    ),
    Label: CellForms(Kind.LABEL, _of(Cell.EVENT_ID, Cell.CUSTOMER_ID), {}, {}, {}),
    Profile: CellForms(Kind.PROFILE, _of(Cell.CUSTOMER_ID), {}, {}, {}),
    Interaction: CellForms(
        Kind.INTERACTION,
        _of(Cell.EVENT_ID, Cell.CUSTOMER_ID, Cell.DEVICE_ID, Cell.METRIC),
        _of(Cell.TYPE, Cell.CHANNEL),
        {},
        _of(Cell.VALUE),
    ),
    # An action has several outcomes: together with the result its id is one event's.
    Outcome: CellForms(
        Kind.OUTCOME,
        {Cell.EVENT_ID: "action_id:result", Cell.CUSTOMER_ID: "customer_id"},
        _of(Cell.RESULT),
        {Cell.AMOUNT: "value_minor"},
        {},
    ),
    Contact: CellForms(
        Kind.CONTACT,
        {Cell.EVENT_ID: "contact_id", Cell.CUSTOMER_ID: "customer_id", Cell.OFFER: "offer"},
        _of(Cell.CHANNEL),
        {},
        {},
    ),
    Promotion: CellForms(Kind.CONTROL, {}, {}, {}, {}),
    PolicyChange: CellForms(Kind.CONTROL, {}, {}, {}, {}),
    ListChange: CellForms(Kind.CONTROL, {}, {}, {}, {}),
}  # fmt: skip


class TypedDecoder:
    """Validates records by topic, and fills cells from the good ones."""

    def __init__(self, hasher: IdHasher) -> None:
        self._hasher = hasher
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            topic: msgspec.json.Decoder(kind) for topic, kind in TAKEN_RECORDS.items()
        }
        self._decoders[ONE_TOPIC] = msgspec.json.Decoder(Record)

    def record(self, raw: RawRecord) -> Record:
        """Return the typed record. Raises what msgspec does, KeyError for an unknown topic."""
        record: Record = self._decoders[raw.topic].decode(raw.value)
        return record

    def fill(
        self,
        raws: Sequence[RawRecord],
        rows: Sequence[int],
        kinds: NDArray[np.uint8],
        cells: Cells,
        known: dict[int, Record | None],
    ) -> list[tuple[int, RecordError]]:
        """Take these rows into `kinds`, `cells` and `known`; return those that are refused."""
        refused: list[tuple[int, RecordError]] = []
        by_type: dict[type, tuple[list[int], list[Any]]] = {kind: ([], []) for kind in FORMS}
        for row in rows:
            raw = raws[row]
            try:
                record = known[row] = self.record(raw)
            except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError) as error:
                known[row] = None
                refused.append((row, explain(raw, error)))
            else:
                own_rows, own_records = by_type[type(record)]
                own_rows.append(row)
                own_records.append(record)
        for kind, (own_rows, own_records) in by_type.items():
            if own_rows:
                kinds[own_rows] = FORMS[kind].kind
                cells[:, own_rows] = self._cells(kind, own_records)
        return refused

    def _cells(self, kind: type[Struct], records: list[Any]) -> Cells:
        """Return the cells of records of one kind, (len(Cell), n)."""
        forms = FORMS[kind]
        cells = empty_cells(len(records))
        if forms.kind == Kind.CONTROL:
            return cells
        # One tuple a record and one transposition: less work than reading field by field.
        values = zip(*map(astuple, records), strict=True)
        columns: Columns = dict(zip(kind.__struct_fields__, values, strict=True))
        cells[Cell.TS_MS] = columns["ts_ms"]
        cells[Cell.LABEL] = LabelCode.UNKNOWN
        if kind is Label:
            cells[Cell.LABEL] = [_VERDICTS[verdict] for verdict in columns["verdict"]]
        if kind is Outcome:
            actions = zip(columns["action_id"], columns["result"], strict=True)
            columns["action_id:result"] = tuple(f"{action}:{result}" for action, result in actions)
        self._fill_ids(cells, forms.ids, columns)
        for cell, name in forms.codes.items():
            cells[cell] = [_CODES[word] for word in columns[name]]
        for cell, name in forms.integers.items():
            column = columns[name]
            cells[cell] = [MISSING if value is None else value for value in column]
        for cell, name in forms.micros.items():
            cells[cell] = _micros(columns[name])
        return cells

    def _fill_ids(self, cells: Cells, ids: dict[Cell, str], columns: Columns) -> None:
        """Hash all ids of a batch in one call; a field that no record carries costs nothing."""
        texts: list[str | None] = []
        present = []
        for cell, name in ids.items():
            column = columns[name]
            if column[0] is not None or any(text is not None for text in column):
                present.append(cell)
                texts += column
        cells[present] = self._hasher.many(texts).reshape(len(present), -1)


def _micros(column: tuple[float | None, ...]) -> NDArray[np.int64]:
    """Return numbers in millionths; what is absent becomes MISSING."""
    numbers = np.array(column, dtype=np.float64)  # None becomes NaN
    given = np.isfinite(numbers)
    return np.where(given, np.rint(np.where(given, numbers, 0.0) * MICRO).astype(np.int64), MISSING)


class _Codes(dict[str | None, int]):
    """The numbers of enumerations and ISO codes, each worked out once: there are few."""

    def __missing__(self, text: str) -> int:
        value = self[text] = code_of(text)
        return value


_CODES = _Codes({None: int(MISSING)})
_VERDICTS = {"fraud": LabelCode.FRAUD, "legitimate": LabelCode.LEGITIMATE}
