"""A batch of records as one integer matrix: what every kernel reads.

Every cell is an int64. Ids are the keyed 64-bit hash of their UTF-8 bytes, viewed as int64;
enumerations and ISO codes the small numbers of `features.codes`; amounts are minor units of the
policy's currency; coordinates are micro-degrees and measured values millionths. A field that is
absent is `MISSING`. A plan's kept values take the rows from `len(Cell)` on.
"""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

MISSING = np.iinfo(np.int64).min
Cells = NDArray[np.int64]


class Cell(IntEnum):
    """Row numbers of the cells matrix, shape (len(Cell), batch size)."""

    TS_MS = 0
    EVENT_ID = 1
    CUSTOMER_ID = 2
    ACCOUNT_ID = 3
    CARD_ID = 4
    MERCHANT_ID = 5
    TERMINAL_ID = 6
    PAYEE_ID = 7
    DEVICE_ID = 8
    IP = 9
    TYPE = 10
    DIRECTION = 11
    CHANNEL = 12
    COUNTRY = 13
    CURRENCY = 14
    MCC = 15
    AMOUNT = 16
    BALANCE = 17
    LAT = 18
    LON = 19
    LABEL = 20
    METRIC = 21  # of an interaction: the hash of what was measured
    VALUE = 22  # and the measured value, in millionths
    RESULT = 23  # of an outcome
    OFFER = 24  # of a contact


class Kind(IntEnum):
    """What a row of a batch is; REFUSED rows went to the dead letters."""

    REFUSED = 0
    TRANSACTION = 1
    LABEL = 2
    PROFILE = 3
    INTERACTION = 4
    OUTCOME = 5
    CONTACT = 6
    CONTROL = 7  # an order to the engine: no event of anybody, and outside of event time


SLOT_KINDS = (Kind.TRANSACTION, Kind.INTERACTION)  # rows of which slots are computed

CODE_CELLS = (
    Cell.TYPE,
    Cell.DIRECTION,
    Cell.CHANNEL,
    Cell.COUNTRY,
    Cell.CURRENCY,
    Cell.RESULT,
)


class LabelCode(IntEnum):
    """Values of `Cell.LABEL`: what is known of a transaction."""

    UNKNOWN = 0
    LEGITIMATE = 1
    FRAUD = 2


def empty_cells(count: int) -> Cells:
    """Return a cells matrix of `count` columns in which everything is missing."""
    return np.full((len(Cell), count), MISSING, dtype=np.int64)
