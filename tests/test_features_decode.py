"""Decoding: what is refused and why, what its neighbours keep, and every cell against an oracle."""

import json
from fractions import Fraction
from typing import Any

import pytest
from bad_records import (
    ABSENT,
    ALL_BAD,
    EXPLAINED,
    FIELDS,
    KIND_NAMES,
    NOT_JSON,
    TS_MS,
    UNREADABLE_NUMBERS,
    Bad,
    as_json,
    fields,
    good_records,
)
from hypothesis import given
from hypothesis import strategies as st

from actions.money import RateTable
from actions.policy import Policy
from features.codes import code_of
from features.columns import CODE_CELLS, MISSING, Cell, Kind, LabelCode
from features.decode import Batch, Decoder
from features.errors import RecordError
from features.hashing import IdHasher
from features.raw import RawRecord
from features.records import AMOUNT_MINOR_MAX, ENCODER, TAKEN_RECORDS, TS_MS_MAX, TS_MS_MIN
from streams.policy_files import read_policy

HASHER = IdHasher(b"another-key-of16")
EXPONENTS = {"EUR": 2, "USD": 2, "GBP": 2, "JPY": 0, "KWD": 3}  # ISO 4217, by hand
KINDS = dict(zip(FIELDS, (Kind.TRANSACTION, Kind.LABEL, Kind.PROFILE, Kind.INTERACTION,
                          Kind.OUTCOME, Kind.CONTACT, *[Kind.CONTROL] * 3),
                 strict=True))  # fmt: skip


@pytest.fixture(scope="module")
def policy() -> Policy:
    return read_policy()


@pytest.fixture(scope="module")
def decoder(policy: Policy) -> Decoder:
    return Decoder(HASHER, RateTable(policy).convert)


def raws(sent: list[tuple[str, bytes]]) -> list[RawRecord]:
    return [RawRecord(row % 3, topic, row, value) for row, (topic, value) in enumerate(sent)]


def refusal(decoder: Decoder, bad: Bad) -> RecordError:
    batch = decoder.decode([RawRecord(0, bad.topic, 0, bad.value)])
    ((row, error),) = batch.refused
    assert row == 0
    assert list(batch.records) == [None]
    assert batch.kinds.tolist() == [Kind.REFUSED]
    assert (batch.cells == MISSING).all()
    return error


@pytest.mark.parametrize("bad", EXPLAINED, ids=lambda bad: bad.name)
def test_a_refusal_says_where_and_what(decoder: Decoder, bad: Bad) -> None:
    error = refusal(decoder, bad)
    assert (error.path, error.expected, error.nearest) == (bad.path, bad.expected, bad.nearest)
    if bad.got is None:
        assert bad in NOT_JSON
        assert error.got.startswith(repr(bad.value)[:79])
        assert error.got.endswith(")")  # the parser's own words stand behind the bytes
    else:
        assert error.got == bad.got


@pytest.mark.parametrize("bad", UNREADABLE_NUMBERS, ids=lambda bad: bad.name)
def test_a_value_that_cannot_be_shown_is_described(decoder: Decoder, bad: Bad) -> None:
    error = refusal(decoder, bad)
    assert error.path == bad.path
    assert error.got != "?"
    assert "out of range" not in error.expected


def test_good_records_stay_beside_bad_ones(decoder: Decoder) -> None:
    good = good_records()
    mixed: list[tuple[str, bytes]] = []
    for number, bad in enumerate(ALL_BAD):
        mixed += [good[number % len(good)], (bad.topic, bad.value)]
    mixed.append(good[0])
    batch = decoder.decode(raws(mixed))
    assert [row for row, _ in batch.refused] == list(range(1, len(mixed), 2))
    for row in range(0, len(mixed), 2):
        alone = decoder.decode(raws([mixed[row]]))
        assert batch.records[row] == alone.records[0] is not None
        assert batch.kinds[row] == alone.kinds[0] != Kind.REFUSED
        assert batch.cells[:, row].tolist() == alone.cells[:, 0].tolist()
    for (_, error), bad in zip(batch.refused, ALL_BAD, strict=True):
        assert str(error) == str(refusal(decoder, bad))


def test_an_empty_batch_is_a_batch(decoder: Decoder) -> None:
    batch = decoder.decode([])
    assert (list(batch.records), batch.refused, batch.cells.shape) == ([], [], (len(Cell), 0))


@given(start=st.integers(0, 30), stop=st.integers(0, 30), again=st.integers(0, 30))
def test_a_cut_keeps_rows_refusals_and_numbers(
    decoder: Decoder, start: int, stop: int, again: int
) -> None:
    sent = [pair for bad in ALL_BAD[::4] for pair in (*good_records()[:2], (bad.topic, bad.value))]
    batch = decoder.decode(raws(sent))
    batch.first = 1_000
    start, stop = sorted((min(start, len(sent)), min(stop, len(sent))))
    check_cut(batch, batch.cut(start, stop), start, stop)
    again = min(again, stop - start)
    check_cut(batch, batch.cut(start, stop).cut(again, stop - start), start + again, stop)


def check_cut(batch: Batch, cut: Batch, start: int, stop: int) -> None:
    assert list(cut.raws) == list(batch.raws[start:stop])
    assert list(cut.records) == list(batch.records)[start:stop]
    assert cut.kinds.tolist() == batch.kinds[start:stop].tolist()
    assert cut.partitions.tolist() == [raw.partition for raw in batch.raws[start:stop]]
    assert cut.cells.tolist() == batch.cells[:, start:stop].tolist()
    assert cut.first == 1_000 + start
    expected = {row - start: error for row, error in batch.refused if start <= row < stop}
    assert dict(cut.refused) == expected
    assert [r is None for r in cut.records] == [row in expected for row in range(stop - start)]


IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.just("é" * 128)
TIMES_MS = st.integers(TS_MS_MIN, TS_MS_MAX) | st.just(TS_MS)
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("card_id", "merchant_id", "terminal_id", "payee_id", "device_id", "ip"), IDS),
    "mcc": st.integers(0, 9999),
    "country": st.sampled_from(("FR", "US", "ZZ")),
    "lat": st.floats(-90, 90) | st.integers(-90, 90),
    "lon": st.floats(-180, 180) | st.integers(-180, 180),
    "balance_minor": st.integers(-5 * 10**14, 5 * 10**14),
}

MEASURED: dict[str, st.SearchStrategy[Any]] = {
    "device_id": IDS,
    "metric": IDS,
    "value": st.floats(-2e9, 2e9) | st.floats(-100, 100) | st.sampled_from((2e9, 0.5e-6, 2.5e-6)),
}


@st.composite
def good_fields(draw: st.DrawFn, topic: str) -> dict[str, Any]:
    """Draw a good record; optional fields are there, null or left out."""
    changes: dict[str, Any] = {"ts_ms": draw(TIMES_MS), "customer_id": draw(IDS)}
    if topic == "labels":
        changes |= {
            "event_id": draw(IDS),
            "verdict": draw(st.sampled_from(("fraud", "legitimate"))),
        }
    if topic == "interactions":
        for name, values in MEASURED.items():
            changes[name] = draw(st.sampled_from((ABSENT, None)) | values)
        changes |= {"event_id": draw(IDS), "type": draw(st.sampled_from(("telemetry", "survey")))}
    if topic == "outcomes":
        changes |= {
            "action_id": draw(IDS),
            "result": draw(st.sampled_from(("seen", "converted"))),
            "value_minor": draw(st.just(ABSENT) | st.integers(0, AMOUNT_MINOR_MAX)),
        }
    if topic == "contacts":
        offers = st.sampled_from((ABSENT, None)) | IDS
        changes |= {"contact_id": draw(IDS), "offer": draw(offers), "channel": "app_push"}
    if topic == "transactions":
        for name, values in OPTIONAL.items():
            changes[name] = draw(st.sampled_from((ABSENT, None)) | values)
        changes |= {
            "event_id": draw(IDS),
            "account_id": draw(IDS),
            "currency": draw(st.sampled_from((*EXPONENTS, "ZZZ"))),
            "amount_minor": draw(st.integers(0, AMOUNT_MINOR_MAX) | st.integers(0, 200)),
            "type": draw(st.sampled_from(("purchase", "cash", "salary"))),
            "direction": draw(st.sampled_from(("in", "out"))),
            "channel": draw(st.sampled_from(("pos", "online", "atm"))),
        }
    return fields(topic, **changes)


def factor_of(policy: Policy, currency: str, ts_ms: int) -> Fraction | None:
    """Return own minor units per foreign one, by the newest rate that is not of a later date."""
    if currency == policy.currency:
        return Fraction(1)
    rates = [r for r in policy.rates if r.currency == currency and r.from_ms <= ts_ms]
    if not rates:
        return None
    newest = max(rates, key=lambda rate: rate.from_ms)
    return Fraction(newest.rate) * Fraction(10) ** (EXPONENTS["EUR"] - EXPONENTS[currency])


def oracle_cells(policy: Policy, topic: str, record: dict[str, Any]) -> dict[Cell, int] | None:
    """Return the cells that a record fills, None where it is refused: a field at a time."""
    if topic in ("promotions", "policies", "lists"):
        return {}
    cells = {
        Cell.TS_MS: record["ts_ms"],
        Cell.CUSTOMER_ID: HASHER.one(record["customer_id"]),
        Cell.LABEL: LabelCode.UNKNOWN,
    }
    if topic == "labels":
        fraud = record["verdict"] == "fraud"
        cells[Cell.EVENT_ID] = HASHER.one(record["event_id"])
        cells[Cell.LABEL] = LabelCode.FRAUD if fraud else LabelCode.LEGITIMATE
    if topic == "outcomes":
        cells[Cell.EVENT_ID] = HASHER.one(record["action_id"] + ":" + record["result"])
        cells[Cell.AMOUNT] = record.get("value_minor", 0)
    if topic == "contacts":
        cells[Cell.EVENT_ID] = HASHER.one(record["contact_id"])
    if topic in ("labels", "profiles"):
        return cells
    given_fields = {name: value for name, value in record.items() if value is not None}
    value = given_fields.get("value")
    if value is not None:
        cells[Cell.VALUE] = round(value * 1e6)
    for cell in Cell:
        name = cell.name.lower()
        if name in given_fields and isinstance(given_fields[name], str):
            text = given_fields[name]
            cells[cell] = code_of(text) if cell in CODE_CELLS else HASHER.one(text)
    if topic != "transactions":
        return cells
    if "mcc" in given_fields:
        cells[Cell.MCC] = given_fields["mcc"]
    for cell, name in ((Cell.LAT, "lat"), (Cell.LON, "lon")):
        if name in given_fields:
            cells[cell] = round(given_fields[name] * 1e6)
    factor = factor_of(policy, record["currency"], record["ts_ms"])
    if factor is None or record["amount_minor"] * factor > AMOUNT_MINOR_MAX:
        return None
    cells[Cell.AMOUNT] = round(record["amount_minor"] * factor)
    if "balance_minor" in given_fields:
        cells[Cell.BALANCE] = round(given_fields["balance_minor"] * factor)
    return cells


DRAWN = st.sampled_from(("transactions", "transactions", *FIELDS)).flatmap(
    lambda topic: st.tuples(st.just(topic), good_fields(topic), st.booleans(), st.booleans())
)


@given(drawn=st.lists(DRAWN, max_size=12))
def test_cells_equal_those_of_the_oracle(
    policy: Policy, decoder: Decoder, drawn: list[tuple[str, dict[str, Any], bool, bool]]
) -> None:
    sent = []
    for topic, record, ascii_only, on_one_topic in drawn:
        text = {"kind": KIND_NAMES[topic], **record} if on_one_topic else record
        value = json.dumps(text, ensure_ascii=ascii_only).encode()
        sent.append(("events" if on_one_topic else topic, value))
    batch = decoder.decode(raws(sent))
    assert batch.partitions.tolist() == [row % 3 for row in range(len(sent))]
    refused = dict(batch.refused)
    for row, (topic, record, _, _) in enumerate(drawn):
        expected = oracle_cells(policy, topic, record)
        found = dict(zip(Cell, batch.cells[:, row].tolist(), strict=True))
        assert found == dict.fromkeys(Cell, MISSING) | (expected or {})
        assert batch.kinds[row] == (Kind.REFUSED if expected is None else KINDS[topic])
        assert (batch.records[row] is None) == (expected is None) == (row in refused)
        if expected is None:
            assert refused[row].path == "$.currency"


def test_a_balance_too_large_to_convert_is_not_taken_as_it_is(decoder: Decoder) -> None:
    """10**15 pence are more cents than an amount may have: they are not 10**15 cents."""
    value = as_json("transactions", currency="GBP", balance_minor=AMOUNT_MINOR_MAX)
    batch = decoder.decode([RawRecord(0, "transactions", 0, value)])
    assert batch.records[0] is None or batch.cells[Cell.BALANCE, 0] == MISSING


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ANY_TOPIC = st.sampled_from((*TAKEN_RECORDS, "events", "nowhere")) | st.text(max_size=3)


@st.composite
def nearly_good(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a good record of which one field was replaced by anything."""
    topic = draw(st.sampled_from(sorted(FIELDS)))
    name = draw(st.sampled_from(sorted(TAKEN_RECORDS[topic].__struct_fields__)))
    return topic, as_json(topic, **{name: draw(ANY_JSON)})


@given(
    sent=st.lists(
        st.tuples(ANY_TOPIC, st.binary() | ANY_JSON.map(lambda value: json.dumps(value).encode()))
        | nearly_good(),
        max_size=8,
    )
)
def test_nothing_that_is_sent_raises(decoder: Decoder, sent: list[tuple[str, bytes]]) -> None:
    batch = decoder.decode(raws(sent))
    refused = dict(batch.refused)
    assert list(refused) == [row for row, record in enumerate(batch.records) if record is None]
    for error in refused.values():
        assert error.path.startswith("$")
        assert error.expected and error.got
        ENCODER.encode((error.path, error.expected, error.got, error.nearest))
