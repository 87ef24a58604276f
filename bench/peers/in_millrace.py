"""Millrace: the expressions of the question, compiled, over batches of the events in order."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from bench.peers.question import DAY_MS, DISTINCT_WINDOW, WINDOWS_MS, Events
from bench.peers.timed import Answers
from bench.six_windows import (
    CUSTOMER_ID,
    EVENT_ID,
    MERCHANT_ID,
    batches,
    compile_texts,
    hashes,
    make_rows,
    records,
    texts,
)
from bench.traffic import HASHER, Rows
from features.columns import Cell
from features.decode import Decoder
from features.histories import FeatureEngine
from features.raw import RawRecord

BATCH_COUNT = 512
TIMED_PARTS = 64  # at once
REACH_MS = 30 * DAY_MS
_IDS = {Cell.EVENT_ID: EVENT_ID, Cell.CUSTOMER_ID: CUSTOMER_ID, Cell.MERCHANT_ID: MERCHANT_ID}


def from_cells(events: Events, batch_count: int = BATCH_COUNT) -> Answers:
    """Answer from decoded records."""
    numbers = _numbers(events)
    numbers |= {cell: hashes(numbers[cell], form) for cell, form in _IDS.items()}
    return _answer(events, list(batches(make_rows(numbers), batch_count)), lambda rows: rows)


def one_by_one(events: Events) -> Answers:
    """Answer from decoded records, each as a batch of its own."""
    return from_cells(events, 1)


def from_bytes(events: Events) -> Answers:
    """Answer from JSON records of 340 bytes: decoding, hashing of ids and windows."""
    raws = records(_numbers(events))
    decoder = Decoder(HASHER, _in_own_currency)

    def decode(part: list[RawRecord]) -> Rows:
        batch = decoder.decode(part)
        return Rows(batch.kinds, batch.cells, batch.partitions)

    parts = [raws[first : first + BATCH_COUNT] for first in range(0, len(raws), BATCH_COUNT)]
    return _answer(events, parts, decode)


def _numbers(events: Events) -> dict[Cell, NDArray[np.int64]]:
    return {
        Cell.TS_MS: events.ts_ms,
        Cell.EVENT_ID: np.arange(len(events)),
        Cell.CUSTOMER_ID: events.customer,
        Cell.MERCHANT_ID: events.merchant,
        Cell.AMOUNT: events.amount_minor,
    }


def _in_own_currency(
    amount_minor: NDArray[np.int64], currency_code: NDArray[np.int64], ts_ms: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    return amount_minor, np.ones(len(amount_minor), dtype=np.bool_)


def _answer(events: Events, parts: Sequence[Any], decode: Callable[[Any], Rows]) -> Answers:
    plan, slots = compile_texts(
        texts(list(WINDOWS_MS.values()), WINDOWS_MS[DISTINCT_WINDOW]), REACH_MS
    )
    engine = FeatureEngine(plan, [0], assume_fresh=True)
    answers = Answers.to(events)
    first = 0
    for at in range(0, len(parts), TIMED_PARTS):
        timed = parts[at : at + TIMED_PARTS]
        with answers.timed():
            found = [engine.update(*decode(part)).values for part in timed]
        for values in found:
            last = first + values.shape[1]
            answers.values[:, first:last] = values[slots]
            first = last
    return answers
