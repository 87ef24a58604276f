"""Who the customers are: everything about them that doesn't change during a run."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import MillraceError
from replay.simulator.geography import CITIES, HOME_CITY_COUNT
from replay.simulator.merchants import Merchants, build_merchants
from replay.simulator.settings import SimulatorSettings

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

INCOME_CLASSES = ("low", "middle", "upper", "high")
INCOME_SHARE = (0.30, 0.47, 0.19, 0.04)
INCOME_MEDIAN_MINOR = np.array([155_000, 265_000, 430_000, 880_000])
INCOME_REFERENCE_MINOR = 265_000.0
FAVOURITE_COUNT = 8
ONLINE_FAVOURITE_COUNT = 3
BILL_COUNT = 4
CUSTOMERS_PER_EMPLOYER = 20


class UnknownCustomerError(MillraceError):
    """A customer id that no customer of the run has."""


@dataclass(frozen=True)
class Population:
    """Columns over customers (n), in order of their ids.

    Times of the month are days 1 … 28; rates are events a day; `favourites` (n, 8) and
    `online_favourites` (n, 3) are merchant numbers, best loved first; `bill_minor` (n, 4) is 0
    where there is no such bill. `traits` (n, 6) are standardised: income, age, travel, online,
    risk appetite, assets; `channel_taste` (n, 5) is the willingness to look per contact channel.
    """

    income_class: Ints
    salary_minor: Ints
    has_salary: Bools
    corporate: Bools
    payday: Ints
    employer: Ints
    city: Ints
    two_cards: Bools
    two_devices: Bools
    spend_scale: Floats
    card_rate: Floats
    online_rate: Floats
    login_rate: Floats
    travel_rate: Floats
    favourites: Ints
    online_favourites: Ints
    bill_day: Ints
    bill_minor: Ints
    overdraft_minor: Ints
    leaving_day: Ints
    birth_year: Ints
    customer_days: Ints
    risk_appetite: Ints
    products: Ints
    assets_minor: Ints
    traits: Floats
    channel_taste: Floats

    @property
    def customer_count(self) -> int:
        """How many customers there are."""
        return len(self.payday)


def customer_id(number: int) -> str:
    """The id of customer `number` (from 0)."""
    return f"CU{number + 1:08d}"


def customer_number(text: str, customer_count: int) -> int:
    """The number of a customer from the id.

    Raises UnknownCustomerError if the run has no such customer.
    """
    digits = text[2:]
    if text.startswith("CU") and digits.isascii() and digits.isdigit():
        number = int(digits) - 1
        if 0 <= number < customer_count and customer_id(number) == text:
            return number
    last = customer_id(customer_count - 1)
    raise UnknownCustomerError(
        f"customer_id: expected one from {customer_id(0)} to {last}, got {text!r}"
    )


PRODUCTS = (
    "current_account", "savings_account", "credit_card", "personal_loan", "mortgage",
    "investment_fund", "insurance",
)  # fmt: skip
PRODUCT_SHARE = np.array([
    [1.0, 0.40, 0.25, 0.18, 0.02, 0.03, 0.20],
    [1.0, 0.60, 0.45, 0.16, 0.12, 0.12, 0.35],
    [1.0, 0.75, 0.65, 0.10, 0.22, 0.35, 0.50],
    [1.0, 0.85, 0.85, 0.06, 0.25, 0.70, 0.60],
])  # fmt: skip
LOAN_BIT = 1 << PRODUCTS.index("personal_loan")
CREDIT_CARD_BIT = 1 << PRODUCTS.index("credit_card")


def build_population(
    rng: np.random.Generator, world_rng: np.random.Generator, settings: SimulatorSettings
) -> tuple[Population, Merchants]:
    """Draw the customers and found the merchants around them."""
    n = settings.customer_count
    people = _people(rng, n)
    wealth = _wealth(rng, people, settings)
    merchants = build_merchants(world_rng, np.bincount(people["city"], minlength=len(CITIES)), n)
    habits = _habits(rng, people, merchants, settings)
    risk_appetite = np.clip(rng.integers(0, 3, n) + (people["income_class"] >= 2), 0, 2)
    traits = np.column_stack([
        np.log(people["salary_minor"] / INCOME_REFERENCE_MINOR) / 0.55,
        (people["age"] - 45) / 17,
        np.log(habits["travel_rate"] / 0.004) / 0.8,
        np.log(habits["online_rate"] / (0.3 * settings.activity)) / 0.7,
        risk_appetite - 1.0,
        np.log(wealth["assets_minor"] / 900_000) / 1.3,
    ])  # fmt: skip
    age = people.pop("age")
    population = Population(
        **people, **wealth, **habits,
        birth_year=1970 + settings.start_ms // 31_556_952_000 - age,
        customer_days=np.minimum(rng.gamma(1.5, 1500, n), (age - 17.0) * 365).astype(np.int64),
        risk_appetite=risk_appetite,
        traits=traits,
        channel_taste=rng.normal(size=(n, 5)) * 0.9,
    )  # fmt: skip
    return population, merchants


def _people(rng: np.random.Generator, n: int) -> dict[str, Any]:
    city_count = min(HOME_CITY_COUNT, 1 + n // 50)  # few customers live close together
    weight = np.array([city.home for city in CITIES[:city_count]])
    income_class = rng.choice(4, n, p=INCOME_SHARE)
    salary = INCOME_MEDIAN_MINOR[income_class] * np.exp(rng.normal(size=n) * 0.14)
    corporate = rng.random(n) < 0.02
    has_salary = (rng.random(n) < 0.94) & ~corporate
    employer_count = max(1, n // CUSTOMERS_PER_EMPLOYER)
    return {
        "income_class": income_class,
        "salary_minor": np.rint(salary).astype(np.int64),
        "has_salary": has_salary,
        "corporate": corporate,
        "payday": rng.choice([1, 15, 25, 26, 27, 28], n, p=[0.2, 0.1, 0.2, 0.15, 0.15, 0.2]),
        "employer": (rng.random(n) ** 2 * employer_count).astype(np.int64),
        "city": rng.choice(city_count, n, p=weight / weight.sum()),
        "age": np.clip(np.rint(rng.normal(45, 17, n)), 18, 88).astype(np.int64),
    }


def _wealth(
    rng: np.random.Generator, people: dict[str, Any], settings: SimulatorSettings
) -> dict[str, Any]:
    n = settings.customer_count
    share = PRODUCT_SHARE[people["income_class"]]
    owned = rng.random((n, len(PRODUCTS))) < share
    rent_share = np.array([0.26, 0.09, 0.04, 0.03]) * np.exp(rng.normal(size=(n, BILL_COUNT)) * 0.2)
    bill_minor = np.rint(rent_share * people["salary_minor"][:, None]).astype(np.int64)
    bill_minor[rng.random((n, BILL_COUNT)) > (0.85, 0.9, 0.95, 0.6)] = 0
    assets = people["salary_minor"] * np.exp(rng.normal(size=n) * 1.1) * 3.5
    leaves = rng.random(n) < 0.03
    leaving_day = np.where(leaves, rng.integers(5, max(6, settings.day_count), n), 1 << 30)
    return {
        "products": (owned << np.arange(len(PRODUCTS))).sum(axis=1),
        "bill_minor": bill_minor,
        "bill_day": rng.integers(1, 29, (n, BILL_COUNT)),
        "assets_minor": np.rint(assets).astype(np.int64),
        "overdraft_minor": np.rint(people["salary_minor"] * 0.5).astype(np.int64),
        "leaving_day": leaving_day,
    }


def _habits(
    rng: np.random.Generator,
    people: dict[str, Any],
    merchants: Merchants,
    settings: SimulatorSettings,
) -> dict[str, Any]:
    n, activity = settings.customer_count, settings.activity
    city = people["city"]
    favourites = merchants.draw_shops(rng, np.repeat(city, FAVOURITE_COUNT))
    online = merchants.draw_online(rng, n * ONLINE_FAVOURITE_COUNT)
    income = people["salary_minor"] / INCOME_REFERENCE_MINOR
    return {
        "two_cards": rng.random(n) < 0.35,
        "two_devices": rng.random(n) < 0.45,
        "spend_scale": 0.78 * income**0.85 * np.exp(rng.normal(size=n) * 0.2),
        "card_rate": (0.15 + rng.gamma(4.0, 0.29, n)) * activity,
        "online_rate": (0.03 + rng.gamma(1.6, 0.17, n)) * activity,
        "login_rate": (0.05 + rng.gamma(1.5, 0.5, n)) * activity,
        "travel_rate": 0.0008 + rng.gamma(1.2, 0.004, n) * income**0.5,
        "favourites": favourites.reshape(n, FAVOURITE_COUNT),
        "online_favourites": online.reshape(n, ONLINE_FAVOURITE_COUNT),
    }
