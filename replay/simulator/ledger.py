"""Balances: every transaction books on its account, and none goes beyond the overdraft."""

import numpy as np
from numpy.typing import NDArray

from replay.simulator.rows import PAYEE_SHIFT, SIGN, PayeeKind, Rows, What, is_transaction
from replay.simulator.scene import Scene

Ints = NDArray[np.int64]


def book(scene: Scene, rows: Rows) -> Rows:
    """Fill `balance_minor`, move the customers' balances, drop what isn't covered.

    `rows` are in order of time. A payment is refused if the balance with all payments of the day
    before it would fall below the overdraft; without the refused ones the others only rise, so
    no balance ever falls below it by a payment.
    """
    state = scene.state
    booked = np.flatnonzero(is_transaction(rows))
    order = booked[np.argsort(rows["customer"][booked], kind="stable")]
    customer = rows["customer"][order]
    signed = rows["amount_minor"][order] * SIGN[rows["what"][order]]
    limit = -scene.population.overdraft_minor[customer]
    refused = (signed < 0) & (_running(state.balance_minor, customer, signed) < limit)
    kept, customer = order[~refused], customer[~refused]
    running = _running(state.balance_minor, customer, signed[~refused])
    rows["balance_minor"][kept] = running
    last = np.flatnonzero(np.r_[customer[1:] != customer[:-1], True][: len(customer)])
    state.balance_minor[customer[last]] = running[last]
    keep = np.ones(len(rows), dtype=bool)
    keep[order[refused]] = False
    left = rows[keep]
    _save(scene, left)
    return left


def _running(balance_minor: Ints, customer: Ints, signed_minor: Ints) -> Ints:
    """The balance after each booking; `customer` is grouped."""
    if not len(customer):
        return signed_minor
    total = np.cumsum(signed_minor)
    new = np.r_[True, customer[1:] != customer[:-1]]
    before = (total - signed_minor)[new][np.cumsum(new) - 1]
    return np.asarray(balance_minor[customer] + total - before)


def _save(scene: Scene, rows: Rows) -> None:
    saved = (rows["what"] == What.TRANSFER_OUT) & (
        rows["payee"] >> PAYEE_SHIFT == PayeeKind.SAVINGS
    )
    np.add.at(scene.state.savings_minor, rows["customer"][saved], rows["amount_minor"][saved])
