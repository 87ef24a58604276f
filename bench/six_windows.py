"""One entity and six windows: the plan, cells and records that the window benchmarks share."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from bench.peers.question import AGGREGATES
from bench.traffic import COUNTRIES, HASHER, START_MS, Rows
from features.columns import Cell, Kind, LabelCode, empty_cells
from features.expressions import Declarations, EntityDeclaration, ExpressionText, compile_plan
from features.expressions.types import duration_text
from features.plan import Plan
from features.raw import RawRecord

EVENT_CAP = 4_096
EXPONENT = 0  # means in the unit of the amounts that the peers get
MERCHANT_COUNT = 2_000
EVENT_ID, CUSTOMER_ID, MERCHANT_ID = "TX{:010d}", "CU{:08d}", "ME{:06d}"
SENT = (Cell.TS_MS, Cell.EVENT_ID, Cell.CUSTOMER_ID, Cell.MERCHANT_ID, Cell.AMOUNT)
Numbers = Mapping[Cell, NDArray[np.int64]]


def texts(windows_ms: Sequence[int], distinct_ms: int) -> tuple[str, ...]:
    """Return the expressions: window by window the five aggregates, then the distinct count."""
    found = []
    for window_ms in windows_ms:
        window = f'"{duration_text(window_ms)}"'
        found.append(f"customer.count({window})")
        found += [f"customer.{name}(amount, {window})" for name in AGGREGATES[1:]]
    return (*found, f'customer.distinct(merchant_id, "{duration_text(distinct_ms)}")')


def compile_texts(
    expressions: Sequence[str], reach_ms: int, event_cap: int = EVENT_CAP
) -> tuple[Plan, list[int]]:
    """Return the plan of these expressions, and which slot answers each of them."""
    declarations = Declarations(
        entities=(EntityDeclaration("customer", "customer_id", shared=False),),
        hasher=HASHER.one,
        currency_exponent=EXPONENT,
        models=(),
        history_reach_ms=reach_ms,
        event_cap=event_cap,
    )
    outputs = {text: ExpressionText(text, "bench", 1, 1) for text in expressions}
    plan = compile_plan(outputs, declarations)
    return plan, [plan.slot_texts.index(text) for text in expressions]


def records(numbers: Numbers) -> list[RawRecord]:
    """Return the payments as a bank would send them, about 340 bytes each."""
    columns = [numbers[cell].tolist() for cell in SENT]
    return [
        RawRecord(0, "transactions", event, orjson.dumps({
            "event_id": EVENT_ID.format(event),
            "ts_ms": ts_ms,
            "customer_id": CUSTOMER_ID.format(person),
            "account_id": f"AC{person:08d}",
            "type": "purchase",
            "amount_minor": amount_minor,
            "currency": "EUR",
            "direction": "out",
            "channel": "pos",
            "card_id": f"CA{person:08d}",
            "merchant_id": MERCHANT_ID.format(place),
            "mcc": 5411,
            "terminal_id": f"TE{place:06d}",
            "country": COUNTRIES[place % len(COUNTRIES)],
            "lat": 48.0 + place / 10_000,
            "lon": 9.0 + place / 10_000,
            "balance_minor": 250_000,
        }))
        for ts_ms, event, person, place, amount_minor in zip(*columns, strict=True)
    ]  # fmt: skip


def hashes(numbers: NDArray[np.int64], form: str) -> NDArray[np.int64]:
    """Return the ids of numbers as they stand in cells, each hashed once."""
    distinct, where = np.unique(numbers, return_inverse=True)
    return HASHER.many([form.format(number) for number in distinct.tolist()])[where]


def make_rows(columns: Numbers) -> Rows:
    """Return payments with these cells, all of one partition."""
    count = len(columns[Cell.TS_MS])
    cells = empty_cells(count)
    cells[Cell.LABEL] = LabelCode.UNKNOWN
    for cell, values in columns.items():
        cells[cell] = values
    kinds = np.full(count, Kind.TRANSACTION, dtype=np.uint8)
    return Rows(kinds, cells, np.zeros(count, dtype=np.uint16))


def batches(rows: Rows, batch_count: int) -> Iterator[Rows]:
    """Cut rows as the decoder would hand them over: each batch an array of its own."""
    kinds, cells, partitions = rows
    for first in range(0, len(kinds), batch_count):
        part = slice(first, first + batch_count)
        yield Rows(kinds[part], np.ascontiguousarray(cells[:, part]), partitions[part])


class PaymentTraffic:
    """Payments without end: any customer next, at a pace that leaves each `event_count` in a time.

    So histories are as long after many rounds as at the start.
    """

    def __init__(self, customer_count: int, event_count: int, span_ms: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._customer_count = customer_count
        self._step_ms = span_ms / (customer_count * event_count)
        self._sent_count = 0
        self._ids = {
            Cell.CUSTOMER_ID: hashes(np.arange(customer_count), CUSTOMER_ID),
            Cell.MERCHANT_ID: hashes(np.arange(MERCHANT_COUNT), MERCHANT_ID),
        }

    def numbers(self, count: int) -> dict[Cell, NDArray[np.int64]]:
        """Return the next payments as numbers: ids count from 0."""
        rng = self._rng
        sent = self._sent_count + np.arange(count)
        self._sent_count += count
        return {
            Cell.TS_MS: START_MS + (sent * self._step_ms).astype(np.int64),
            Cell.EVENT_ID: sent,
            Cell.CUSTOMER_ID: rng.integers(self._customer_count, size=count),
            Cell.MERCHANT_ID: rng.integers(MERCHANT_COUNT, size=count),
            Cell.AMOUNT: np.exp(rng.normal(8.0, 1.0, count)).astype(np.int64) + 1,
        }

    def rows(self, count: int) -> Rows:
        """Return the next payments as cells."""
        columns = self.numbers(count)
        for cell, ids in self._ids.items():
            columns[cell] = ids[columns[cell]]
        columns[Cell.EVENT_ID] = self._rng.integers(-(2**62), 2**62, size=count)
        return make_rows(columns)

    def raws(self, count: int) -> list[RawRecord]:
        """Return the next payments as records on the wire."""
        return records(self.numbers(count))
