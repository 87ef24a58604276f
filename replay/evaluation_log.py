"""What the evaluation remembers of each decided transaction: 30 bytes a row, plus the frauds."""

from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.encoding import FRAUD, NEVER_MS

BLOCK_ROWS = 65_536
_COLUMNS: dict[str, Any] = {
    "ts_ms": np.int64,
    "card": np.int64,
    "score": np.float64,
    "amount": np.float32,
    "truth": np.int8,
    "alerted": np.bool_,
}
ROW_BYTES = sum(np.dtype(of).itemsize for of in _COLUMNS.values())


class Evaluated(NamedTuple):
    """The log as arrays of shape (n,); `known_ms` is -1 where a fraud never becomes known.

    `card` is the hash of the card, or of the customer where there is none; `truth` is 1 fraud,
    0 legitimate, -1 unknown; `amount` is in minor units, rounded to 24 bits, for plots only.
    """

    ts_ms: NDArray[np.int64]
    card: NDArray[np.int64]
    score: NDArray[np.float64]
    amount: NDArray[np.float32]
    truth: NDArray[np.int8]
    alerted: NDArray[np.bool_]
    known_ms: NDArray[np.int64]


class EvaluationLog:
    """Grows by blocks of rows, so that no row is ever copied while the stream runs."""

    def __init__(self) -> None:
        self.row_count = 0
        self._blocks: list[dict[str, NDArray[Any]]] = []
        self._fraud_rows = array("q")
        self._fraud_known_ms = array("q")

    def append(
        self,
        ts_ms: NDArray[np.int64],
        card: NDArray[np.int64],
        score: NDArray[np.float64],
        truth: NDArray[np.int8],
        known_ms: NDArray[np.int64],
        amount_minor: NDArray[np.int64],
        alerted: NDArray[np.bool_],
    ) -> None:
        """Append n decided transactions in the order of the stream; all have shape (n,)."""
        columns: dict[str, NDArray[Any]] = {
            "ts_ms": ts_ms,
            "card": card,
            "score": score,
            "amount": amount_minor,
            "truth": truth,
            "alerted": alerted,
        }
        count = len(ts_ms)
        if {len(column) for column in (*columns.values(), known_ms)} != {count}:
            lengths = {name: len(column) for name, column in columns.items()}
            raise ValueError(f"log: expected columns of {count} rows, got {lengths}")
        for row in np.flatnonzero((np.asarray(truth) == FRAUD) & (np.asarray(known_ms) >= 0)):
            self._fraud_rows.append(self.row_count + int(row))
            self._fraud_known_ms.append(int(known_ms[row]))
        start = 0
        while start < count:
            place = self.row_count % BLOCK_ROWS
            if place == 0:
                self._blocks.append({n: np.empty(BLOCK_ROWS, of) for n, of in _COLUMNS.items()})
            taken = min(count - start, BLOCK_ROWS - place)
            for name, column in columns.items():
                self._blocks[-1][name][place : place + taken] = column[start : start + taken]
            start += taken
            self.row_count += taken

    def arrays(self) -> Evaluated:
        """Return everything logged so far, in the order of the stream."""
        joined = {
            name: np.concatenate(
                [np.empty(0, of), *(block[name] for block in self._blocks)], dtype=of
            )[: self.row_count]
            for name, of in _COLUMNS.items()
        }
        known_ms = np.full(self.row_count, NEVER_MS, dtype=np.int64)
        known_ms[np.array(self._fraud_rows, dtype=np.int64)] = self._fraud_known_ms
        return Evaluated(**joined, known_ms=known_ms)
