"""From bytes to cells: a kernel reads what is plain, the typed decoder whatever it is unsure of.

Both give the same cells; every refusal is the typed decoder's.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from features.batches import Batch, Records
from features.codes import code_of
from features.columns import MISSING, Cell, Kind, empty_cells
from features.errors import RecordError
from features.hashing import IdHasher
from features.kernels.scan import Span
from features.raw import RawRecord
from features.records import ONE_TOPIC, Record, Transaction
from features.scanning import Scanner
from features.typed import MICRO, TypedDecoder

__all__ = ["MICRO", "ONE_TOPIC", "Batch", "Decoder", "MoneyConverter"]

# amount_minor int64[n], currency code int64[n], ts_ms int64[n] -> converted int64[n], known bool[n]
MoneyConverter = Callable[
    [NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    tuple[NDArray[np.int64], NDArray[np.bool_]],
]


class Decoder:
    """Validates records by topic and turns batches of them into cells.

    Amounts in `own_currency` (ISO 4217), where it is given, are not handed to `convert_money`,
    which would leave them as they are.
    """

    def __init__(
        self,
        hasher: IdHasher,
        convert_money: MoneyConverter,
        own_currency: str | None = None,
    ) -> None:
        self._typed = TypedDecoder(hasher)
        self._scanner = Scanner(hasher)
        self._convert_money = convert_money
        self._own_code = int(MISSING) if own_currency is None else code_of(own_currency)

    def decode(self, raws: Sequence[RawRecord]) -> Batch:
        """Return the batch; a bad record becomes a refused row and the rest goes on."""
        if not raws:
            return self.decode_typed(raws)
        partitions, topics, _, values = zip(*raws, strict=True)
        text, kinds, cells, spans, unsure_count, foreign_count = self._scanner.scan(
            topics, values, self._own_code
        )
        batch = Batch(
            raws,
            Records(raws, self._typed.record, {}),
            kinds,
            np.fromiter(partitions, np.uint16, len(raws)),
            cells,
            text,
            spans[Span.ID_FROM :],
        )
        if unsure_count:
            self._fill_typed(batch, np.flatnonzero(kinds == Kind.REFUSED))
        if unsure_count or foreign_count:
            self._convert(batch)
        return batch

    def decode_typed(self, raws: Sequence[RawRecord]) -> Batch:
        """Return what `decode` does, without its kernel: slow, and its oracle."""
        count = len(raws)
        batch = Batch(
            raws,
            Records(raws, self._typed.record, {}),
            np.zeros(count, dtype=np.uint8),
            np.fromiter((raw.partition for raw in raws), np.uint16, count),
            empty_cells(count),
            b"",
            np.full((2, count), -1, dtype=np.int64),
        )
        self._fill_typed(batch, np.arange(count))
        self._convert(batch)
        return batch

    def _fill_typed(self, batch: Batch, rows: NDArray[np.intp]) -> None:
        batch.refused = self._typed.fill(
            batch.raws, rows.tolist(), batch.kinds, batch.cells, batch.records.known
        )

    def _convert(self, batch: Batch) -> None:
        """Put amounts and balances into the policy's currency; refuse those without a rate."""
        cells = batch.cells
        foreign = (batch.kinds == Kind.TRANSACTION) & (cells[Cell.CURRENCY] != self._own_code)
        rows = np.flatnonzero(foreign)
        if not rows.size:
            return
        currencies, times_ms = cells[Cell.CURRENCY, rows], cells[Cell.TS_MS, rows]
        amounts, known = self._convert_money(cells[Cell.AMOUNT, rows], currencies, times_ms)
        cells[Cell.AMOUNT, rows] = amounts
        balances = cells[Cell.BALANCE, rows]
        present = balances != MISSING
        if present.any():
            # A balance of which nothing is known is converted as if it were nothing, and left out.
            converted, fits = self._convert_money(
                np.where(present, balances, 0), currencies, times_ms
            )
            cells[Cell.BALANCE, rows] = np.where(present & fits, converted, MISSING)
        for row in rows[~known].tolist():
            _refuse_currency(batch, row, batch.records[row])
        batch.refused.sort(key=lambda item: item[0])


def _refuse_currency(batch: Batch, row: int, record: Record | None) -> None:
    assert isinstance(record, Transaction)
    batch.kinds[row] = Kind.REFUSED
    batch.records.known[row] = None
    batch.cells[:, row] = MISSING
    expected = "a currency that the policy's rate table covers at this time"
    batch.refused.append((row, RecordError("$.currency", expected, repr(record.currency))))
