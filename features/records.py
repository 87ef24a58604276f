"""The records on the wire, from which the JSON Schemas are generated.

Money is `amount_minor`, an integer in the currency's minor unit (ISO 4217); time is `ts_ms`,
integer epoch milliseconds, UTC, event time. Every record carries its `kind`; on a topic of one
kind it may be left out. Unknown fields are dropped, unknown kinds refused. Those about models
stand in `model_records.py` and are imported from here.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from features import model_records

TS_MS_MIN = 631_152_000_000  # 1990-01-01: a time below this is almost surely in seconds
TS_MS_MAX = 4_102_444_800_000  # 2100-01-01
AMOUNT_MINOR_MAX = 10**15
LIST_ENTRIES_MAX = 100_000
MEASURED_MAX = 2_000_000_000  # in millionths, squares of it can still be summed exactly

TsMs = Annotated[
    int, Meta(ge=TS_MS_MIN, le=TS_MS_MAX, description="epoch milliseconds, UTC, event time")
]
AmountMinor = Annotated[
    int, Meta(ge=0, le=AMOUNT_MINOR_MAX, description="integer minor units of `currency`")
]
BalanceMinor = Annotated[int, Meta(ge=-AMOUNT_MINOR_MAX, le=AMOUNT_MINOR_MAX)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]
# The pattern alone would let "EUR\n" pass: `$` also matches before a last line feed.
CurrencyCode = Annotated[str, Meta(pattern="^[A-Z]{3}$", max_length=3, description="ISO 4217")]
CountryCode = Annotated[
    str, Meta(pattern="^[A-Z]{2}$", max_length=2, description="ISO 3166-1 alpha-2")
]
Latitude = Annotated[float, Meta(ge=-90, le=90, description="degrees")]
Longitude = Annotated[float, Meta(ge=-180, le=180, description="degrees")]
Measured = Annotated[float, Meta(ge=-MEASURED_MAX, le=MEASURED_MAX)]
Mcc = Annotated[int, Meta(ge=0, le=9999, description="ISO 18245 merchant category")]

TransactionType = Literal[
    "purchase", "transfer_out", "transfer_in", "cash", "salary", "refund", "fee", "deposit",
    "loan_payment", "interest",
]  # fmt: skip
Direction = Literal["out", "in"]
Channel = Literal["pos", "online", "atm", "app", "web", "branch", "phone", "sms", "email"]
InteractionType = Literal[
    "login", "page_view", "fx_query", "application_abandoned", "complaint_opened",
    "complaint_closed", "ticket", "survey", "check_up", "telemetry", "address_change",
    "phone_change",
]  # fmt: skip
Verdict = Literal["fraud", "legitimate"]
OutcomeResult = Literal["delivered", "seen", "clicked", "accepted", "rejected", "converted"]
ContactChannel = Literal["app_push", "sms", "email", "phone", "branch"]
RiskAction = Literal["allow", "step_up", "hold", "decline", "review"]
Severity = Literal["low", "medium", "high", "critical"]


class Transaction(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="transaction"):
    """A booking or an authorisation request on an account."""

    event_id: Id
    ts_ms: TsMs
    customer_id: Id
    account_id: Id
    type: TransactionType
    amount_minor: AmountMinor
    currency: CurrencyCode
    direction: Direction
    channel: Channel
    card_id: Id | None = None
    merchant_id: Id | None = None
    mcc: Mcc | None = None
    terminal_id: Id | None = None
    payee_id: Id | None = None
    country: CountryCode | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    device_id: Id | None = None
    ip: Id | None = None
    balance_minor: BalanceMinor | None = None


class Interaction(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="interaction"):
    """What a customer did with the bank apart from paying: app, web, branch, telemetry."""

    event_id: Id
    ts_ms: TsMs
    customer_id: Id
    type: InteractionType
    channel: Channel
    device_id: Id | None = None
    metric: Id | None = None
    value: Measured | None = None
    text: Annotated[str, Meta(max_length=4096)] | None = None


class QuietHours(Struct, frozen=True, kw_only=True):
    """Local hours in which no message may reach the customer; may span midnight."""

    start_hour: Annotated[int, Meta(ge=0, le=23)]
    end_hour: Annotated[int, Meta(ge=0, le=23)]


class Profile(Struct, frozen=True, kw_only=True, tag_field="kind", tag="profile"):
    """The newest known facts about a customer: each record replaces the one before it."""

    customer_id: Id
    ts_ms: TsMs
    products: tuple[Id, ...] = ()
    assets_minor: AmountMinor = 0
    risk_preference: Literal["low", "medium", "high"] = "low"
    consents: tuple[Id, ...] = ()  # "<purpose>:<channel>", such as "marketing:sms"
    preferred_channels: tuple[ContactChannel, ...] = ()
    quiet_hours: QuietHours | None = None
    utc_offset_minutes: Annotated[int, Meta(ge=-720, le=840)] = 0
    relationship_manager: Id | None = None
    birth_year: Annotated[int, Meta(ge=1900, le=2100)] | None = None
    customer_since_ms: Annotated[int, Meta(ge=-TS_MS_MAX, le=TS_MS_MAX)] | None = None
    corporate: bool = False


class Label(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="label"):
    """A verdict on an earlier transaction; `ts_ms` is when it became known."""

    event_id: Id
    ts_ms: TsMs
    customer_id: Id
    verdict: Verdict
    source: Id = "unknown"


class Outcome(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="outcome"):
    """What became of an action that was offered to a customer."""

    action_id: Id
    ts_ms: TsMs
    customer_id: Id
    result: OutcomeResult
    value_minor: AmountMinor = 0


class Contact(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="contact"):
    """A contact that was made with a customer, by a channel of this engine or another system."""

    contact_id: Id
    ts_ms: TsMs
    customer_id: Id
    channel: ContactChannel
    offer: Id | None = None


class Promotion(Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="promotion"):
    """A control record: the challenger becomes champion with the model's next version."""

    ts_ms: TsMs
    model: Id
    challenger: Id


class PolicyChange(Struct, frozen=True, kw_only=True, tag_field="kind", tag="policy"):
    """A control record: this whole policy decides from here on.

    `files` are its YAML texts by file name. `version` is the policy's fingerprint; where it is
    given, a record whose files have another one is refused. `ts_ms` and `author` are for people.
    """

    ts_ms: TsMs
    files: Annotated[dict[Id, str], Meta(min_length=1, max_length=100)]
    version: str = ""
    author: Annotated[str, Meta(max_length=128)] = ""


class ListChange(Struct, frozen=True, kw_only=True, tag_field="kind", tag="list"):
    """A control record: what the policy's list `name` holds from here on.

    It stands in place of what the policy's files say, through changes of the policy too, until
    the next record of that name; null entries give the list back to the policy's files. `version`,
    `ts_ms` and `author` are for people.
    """

    ts_ms: TsMs
    name: Id
    entries: Annotated[tuple[Id, ...], Meta(max_length=LIST_ENTRIES_MAX)] | None
    version: Annotated[str, Meta(max_length=128)] = ""
    author: Annotated[str, Meta(max_length=128)] = ""


Record = (
    Transaction | Interaction | Profile | Label | Outcome | Contact | Promotion | PolicyChange
    | ListChange
)  # fmt: skip


ReasonStatus = Literal["exact", "stale", "approximate"]


class Reason(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ground of a decision: `source` is `rule:<id>` or `model:<name>:<input>`.

    `status` says how far the values behind it can be trusted; it is left out where all are exact.
    """

    source: str
    text: str
    weight: float
    status: ReasonStatus = "exact"


class Versions(Struct, frozen=True, kw_only=True):
    """Everything that decided: policy fingerprint and version number of each model."""

    policy: str
    models: dict[str, int]


class Alert(Struct, frozen=True, kw_only=True, tag_field="kind", tag="alert"):
    """A risky event and what the payment system should do about it."""

    alert_id: str
    event_id: str
    ts_ms: int
    customer_id: str
    risk: str
    severity: Severity
    action: RiskAction
    score: float
    amount_minor: int
    currency: str
    reasons: tuple[Reason, ...]
    versions: Versions


class LostCandidate(Struct, frozen=True, kw_only=True):
    """An offer that was not made, and why."""

    offer: str
    reason: str


class Offer(Struct, frozen=True, kw_only=True, tag_field="kind", tag="offer"):
    """The best action for a customer now. `propensity` is the probability of this choice.

    A channel delivers it from `deliver_from_ms` on (the end of quiet hours, where the event fell
    into them) and before `valid_until_ms`.
    """

    action_id: str
    event_id: str
    ts_ms: int
    customer_id: str
    offer: str
    channel: ContactChannel
    text_key: str
    parameters: dict[str, str | int | float]
    deliver_from_ms: int
    valid_until_ms: int
    propensity: float
    explored: bool
    control: bool
    why: tuple[str, ...]
    lost: tuple[LostCandidate, ...]
    versions: Versions


class Task(Struct, frozen=True, kw_only=True, tag_field="kind", tag="task"):
    """Work for people, with a deadline."""

    task_id: str
    event_id: str
    ts_ms: int
    customer_id: str
    task: str
    owner: str
    due_ms: int
    why: tuple[str, ...]
    versions: Versions


TrainingExample = model_records.TrainingExample
CalibrationBin = model_records.CalibrationBin
ContestantMeasures = model_records.ContestantMeasures
ModelReport = model_records.ModelReport
ModelPromoted = model_records.ModelPromoted
ModelRefused = model_records.ModelRefused
Drift = model_records.Drift


class DeadLetter(Struct, frozen=True, kw_only=True, tag_field="kind", tag="dead_letter"):
    """A record that was refused: its bytes, where it came from and the exact error."""

    raw: bytes  # base64 in JSON
    topic: str
    partition: int
    offset: int
    path: str
    expected: str
    got: str
    nearest: str | None = None


ENCODER = msgspec.json.Encoder()
ONE_TOPIC = "events"  # a topic that carries every kind of input record
INPUT_RECORDS: dict[str, type[Struct]] = {
    "transactions": Transaction,
    "interactions": Interaction,
    "profiles": Profile,
    "labels": Label,
    "outcomes": Outcome,
    "contacts": Contact,
    "promotions": Promotion,
}
# What changes the engine itself. In Kafka their topics are read whole by every worker; an embedded
# engine takes them among its inputs.
CONTROL_RECORDS: dict[str, type[Struct]] = {"policies": PolicyChange, "lists": ListChange}
TAKEN_RECORDS = INPUT_RECORDS | CONTROL_RECORDS
OUTPUT_RECORDS: dict[str, type[Struct]] = {
    "alerts": Alert,
    "offers": Offer,
    "tasks": Task,
    "training": TrainingExample,
    "model-reports": ModelReport,
    "model-promotions": ModelPromoted,
    "model-refusals": ModelRefused,
    "drift": Drift,
    "dead-letters": DeadLetter,
}
