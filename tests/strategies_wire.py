"""Records as bytes of every sort: spelled in many ways, half wrong, or damaged on their way."""

import json
from typing import Any

from bad_records import FIELDS, KIND_NAMES
from hypothesis import strategies as st

from features.raw import RawRecord

FULL_TRANSACTION: dict[str, Any] = {
    **FIELDS["transactions"], "card_id": "C1", "merchant_id": "M-12345678901234", "mcc": 5411,
    "terminal_id": "T1", "payee_id": "P1", "country": "FR", "lat": 48.8566, "lon": -2.35,
    "device_id": "d1", "ip": "10.0.0.1", "balance_minor": -5_000,
}  # fmt: skip
FULL_LABEL = {**FIELDS["labels"], "source": "desk"}

NUMBERS = st.sampled_from(
    ["0", "-0", "1", "-1", "1.0", "-1.5", "1e3", "1E3", "01", "1.", ".5", "+1", "-", "12e", "1-2",
     "-01", "00", "0.5", "5e-324", "1e400", "NaN", "Infinity", "999999999999999999",
     "9999999999999999999", "9223372036854775807", "9223372036854775808", "18446744073709551616",
     "123456789012345678901234567890", "9999", "10000", "1000000000000000", "1000000000000001",
     "-1000000000000000", "-1000000000000001", "631152000000", "631151999999", "4102444800000",
     "4102444800001", "90", "90.0", "-90", "91", "90.0000000000000001", "90.00000000000001", "180",
     "-180.00000000000003", "48.1234565", "48.12345650000001", "-48.12345649999999", "0.0000005",
     "2.0000005", "0.000000000000000001", "0.1234567890123456", "0.12345678901234567",
     "0.123456789012345678"]
)  # fmt: skip
STRINGS = st.sampled_from(
    ['""', '"x"', f'"{"x" * 128}"', f'"{"x" * 129}"', f'"{"é" * 128}"', f'"{"é" * 129}"',
     '"a\\nb"', '"a\nb"', '"a\tb"', '"a\x00b"', '"\\u0000"', '"\x7f"', '"a\\"b"', '"a\\\\"',
     '"\\ud83d\\ude00"', '"😀"', '"\\ud800"', '"purchase"', '"purchases"', '"PURCHASE"', '"out"',
     '"in"', '"pos"', '"EUR"', '"USD"', '"ZZZ"', '"EU"', '"EURO"', '"eur"', '"EUR\\n"', '"FR"',
     '"fraud"', '"fraudd"', '"transaction"', '"label"', '"profile"', '"contact"', '"alert"']
)  # fmt: skip
OTHERS = st.sampled_from(
    ["null", "true", "false", "nul", "nulll", "tru", "[]", "{}", "[1, 2]", '{"a": {}}', "", "}"]
)
COORDINATES = st.builds(
    lambda sign, whole, digits: f"{sign}{whole}.{digits}",
    st.sampled_from(("", "-")),
    st.integers(0, 181),
    st.text("0123456789", min_size=1, max_size=18) | st.text("05", min_size=6, max_size=12),
)
VALUES = NUMBERS | STRINGS | OTHERS | COORDINATES | st.floats(-180, 180).map(repr)
STRANGE_NAMES = st.sampled_from(
    ("memo", "", "é", "\\u0061", "event_idx", "event_i", "a name that is longer than any known")
)
NAMES = STRANGE_NAMES | st.sampled_from((*FULL_TRANSACTION, *FULL_LABEL, "kind"))
SPACES = st.sampled_from(("", "", "", " ", "\n", "\t", "\r\n ", "\x0b", "\x00", "\u00a0"))

Members = list[tuple[str, str]]


def spelled(members: Members, spaces: list[str]) -> str:
    """Write an object, with the spaces by turns between its parts."""
    parts = [part for name, value in members for part in (f'"{name}"', ":", value, ",")][:-1]
    parts = ["{", *parts, "}"]
    return "".join(part + spaces[i % len(spaces)] for i, part in enumerate(parts))


@st.composite
def members_of(draw: st.DrawFn, topic: str) -> Members:
    """Draw a good record's fields in any order, of which a few were changed, doubled or dropped."""
    record = {"transactions": FULL_TRANSACTION, "labels": FULL_LABEL}.get(topic, FIELDS[topic])
    optional = sorted(set(record) - set(FIELDS[topic]))
    dropped = draw(st.sets(st.sampled_from(optional))) if optional else set()
    members = [(name, json.dumps(v)) for name, v in record.items() if name not in dropped]
    for change in draw(st.lists(st.sampled_from(("set", "add", "double", "drop")), max_size=2)):
        place = draw(st.integers(0, max(len(members) - 1, 0)))
        if change == "add" or not members:
            members.insert(place, (draw(NAMES), draw(VALUES)))
        elif change == "set":
            members[place] = (members[place][0], draw(VALUES))
        elif change == "double":
            members.append(members[place])
        else:
            del members[place]
    return draw(st.permutations(members)) if draw(st.booleans()) else members


@st.composite
def wire_records(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw (topic, value)."""
    topic = draw(st.sampled_from(("transactions", "transactions", "labels", *FIELDS)))
    members = draw(members_of(topic))
    if draw(st.booleans()):
        kind = ("kind", json.dumps(KIND_NAMES[topic]))
        members.insert(draw(st.sampled_from((0, 0, len(members)))), kind)
        topic = draw(st.sampled_from(("events", "events", topic)))
    spaces = draw(st.sampled_from(([""], [" "])) | st.lists(SPACES, min_size=1, max_size=5))
    value = spelled(members, spaces).encode()
    return topic, draw(_damaged(value)) if draw(st.integers(0, 3)) == 0 else value


@st.composite
def _damaged(draw: st.DrawFn, value: bytes) -> bytes:
    """Cut out, put in or exchange a few bytes."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(value)))
        stop = start + draw(st.sampled_from((0, 0, 1, 1, 2, 8, 1_000)))
        between = draw(st.sampled_from((b"", b"\0", b'"', b"\\", b",", b"1", b"}", b"{", b"\xff")))
        value = value[:start] + between + value[stop:]
    return value


def raws_of(sent: list[tuple[str, bytes]]) -> list[RawRecord]:
    """Give records places, over three partitions."""
    return [RawRecord(row % 3, topic, row, value) for row, (topic, value) in enumerate(sent)]
