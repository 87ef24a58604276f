"""Streams of records that meet each other: few customers, devices and payees, all kinds mixed."""

from dataclasses import dataclass

import msgspec
from hypothesis import strategies as st

from actions.ids import deterministic_id
from features.raw import RawRecord
from features.records import (
    ENCODER,
    Contact,
    Interaction,
    Label,
    Outcome,
    Profile,
    Record,
    Transaction,
)
from streams.partitioner import partition_of

START_MS = 1_751_328_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PARTITION_COUNT = 3
CUSTOMERS = ("ada", "ben", "cleo", "dora")
SALARY_MS = 28 * DAY_MS
TOPICS = {
    Transaction: "transactions",
    Label: "labels",
    Profile: "profiles",
    Interaction: "interactions",
    Outcome: "outcomes",
    Contact: "contacts",
}
BAD_VALUES = (b"", b"{}", b'{"event_id": 7}', b"\xff\xfe", b'{"kind": "alert"}')


@dataclass(frozen=True)
class Sent:
    """A record as a producer sends it."""

    topic: str
    key: str
    value: bytes


def transaction(number: int, ts_ms: int, customer: str, **fields: object) -> Transaction:
    base: dict[str, object] = {
        "event_id": f"e{number}",
        "ts_ms": ts_ms,
        "customer_id": customer,
        "account_id": f"acc-{customer}",
        "card_id": f"card-{customer}",
        "type": "purchase",
        "amount_minor": 1_000,
        "currency": "EUR",
        "direction": "out",
        "channel": "pos",
    }
    return msgspec.convert({**base, **fields}, Transaction)


@st.composite
def streams(draw: st.DrawFn, max_size: int = 60) -> list[Sent]:
    """Draw records in order of arrival; event times mostly rise, by minutes to weeks."""
    sent: list[Sent] = []
    ts_ms = START_MS
    for number in range(draw(st.integers(5, max_size))):
        steps = st.sampled_from((0, 1_000, 60_000, HOUR_MS, 3 * DAY_MS, SALARY_MS))
        ts_ms += draw(steps)
        late_ms = draw(st.sampled_from((0, 0, 0, 1, HOUR_MS, 10 * DAY_MS)))
        customer = draw(st.sampled_from(CUSTOMERS))
        record = draw(_record(number, max(START_MS, ts_ms - late_ms), customer))
        value = record if isinstance(record, bytes) else ENCODER.encode(record)
        topic = "events" if isinstance(record, bytes) else TOPICS[type(record)]
        sent.append(Sent(topic, customer, value))
    return sent


@st.composite
def _record(draw: st.DrawFn, number: int, ts_ms: int, customer: str) -> Record | bytes:
    kinds = ("pay", "pay", "pay", "salary", "label", "profile", "complaint", "outcome",
             "contact", "bad")  # fmt: skip
    match draw(st.sampled_from(kinds)):
        case "pay":
            return draw(_payment(number, ts_ms, customer))
        case "salary":
            fields = {"type": "salary", "direction": "in", "amount_minor": 300_000}
            return transaction(number, ts_ms, customer, balance_minor=500_000, **fields)
        case "label":
            event = f"e{draw(st.integers(0, number))}"
            verdict = draw(st.sampled_from(("fraud", "legitimate")))
            return Label(event_id=event, ts_ms=ts_ms, customer_id=customer, verdict=verdict)
        case "profile":
            return draw(_profile(ts_ms, customer))
        case "complaint":
            kind = draw(st.sampled_from(("complaint_opened", "complaint_closed", "login")))
            return Interaction(
                event_id=f"i{number}", ts_ms=ts_ms, customer_id=customer, type=kind, channel="app"
            )
        case "outcome":
            action_id = deterministic_id(f"e{draw(st.integers(0, number))}", "savings_plan")
            result = draw(st.sampled_from(("seen", "accepted", "rejected")))
            return Outcome(action_id=action_id, ts_ms=ts_ms, customer_id=customer, result=result)
        case "contact":
            channel = draw(st.sampled_from(("sms", "email")))
            return Contact(
                contact_id=f"c{number}", ts_ms=ts_ms, customer_id=customer, channel=channel
            )
    return draw(st.sampled_from(BAD_VALUES))


@st.composite
def _payment(draw: st.DrawFn, number: int, ts_ms: int, customer: str) -> Transaction:
    fields = {
        "amount_minor": draw(st.sampled_from((100, 4_999, 80_000, 2_000_000))),
        "currency": draw(st.sampled_from(("EUR", "EUR", "USD", "ZZZ"))),
        "terminal_id": draw(st.sampled_from((None, "t1", "t2"))),
        "device_id": draw(st.sampled_from((None, "d1", "d2"))),
        "payee_id": draw(st.sampled_from((None, "p1", "p2"))),
        "country": draw(st.sampled_from((None, "FR", "US"))),
        "lat": draw(st.sampled_from((None, 48.85, 40.7))),
        "lon": draw(st.sampled_from((2.35, -74.0))),
        "channel": draw(st.sampled_from(("pos", "online"))),
    }
    # A repeated event id is a producer's retry: the same event once more.
    event = number if draw(st.integers(0, 9)) else draw(st.integers(0, number))
    return transaction(event, ts_ms, customer, **fields)


@st.composite
def _profile(draw: st.DrawFn, ts_ms: int, customer: str) -> Profile:
    consents = draw(st.sampled_from(((), ("marketing:sms",), ("marketing:app_push",))))
    return Profile(
        customer_id=customer,
        ts_ms=ts_ms,
        consents=consents,
        assets_minor=draw(st.sampled_from((0, 5_000_000))),
        risk_preference=draw(st.sampled_from(("low", "high"))),
    )


def as_raw(sent: list[Sent]) -> list[RawRecord]:
    """Give each record the partition and offset that a log would."""
    offsets: dict[tuple[str, int], int] = {}
    raws = []
    for record in sent:
        place = (record.topic, partition_of(record.key, PARTITION_COUNT))
        offset = offsets.get(place, 0)
        offsets[place] = offset + 1
        raws.append(RawRecord(place[1], record.topic, offset, record.value))
    return raws
