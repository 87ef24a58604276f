"""Merchants, their terminals, online shops and cash machines."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.simulator.geography import (
    CITIES,
    CITY_COUNTRY,
    CITY_LAT,
    CITY_LON,
    COUNTRIES,
    HOME_CITY_COUNT,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ONLINE_SHOP_COUNT = 240
VISIT_MERCHANT_COUNT = 40
CITY_SPREAD_DEGREES = 0.025  # about 2.5 km, one standard deviation


class Category(NamedTuple):
    """A merchant category (ISO 18245): median and log-spread of a purchase, and how common."""

    mcc: int
    median_minor: int
    sigma: float
    weight: float


SHOP_CATEGORIES = (
    Category(5411, 2_600, 0.65, 26.0),
    Category(5812, 2_300, 0.50, 14.0),
    Category(5814, 850, 0.40, 16.0),
    Category(5541, 4_600, 0.35, 8.0),
    Category(5912, 1_500, 0.60, 7.0),
    Category(5651, 4_200, 0.60, 7.0),
    Category(5732, 9_500, 0.80, 3.0),
    Category(4111, 450, 0.50, 9.0),
    Category(5942, 1_600, 0.50, 3.0),
    Category(8062, 7_500, 1.10, 2.0),
    Category(7832, 1_500, 0.30, 3.0),
    Category(5200, 4_000, 0.70, 2.0),
)
ONLINE_CATEGORIES = (
    Category(5311, 3_200, 0.70, 30.0),
    Category(5999, 2_400, 0.70, 20.0),
    Category(4899, 1_200, 0.20, 15.0),
    Category(5816, 1_000, 0.60, 12.0),
    Category(5734, 2_900, 0.60, 8.0),
    Category(4511, 17_000, 0.60, 4.0),
    Category(4722, 14_000, 0.70, 3.0),
    Category(5969, 2_700, 0.60, 8.0),
)
CATEGORIES = SHOP_CATEGORIES + ONLINE_CATEGORIES


@dataclass(frozen=True)
class Merchants:
    """All places to pay. Merchants 0 … shop_count-1 are shops (ordered by city), the rest online.

    Per merchant (m): category int64 (index into CATEGORIES), first_terminal and terminal_count
    int64, country int64 (index into COUNTRIES). Per terminal (t): merchant int64 (-1 for a cash
    machine), city, lat and lon (degrees, rounded to 5 decimals). Per city (c): shop_first,
    shop_number, atm_first, atm_number. `shop_popularity` and `online_popularity` are cumulative;
    a city's shops take the range (city, city + 1].
    """

    category: Ints
    country: Ints
    first_terminal: Ints
    terminal_count: Ints
    terminal_merchant: Ints
    terminal_city: Ints
    terminal_lat: Floats
    terminal_lon: Floats
    shop_first: Ints
    shop_number: Ints
    atm_first: Ints
    atm_number: Ints
    shop_popularity: Floats
    online_popularity: Floats

    @property
    def shop_count(self) -> int:
        """How many merchants have a place; online shops follow them."""
        return len(self.shop_popularity)

    def draw_shops(self, rng: np.random.Generator, city: Ints) -> Ints:
        """A shop for each element of `city` (n), by popularity within the city."""
        wanted = city + rng.random(len(city))
        found = np.searchsorted(self.shop_popularity, wanted, side="left")
        first = self.shop_first[city]
        return np.asarray(np.clip(found, first, first + self.shop_number[city] - 1))

    def draw_online(self, rng: np.random.Generator, count: int) -> Ints:
        """Online shops by popularity."""
        found = np.searchsorted(self.online_popularity, rng.random(count))
        return np.asarray(self.shop_count + np.minimum(found, len(self.online_popularity) - 1))

    def draw_terminals(self, rng: np.random.Generator, merchant: Ints) -> Ints:
        """One of each shop's terminals."""
        pick = (rng.random(len(merchant)) * self.terminal_count[merchant]).astype(np.int64)
        return np.asarray(self.first_terminal[merchant] + pick)

    def draw_atms(self, rng: np.random.Generator, city: Ints) -> Ints:
        """A cash machine (terminal) in each city of `city` (n)."""
        pick = (rng.random(len(city)) * self.atm_number[city]).astype(np.int64)
        return np.asarray(self.atm_first[city] + pick)

    def draw_amounts_minor(
        self, rng: np.random.Generator, merchant: Ints, scale: Floats | float
    ) -> Ints:
        """Amounts of purchases (n): log-normal by category, times `scale`."""
        category = self.category[merchant]
        noise = np.exp(rng.normal(size=len(merchant)) * _SIGMA[category])
        amounts = np.rint(_MEDIAN_MINOR[category] * noise * scale)
        return np.asarray(np.clip(amounts, 50, 2_000_000).astype(np.int64))


_SIGMA = np.array([category.sigma for category in CATEGORIES])
_MEDIAN_MINOR = np.array([category.median_minor for category in CATEGORIES], dtype=np.float64)


def build_merchants(
    rng: np.random.Generator, city_customer_count: Ints, customer_count: int
) -> Merchants:
    """Found the shops of each city in step with its customers; popularity follows Zipf's law."""
    shop_number = np.full(len(CITIES), VISIT_MERCHANT_COUNT, dtype=np.int64)
    shop_number[:HOME_CITY_COUNT] = np.maximum(12, city_customer_count[:HOME_CITY_COUNT] // 8)
    shop_first = np.cumsum(shop_number) - shop_number
    shop_city = np.repeat(np.arange(len(CITIES)), shop_number)
    shop_count = len(shop_city)
    rank = np.arange(shop_count) - shop_first[shop_city]
    share = 1.0 / (rank + 3.0) ** 0.8
    totals = np.bincount(shop_city, weights=share, minlength=len(CITIES))
    running = np.cumsum(share / totals[shop_city])
    atm_number = np.maximum(3, shop_number // 12)
    terminal_count = rng.integers(1, 4, shop_count)
    shop_lat = CITY_LAT[shop_city] + rng.normal(size=shop_count) * CITY_SPREAD_DEGREES
    shop_lon = CITY_LON[shop_city] + rng.normal(size=shop_count) * CITY_SPREAD_DEGREES
    atm_city = np.repeat(np.arange(len(CITIES)), atm_number)
    atm_lat = CITY_LAT[atm_city] + rng.normal(size=len(atm_city)) * CITY_SPREAD_DEGREES
    atm_lon = CITY_LON[atm_city] + rng.normal(size=len(atm_city)) * CITY_SPREAD_DEGREES
    online_share = 1.0 / (np.arange(ONLINE_SHOP_COUNT) + 2.0)
    home_country = rng.choice(
        [COUNTRIES.index(name) for name in ("DE", "LU", "IE", "NL", "US", "GB")],
        ONLINE_SHOP_COUNT, p=[0.5, 0.1, 0.15, 0.1, 0.1, 0.05],
    )  # fmt: skip
    of_terminal = np.repeat(np.arange(shop_count), terminal_count)
    return Merchants(
        category=np.concatenate([
            _draw_categories(rng, SHOP_CATEGORIES, shop_count),
            len(SHOP_CATEGORIES) + _draw_categories(rng, ONLINE_CATEGORIES, ONLINE_SHOP_COUNT),
        ]),
        country=np.concatenate([CITY_COUNTRY[shop_city], home_country]).astype(np.int64),
        first_terminal=np.cumsum(terminal_count) - terminal_count,
        terminal_count=terminal_count,
        terminal_merchant=np.concatenate([of_terminal, np.full(len(atm_city), -1)]),
        terminal_city=np.concatenate([shop_city[of_terminal], atm_city]),
        terminal_lat=np.round(np.concatenate([shop_lat[of_terminal], atm_lat]), 5),
        terminal_lon=np.round(np.concatenate([shop_lon[of_terminal], atm_lon]), 5),
        shop_first=shop_first,
        shop_number=shop_number,
        atm_first=len(of_terminal) + np.cumsum(atm_number) - atm_number,
        atm_number=atm_number,
        shop_popularity=running,
        online_popularity=np.cumsum(online_share) / online_share.sum(),
    )  # fmt: skip


def _draw_categories(
    rng: np.random.Generator, categories: tuple[Category, ...], count: int
) -> Ints:
    weight = np.array([category.weight for category in categories])
    return np.asarray(rng.choice(len(categories), count, p=weight / weight.sum()))
