"""The simulated calendar and the rhythm of a day."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from replay.simulator.geography import UTC_OFFSET_MINUTES
from replay.simulator.settings import DAY_MS, HOUR_MS, SimulatorSettings

# Relative activity per local hour, from midnight on: night, commute, lunch, after work.
WEEKDAY_HOURS = (
    0.3, 0.2, 0.1, 0.1, 0.2, 0.5, 1.5, 3.5, 4.5, 4.0, 4.5, 5.5,
    8.0, 6.5, 4.5, 4.5, 6.0, 8.5, 9.0, 7.5, 5.5, 4.0, 2.5, 1.0,
)  # fmt: skip
WEEKEND_HOURS = (
    1.0, 0.7, 0.4, 0.2, 0.2, 0.2, 0.5, 1.2, 3.0, 5.5, 7.5, 8.0,
    7.5, 7.0, 6.5, 6.5, 6.5, 6.0, 6.5, 6.5, 5.5, 4.5, 3.5, 2.0,
)  # fmt: skip


class Day(NamedTuple):
    """A UTC day of the run, `number` from 0.

    `month` is 12 times the year plus 0 … 11, `weekday` counts from Monday = 0.
    """

    number: int
    start_ms: int
    end_ms: int
    day_of_month: int
    month: int
    weekday: int

    @property
    def is_weekend(self) -> bool:
        """Saturday or Sunday."""
        return self.weekday >= 5


def day_of(settings: SimulatorSettings, number: int) -> Day:
    """The day `number` of the run, from 0."""
    start_ms = settings.start_ms + number * DAY_MS
    date = datetime.fromtimestamp(start_ms / 1000, UTC)
    return Day(
        number, start_ms, start_ms + DAY_MS, date.day, date.year * 12 + date.month - 1,
        date.weekday(),
    )  # fmt: skip


def _cumulative_utc(hours: tuple[float, ...]) -> NDArray[np.float64]:
    shifted = np.roll(np.array(hours), -UTC_OFFSET_MINUTES // 60)
    return np.asarray(np.cumsum(shifted) / shifted.sum())


_WEEKDAY = _cumulative_utc(WEEKDAY_HOURS)
_WEEKEND = _cumulative_utc(WEEKEND_HOURS)


def draw_times(rng: np.random.Generator, day: Day, count: int) -> NDArray[np.int64]:
    """Event times within the day, by the customers' daily rhythm."""
    cumulative = _WEEKEND if day.is_weekend else _WEEKDAY
    hour = np.minimum(np.searchsorted(cumulative, rng.random(count), side="right"), 23)
    return np.asarray(day.start_ms + hour * HOUR_MS + rng.integers(0, HOUR_MS, count))


def draw_between(
    rng: np.random.Generator, day: Day, first_hour: int, last_hour: int, count: int
) -> NDArray[np.int64]:
    """Event times spread evenly over UTC hours [first_hour, last_hour) of the day."""
    return day.start_ms + rng.integers(first_hour * HOUR_MS, last_hour * HOUR_MS, count)
