"""Features of the past as they were known at the time: one row for every transaction.

The records come in the order in which the replay plays them, labels at their own known time, and
go through the decoder, the histories and the bytecode of the live engine. So a value is what the
engine would have seen when deciding, and never knows more than that.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from actions.customers import CustomerState, profile_column
from actions.money import RateTable
from features.columns import Cell, Kind
from features.decode import Batch, Decoder
from features.errors import MillraceError, RecordError
from features.expressions import Type
from features.hashing import DEFAULT_KEY, IdHasher
from features.histories import FeatureEngine
from features.kernels.walker import evaluate
from features.raw import RawRecord
from features.records import ENCODER, Profile
from features.status import Status, output_statuses
from replay.expression_files import ExpressionSet
from replay.feature_files import FeatureRows, FeaturesWriter
from replay.source_record import SourceRecord
from replay.sources import Source
from replay.summary import memory_peak_mib
from streams.deciding import PROFILE_EXTERNAL
from streams.emissions import dead_letter
from streams.processor import profile_runs

BATCH_RECORDS = 1_024
DEAD_LETTERS_SUFFIX = ".dead-letters.jsonl"


class Computed(NamedTuple):
    """A batch's transactions with their values, and what was refused."""

    rows: FeatureRows
    refused: list[tuple[RawRecord, RecordError]]


class Backfill:
    """Computes the values of a set of expressions at every transaction, in input order."""

    def __init__(self, expressions: ExpressionSet, id_key: bytes = DEFAULT_KEY) -> None:
        """Compile the expressions. Raises SourceError for a wrong one.

        `id_key` orders events of one entity and one millisecond, as it does in the live engine.
        """
        hasher = IdHasher(id_key)
        self.types: dict[str, Type] = expressions.types(hasher.one)
        self._plan = expressions.compile(hasher.one)
        self._program = self._plan.before_models
        self._decoder = Decoder(hasher, RateTable(expressions.policy).convert)
        self._engine = FeatureEngine(self._plan, [0], assume_fresh=True)
        self._customers: dict[int, CustomerState] = {}
        self._offsets: Counter[str] = Counter()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the expressions, in the order of the rows of values."""
        return tuple(self._program.outputs)

    def take(self, records: Sequence[SourceRecord]) -> Computed:
        """Take the next records; the cut of the input into calls changes no value."""
        raws = [self._raw(record) for record in records]
        batch = self._decoder.decode(raws)
        features = self._engine.update(batch.kinds, batch.cells, batch.partitions)
        externals = self._externals(batch)
        values = evaluate(self._program, batch.cells, features.values, externals)
        known = output_statuses(self._program, values, features)
        rows = np.flatnonzero(batch.kinds == Kind.TRANSACTION)
        return Computed(
            FeatureRows(
                event_ids=_event_ids(batch, rows),
                ts_ms=batch.cells[Cell.TS_MS, rows],
                values=values[:, rows],
                statuses=known.codes[:, rows],
                bounds=known.bounds[:, rows],
            ),
            [(raws[row], error) for row, error in batch.refused],
        )

    def _raw(self, record: SourceRecord) -> RawRecord:
        offset = self._offsets[record.topic]
        self._offsets[record.topic] += 1
        return RawRecord(0, record.topic, offset, record.value)

    def _externals(self, batch: Batch) -> NDArray[np.float64]:
        """Return the plan's external columns; profiles are those known at each record."""
        names = self._plan.externals
        columns = np.full((len(names), len(batch.raws)), np.nan)
        if not names:
            return columns
        for start, stop in profile_runs(batch.kinds):
            for row in range(start, stop):
                if batch.kinds[row] != Kind.PROFILE:
                    break
                self._take_profile(batch, row)
            customers = batch.cells[Cell.CUSTOMER_ID, start:stop].tolist()
            states = [self._customers.get(customer) for customer in customers]
            times_ms = batch.cells[Cell.TS_MS, start:stop]
            for column, name in enumerate(names):
                field = name.removeprefix(PROFILE_EXTERNAL)
                columns[column, start:stop] = profile_column(field, states, times_ms)
        return columns

    def _take_profile(self, batch: Batch, row: int) -> None:
        record = batch.records[row]
        if isinstance(record, Profile):
            customer = int(batch.cells[Cell.CUSTOMER_ID, row])
            self._customers.setdefault(customer, CustomerState()).take_profile(record)


def _event_ids(batch: Batch, rows: NDArray[np.intp]) -> list[str]:
    records: Sequence[Any] = batch.records
    return [records[row].event_id for row in rows.tolist()]


def run_backfill(
    source: Source,
    expressions: ExpressionSet,
    out: Path,
    *,
    id_key: bytes = DEFAULT_KEY,
    progress: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Write the values of all expressions at all transactions of `source`; return the summary.

    `out` appears when it is complete. What was refused stands beside it, in a file of dead
    letters. Memory holds the entities' histories and one row group, however long the source is.
    """
    started_s = time.perf_counter()
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Backfill(expressions, id_key)
    record_count, refused_count = 0, 0
    texts = {name: text.text for name, text in expressions.expressions.items()}
    letters_path = out.with_name(out.stem + DEAD_LETTERS_SUFFIX)
    with ExitStack() as closing:
        letters = closing.enter_context(letters_path.open("wb"))
        writer = closing.enter_context(FeaturesWriter(out, work.names, work.types, texts))
        for chunk in source.chunks(BATCH_RECORDS):
            rows, refused = work.take(chunk.records)
            writer.write(rows)
            letters.writelines(ENCODER.encode(dead_letter(*item)) + b"\n" for item in refused)
            record_count += len(chunk.records)
            refused_count += len(refused)
            progress(len(chunk.records))
        counts = writer.finish()
    wall_s = time.perf_counter() - started_s
    return {
        "records": {
            "in": record_count,
            "rows": writer.row_count,
            "dead_lettered": refused_count,
        },
        "features": {
            name: {status.name.lower(): int(counts[row, status]) for status in Status}
            for row, name in enumerate(work.names)
        },
        "out": str(out),
        "dead_letters": str(letters_path),
        "wall_s": round(wall_s, 3),
        "throughput_per_s": round(record_count / wall_s, 1),
        "memory_peak_mib": round(memory_peak_mib(), 1),
    }


def check_out(out: Path, source: Path) -> None:
    """Raise MillraceError where the output would take the place of the source."""
    if out.exists() and (out.samefile(source) or (source.is_dir() and out.parent.samefile(source))):
        raise MillraceError(f"{out}: expected a file apart from the source, got one of its own")
