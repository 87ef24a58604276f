"""Money that comes and goes by the calendar: salaries, bills, transfers, fees and interest."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day, draw_between, draw_times
from replay.simulator.randomness import Purpose
from replay.simulator.rows import PayeeKind, Rows, Via, What, make_rows, payee_code
from replay.simulator.scene import FIRST_FREE_PERSON, Scene, borrowers
from replay.simulator.spending import choose_addresses, choose_devices

Ints = NDArray[np.int64]
FRIEND_COUNT = 4  # private payees whom a customer knows; numbers 0 … 3 of FIRST_FREE_PERSON
ALLOWANCE_PAYER = 4
RENT_PAYEE = 5
BROKER_PAYEE = 6
UTILITY_COUNT = 40
PAYDAY_JITTER_DAYS = 1
FRIEND_RATE = 2.2 / 30
INCOMING_RATE = 1.0 / 30
CORPORATE_INCOMING_RATE = 9.0 / 30
LARGE_TRANSFER_RATE = 0.03 / 30
ALLOWANCE_SHARE = 0.85
LOAN_SHARE = 0.08  # of the monthly income
MONTHLY_FEE_MINOR = 490
INTEREST_RATE_MONTH = 0.0008
SWEEP_MONTHS = 2.0  # money beyond so many salaries goes to the savings account
LOGIN_LEAD_MS = (40_000, 240_000)


def cash_flow(scene: Scene, day: Day) -> Rows:
    """Every booking of the day that isn't a purchase, with the log-ins that go before."""
    rng = scene.streams.of(Purpose.CASHFLOW, day.number)
    transfers = np.concatenate([_friends(scene, day, rng), _large_transfers(scene, day, rng)])
    parts = [
        _salaries(scene, day, rng), _allowances(scene, day, rng), _bills(scene, day, rng),
        _loan_payments(scene, day, rng), _incoming(scene, day, rng),
        _with_logins(rng, transfers), _sweep(scene, day, rng), _month_end(scene, day, rng),
    ]  # fmt: skip
    return np.concatenate(parts)


def due_today(scene: Scene, day: Day) -> NDArray[np.bool_]:
    """Whose income arrives today (n): the same day each month, give or take a day."""
    rng = scene.streams.of(Purpose.SALARY, day.month)
    n = scene.population.customer_count
    jitter = rng.integers(-PAYDAY_JITTER_DAYS, PAYDAY_JITTER_DAYS + 1, n)
    return np.asarray(np.clip(scene.population.payday + jitter, 1, 28) == day.day_of_month)


def _salaries(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    population = scene.population
    who = np.flatnonzero(due_today(scene, day) & population.has_salary)
    overtime = 1.0 + np.maximum(0, rng.normal(0.0, 0.03, len(who)))
    return make_rows(
        who, draw_between(rng, day, 2, 6, len(who)), What.SALARY, Via.WEB,
        amount_minor=np.rint(population.salary_minor[who] * overtime),
        payee=payee_code(PayeeKind.EMPLOYER, population.employer[who]),
    )  # fmt: skip


def _allowances(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    population = scene.population
    without = ~population.has_salary & ~population.corporate
    who = np.flatnonzero(due_today(scene, day) & without)
    return make_rows(
        who, draw_between(rng, day, 2, 6, len(who)), What.TRANSFER_IN, Via.WEB,
        amount_minor=np.rint(population.salary_minor[who] * ALLOWANCE_SHARE),
        payee=_person(who, ALLOWANCE_PAYER),
    )  # fmt: skip


def _bills(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    population = scene.population
    due = (population.bill_day == day.day_of_month) & (population.bill_minor > 0)
    who, slot = np.nonzero(due)
    utility = payee_code(PayeeKind.UTILITY, (who * 7 + slot * 13) % UTILITY_COUNT)
    return make_rows(
        who, draw_between(rng, day, 4, 8, len(who)), What.TRANSFER_OUT, Via.WEB,
        amount_minor=population.bill_minor[who, slot],
        payee=np.where(slot == 0, _person(who, RENT_PAYEE), utility),
    )  # fmt: skip


def _loan_payments(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    population = scene.population
    on_loan = borrowers(population) & (population.payday % 28 + 1 == day.day_of_month)
    who = np.flatnonzero(on_loan)
    return make_rows(
        who, draw_between(rng, day, 4, 8, len(who)), What.LOAN_PAYMENT, Via.WEB,
        amount_minor=np.rint(population.salary_minor[who] * LOAN_SHARE),
        payee=payee_code(PayeeKind.LENDER, np.zeros(len(who), dtype=np.int64)),
    )  # fmt: skip


def _incoming(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    population = scene.population
    rate = np.where(population.corporate, CORPORATE_INCOMING_RATE, INCOMING_RATE)
    who = np.repeat(np.arange(population.customer_count), rng.poisson(rate))
    median = np.where(population.corporate[who], 55_000, 4_500)
    return make_rows(
        who, draw_times(rng, day, len(who)), What.TRANSFER_IN, Via.WEB,
        amount_minor=np.rint(median * np.exp(rng.normal(size=len(who)) * 0.7)),
        payee=_person(who, rng.integers(0, FRIEND_COUNT, len(who))),
    )  # fmt: skip


def _friends(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    population = scene.population
    rate = FRIEND_RATE * scene.liveliness(day)
    who = np.repeat(np.arange(population.customer_count), rng.poisson(rate))
    amount = 3_800 * population.spend_scale[who] * np.exp(rng.normal(size=len(who)) * 0.8)
    return make_rows(
        who, draw_times(rng, day, len(who)), What.TRANSFER_OUT, Via.APP,
        amount_minor=np.rint(amount), payee=_person(who, rng.integers(0, FRIEND_COUNT, len(who))),
        device=choose_devices(scene, rng, who), ip=choose_addresses(scene, rng, who),
    )  # fmt: skip


def _large_transfers(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """Genuine moves of assets to another bank or to a new payee: rare, and hard to judge."""
    population, state = scene.population, scene.state
    rate = LARGE_TRANSFER_RATE * np.where(population.leaving_day <= day.number, 12.0, 1.0)
    chosen = rng.random(population.customer_count) < rate
    who = np.flatnonzero(chosen & (state.balance_minor > 150_000))
    amount = np.rint(state.balance_minor[who] * rng.uniform(0.3, 0.8, len(who)))
    fresh = rng.random(len(who)) < 0.4
    new = np.array([state.new_payee() for _ in range(len(who))], dtype=np.int64)
    payee = np.where(fresh, payee_code(PayeeKind.PERSON, new), _person(who, BROKER_PAYEE))
    return make_rows(
        who, draw_times(rng, day, len(who)), What.TRANSFER_OUT, Via.APP, amount_minor=amount,
        payee=payee, device=choose_devices(scene, rng, who), ip=choose_addresses(scene, rng, who),
    )  # fmt: skip


def _with_logins(rng: np.random.Generator, transfers: Rows) -> Rows:
    lead = rng.integers(*LOGIN_LEAD_MS, len(transfers))
    logins = make_rows(
        transfers["customer"], transfers["ts_ms"] - lead, What.LOGIN, Via.APP,
        device=transfers["device"],
    )  # fmt: skip
    return np.concatenate([transfers, logins])


def _sweep(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """On the 20th, money that isn't needed goes to the customer's own savings account."""
    if day.day_of_month != 20:
        return make_rows(np.zeros(0, dtype=np.int64), 0, What.TRANSFER_OUT, Via.WEB)
    spare = scene.state.balance_minor - SWEEP_MONTHS * scene.population.salary_minor
    who = np.flatnonzero(spare > 10_000)
    return make_rows(
        who, draw_between(rng, day, 4, 6, len(who)), What.TRANSFER_OUT, Via.WEB,
        amount_minor=np.rint(spare[who] * 0.7), payee=payee_code(PayeeKind.SAVINGS, who),
    )  # fmt: skip


def _month_end(scene: Scene, day: Day, rng: np.random.Generator) -> Rows:
    """On the 1st: the account fee for the lower incomes, interest for the others."""
    population = scene.population
    first = day.day_of_month == 1
    modest = population.income_class <= 1
    charged = np.flatnonzero(modest & first)
    fees = make_rows(
        charged, draw_between(rng, day, 0, 3, len(charged)), What.FEE, Via.BRANCH,
        amount_minor=MONTHLY_FEE_MINOR,
    )  # fmt: skip
    interest_minor = scene.state.balance_minor * INTEREST_RATE_MONTH
    paid = np.flatnonzero(~modest & first & (interest_minor >= 1))
    interest = make_rows(
        paid, draw_between(rng, day, 0, 3, len(paid)), What.INTEREST, Via.BRANCH,
        amount_minor=np.rint(interest_minor[paid]),
    )  # fmt: skip
    return np.concatenate([fees, interest])


def _person(customer: Ints, place: Ints | int) -> Ints:
    numbers = np.asarray(customer, dtype=np.int64) * FIRST_FREE_PERSON + place
    return np.asarray(payee_code(PayeeKind.PERSON, numbers))
