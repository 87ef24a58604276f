"""A day's events as one structured array, before they become records."""

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]


class What(IntEnum):
    """What happens; the lower-case name is the record's `type`."""

    PURCHASE = 0
    TRANSFER_OUT = 1
    TRANSFER_IN = 2
    CASH = 3
    SALARY = 4
    REFUND = 5
    FEE = 6
    DEPOSIT = 7
    LOAN_PAYMENT = 8
    INTEREST = 9
    LOGIN = 16
    PAGE_VIEW = 17
    FX_QUERY = 18
    APPLICATION_ABANDONED = 19
    COMPLAINT_OPENED = 20
    COMPLAINT_CLOSED = 21
    SURVEY = 22
    TELEMETRY = 23
    ADDRESS_CHANGE = 24
    PHONE_CHANGE = 25
    PROFILE = 32


FIRST_INTERACTION = int(What.LOGIN)
SIGN = np.zeros(FIRST_INTERACTION, dtype=np.int64)
SIGN[[What.TRANSFER_IN, What.SALARY, What.REFUND, What.DEPOSIT, What.INTEREST]] = 1
SIGN[[What.PURCHASE, What.TRANSFER_OUT, What.CASH, What.FEE, What.LOAN_PAYMENT]] = -1


class Via(IntEnum):
    """The channel; the lower-case name is the record's `channel`."""

    POS = 0
    ONLINE = 1
    ATM = 2
    APP = 3
    WEB = 4
    BRANCH = 5
    PHONE = 6
    EMAIL = 7


class Scenario(IntEnum):
    """Why an event is fraudulent; the lower-case name stands in the ground truth."""

    NONE = 0
    CARD_TESTING = 1
    ACCOUNT_TAKEOVER = 2
    STOLEN_CARD = 3
    COMPROMISED_TERMINAL = 4
    MULE = 5
    GANG = 6
    TALKED_INTO_PAYING = 7


class PayeeKind(IntEnum):
    """Who stands on the other side of a transfer; see `payee_code`."""

    EMPLOYER = 0
    UTILITY = 1
    PERSON = 2
    SAVINGS = 3
    ACCOUNT = 4
    LENDER = 5


PAYEE_PREFIXES = ("EM", "UT", "PY", "SV", "AC", "LE")
PAYEE_SHIFT = 40


def payee_code(kind: PayeeKind, numbers: Any) -> Any:
    """Pack the kind and the number (int or int64 array, below 2**40) of a payee."""
    return numbers + (int(kind) << PAYEE_SHIFT)


ROW = np.dtype(
    [
        ("ts_ms", np.int64),
        ("amount_minor", np.int64),
        ("balance_minor", np.int64),
        ("payee", np.int64),
        ("device", np.int64),
        ("ip", np.int64),
        ("label_ts_ms", np.int64),
        ("number", np.int64),
        ("value", np.float64),
        ("customer", np.int32),
        ("merchant", np.int32),
        ("terminal", np.int32),
        ("metric", np.int16),
        ("text", np.int16),
        ("what", np.uint8),
        ("via", np.uint8),
        ("card", np.int8),
        ("card_generation", np.uint8),
        ("scenario", np.uint8),
        ("label", np.uint8),
    ]
)
ABSENT = ("payee", "device", "ip", "label_ts_ms", "merchant", "terminal", "metric", "text", "card")


def make_rows(customer: Any, ts_ms: Any, what: Any, via: Any, **columns: Any) -> Rows:
    """Rows of events, one per element of `customer`; columns not given are absent or zero."""
    rows: Rows = np.zeros(len(customer), dtype=ROW)
    for name in ABSENT:
        rows[name] = -1
    rows["value"] = np.nan
    rows["customer"] = customer
    rows["ts_ms"] = ts_ms
    rows["what"] = what
    rows["via"] = via
    for name, column in columns.items():
        rows[name] = column
    return rows


def no_rows() -> Rows:
    """An empty table."""
    return np.zeros(0, dtype=ROW)


def is_transaction(rows: Rows) -> NDArray[np.bool_]:
    """Which rows are transactions."""
    return np.asarray(rows["what"] < FIRST_INTERACTION)
