"""What is known of one customer beside the transactions: profile, contacts, open cases, outcomes.

One state a customer, kept by the caller and stored as MessagePack. Ids of the customer are not in
it: the key under which it is stored is the pseudonym already.
"""

import datetime
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.errors import RecordError
from features.records import Interaction, Profile

SCHEMA_VERSION = 1
COMPLAINTS_MAX = 64
PENDING_MAX = 64
_NO_CUSTOMER = "-"  # a Profile must have some customer_id
_DAY_MS = 86_400_000
_RISK_PREFERENCES = {"low": 0.0, "medium": 1.0, "high": 2.0}


class Contact(Struct, array_like=True, frozen=True, gc=False):
    """An action that took a contact slot (a control member's too, though nothing was sent)."""

    ts_ms: int
    channel: str
    offer: str
    action_id: str


class PendingOutcome(Struct, array_like=True, frozen=True, gc=False):
    """A delivered offer whose answer is still awaited."""

    ts_ms: int
    offer: str


class Tally(Struct, array_like=True, gc=False):
    """How a customer answered one offer so far."""

    accepted_count: int = 0
    declined_count: int = 0


class CustomerState(Struct, array_like=True):
    """The state of one customer; changed in place by ContactLedger and NextBestAction.

    New fields go to the end with a default: then older bytes still decode.
    """

    schema: int = SCHEMA_VERSION
    profile: Profile | None = None
    contacts: list[Contact] = []
    rejected_ms: dict[str, int] = {}  # offer -> newest rejection
    accepted_ms: dict[str, int] = {}  # offer -> newest acceptance
    tallies: dict[str, Tally] = {}
    pending: dict[str, PendingOutcome] = {}  # action_id -> offer, oldest first
    alert_until_ms: int = 0
    complaints: list[str] = []  # event ids of open complaints, oldest first

    def encode(self) -> bytes:
        """Return the state as MessagePack, the same bytes for the same state."""
        return _ENCODER.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> "CustomerState":
        """Return the state from its bytes. Raises RecordError where they are not of this schema."""
        try:
            version = _HEADER.decode(value).schema
            if version != SCHEMA_VERSION:
                raise RecordError(
                    "$[0]", f"customer state of schema {SCHEMA_VERSION}", str(version)
                )
            return _DECODER.decode(value)
        except msgspec.DecodeError as error:
            raise RecordError("$", "a customer state", str(error)) from None

    def take_profile(self, profile: Profile) -> bool:
        """Keep a profile if it is not older than the one at hand; says whether it was taken."""
        if self.profile is not None and profile.ts_ms < self.profile.ts_ms:
            return False
        self.profile = msgspec.structs.replace(profile, customer_id=_NO_CUSTOMER)
        return True

    def take_interaction(self, interaction: Interaction) -> bool:
        """Open or close a complaint; says whether the state changed.

        A closing record may name the complaint (its event id) in `text` or `metric`; one that
        names none closes the oldest.
        """
        if interaction.type == "complaint_opened":
            if interaction.event_id in self.complaints:
                return False
            self.complaints.append(interaction.event_id)
            del self.complaints[:-COMPLAINTS_MAX]
            return True
        if interaction.type == "complaint_closed" and self.complaints:
            named = (interaction.text, interaction.metric)
            closed = next((c for c in self.complaints if c in named), self.complaints[0])
            self.complaints.remove(closed)
            return True
        return False


class _Header(Struct, array_like=True):
    schema: int


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(CustomerState)
_HEADER = msgspec.msgpack.Decoder(_Header)


def _age_years(profile: Profile, ts_ms: int) -> float:
    if profile.birth_year is None:
        return float("nan")
    year = datetime.datetime.fromtimestamp(ts_ms / 1000, tz=datetime.UTC).year
    return float(year - profile.birth_year)


def _tenure_days(profile: Profile, ts_ms: int) -> float:
    if profile.customer_since_ms is None:
        return float("nan")
    return max(0.0, (ts_ms - profile.customer_since_ms) / _DAY_MS)


_PROFILE_VALUES: dict[str, Callable[[Profile, int], float]] = {
    "assets": lambda profile, _: float(profile.assets_minor),
    "products_count": lambda profile, _: float(len(profile.products)),
    "age_years": _age_years,
    "tenure_days": _tenure_days,
    "corporate": lambda profile, _: float(profile.corporate),
    "risk_preference": lambda profile, _: _RISK_PREFERENCES[profile.risk_preference],
    "consents_count": lambda profile, _: float(len(profile.consents)),
}
PROFILE_FIELDS = tuple(_PROFILE_VALUES)


def profile_column(
    name: str,
    states: Sequence[CustomerState | None],
    ts_ms: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return `profile.<name>` for n events as float64[n]; NaN without profile or fact.

    `states[i]` is the state of event i's customer as it is when the event is decided, `ts_ms`
    int64[n] the events' times (for age and tenure). Assets are in minor units, as the compiled
    plan takes money (it divides to major units itself). Risk preference is 0 low, 1 medium,
    2 high. Raises KeyError for a name not in PROFILE_FIELDS.
    """
    read = _PROFILE_VALUES[name]
    column = np.full(len(states), np.nan)
    for i, state in enumerate(states):
        if state is not None and state.profile is not None:
            column[i] = read(state.profile, int(ts_ms[i]))
    return column
