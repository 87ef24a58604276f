"""Enumerations and ISO codes as small integers.

They are nobody's pseudonym, so they need no keyed hash, and two bytes hold any of them.
"""

import re

# Stored histories hold positions in this list: append to it, never change or reorder it.
WORDS = (
    "purchase", "transfer_out", "transfer_in", "cash", "salary", "refund", "fee", "deposit",
    "loan_payment", "interest", "out", "in", "pos", "online", "atm", "app", "web", "branch",
    "phone", "sms", "email", "login", "page_view", "fx_query", "application_abandoned",
    "complaint_opened", "complaint_closed", "ticket", "survey", "check_up", "telemetry",
    "address_change", "phone_change", "delivered", "seen", "clicked", "accepted", "rejected",
    "converted", "app_push",
)  # fmt: skip
_NUMBERS = {word: number for number, word in enumerate(WORDS, 1)}
ISO_2_FROM = 1024  # two capitals: ISO 3166-1 countries
ISO_3_FROM = 2048  # three capitals: ISO 4217 currencies
CODE_MAX = ISO_3_FROM + 26**3 - 1
_ISO = re.compile("[A-Z]{2,3}")


def code_of(text: str) -> int:
    """Return the number of a word of `WORDS` or of two or three capitals; ValueError for others."""
    number = _NUMBERS.get(text)
    if number is not None:
        return number
    if not _ISO.fullmatch(text):
        raise ValueError(f"expected a known word or an ISO code, got {text!r}")
    letters = 0
    for letter in text:
        letters = letters * 26 + ord(letter) - ord("A")
    return (ISO_2_FROM if len(text) == 2 else ISO_3_FROM) + letters
