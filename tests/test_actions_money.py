"""Conversion of amounts against exact decimal arithmetic."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.currencies import EXPONENTS
from actions.money import RateTable
from actions.policy import Policy
from features.codes import code_of
from features.columns import MISSING
from features.records import AMOUNT_MINOR_MAX

DAY_MS = 86_400_000
rates = st.decimals("0.00001", "9999", places=5).filter(lambda r: len(r.as_tuple().digits) <= 9)


def policy(own: str, dated: dict[str, dict[str, Decimal | str]]) -> Policy:
    lines = [
        f"  {c}: {{{', '.join(f'{d}: {r}' for d, r in rs.items())}}}" for c, rs in dated.items()
    ]
    section = "\n".join(["rates:", *lines]) if lines else ""
    text = f"name: m\ncurrency: {own}\nentities: {{customer: {{key: customer_id, scope: local}}}}\n"
    return Policy.parse({"p.yaml": text + section})


def convert(table: RateTable, amount: int, currency: str, ts_ms: int) -> tuple[int, bool]:
    columns = ([amount], [code_of(currency)], [ts_ms])
    converted, known = table.convert(*(np.array(c, dtype=np.int64) for c in columns))
    return int(converted[0]), bool(known[0])


def oracle(amount: int, rate: Decimal, foreign: str, own: str) -> int:
    with localcontext() as context:
        context.prec = 60
        major = Decimal(amount).scaleb(-EXPONENTS[foreign]) * rate
        return int(major.scaleb(EXPONENTS[own]).to_integral_value(ROUND_HALF_EVEN))


@given(
    st.sampled_from(["EUR", "JPY", "KWD"]),
    st.sampled_from(["USD", "CLP", "BHD"]),
    rates,
    st.integers(-(10**12), 10**12),
)
def test_conversion_equals_decimal(own: str, foreign: str, rate: Decimal, amount: int) -> None:
    table = RateTable(policy(own, {foreign: {"2024-01-01": rate}}))
    wanted = oracle(amount, rate, foreign, own)
    got, known = convert(table, amount, foreign, 2 * 10**12)
    assert known == (abs(wanted) <= AMOUNT_MINOR_MAX)
    assert got == (wanted if known else amount)


def test_halves_round_to_even_and_exponents_count() -> None:
    table = RateTable(
        policy("EUR", {"USD": {"2024-01-01": "0.5"}, "JPY": {"2024-01-01": "0.006"},
                       "KWD": {"2024-01-01": "3"}}),
    )  # fmt: skip
    now = 2 * 10**12
    assert [convert(table, a, "USD", now)[0] for a in (1, 3, 5, -1, -3)] == [0, 2, 2, 0, -2]
    assert convert(table, 1000, "JPY", now) == (600, True)  # 1,000 yen are 6.00 EUR
    assert convert(table, 1000, "KWD", now) == (300, True)  # 1.000 dinar is 3.00 EUR


def test_rate_of_the_date_and_unknowns() -> None:
    start_ms = 1_704_067_200_000  # 2024-01-01
    dated: dict[str, Decimal | str] = {"2024-01-02": "3", "2024-01-01": "2"}
    table = RateTable(policy("EUR", {"USD": dated}))
    amounts = np.full(7, 100, dtype=np.int64)
    currencies = ["USD", "USD", "USD", "USD", "GBP", "EUR", "EUR"]
    times = [start_ms - 1, start_ms, start_ms + DAY_MS - 1, start_ms + DAY_MS, start_ms, 0, 9]
    amounts[6] = MISSING
    codes = np.array([code_of(currency) for currency in currencies])
    converted, known = table.convert(amounts, codes, np.array(times))
    assert known.tolist() == [False, True, True, True, False, True, True]
    assert converted.tolist() == [100, 200, 200, 300, 100, 100, int(MISSING)]
    assert amounts[1] == 100  # the input is untouched


def test_missing_amounts_and_currencies() -> None:
    table = RateTable(policy("EUR", {"USD": {"2024-01-01": "2"}}))
    assert convert(table, int(MISSING), "USD", 2 * 10**12) == (int(MISSING), True)
    columns = np.array([[5], [MISSING], [2 * 10**12]], dtype=np.int64)
    assert not table.convert(*columns)[1].any()
    empty = np.zeros(0, dtype=np.int64)
    assert table.convert(empty, empty, empty)[0].size == 0


@pytest.mark.parametrize(("code", "exponent"), [("JPY", 0), ("EUR", 2), ("KWD", 3)])
def test_exponents_are_those_of_iso_4217(code: str, exponent: int) -> None:
    assert EXPONENTS[code] == exponent
