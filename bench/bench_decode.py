"""From JSON bytes to cells, 512 card purchases of about 340 bytes at a time.

The floor is msgspec's typed decoder alone, which validates and makes one struct a record; the
decoder also hashes nine ids, converts money and fills the matrix. `orjson.loads` alone gives
untyped dicts: what a Python program without any checks would begin with.
"""

import msgspec
import orjson
import pytest

from actions.money import RateTable
from actions.policy import Policy
from bench.measure import Measure
from bench.traffic import HASHER, wire_transactions
from features.decode import Decoder
from features.raw import RawRecord
from features.records import Transaction

FLOOR = "msgspec typed decode alone"
COUNT = 512


@pytest.fixture(scope="module")
def raws() -> list[RawRecord]:
    return wire_transactions(COUNT)


@pytest.fixture(scope="module")
def decoder(policy: Policy) -> Decoder:
    return Decoder(HASHER, RateTable(policy).convert)


def test_msgspec(measure: Measure, raws: list[RawRecord]) -> None:
    values = [raw.value for raw in raws]
    decode = msgspec.json.Decoder(Transaction).decode
    measure.calls(FLOOR, COUNT, lambda: [decode(value) for value in values])


def test_orjson(measure: Measure, raws: list[RawRecord]) -> None:
    values = [raw.value for raw in raws]
    loads = orjson.loads
    measure.calls(
        "orjson.loads alone", COUNT, lambda: [loads(value) for value in values], baseline=FLOOR
    )


@pytest.mark.parametrize("batch_count", [512, 16, 1])
def test_decoder(
    measure: Measure, raws: list[RawRecord], decoder: Decoder, batch_count: int
) -> None:
    assert not decoder.decode(raws).refused
    batches = [raws[i : i + batch_count] for i in range(0, COUNT, batch_count)]
    measure.calls(
        f"Decoder.decode, batches of {batch_count}",
        COUNT,
        lambda: [decoder.decode(batch) for batch in batches],
        baseline=FLOOR,
    )
