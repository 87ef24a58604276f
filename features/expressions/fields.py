"""The fields that an expression may name: those of a transaction, and those of every other kind.

A history holds the records of one kind, and `of=` says which. In `where=` and in a field's place a
name is a field of that kind.
"""

from dataclasses import dataclass
from typing import get_args

import msgspec

from features.columns import Cell, Kind
from features.expressions.types import Type
from features.records import (
    Channel,
    ContactChannel,
    CountryCode,
    CurrencyCode,
    Direction,
    InteractionType,
    OutcomeResult,
    Transaction,
    TransactionType,
)

MICRO = 1_000_000
MINOR_UNITS = 0  # as a field's scale: the minor units of the policy's currency


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a stored event as expressions see it.

    `cell` is its row of the cells matrix and `scale` how many stored units make one; `vocabulary`
    lists all values of an enumeration, `pattern` the form of a code; `required` says that no
    record of its kind lacks the field, `kept` that it is a named value and no field of a record.
    """

    name: str
    cell: int
    type: Type
    about: str
    vocabulary: tuple[str, ...] = ()
    pattern: str = ""
    required: bool = False
    scale: int = 1
    kept: bool = False


# What `of=` may name. A label's own history is that of verdicts as they became known.
KINDS: dict[str, Kind] = {
    kind.name.lower(): kind
    for kind in (Kind.TRANSACTION, Kind.INTERACTION, Kind.OUTCOME, Kind.LABEL, Kind.CONTACT)
}
LABELLED_KINDS = (Kind.TRANSACTION, Kind.LABEL)  # whose LABEL cell says more than `unknown`


def _pattern(annotated: object) -> str:
    for meta in get_args(annotated)[1:]:
        if isinstance(meta, msgspec.Meta) and meta.pattern:
            return meta.pattern
    raise TypeError(f"{annotated} has no pattern")


_ABOUT = {
    Cell.TS_MS: "event time, epoch milliseconds",
    Cell.EVENT_ID: "id of the event",
    Cell.CUSTOMER_ID: "the customer",
    Cell.ACCOUNT_ID: "the customer's account",
    Cell.CARD_ID: "the card",
    Cell.MERCHANT_ID: "the merchant",
    Cell.TERMINAL_ID: "the terminal or cash machine",
    Cell.PAYEE_ID: "who receives a transfer",
    Cell.DEVICE_ID: "the customer's device",
    Cell.IP: "the address that the customer came from",
    Cell.TYPE: "kind of booking",
    Cell.DIRECTION: "whether money leaves or comes",
    Cell.CHANNEL: "where it was made",
    Cell.COUNTRY: "country, ISO 3166-1",
    Cell.CURRENCY: "the currency it was booked in, ISO 4217",
    Cell.MCC: "merchant category, ISO 18245",
    Cell.AMOUNT: "amount, in the policy's currency",
    Cell.BALANCE: "the account's balance afterwards, in the policy's currency",
    Cell.LAT: "latitude, degrees",
    Cell.LON: "longitude, degrees",
}
_TYPES = dict.fromkeys((Cell.MCC, Cell.LAT, Cell.LON, Cell.TS_MS), Type.NUMBER) | dict.fromkeys(
    (Cell.AMOUNT, Cell.BALANCE), Type.MONEY
)
_SCALES = {Cell.AMOUNT: MINOR_UNITS, Cell.BALANCE: MINOR_UNITS, Cell.LAT: MICRO, Cell.LON: MICRO}
_VOCABULARIES = {
    Cell.TYPE: get_args(TransactionType),
    Cell.DIRECTION: get_args(Direction),
    Cell.CHANNEL: get_args(Channel),
}
_PATTERNS = {Cell.COUNTRY: _pattern(CountryCode), Cell.CURRENCY: _pattern(CurrencyCode)}


def _of_transactions() -> dict[str, Field]:
    required = {
        field.name.removesuffix("_minor")
        for field in msgspec.structs.fields(Transaction)
        if field.required
    }
    return {
        cell.name.lower(): Field(
            name=cell.name.lower(),
            cell=int(cell),
            type=_TYPES.get(cell, Type.TEXT),
            about=about,
            vocabulary=_VOCABULARIES.get(cell, ()),
            pattern=_PATTERNS.get(cell, ""),
            required=cell.name.lower() in required,
            scale=_SCALES.get(cell, 1),
        )
        for cell, about in _ABOUT.items()
    }


FIELDS: dict[str, Field] = _of_transactions()
KEY_FIELDS: tuple[str, ...] = tuple(
    field.name
    for field in FIELDS.values()
    if field.type is Type.TEXT and field.cell != Cell.EVENT_ID
)


def _others(*fields: Field) -> dict[str, Field]:
    common = (FIELDS["ts_ms"], FIELDS["event_id"], FIELDS["customer_id"])
    return {field.name: field for field in (*common, *fields)}


def _text(
    cell: Cell, about: str, vocabulary: tuple[str, ...] = (), required: bool = False
) -> Field:
    return Field(cell.name.lower(), int(cell), Type.TEXT, about, vocabulary, required=required)


_INTERACTION_TYPES, _RESULTS = get_args(InteractionType), get_args(OutcomeResult)
_CONTACT_CHANNELS = get_args(ContactChannel)
STORED_FIELDS: dict[Kind, dict[str, Field]] = {
    Kind.TRANSACTION: FIELDS,
    Kind.INTERACTION: _others(
        _text(Cell.TYPE, "what the customer did", _INTERACTION_TYPES, required=True),
        FIELDS["channel"],
        FIELDS["device_id"],
        _text(Cell.METRIC, "what was measured"),
        Field("value", int(Cell.VALUE), Type.NUMBER, "the measured value", scale=MICRO),
    ),
    Kind.OUTCOME: _others(
        _text(Cell.RESULT, "what became of the action", _RESULTS, required=True),
        Field(
            "amount", int(Cell.AMOUNT), Type.MONEY, "what it was worth to the bank",
            required=True, scale=MINOR_UNITS,
        ),
    ),
    Kind.LABEL: _others(),
    Kind.CONTACT: _others(
        _text(Cell.CHANNEL, "how the customer was contacted", _CONTACT_CHANNELS, required=True),
        _text(Cell.OFFER, "the offer that it was about"),
    ),
}  # fmt: skip


def scale(field: Field, currency_exponent: int) -> int:
    """Return how many units of the stored cell make one unit in expressions."""
    return field.scale if field.scale != MINOR_UNITS else int(10**currency_exponent)


def a_stored(kind: Kind) -> str:
    """Return how a message names a stored record of a kind: `a stored contact`."""
    return "the stored event" if kind is Kind.TRANSACTION else f"a stored {kind.name.lower()}"
