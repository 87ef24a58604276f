"""One bad record of every kind, each with what its refusal has to say, derived by hand."""

import json
from dataclasses import dataclass
from typing import Any

TS_MS = 1_751_328_000_000
ABSENT = object()  # as a change: the field is left out
ANY_JSON = "a JSON object in UTF-8"
INPUTS = (
    "transactions, interactions, profiles, labels, outcomes, contacts, promotions, policies, lists"
)
TOPICS = f"a topic of {INPUTS}, events"
KINDS = "one of transaction, interaction, profile, label, outcome, contact, promotion, policy, list"
TYPES = (
    "one of cash, deposit, fee, interest, loan_payment, purchase, refund, salary, transfer_in, "
    "transfer_out"
)
COVERED = "a currency that the policy's rate table covers at this time"

FIELDS: dict[str, dict[str, Any]] = {
    "transactions": {
        "event_id": "e1", "ts_ms": TS_MS, "customer_id": "ada", "account_id": "acc",
        "type": "purchase", "amount_minor": 1_000, "currency": "EUR", "direction": "out",
        "channel": "pos",
    },
    "labels": {"event_id": "e1", "ts_ms": TS_MS, "customer_id": "ada", "verdict": "fraud"},
    "profiles": {"customer_id": "ada", "ts_ms": TS_MS},
    "interactions": {
        "event_id": "i1", "ts_ms": TS_MS, "customer_id": "ada", "type": "login", "channel": "app",
    },
    "outcomes": {"action_id": "a1", "ts_ms": TS_MS, "customer_id": "ada", "result": "seen"},
    "contacts": {"contact_id": "c1", "ts_ms": TS_MS, "customer_id": "ada", "channel": "sms"},
    "promotions": {"ts_ms": TS_MS, "model": "fraud", "challenger": "scaled_logistic"},
    "policies": {"ts_ms": TS_MS, "files": {"policy.yaml": "name: bank"}},
    "lists": {"ts_ms": TS_MS, "name": "watched", "entries": ["M1", "M2"]},
}  # fmt: skip
KIND_NAMES = {topic: topic.removesuffix("s") for topic in FIELDS} | {"policies": "policy"}


def fields(topic: str, **changes: Any) -> dict[str, Any]:
    """Return a good record's fields with changes; one to ABSENT leaves the field out."""
    changed = {**FIELDS[topic], **changes}
    return {name: value for name, value in changed.items() if value is not ABSENT}


def as_json(topic: str, **changes: Any) -> bytes:
    return json.dumps(fields(topic, **changes)).encode()


@dataclass(frozen=True)
class Bad:
    """A bad record and its refusal; `got` is None where it only has to show the bytes."""

    name: str
    value: bytes
    path: str = "$"
    expected: str = ANY_JSON
    got: str | None = None
    nearest: str | None = None
    topic: str = "transactions"


def _bad(name: str, path: str, expected: str, got: str, nearest: str | None = None, /, **c: Any):  # type: ignore[no-untyped-def]
    topic = c.pop("topic", "transactions")
    base = "transactions" if topic not in FIELDS else topic
    return Bad(name, as_json(base, **c), path, expected, got, nearest, topic)


def _amount(text: bytes) -> bytes:
    return as_json("transactions").replace(b"1000,", text + b",")


_LONG = "x" * 129
_GOOD = as_json("transactions")
NOT_JSON = [
    Bad("empty", b""),
    Bad("not JSON", b"not json"),
    Bad("two values", _GOOD + b"{}"),
    Bad("truncated", _GOOD[:-5]),
    Bad("bad UTF-8", b"\xff\xfe"),
    Bad("bad UTF-8 in a string", _GOOD.replace(b"ada", b"ad\xff")),
    Bad("half a surrogate pair", _GOOD.replace(b"ada", b"\\ud800")),
    Bad("nested too deeply", b'{"more": ' * 5_000),
]
NO_OBJECT = [
    Bad("array", b"[]", "$", "object", "list []"),
    Bad("null", b"null", "$", "object", "null"),
    Bad("number", b"7", "$", "object", "int 7"),
    Bad("array nested too deeply", b"[" * 5_000, "$", "object", "array"),
]
REQUIRED = "a required field"
WRONG_FIELDS = [
    _bad("wrong type", "$.event_id", "str", "int 7", event_id=7),
    _bad("null for a string", "$.customer_id", "str", "null", customer_id=None),
    _bad("text for a number", "$.lat", "float | null", "str 'x'", lat="x"),
    _bad("fraction for an integer", "$.amount_minor", "int", "float 1.5", amount_minor=1.5),
    _bad(
        "empty object",
        "$.event_id",
        REQUIRED,
        "none",
        **dict.fromkeys(FIELDS["transactions"], ABSENT),
    ),
    _bad("missing field", "$.channel", REQUIRED, "none", channel=ABSENT),
    _bad(
        "near-miss name",
        "$.amount_minor",
        REQUIRED,
        "none, but an unknown field `amount_minr`",
        "amount_minor",
        amount_minor=ABSENT,
        amount_minr=5,
    ),
    _bad("unknown enum", "$.type", TYPES, "str 'purchse'", "purchase", type="purchse"),
    _bad("enum like no other", "$.type", TYPES, "str 'qqq'", type="qqq"),
    _bad("out of range", "$.lat", "float <= 90.0", "int 91", lat=91),
    _bad("below the range", "$.amount_minor", "int >= 0", "int -1", amount_minor=-1),
    _bad(
        "large number",
        "$.amount_minor",
        "int <= 1000000000000000",
        "float 1e+30",
        amount_minor=10**30,
    ),
    _bad("seconds", "$.ts_ms", "int >= 631152000000", "int 1751328000", ts_ms=TS_MS // 1_000),
    _bad(
        "microseconds",
        "$.ts_ms",
        "int <= 4102444800000",
        "int 1751328000000000",
        ts_ms=TS_MS * 1_000,
    ),
    _bad(
        "no currency code",
        "$.currency",
        "str matching regex '^[A-Z]{3}$'",
        "str 'eur'",
        currency="eur",
    ),
    _bad(
        "line feed after a currency code",
        "$.currency",
        "str of length <= 3",
        "str 'EUR\\n'",
        currency="EUR\n",
    ),
    _bad(
        "line feed after a country code",
        "$.country",
        "str of length <= 2",
        "str 'FR\\n'",
        country="FR\n",
    ),
    _bad("currency without a rate", "$.currency", COVERED, "'ZZZ'", currency="ZZZ"),
    _bad(
        "currency before its rates",
        "$.currency",
        COVERED,
        "'USD'",
        currency="USD",
        ts_ms=700_000_000_000,
    ),
    _bad("empty id", "$.event_id", "str of length >= 1", "str ''", event_id=""),
    _bad("long id", "$.card_id", "str of length <= 128", f"str '{'x' * 78}…", card_id=_LONG),
    _bad("another topic's kind", "$.kind", "one of transaction", "str 'label'", kind="label"),
    _bad(
        "nested field",
        "$.quiet_hours.start_hour",
        "int <= 23",
        "int 24",
        topic="profiles",
        quiet_hours={"start_hour": 24, "end_hour": 7},
    ),
    _bad(
        "nested near-miss name",
        "$.quiet_hours.end_hour",
        REQUIRED,
        "none, but an unknown field `end_hours`",
        "end_hour",
        topic="profiles",
        quiet_hours={"start_hour": 22, "end_hours": 7},
    ),
    _bad(
        "enum in a list",
        "$.preferred_channels[1]",
        "one of app_push, branch, email, phone, sms",
        "str 'emal'",
        "email",
        topic="profiles",
        preferred_channels=["sms", "emal"],
    ),
    _bad(
        "unknown verdict",
        "$.verdict",
        "one of fraud, legitimate",
        "str 'fraudd'",
        "fraud",
        topic="labels",
        verdict="fraudd",
    ),
    _bad(
        "unknown interaction",
        "$.type",
        "one of address_change, application_abandoned, check_up, complaint_closed, "
        "complaint_opened, fx_query, login, page_view, phone_change, survey, telemetry, ticket",
        "str 'logn'",
        "login",
        topic="interactions",
        type="logn",
    ),
    _bad(
        "measured too much",
        "$.value",
        "float <= 2000000000.0",
        "float 2000000001.0",
        topic="interactions",
        value=2_000_000_001.0,
    ),
    _bad(
        "unknown result",
        "$.result",
        "one of accepted, clicked, converted, delivered, rejected, seen",
        "str 'accept'",
        "accepted",
        topic="outcomes",
        result="accept",
    ),
]
ONE_TOPIC = [
    _bad(
        "unknown kind",
        "$.kind",
        KINDS,
        "str 'transactoin'",
        "transaction",
        topic="events",
        kind="transactoin",
    ),
    _bad("kind of an output", "$.kind", KINDS, "str 'alert'", topic="events", kind="alert"),
    _bad("missing kind", "$.kind", REQUIRED, "none", topic="events"),
    _bad(
        "near-miss kind",
        "$.kind",
        REQUIRED,
        "none, but an unknown field `knd`",
        "kind",
        topic="events",
        knd="x",
    ),
    _bad("number for a kind", "$.kind", "str", "int 7", topic="events", kind=7),
]
UNKNOWN_TOPICS = [
    Bad("unknown topic", _GOOD, "$", TOPICS, "'payments'", None, "payments"),
    Bad("near-miss topic", _GOOD, "$", TOPICS, "'transaction'", "transactions", "transaction"),
]
# What can't be shown as a number: the path is right, and both halves of the message say something.
UNREADABLE_NUMBERS = [
    Bad("huge number", _amount(b"1e400"), "$.amount_minor"),
    Bad("huge integer", _amount(b"9" * 5_000), "$.amount_minor"),
    Bad("null for a kind", as_json("transactions", kind=None), "$.kind"),
]
EXPLAINED = [*NOT_JSON, *NO_OBJECT, *WRONG_FIELDS, *ONE_TOPIC, *UNKNOWN_TOPICS]
ALL_BAD = [*EXPLAINED, *UNREADABLE_NUMBERS]


def good_records() -> list[tuple[str, bytes]]:
    """Return (topic, value) of one good record of each kind, on its own topic and on `events`."""
    own = [(topic, as_json(topic)) for topic in FIELDS]
    return own + [("events", as_json(topic, kind=KIND_NAMES[topic])) for topic in FIELDS]
