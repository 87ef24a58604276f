"""Mapping files: which column of which table is which field of which record.

A mapping is YAML with a list of `tables` and, if the truth is a table of its own, `truth`:

```yaml
tables:
  - path: payments.csv          # relative to the source directory; left out when SRC is the file
    kind: transaction           # or interaction, profile, label, outcome
    delimiter: ";"              # CSV only; a comma if left out
    encoding: latin-1           # CSV only; UTF-8 if left out
    optional: true              # the table may be missing; false if left out
    columns:                    # left out: the columns are named like the record's fields
      event_id: ID                                  # the column as it is
      customer_id: {column: CUST, template: "C{}"}  # text around the value
      currency: {constant: EUR}
      ts_ms: {column: WHEN, time: {format: iso, timezone: Europe/Brussels}}
      amount_minor: {column: AMOUNT, minor_units: {decimals: 2, strip: "$,", absolute: true}}
      type: {column: T, map: {CASH: cash, BUY: purchase}, default: fee}
      direction: {column: AMOUNT, sign: {negative: in, otherwise: out}}
    labels: {column: FRAUD, fraud_when: 1, delay: 7d, emit: fraud, source: chargeback}
truth: {path: truth_fraud.parquet, event_id: event_id, fraud: fraud, optional: true}
```

`time.format` is iso (text), epoch_s, epoch_ms or datetime (a date or timestamp column; text is read
as iso). `time.timezone` (UTC if left out) is for times that carry none. `default` stands in for
nulls and for values that `map` does not know; without it such a value is passed on as it is. A
list field takes `split: ";"` where the table holds it as text.

`labels` derives label records from a table of transactions: a verdict is known at `ts_ms + delay`
and never earlier. `fraud_when` is one value or a list, compared as text; every other value that is
not null is legitimate. `emit: fraud` leaves out the legitimate ones (silence matures in the
engine), `emit: all` sends both.
"""

from collections.abc import Mapping as MappingOf
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from features.records import TAKEN_RECORDS

MAPPINGS_DIRECTORY = Path(__file__).parent / "mappings"
TOPICS_BY_KIND = {
    "transaction": "transactions",
    "interaction": "interactions",
    "profile": "profiles",
    "label": "labels",
    "outcome": "outcomes",
    "contact": "contacts",
    "promotion": "promotions",
    "policy": "policies",
    "list": "lists",
}
RECORDS_BY_KIND = {kind: TAKEN_RECORDS[topic] for kind, topic in TOPICS_BY_KIND.items()}


class TimeFormat(StrEnum):
    """How a column holds a point in time."""

    ISO = "iso"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"
    DATETIME = "datetime"


class Place(NamedTuple):
    """Where in the mapping file something stands; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class TimeSpec:
    """The format of a time column and the zone of times that carry none."""

    format: TimeFormat
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class MinorUnits:
    """Major units to minor units: times 10**decimals, rounded half to even."""

    decimals: int
    strip: str = ""  # characters that are taken out of text before it is read
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Sign:
    """A value for negative numbers and one for all others."""

    negative: Any
    otherwise: Any


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """How one field of a record is made: from `column`, or from `constant` where that is None."""

    field: str
    place: Place
    column: str | None = None
    constant: Any = None
    template: tuple[str, str] | None = None  # text before and after the value
    time: TimeSpec | None = None
    minor_units: MinorUnits | None = None
    values: MappingOf[str, Any] | None = None
    sign: Sign | None = None
    split: str | None = None
    default: Any = None


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """Label records derived from a column of a table of transactions."""

    column: str
    place: Place
    fraud_when: frozenset[str]
    delay_ms: int
    emit_all: bool
    source: str


@dataclass(frozen=True, slots=True)
class TruthSpec:
    """A table of verdicts that only the evaluation sees; without `fraud` every row is a fraud."""

    path: str
    place: Place
    event_id: str
    fraud: str | None
    optional: bool


@dataclass(frozen=True, slots=True)
class TableSpec:
    """One table of a source; `columns` is None where they are named like the record's fields."""

    kind: str
    place: Place
    path: str | None = None
    columns: tuple[FieldSpec, ...] | None = None
    labels: LabelSpec | None = None
    optional: bool = False
    delimiter: str = ","
    encoding: str = "utf-8"

    @property
    def topic(self) -> str:
        """The topic of the table's records."""
        return TOPICS_BY_KIND[self.kind]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A parsed mapping file; `file` is its name in errors."""

    file: str
    tables: tuple[TableSpec, ...]
    truth: TruthSpec | None = None


def default_mapping() -> Mapping:
    """Return the mapping of a directory that holds tables of native records, named by topic.

    Looked for are `<topic>.parquet`, `.csv` and `.jsonl`, and `truth_fraud.parquet`.
    """
    place = Place(1, 1)
    tables = tuple(
        TableSpec(kind=kind, place=place, path=f"{topic}{suffix}", optional=True)
        for kind, topic in TOPICS_BY_KIND.items()
        for suffix in (".parquet", ".csv", ".jsonl")
    )
    truth = TruthSpec("truth_fraud.parquet", place, "event_id", None, optional=True)
    return Mapping("the mapping by name", tables, truth)
