"""What a simulated run is made of: everything that its bytes depend on."""

import math
import re
from dataclasses import asdict, dataclass

from features.errors import MillraceError
from features.records import TS_MS_MAX, TS_MS_MIN

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
CUSTOMER_COUNT_MAX = 5_000_000
DAY_COUNT_MAX = 3_660
FRAUD_RATE_MAX = 0.05
DEFAULT_OFFERS = (
    "savings_plan",
    "investment_fund",
    "personal_loan",
    "bridge_loan",
    "credit_card",
    "health_insurance",
    "cross_border_package",
    "retention_bonus",
)


class SettingsError(MillraceError):
    """A setting of the simulator that can't be taken; the message names it."""


@dataclass(frozen=True)
class SimulatorSettings:
    """The same settings give the same bytes.

    `fraud_rate` is the wanted share of fraudulent transactions once fraud has begun, on day
    `fraud_start_day`. With `pattern_change_day`, all frauds before that day are with cards, and
    all from then on with accounts, which no earlier day tells of. `activity` scales how often
    customers pay and log in (1.0 is about 100 events a customer and month); `offers` are the names
    for which `write_files` tells the true response probabilities (the response model itself
    answers any name).

    Raises SettingsError for a value out of its bounds.
    """

    customer_count: int
    day_count: int
    seed: int = 1
    start_ms: int = 1_751_328_000_000  # 2025-07-01T00:00Z
    currency: str = "EUR"
    fraud_rate: float = 0.005
    fraud_start_day: int = 2
    activity: float = 1.0
    offers: tuple[str, ...] = DEFAULT_OFFERS
    pattern_change_day: int | None = None

    def __post_init__(self) -> None:
        _whole("customer_count", self.customer_count, 1, CUSTOMER_COUNT_MAX)
        _whole("day_count", self.day_count, 1, DAY_COUNT_MAX)
        _whole("seed", self.seed, 0, 2**63 - 1)
        _whole("start_ms", self.start_ms, TS_MS_MIN, TS_MS_MAX)
        _whole("fraud_start_day", self.fraud_start_day, 0, DAY_COUNT_MAX)
        if self.pattern_change_day is not None:
            _whole("pattern_change_day", self.pattern_change_day, 0, DAY_COUNT_MAX)
        _number("fraud_rate", self.fraud_rate, 0.0, FRAUD_RATE_MAX)
        _number("activity", self.activity, 0.01, 20.0)
        if self.start_ms % DAY_MS:
            raise SettingsError(
                f"start_ms: expected a UTC midnight (a multiple of {DAY_MS}), got {self.start_ms}"
            )
        if self.end_ms > TS_MS_MAX:
            raise SettingsError(
                f"day_count: expected a run that ends by {TS_MS_MAX}, got one to {self.end_ms}"
            )
        if not isinstance(self.currency, str) or not re.fullmatch("[A-Z]{3}", self.currency):
            raise SettingsError(f"currency: expected an ISO 4217 code, got {self.currency!r}")
        _offer_names(self.offers)

    @property
    def end_ms(self) -> int:
        """The first millisecond after the run."""
        return self.start_ms + self.day_count * DAY_MS

    @property
    def hour_count(self) -> int:
        """How many simulated hours the run has."""
        return self.day_count * 24

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values, for `simulation.json`; without those that are off."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def _whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise SettingsError(f"{name}: expected a whole number from {low} to {high}, got {value!r}")


def _number(name: str, value: object, low: float, high: float) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type, operator]
        raise SettingsError(f"{name}: expected a number from {low} to {high}, got {value!r}")


def _offer_names(offers: object) -> None:
    if not isinstance(offers, tuple) or not all(isinstance(name, str) and name for name in offers):
        raise SettingsError(f"offers: expected a tuple of names, got {offers!r}")
    if len(set(offers)) != len(offers):
        raise SettingsError(f"offers: expected each name once, got {offers!r}")
