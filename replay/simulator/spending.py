"""Everyday card payments: in shops, at cash machines and online."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day, draw_times
from replay.simulator.geography import FOREIGN_CITY
from replay.simulator.population import ONLINE_FAVOURITE_COUNT
from replay.simulator.randomness import Purpose
from replay.simulator.rows import Rows, Via, What, make_rows
from replay.simulator.scene import Scene
from replay.simulator.travel import IN_TRANSIT, whereabouts

Ints = NDArray[np.int64]
CASH_SHARE = 0.08
FAVOURITE_SHARE = 0.85
ONLINE_FAVOURITE_SHARE = 0.6
MOBILE_NETWORK_SHARE = 0.3
SECOND_CARD_SHARE = 0.3
SECOND_DEVICE_SHARE = 0.3
PAUSE_MS = 10 * 60_000  # nobody pays at two tills within ten minutes
FOREIGN_CASH_FEE_MINOR = 490
CASH_MINOR = np.array([2_000, 2_000, 3_000, 5_000, 5_000, 10_000, 20_000])
_FAVOURITE_RANK = np.cumsum(1.0 / np.arange(1, 9)) / (1.0 / np.arange(1, 9)).sum()  # Zipf


def card_payments(scene: Scene, day: Day) -> Rows:
    """Purchases in shops, cash withdrawals, and the fees for cash abroad, with a card present."""
    rng = scene.streams.of(Purpose.CARD_SPENDING, day.number)
    population = scene.population
    counts = rng.poisson(population.card_rate * scene.liveliness(day))
    customer = np.repeat(np.arange(population.customer_count), counts)
    ts_ms = spaced(customer, draw_times(rng, day, len(customer)))
    city = whereabouts(scene, customer, ts_ms)
    cash = rng.random(len(customer)) < CASH_SHARE
    card = choose_cards(scene, rng, customer)
    there = city != IN_TRANSIT
    shopping, drawing = there & ~cash, there & cash
    purchases = _purchases(scene, rng, customer[shopping], ts_ms[shopping], city[shopping])
    purchases["card"] = card[shopping]
    withdrawals = make_rows(
        customer[drawing], ts_ms[drawing], What.CASH, Via.ATM, card=card[drawing],
        terminal=scene.merchants.draw_atms(rng, city[drawing]),
        amount_minor=rng.choice(CASH_MINOR, int(drawing.sum())),
    )  # fmt: skip
    abroad = drawing & FOREIGN_CITY[city]
    fees = make_rows(
        customer[abroad], ts_ms[abroad] + 1_000, What.FEE, Via.ATM, card=card[abroad],
        amount_minor=FOREIGN_CASH_FEE_MINOR,
    )  # fmt: skip
    return np.concatenate([purchases, withdrawals, fees])


def _purchases(
    scene: Scene, rng: np.random.Generator, customer: Ints, ts_ms: Ints, city: Ints
) -> Rows:
    merchants, population = scene.merchants, scene.population
    count = len(customer)
    merchant = merchants.draw_shops(rng, city)
    loyal = (rng.random(count) < FAVOURITE_SHARE) & (city == population.city[customer])
    rank = np.searchsorted(_FAVOURITE_RANK, rng.random(count)).clip(0, len(_FAVOURITE_RANK) - 1)
    merchant = np.where(loyal, population.favourites[customer, rank], merchant)
    return make_rows(
        customer, ts_ms, What.PURCHASE, Via.POS, merchant=merchant,
        terminal=merchants.draw_terminals(rng, merchant),
        amount_minor=merchants.draw_amounts_minor(rng, merchant, population.spend_scale[customer]),
    )  # fmt: skip


def online_purchases(scene: Scene, day: Day) -> Rows:
    """Purchases in online shops: with a device and an address, without a place."""
    rng = scene.streams.of(Purpose.ONLINE_SPENDING, day.number)
    population, merchants = scene.population, scene.merchants
    counts = rng.poisson(population.online_rate * scene.liveliness(day))
    customer = np.repeat(np.arange(population.customer_count), counts)
    count = len(customer)
    favourite = population.online_favourites[
        customer, rng.integers(0, ONLINE_FAVOURITE_COUNT, count)
    ]
    loyal = rng.random(count) < ONLINE_FAVOURITE_SHARE
    merchant = np.where(loyal, favourite, merchants.draw_online(rng, count))
    return make_rows(
        customer, draw_times(rng, day, count), What.PURCHASE, Via.ONLINE, merchant=merchant,
        card=choose_cards(scene, rng, customer), device=choose_devices(scene, rng, customer),
        ip=choose_addresses(scene, rng, customer),
        amount_minor=merchants.draw_amounts_minor(rng, merchant, population.spend_scale[customer]),
    )  # fmt: skip


def spaced(customer: Ints, ts_ms: Ints) -> Ints:
    """Put each customer's times in order and at least PAUSE_MS apart, moving them later.

    `customer` must be grouped (ascending). With t_k the k-th time of a customer, the result is
    max over j <= k of t_j + (k - j) PAUSE_MS: a running maximum of t_k - k PAUSE_MS.
    """
    if not len(customer):
        return ts_ms
    order = np.lexsort((ts_ms, customer))
    t = ts_ms[order]
    position = np.arange(len(t))
    new = np.r_[True, customer[1:] != customer[:-1]]
    rank = position - np.maximum.accumulate(np.where(new, position, 0))
    lowered = t - rank * PAUSE_MS
    step = int(lowered.max() - lowered.min()) + 1
    group = np.cumsum(new) * step
    return np.asarray(np.maximum.accumulate(lowered + group) - group + rank * PAUSE_MS)


def choose_cards(scene: Scene, rng: np.random.Generator, customer: Ints) -> Ints:
    """The slot (0 or 1) of the card that each customer takes."""
    second = rng.random(len(customer)) < SECOND_CARD_SHARE
    return np.asarray((second & scene.population.two_cards[customer]).astype(np.int64))


def choose_devices(scene: Scene, rng: np.random.Generator, customer: Ints) -> Ints:
    """The number of the device that each customer uses."""
    second = rng.random(len(customer)) < SECOND_DEVICE_SHARE
    slot = (second & scene.population.two_devices[customer]).astype(np.int64)
    return np.asarray(scene.state.device[customer, slot])


def choose_addresses(scene: Scene, rng: np.random.Generator, customer: Ints) -> Ints:
    """IP addresses as integers: at home, or from a mobile network's pool."""
    mobile = (92 << 24) + rng.integers(0, 1 << 18, len(customer))
    outside = rng.random(len(customer)) < MOBILE_NETWORK_SHARE
    return np.where(outside, mobile, scene.state.home_ip[customer])
