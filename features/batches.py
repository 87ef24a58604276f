"""A run of records in input order: as cells, and typed where somebody asks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cells, Kind
from features.errors import RecordError
from features.raw import RawRecord
from features.records import Label, Record, Transaction


class Records(Sequence[Record | None]):
    """The typed records of a batch, each decoded when it is first asked for; refused ones are None.

    `known` (row of `raws` -> record) is shared by all cuts of a batch.
    """

    __slots__ = ("_decode", "_first", "_raws", "_stop", "known")

    def __init__(
        self,
        raws: Sequence[RawRecord],
        decode: Callable[[RawRecord], Record],
        known: dict[int, Record | None],
        first: int = 0,
        stop: int | None = None,
    ) -> None:
        self._raws = raws
        self._decode = decode
        self.known = known
        self._first = first
        self._stop = len(raws) if stop is None else stop

    def __len__(self) -> int:
        return self._stop - self._first

    @overload
    def __getitem__(self, index: int) -> Record | None: ...
    @overload
    def __getitem__(self, index: slice) -> "Records": ...
    def __getitem__(self, index: int | slice) -> "Record | Records | None":
        places = range(self._first, self._stop)[index]
        if isinstance(places, range):
            if places.step != 1:
                raise ValueError(f"records: expected a slice of step 1, got {places.step}")
            return Records(self._raws, self._decode, self.known, places.start, places.stop)
        if places not in self.known:
            self.known[places] = self._decode(self._raws[places])
        return self.known[places]


class EventIds(Sequence[str]):
    """The event ids of some rows of a batch, as text; nothing is decoded before the first look."""

    __slots__ = ("_batch", "_rows", "_texts")

    def __init__(self, batch: "Batch", rows: NDArray[np.intp]) -> None:
        self._batch = batch
        self._rows = rows
        self._texts: list[str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._all()[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def _all(self) -> list[str]:
        if self._texts is None:
            self._texts = self._batch.event_ids(self._rows)
        return self._texts


@dataclass(slots=True)
class Batch:
    """A run of records in input order; refused rows have no record and no cells.

    `first` is the sequence number of row 0 in the whole input. `text` holds the bytes of all
    records, `id_spans` (2, n) where the event id of each stands in it, -1 where it must be asked
    of the record itself.
    """

    raws: Sequence[RawRecord]
    records: Records
    kinds: NDArray[np.uint8]
    partitions: NDArray[np.uint16]
    cells: Cells
    text: bytes
    id_spans: NDArray[np.int64]
    refused: list[tuple[int, RecordError]] = field(default_factory=list)
    first: int = 0

    def cut(self, start: int, stop: int) -> "Batch":
        """Return rows [start, stop) as a batch of their own; arrays are views."""
        if start == 0 and stop == len(self.kinds):
            return self
        return Batch(
            self.raws[start:stop],
            self.records[start:stop],
            self.kinds[start:stop],
            self.partitions[start:stop],
            self.cells[:, start:stop],
            self.text,
            self.id_spans[:, start:stop],
            [(row - start, error) for row, error in self.refused if start <= row < stop],
            self.first + start,
        )

    def refuse(self, row: int, error: RecordError) -> None:
        """Take a row for one that was refused: what it holds was found to be no good later."""
        self.kinds[row] = Kind.REFUSED
        self.records.known[row] = None
        self.cells[:, row] = MISSING
        self.refused.append((row, error))
        self.refused.sort(key=lambda item: item[0])

    def event_ids(self, rows: NDArray[np.intp]) -> list[str]:
        """Return the event ids of these rows, which must be transactions or labels, as text."""
        text, records = self.text, self.records
        starts, ends = self.id_spans[:, rows].tolist()
        return [
            text[start:end].decode() if start >= 0 else _event_id(records[row])
            for row, start, end in zip(rows.tolist(), starts, ends, strict=True)
        ]


def _event_id(record: Record | None) -> str:
    if isinstance(record, Transaction | Label):
        return record.event_id
    raise ValueError(f"expected a transaction or a label, got {type(record).__name__}")
