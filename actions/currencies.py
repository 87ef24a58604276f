"""Minor-unit exponents of currencies (ISO 4217, list one), and exact factors between currencies."""

from decimal import Decimal
from fractions import Fraction

# Code -> digits after the decimal point. Only what a policy can name; two is not assumed.
EXPONENTS: dict[str, int] = {
    **dict.fromkeys(
        (
            "AED", "ALL", "AMD", "ARS", "AUD", "AZN", "BAM", "BDT", "BGN", "BRL", "CAD", "CHF",
            "CNY", "COP", "CRC", "CZK", "DKK", "DOP", "DZD", "EGP", "EUR", "GBP", "GEL", "GHS",
            "HKD", "HRK", "HUF", "IDR", "ILS", "INR", "KES", "KZT", "LKR", "MAD", "MDL", "MKD",
            "MXN", "MYR", "NGN", "NOK", "NPR", "NZD", "PEN", "PHP", "PKR", "PLN", "QAR", "RON",
            "RSD", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "TZS", "UAH", "USD", "UYU",
            "UZS", "ZAR",
        ),
        2,
    ),
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND",
         "VUV", "XAF", "XOF", "XPF"),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}  # fmt: skip

# A factor's numerator times its denominator stays below this, so that conversions fit 64 bits.
FACTOR_PRODUCT_MAX = 2**62


def minor_factor(rate: Decimal, foreign: str, own: str) -> Fraction:
    """Return own minor units per foreign minor unit; `rate` is own major units per foreign one."""
    return Fraction(rate) * Fraction(10) ** (EXPONENTS[own] - EXPONENTS[foreign])


def fits_64_bits(factor: Fraction) -> bool:
    """Say whether amounts can be converted by `factor` exactly in 64-bit arithmetic."""
    return factor.numerator * factor.denominator < FACTOR_PRODUCT_MAX
