"""From JSON bytes to cells, 512 card purchases of about 340 bytes at a time.

The baseline is msgspec's typed decoder alone, which validates and makes one struct a record; both
ways to decode also hash six ids and fill the matrix. `Decoder.decode` reads the bytes in a kernel;
`Decoder.decode_typed` makes cells out of msgspec's structs: the way of all records that the kernel
is unsure of, and its oracle. `orjson.loads` alone gives untyped dicts: what a Python program
without any checks would begin with.
"""

from collections.abc import Callable

import msgspec
import orjson
import pytest

from actions.money import RateTable
from actions.policy import Policy
from bench.measure import Measure
from bench.traffic import HASHER, wire_transactions
from features.batches import Batch
from features.decode import Decoder
from features.raw import RawRecord
from features.records import Transaction

BASELINE = "msgspec typed decode alone"
COUNT = 512


@pytest.fixture(scope="module")
def raws() -> list[RawRecord]:
    return wire_transactions(COUNT)


@pytest.fixture(scope="module")
def decoder(policy: Policy) -> Decoder:
    return Decoder(HASHER, RateTable(policy).convert, policy.currency)


def test_msgspec(measure: Measure, raws: list[RawRecord]) -> None:
    values = [raw.value for raw in raws]
    decode = msgspec.json.Decoder(Transaction).decode
    measure.calls(BASELINE, COUNT, lambda: [decode(value) for value in values])


def test_orjson(measure: Measure, raws: list[RawRecord]) -> None:
    values = [raw.value for raw in raws]
    loads = orjson.loads
    measure.calls(
        "orjson.loads alone", COUNT, lambda: [loads(value) for value in values], baseline=BASELINE
    )


@pytest.mark.parametrize("batch_count", [512, 16, 1])
@pytest.mark.parametrize("way", ["decode", "decode_typed"])
def test_decoder(
    measure: Measure, raws: list[RawRecord], decoder: Decoder, way: str, batch_count: int
) -> None:
    decode: Callable[[list[RawRecord]], Batch] = getattr(decoder, way)
    batch = decode(raws)
    assert not batch.refused
    assert bool(batch.records.known) == (way == "decode_typed")  # the kernel took them all, or none
    batches = [raws[i : i + batch_count] for i in range(0, COUNT, batch_count)]
    measure.calls(
        f"Decoder.{way}, batches of {batch_count}",
        COUNT,
        lambda: [decode(batch) for batch in batches],
        baseline=BASELINE,
    )
