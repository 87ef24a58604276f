"""The scanner gives what the typed decoder gives, for any bytes, and takes what is plain itself."""

import json
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
import pytest
from bad_records import ALL_BAD, FIELDS, as_json, good_records
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta, Struct, defstruct
from strategies_wire import (
    COORDINATES,
    FULL_LABEL,
    FULL_TRANSACTION,
    raws_of,
    spelled,
    wire_records,
)

from actions.money import RateTable
from features.columns import MISSING, Cell, Kind, LabelCode
from features.decode import Batch, Decoder
from features.hashing import IdHasher
from features.kernels.scan import scan
from features.kernels.words import WORD_PADDING
from features.records import Label, Transaction
from features.scanning import Scanner, tables, tables_of
from streams.policy_files import read_policy

HASHER = IdHasher(b"another-key-of16")
POLICY = read_policy()
DECODER = Decoder(HASHER, RateTable(POLICY).convert, POLICY.currency)
WITHOUT_OWN = Decoder(HASHER, RateTable(POLICY).convert)  # converts its own currency too
SCANNER = Scanner(HASHER)
MEMBERS = [(name, json.dumps(value)) for name, value in FULL_TRANSACTION.items()]


def taken(topic: str, value: bytes) -> bool:
    """Return whether the scanner takes this record itself."""
    return SCANNER.scan([topic], [value], 0).unsure_count == 0


def assert_same(batch: Batch, expected: Batch) -> None:
    assert batch.kinds.tolist() == expected.kinds.tolist()
    assert batch.cells.tolist() == expected.cells.tolist()
    assert batch.partitions.tolist() == expected.partitions.tolist()
    refused = [[(row, str(error)) for row, error in b.refused] for b in (batch, expected)]
    assert refused[0] == refused[1]
    rows = np.flatnonzero((batch.kinds == Kind.TRANSACTION) | (batch.kinds == Kind.LABEL))
    assert batch.event_ids(rows) == expected.event_ids(rows)
    assert list(batch.records) == list(expected.records)


@given(sent=st.lists(wire_records(), max_size=6))
@example(sent=[(bad.topic, bad.value) for bad in ALL_BAD])
@example(sent=[pair for bad in ALL_BAD for pair in ((bad.topic, bad.value), *good_records())])
@example(sent=[("events", json.dumps({**FULL_LABEL, **FULL_TRANSACTION}).encode())])
@example(sent=[("transactions", as_json("transactions")[:cut]) for cut in range(230)])
def test_any_bytes_give_what_the_typed_decoder_gives(sent: list[tuple[str, bytes]]) -> None:
    raws = raws_of(sent)
    expected = DECODER.decode_typed(raws)
    assert_same(DECODER.decode(raws), expected)
    assert_same(WITHOUT_OWN.decode(raws), expected)


@given(sent=st.lists(wire_records(), max_size=8), cuts=st.lists(st.integers(0, 8)))
def test_no_cut_of_the_input_changes_a_cell(sent: list[tuple[str, bytes]], cuts: list[int]) -> None:
    raws = raws_of(sent)
    whole = DECODER.decode(raws)
    edges = sorted({0, len(raws), *(cut for cut in cuts if cut < len(raws))})
    parts = [DECODER.decode(raws[a:b]) for a, b in pairwise(edges)]
    for part, (a, b) in zip(parts, pairwise(edges), strict=True):
        assert_same(part, whole.cut(a, b))


PLAIN = {
    "compact": ("transactions", spelled(MEMBERS, [""])),
    "spaced": ("transactions", json.dumps(FULL_TRANSACTION)),
    "indented": ("transactions", json.dumps(FULL_TRANSACTION, indent=2) + "\r\n\t "),
    "backwards": ("transactions", spelled(MEMBERS[::-1], [""])),
    "only what is required": ("transactions", json.dumps(FIELDS["transactions"])),
    "nulls": (
        "transactions",
        json.dumps({**dict.fromkeys(FULL_TRANSACTION), **FIELDS["transactions"]}),
    ),
    "its own kind": ("transactions", spelled([*MEMBERS, ("kind", '"transaction"')], [""])),
    "kind first": ("events", spelled([("kind", '"transaction"'), *MEMBERS], [""])),
    "kind last": ("events", spelled([*MEMBERS, ("kind", '"transaction"')], [""])),
    "flat unknown fields": (
        "transactions",
        spelled([("memo", '"Bäcker"'), *MEMBERS, ("é", "-1.50"), ("on", "true"), ("", "null"),
                 ("off", "false"), ("a name that is longer than any known", "7")], [" "]),
    ),
    "an unknown field twice": (
        "transactions", spelled([("memo", "1"), *MEMBERS, ("memo", '"x"')], [""])
    ),
    "a label's field in a transaction": (
        "transactions", spelled([("verdict", "7"), *MEMBERS], [""])
    ),
    "as many digits as a double has": (
        "transactions", json.dumps({**FULL_TRANSACTION, "lat": 48.123456300000004})
    ),
    "half a millionth": ("transactions", json.dumps({**FULL_TRANSACTION, "lon": 2.0000005})),
    "the longest id": ("transactions", json.dumps({**FULL_TRANSACTION, "ip": "x" * 128})),
    "label": ("labels", json.dumps(FULL_LABEL)),
    "label on the one topic": ("events", json.dumps({"kind": "label", **FULL_LABEL})),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_plain_is_taken_by_the_scanner(name: str) -> None:
    topic, text = PLAIN[name]
    assert taken(topic, text.encode())
    raws = raws_of([(topic, text.encode())])
    batch = DECODER.decode(raws)
    assert not batch.refused and not batch.records.known
    assert_same(batch, DECODER.decode_typed(raws))


def test_a_record_is_decoded_once_and_only_when_asked_for() -> None:
    """Cuts share what was decoded."""
    values = [json.dumps({**FULL_TRANSACTION, "event_id": f"e{i}"}).encode() for i in range(4)]
    batch = DECODER.decode(raws_of([("transactions", value) for value in values]))
    cut = batch.cut(1, 4)
    assert cut.event_ids(np.array([0, 2])) == ["e1", "e3"]
    assert batch.records.known == {}
    record = cut.cut(1, 3).records[-1]
    assert isinstance(record, Transaction) and record.event_id == "e3"
    assert list(batch.records.known) == [3]
    assert cut.records[2] is batch.records[3] is record
    with pytest.raises(IndexError):
        cut.records[3]


def test_the_ids_of_a_record_that_has_none_are_not_made_up() -> None:
    batch = DECODER.decode(raws_of([("profiles", as_json("profiles"))]))
    with pytest.raises(ValueError, match="expected a transaction or a label, got Profile"):
        batch.event_ids(np.array([0]))


@given(text=COORDINATES)
@example(text="180.0000000000000")
@example(text="48.1234565")
@example(text="0.12345650000000000")
def test_coordinates_are_rounded_as_doubles_are(text: str) -> None:
    """Numpy on the double that Python reads is the oracle; up to 15 digits nothing is unsure."""
    members = [(name, text if name == "lon" else value) for name, value in MEMBERS]
    value = spelled(members, [""]).encode()
    scanned = SCANNER.scan(["transactions"], [value], 0)
    if scanned.unsure_count == 0:
        assert abs(float(text)) <= 180
        assert scanned.cells[Cell.LON, 0] == int(np.rint(float(text) * 1e6))
    else:
        assert abs(float(text)) > 180 or len(text.strip("-")) > 16


def test_unsure_records_leave_nothing_behind() -> None:
    value = spelled([*MEMBERS[:-1], ("memo", "[]")], [""]).encode()
    scanned = SCANNER.scan(["transactions", "nowhere"], [value, value], 0)
    assert scanned.unsure_count == 2
    assert scanned.kinds.tolist() == [Kind.REFUSED] * 2
    assert (scanned.cells == MISSING).all()


class Made(Struct, tag_field="kind", tag="made"):
    """A record of types that transactions and labels don't have."""

    event_id: Annotated[str, Meta(min_length=1, max_length=4)]
    step: Annotated[int, Meta(ge=-5, le=5)] = 0  # checked, but no cell
    word: Literal["yes", "no"] = "no"
    code: Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3)] | None = None
    flag: bool = False
    any_int: int = 0
    tens: Annotated[int, Meta(ge=0, le=100, multiple_of=10)] = 0
    above: Annotated[float, Meta(gt=0, le=1)] = 1.0
    far: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    mixed: int | str = 0
    long_word: Literal["a word of more than 15 bytes"] = "a word of more than 15 bytes"
    any_text: str = ""


@pytest.mark.parametrize(
    ("member", "is_taken"),
    [
        ('"step": 5', True), ('"step": 6', False), ('"step": null', False), ('"step": -5', True),
        ('"word": "yes"', True), ('"word": "maybe"', False), ('"code": "ABC"', True),
        ('"code": null', True), ('"code": "AB"', False), ('"flag": true', False),
        ('"any_int": 1', False), ('"tens": 10', False), ('"above": 0.5', False),
        ('"far": 200.0', False), ('"mixed": 1', False), ('"any_text": "x"', False),
        ('"long_word": "a word of more than 15 bytes"', False), ('"unknown": 1', True),
    ],
)  # fmt: skip
def test_a_new_field_is_scanned_or_left_to_the_typed_decoder(member: str, is_taken: bool) -> None:
    value = b'{"event_id": "e1", %b}' % member.encode()
    kinds = np.array([Kind.TRANSACTION], dtype=np.uint8)
    cells = np.zeros((len(Cell), 1), dtype=np.int64)
    spans = np.array([[len(value)], [0], [0]])
    made = tables_of({Made: Kind.TRANSACTION})
    data = np.frombuffer(value + b"\0" + WORD_PADDING, dtype=np.uint8)
    scan(data, kinds, cells, spans, *made, *HASHER.key, 0)
    assert bool(kinds[0]) == is_taken
    filled = {Cell.EVENT_ID: HASHER.one("e1"), Cell.LABEL: LabelCode.UNKNOWN} if is_taken else {}
    assert dict(zip(Cell, cells[:, 0].tolist(), strict=True)) == dict.fromkeys(Cell, MISSING) | (
        filled
    )


def test_a_field_of_two_types_or_with_a_long_name_is_refused() -> None:
    two = defstruct("Two", [("step", str)], tag_field="kind", tag="two")
    with pytest.raises(ValueError, match="step: expected one type"):
        tables_of({Made: Kind.TRANSACTION, two: Kind.LABEL})
    long = defstruct("Long", [("a_name_of_16byte", int)], tag_field="kind", tag="long")
    with pytest.raises(ValueError, match="a_name_of_16byte: expected at most 15 bytes"):
        tables_of({long: Kind.LABEL})


def test_every_field_of_the_scanned_records_is_known_to_the_scanner() -> None:
    fields = {*Transaction.__struct_fields__, *Label.__struct_fields__, "kind"}
    assert len(tables().fields) == len(fields) + 1  # and the beginning of a record
