"""Frauds with accounts: take-over, a caller, mules, and a gang that shares devices."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.days import Day, draw_between
from replay.simulator.interactions import METRIC
from replay.simulator.rows import (
    PayeeKind,
    Rows,
    Scenario,
    Via,
    What,
    make_rows,
    payee_code,
)
from replay.simulator.scene import Scene
from replay.simulator.settings import DAY_MS, HOUR_MS

MINUTE_MS = 60_000
GANG_SIZE = (4, 6)
GANG_PREPARES_DAYS = (3, 7)


def account_takeover(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> Rows:
    """Log-in from a new device, a new telephone number, then large transfers to a new payee."""
    customer = int(rng.choice(victims))
    device = scene.state.new_device()
    payee = payee_code(PayeeKind.PERSON, scene.state.new_payee())
    start_ms = int(draw_between(rng, day, 0, 22, 1)[0])
    steps = start_ms + np.cumsum(rng.integers(30_000, 5 * MINUTE_MS, 3))
    prepares = make_rows(
        np.full(3, customer), steps, [What.LOGIN, What.PHONE_CHANGE, What.PAGE_VIEW], Via.WEB,
        device=device, metric=[-1, -1, METRIC["overview"]],
    )  # fmt: skip
    count = int(rng.integers(1, 3))
    part = rng.uniform(0.45, 0.85) / count
    amount = np.full(count, np.rint(scene.state.balance_minor[customer] * part))
    transfers = make_rows(
        np.full(count, customer),
        steps[-1] + np.cumsum(rng.integers(MINUTE_MS, 12 * MINUTE_MS, count)),
        What.TRANSFER_OUT, Via.WEB, amount_minor=amount, payee=payee, device=device,
        ip=_strange_address(rng), scenario=Scenario.ACCOUNT_TAKEOVER,
    )  # fmt: skip
    return np.concatenate([prepares, transfers])


def talked_into_paying(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> Rows:
    """A caller has a customer pay in 4 to 7 parts to one new payee within two and a half hours.

    The customer pays with the usual device from home, so neither looks strange.
    """
    customer = int(rng.choice(victims))
    payee = payee_code(PayeeKind.PERSON, scene.state.new_payee())
    count = int(rng.integers(4, 8))
    start_ms = int(draw_between(rng, day, 8, 17, 1)[0])
    steps = start_ms + np.cumsum(rng.integers(4 * MINUTE_MS, 18 * MINUTE_MS, count))
    share = rng.uniform(0.4, 0.8) / count
    each = np.minimum(scene.state.balance_minor[customer] * share, 60_000)
    device = scene.state.device[customer, 0]
    login = make_rows([customer], steps[:1] - 2 * MINUTE_MS, What.LOGIN, Via.APP, device=device)
    paid = make_rows(
        np.full(count, customer), steps, What.TRANSFER_OUT, Via.APP,
        amount_minor=np.rint(each * rng.uniform(0.9, 1.1, count)), payee=payee, device=device,
        ip=scene.state.home_ip[customer], scenario=Scenario.TALKED_INTO_PAYING,
    )  # fmt: skip
    return np.concatenate([login, paid])


def mule(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> Rows:
    """2 to 4 victims are tricked into paying an account that is emptied within the hour."""
    count = min(int(rng.integers(2, 5)), len(victims) - 1)
    chosen = rng.choice(victims, count + 1, replace=False)
    collector, payers = int(chosen[0]), chosen[1:]
    start_ms = int(draw_between(rng, day, 7, 19, 1)[0])
    paid_ms = start_ms + np.cumsum(rng.integers(5 * MINUTE_MS, 25 * MINUTE_MS, count))
    amount = np.rint(scene.state.balance_minor[payers] * rng.uniform(0.2, 0.6, count))
    ours = rng.random(count) < 0.5  # the other victims bank elsewhere
    strangers = [scene.state.new_payee() for _ in range(count)]
    senders = np.where(
        ours, payee_code(PayeeKind.ACCOUNT, payers),
        payee_code(PayeeKind.PERSON, np.array(strangers, dtype=np.int64)),
    )  # fmt: skip
    paid = make_rows(
        payers[ours], paid_ms[ours], What.TRANSFER_OUT, Via.APP, amount_minor=amount[ours],
        payee=payee_code(PayeeKind.ACCOUNT, collector), device=scene.state.device[payers[ours], 0],
        ip=scene.state.home_ip[payers[ours]], scenario=Scenario.MULE,
    )  # fmt: skip
    received = make_rows(
        np.full(count, collector), paid_ms + 2_000, What.TRANSFER_IN, Via.WEB,
        amount_minor=amount, payee=senders, scenario=Scenario.MULE,
    )  # fmt: skip
    parts = int(rng.integers(1, 3))
    gone_ms = int(paid_ms.max(initial=start_ms)) + MINUTE_MS
    passed_on = make_rows(
        np.full(parts, collector),
        gone_ms + np.cumsum(rng.integers(2 * MINUTE_MS, 18 * MINUTE_MS, parts)),
        What.TRANSFER_OUT, Via.APP,
        amount_minor=np.rint(amount.sum() * rng.uniform(0.88, 0.97) / parts),
        payee=payee_code(PayeeKind.PERSON, scene.state.new_payee()),
        device=scene.state.device[collector, 0], ip=scene.state.home_ip[collector],
        scenario=Scenario.MULE,
    )  # fmt: skip
    return np.concatenate([paid, received, passed_on]) if count else passed_on[:0]


def gang(
    scene: Scene, day: Day, rng: np.random.Generator, today: Rows, victims: NDArray[np.int64]
) -> Rows:
    """Customers who share two devices apply for loans for some days, then vanish with the money.

    Fraudulent are the transfers to the common payee and the purchase of each member; the loans
    are paid out as deposits.
    """
    size = min(int(rng.integers(*GANG_SIZE, endpoint=True)), len(victims))
    members = rng.choice(victims, size, replace=False)
    devices = np.array([scene.state.new_device(), scene.state.new_device()])
    collector = payee_code(PayeeKind.PERSON, scene.state.new_payee())
    address = _strange_address(rng)
    days = int(rng.integers(*GANG_PREPARES_DAYS, endpoint=True))
    visits = np.repeat(members, 3)
    visit_ms = day.start_ms + rng.integers(0, days * DAY_MS, len(visits))
    shared = rng.choice(devices, len(visits))
    logins = make_rows(visits, visit_ms, What.LOGIN, Via.WEB, device=shared)
    views = make_rows(
        visits, visit_ms + rng.integers(20_000, 4 * MINUTE_MS, len(visits)), What.PAGE_VIEW,
        Via.WEB, device=shared, metric=METRIC["application:personal_loan"],
    )  # fmt: skip
    strike_ms = day.start_ms + days * DAY_MS + rng.integers(8 * HOUR_MS, 12 * HOUR_MS, size)
    loan_minor = rng.integers(30, 95, size) * 10_000
    loans = make_rows(
        members, strike_ms, What.DEPOSIT, Via.BRANCH, amount_minor=loan_minor,
        payee=payee_code(PayeeKind.LENDER, 0),
    )  # fmt: skip
    cash_out = make_rows(
        np.repeat(members, 2),
        np.repeat(strike_ms, 2) + rng.integers(20 * MINUTE_MS, 4 * HOUR_MS, 2 * size),
        What.TRANSFER_OUT, Via.WEB, amount_minor=np.rint(np.repeat(loan_minor, 2) * 0.46),
        payee=collector, device=rng.choice(devices, 2 * size), ip=address, scenario=Scenario.GANG,
    )  # fmt: skip
    shopping = make_rows(
        members, strike_ms + rng.integers(4 * HOUR_MS, 8 * HOUR_MS, size), What.PURCHASE,
        Via.ONLINE, merchant=scene.merchants.draw_online(rng, size), card=0,
        amount_minor=rng.integers(20_000, 70_000, size), device=rng.choice(devices, size),
        ip=address, scenario=Scenario.GANG,
    )  # fmt: skip
    return np.concatenate([logins, views, loans, cash_out, shopping])


def _strange_address(rng: np.random.Generator) -> int:
    return (92 << 24) + int(rng.integers(0, 1 << 24))
