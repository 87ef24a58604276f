"""Amounts of many currencies in the policy's own, by its dated rates, exactly.

A rate is a decimal number; amounts are integers in minor units. The conversion is integer
arithmetic on the exact quotient, rounded half to even once, so it never drifts and is the same on
every machine.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from actions.currencies import minor_factor
from actions.policy import Policy
from features.codes import code_of
from features.columns import MISSING
from features.records import AMOUNT_MINOR_MAX

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Dated:
    """The rates of one currency, ascending by date: own minor = foreign minor * num / den."""

    from_ms: NDArray[np.int64]
    numerators: NDArray[np.int64]
    denominators: NDArray[np.int64]
    amounts_max: NDArray[np.int64]  # beyond it the result is over AMOUNT_MINOR_MAX


class RateTable:
    """Converts columns of amounts. Built once per policy."""

    def __init__(self, policy: Policy) -> None:
        self._own = code_of(policy.currency)
        by_currency: dict[str, list[tuple[int, Fraction]]] = {}
        for rate in policy.rates:
            factor = minor_factor(rate.rate, rate.currency, policy.currency)
            by_currency.setdefault(rate.currency, []).append((rate.from_ms, factor))
        self._tables = {code_of(c): _dated(sorted(rates)) for c, rates in by_currency.items()}

    def convert(
        self,
        amount_minor: NDArray[np.int64],
        currency_code: NDArray[np.int64],
        ts_ms: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return (amounts in own minor units int64[n], known bool[n]), rounded half to even.

        The policy's own currency passes untouched, and so does a MISSING amount of any known
        currency. `known` is False (and the amount untouched) where the currency has no rate at
        that time, or where the result would be over AMOUNT_MINOR_MAX.
        """
        converted = amount_minor.copy()
        known = currency_code == self._own
        if known.all():
            return converted, known
        for currency in np.unique(currency_code[~known]).tolist():
            table = self._tables.get(currency)
            if table is None:
                continue
            rows = np.flatnonzero(currency_code == currency)
            index = np.searchsorted(table.from_ms, ts_ms[rows], side="right") - 1
            rows, index = rows[index >= 0], index[index >= 0]
            amounts = amount_minor[rows]
            missing = amounts == MISSING
            fits = np.abs(np.where(missing, 0, amounts)) <= table.amounts_max[index]
            known[rows] = fits
            rows, index, amounts = (part[fits & ~missing] for part in (rows, index, amounts))
            converted[rows] = _scaled(amounts, table.numerators[index], table.denominators[index])
        return converted, known


def _dated(rates: list[tuple[int, Fraction]]) -> _Dated:
    limits = [min(int(AMOUNT_MINOR_MAX / factor), _INT64_MAX) for _, factor in rates]
    return _Dated(
        from_ms=np.array([from_ms for from_ms, _ in rates], dtype=np.int64),
        numerators=np.array([factor.numerator for _, factor in rates], dtype=np.int64),
        denominators=np.array([factor.denominator for _, factor in rates], dtype=np.int64),
        amounts_max=np.array(limits, dtype=np.int64),
    )


def _scaled(
    amounts: NDArray[np.int64], numerators: NDArray[np.int64], denominators: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return amounts * numerators / denominators, half to even, without a wider product.

    Splitting the amount at the denominator keeps every product under 2**63: the whole part gives
    at most the result, the rest at most numerator * denominator (bounded by the policy's reader).
    """
    whole, rest = np.divmod(amounts, denominators)
    quotient, remainder = np.divmod(rest * numerators, denominators)
    result = whole * numerators + quotient
    # remainder in [0, denominator): floor division, so this is right for negative amounts too.
    double = 2 * remainder - denominators
    result += (double > 0) | ((double == 0) & (result % 2 != 0))
    return result
