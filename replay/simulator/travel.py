"""Trips: booked some days ahead, with a journey that takes a believable time."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day
from replay.simulator.geography import CITIES, CITY_DISTANCE_KM
from replay.simulator.randomness import Purpose
from replay.simulator.scene import Scene
from replay.simulator.settings import DAY_MS, HOUR_MS

Ints = NDArray[np.int64]
SPEED_KMH = 650.0
DOOR_TO_DOOR_HOURS = 2.5  # to the airport and from it
IN_TRANSIT = -1
_VISIT = np.array([city.visit for city in CITIES])


def book_trips(scene: Scene, day: Day) -> None:
    """Let some customers who have no trip book one, to begin in 2 to 10 days."""
    rng = scene.streams.of(Purpose.TRAVEL, day.number)
    state, population = scene.state, scene.population
    books = rng.random(population.customer_count) < population.travel_rate
    who = np.flatnonzero(books & (state.back_home_ms < day.start_ms))
    city = rng.choice(len(CITIES), len(who), p=_VISIT / _VISIT.sum())
    stays = np.rint(rng.gamma(2.5, 2.2, len(who)) + 1).astype(np.int64) * DAY_MS
    leave = day.start_ms + rng.integers(2, 11, len(who)) * DAY_MS
    leave += rng.integers(4 * HOUR_MS, 16 * HOUR_MS, len(who))
    away = city != population.city[who]
    who, city, stays, leave = who[away], city[away], stays[away], leave[away]
    distance = CITY_DISTANCE_KM[population.city[who], city]
    journey = ((distance / SPEED_KMH + DOOR_TO_DOOR_HOURS) * HOUR_MS).astype(np.int64)
    state.trip_city[who] = city
    state.leave_ms[who] = leave
    state.arrive_ms[who] = leave + journey
    state.back_leave_ms[who] = leave + journey + stays
    state.back_home_ms[who] = leave + 2 * journey + stays


def whereabouts(scene: Scene, customer: Ints, ts_ms: Ints) -> Ints:
    """The city in which each customer is at that time (n), or IN_TRANSIT."""
    state = scene.state
    leave, arrive = state.leave_ms[customer], state.arrive_ms[customer]
    back_leave, back_home = state.back_leave_ms[customer], state.back_home_ms[customer]
    at_home = (ts_ms < leave) | (ts_ms >= back_home)
    abroad = (ts_ms >= arrive) & (ts_ms < back_leave)
    away = np.where(abroad, state.trip_city[customer], IN_TRANSIT)
    return np.where(at_home, scene.population.city[customer], away)
