"""What customers do with the bank apart from paying."""

import numpy as np

from replay.simulator.days import Day, draw_between, draw_times
from replay.simulator.geography import CITIES
from replay.simulator.randomness import Purpose
from replay.simulator.rows import Rows, Via, What, make_rows
from replay.simulator.scene import Scene, borrowers
from replay.simulator.settings import DAY_MS, HOUR_MS
from replay.simulator.spending import choose_devices

PAGES = ("overview", "loans", "savings", "cards", "investments", "insurance", "fees", "help")
APPLICATIONS = ("personal_loan", "mortgage", "credit_card", "investment_fund")
COMPLAINTS = ("system_fault", "fee", "service", "card")
CURRENCIES = tuple(dict.fromkeys(c.currency for c in CITIES if c.currency != "EUR"))
METRICS = (
    *PAGES,
    *APPLICATIONS,
    *COMPLAINTS,
    *CURRENCIES,
    "nps",
    "stock_turnover",
    "application:personal_loan",
)
METRIC = {name: code for code, name in enumerate(METRICS)}
TEXTS = (
    "A payment was booked twice after the app failed.",
    "I was charged a fee that nobody told me about.",
    "I waited for a call that never came.",
    "My card was refused although the account had funds.",
)
PAGE_RATE = 0.45
ABANDON_RATE = 0.12 / 30
COMPLAINT_RATE = 0.03 / 30
ADDRESS_RATE = 0.012 / 30
PHONE_RATE = 0.02 / 30
NEW_DEVICE_RATE = 0.03 / 30
FX_QUERIES_A_DAY = 0.9
_FX_METRIC = np.array([METRIC.get(city.currency, -1) for city in CITIES])


def interactions(scene: Scene, day: Day) -> Rows:
    """The interactions of the day; closings of complaints and surveys may lie in later days."""
    rng = scene.streams.of(Purpose.INTERACTIONS, day.number)
    _replace_devices(scene, rng)
    parts = [
        _visits(scene, day, rng), _fx_queries(scene, day, rng), _abandoned(scene, day, rng),
        _complaints(scene, day, rng), _changes(scene, day, rng), _telemetry(scene, day, rng),
    ]  # fmt: skip
    return np.concatenate(parts)


def _replace_devices(scene: Scene, rng: np.random.Generator) -> None:
    for customer in np.flatnonzero(
        rng.random(scene.population.customer_count) < NEW_DEVICE_RATE
    ).tolist():
        scene.state.device[customer, 0] = scene.state.new_device()


def _visits(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """Log-ins, and about every other time a look at a page some seconds later."""
    counts = rng.poisson(scene.population.login_rate * scene.liveliness(day))
    who = np.repeat(np.arange(len(counts)), counts)
    device = choose_devices(scene, rng, who)
    ts_ms = draw_times(rng, day, len(who))
    via = np.where(rng.random(len(who)) < 0.8, int(Via.APP), int(Via.WEB))
    logins = make_rows(who, ts_ms, What.LOGIN, via, device=device)
    looks = rng.random(len(who)) < PAGE_RATE
    count = int(looks.sum())
    page = (rng.random(count) ** 1.6 * len(PAGES)).astype(np.int64)
    views = make_rows(
        who[looks], ts_ms[looks] + rng.integers(5_000, 90_000, count), What.PAGE_VIEW, via[looks],
        device=device[looks], metric=page, value=np.rint(rng.gamma(2.0, 12.0, count)),
    )  # fmt: skip
    return np.concatenate([logins, views])


def _fx_queries(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """Exchange-rate queries of those who have booked a trip to another currency."""
    state = scene.state
    n = scene.population.customer_count
    metric = np.where(state.trip_city >= 0, _FX_METRIC[state.trip_city], -1)
    waiting = (metric >= 0) & (state.leave_ms >= day.end_ms)
    counts = np.where(waiting, rng.poisson(FX_QUERIES_A_DAY, n), 0)
    who = np.repeat(np.arange(n), counts)
    return make_rows(
        who, draw_times(rng, day, len(who)), What.FX_QUERY, Via.APP, metric=metric[who],
        device=choose_devices(scene, rng, who),
    )  # fmt: skip


def _abandoned(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    n = scene.population.customer_count
    who = np.flatnonzero(rng.random(n) < ABANDON_RATE * scene.liveliness(day))
    product = METRIC[APPLICATIONS[0]] + rng.integers(0, len(APPLICATIONS), len(who))
    return make_rows(
        who, draw_times(rng, day, len(who)), What.APPLICATION_ABANDONED, Via.APP, metric=product,
        value=np.round(rng.uniform(0.1, 0.95, len(who)), 2),
        device=choose_devices(scene, rng, who),
    )  # fmt: skip


def _complaints(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """A complaint is closed after about a day; four in ten customers then answer a survey."""
    who = np.flatnonzero(rng.random(scene.population.customer_count) < COMPLAINT_RATE)
    count = len(who)
    opened_ms = draw_times(rng, day, count)
    cause = rng.choice(len(COMPLAINTS), count, p=[0.25, 0.3, 0.25, 0.2])
    metric = METRIC[COMPLAINTS[0]] + cause
    via = rng.choice([int(Via.PHONE), int(Via.APP), int(Via.BRANCH)], count, p=[0.5, 0.35, 0.15])
    loss = np.where(cause == 0, np.round(rng.lognormal(4.5, 0.8, count), 2), np.nan)
    opened = make_rows(
        who, opened_ms, What.COMPLAINT_OPENED, via, metric=metric, text=cause, value=loss
    )
    days = np.minimum(rng.lognormal(0.1, 0.9, count), 20.0)
    closed_ms = opened_ms + HOUR_MS + (days * DAY_MS).astype(np.int64)
    closed = make_rows(who, closed_ms, What.COMPLAINT_CLOSED, via, metric=metric)
    asked = rng.random(count) < 0.4
    score = np.clip(np.rint(8.5 - 1.5 * days + rng.normal(size=count)), 0, 10)
    surveys = make_rows(
        who[asked], closed_ms[asked] + rng.integers(HOUR_MS, DAY_MS, int(asked.sum())),
        What.SURVEY, Via.EMAIL, metric=METRIC["nps"],
        value=score[asked],
    )  # fmt: skip
    return np.concatenate([opened, closed, surveys])


def _changes(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """Genuine changes of address (at a branch) and of the telephone number (in the app)."""
    n = scene.population.customer_count
    moved = np.flatnonzero(rng.random(n) < ADDRESS_RATE)
    phoned = np.flatnonzero(rng.random(n) < PHONE_RATE)
    moves = make_rows(moved, draw_times(rng, day, len(moved)), What.ADDRESS_CHANGE, Via.BRANCH)
    phones = make_rows(
        phoned, draw_times(rng, day, len(phoned)), What.PHONE_CHANGE, Via.APP,
        device=choose_devices(scene, rng, phoned),
    )  # fmt: skip
    return np.concatenate([moves, phones])


def _telemetry(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """Stock turnover of corporate borrowers, weekly; a third of them decline, 4 % a week."""
    firms = scene.population.corporate & (day.weekday == 0)
    who = np.flatnonzero(firms & (borrowers(scene.population) | (scene.population.payday > 20)))
    decline = np.where(who % 3 == 0, 0.96 ** (day.number / 7), 1.0)
    turnover = np.round(6.0 * decline * np.exp(rng.normal(size=len(who)) * 0.05), 3)
    return make_rows(
        who, draw_between(rng, day, 5, 7, len(who)), What.TELEMETRY, Via.WEB,
        metric=METRIC["stock_turnover"], value=turnover,
    )  # fmt: skip
