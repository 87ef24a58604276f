"""The truth as a table of its own: which transactions are frauds. Only the evaluation sees it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from features.errors import MillraceError, SourceError, nearest_name
from replay.conversions import plain_column
from replay.field_json import plain_text, strings
from replay.mapping import Mapping, TruthSpec

_FRAUD_WORDS = ("1", "true", "True", "fraud")


def read_truth(path: Path, spec: TruthSpec, mapping: Mapping) -> list[str]:
    """Return the event ids of the frauds, each once, in the order of the file.

    Where the mapping names no column for the verdict, every row of the table is a fraud.
    """
    names = [spec.event_id] + ([spec.fraud] if spec.fraud is not None else [])
    ids: dict[str, None] = {}
    try:
        for batch in _batches(path, names, spec, mapping):
            events = strings(plain_text(plain_column(batch.column(spec.event_id))))
            verdicts = ["1"] * len(events)
            if spec.fraud is not None:
                verdicts = strings(plain_text(plain_column(batch.column(spec.fraud))))
            for event_id, verdict in zip(events, verdicts, strict=True):
                if event_id and verdict in _FRAUD_WORDS:
                    ids[event_id] = None
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise MillraceError(f"{path.name}: expected a table, got a fault: {reason}") from error
    return list(ids)


def _batches(path: Path, names: list[str], spec: TruthSpec, mapping: Mapping) -> Iterator[Any]:
    if path.suffix.lower() == ".parquet":
        with pa.parquet.ParquetFile(path) as file:
            _check(file.schema_arrow.names, names, spec, mapping, path)
            yield from file.iter_batches(columns=names)
        return
    with pa.csv.open_csv(path) as reader:
        known = reader.schema.names
    _check(known, names, spec, mapping, path)
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), include_columns=names
    )
    with pa.csv.open_csv(path, convert_options=convert) as reader:
        yield from reader


def _check(
    known: list[str], names: list[str], spec: TruthSpec, mapping: Mapping, path: Path
) -> None:
    for name in names:
        if name not in known:
            line, column = spec.place
            expected = f"a column of {path.name}"
            nearest = nearest_name(name, known)
            raise SourceError(mapping.file, line, column, expected, f"`{name}`", nearest)
