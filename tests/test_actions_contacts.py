"""The contact ledger against brute force over every window; quiet hours; cooling-off."""

import pytest
from actions_scene import DAY_MS, HOUR_MS, NOON_MS
from hypothesis import given
from hypothesis import strategies as st

from actions.contacts import ContactLedger
from actions.customers import Contact, CustomerState
from actions.policy_schema import ContactCap, ContactSettings
from features.records import Profile, QuietHours

CHANNELS = ("sms", "email")
OFFERS = ("a", "b")
caps = st.builds(
    ContactCap,
    at_most_count=st.integers(0, 3),
    within_ms=st.integers(1, 12),
    channel=st.sampled_from([None, *CHANNELS]),
    offer=st.sampled_from([None, *OFFERS]),
)
attempts = st.tuples(st.integers(0, 40), st.sampled_from(CHANNELS), st.sampled_from(OFFERS))


def breaks_a_cap(contacts: list[Contact], settings: ContactSettings) -> bool:
    """Try every window that ends at any whole time."""
    for cap in settings.caps:
        for end in range(60):
            inside = [
                contact
                for contact in contacts
                if end - cap.within_ms < contact.ts_ms <= end
                and cap.channel in (None, contact.channel)
                and cap.offer in (None, contact.offer)
            ]
            if len(inside) > cap.at_most_count:
                return True
    return False


@given(st.lists(caps, max_size=3), st.lists(attempts, max_size=25))
def test_caps_hold_in_every_window_and_refuse_nothing_else(
    policy_caps: list[ContactCap], tries: list[tuple[int, str, str]]
) -> None:
    settings = ContactSettings(caps=tuple(policy_caps))
    ledger = ContactLedger(settings)
    state = CustomerState()
    sent: list[Contact] = []
    for ts_ms, channel, offer in tries:  # in any order of event time
        now_ms = ledger.now_ms(state, ts_ms)
        contact = Contact(now_ms, channel, offer, "id")
        refused = ledger.refusal(state, channel, offer, now_ms) is not None
        assert refused == breaks_a_cap([*sent, contact], settings)
        if not refused:
            ledger.record(state, contact)
            sent.append(contact)
    assert not breaks_a_cap(sent, settings)
    longest = max((cap.within_ms for cap in policy_caps), default=1)
    newest = sent[-1].ts_ms if sent else 0
    assert state.contacts == [c for c in sent if c.ts_ms > newest - longest]


def profile(offset_minutes: int = 0, quiet: QuietHours | None = None) -> Profile:
    return Profile(
        customer_id="c", ts_ms=NOON_MS, utc_offset_minutes=offset_minutes, quiet_hours=quiet
    )


@pytest.mark.parametrize(
    ("start", "end", "quiet"),
    [
        (21, 8, {21, 22, 23, *range(8)}),
        (9, 17, set(range(9, 17))),
        (0, 6, set(range(6))),
        (23, 0, {23}),
        (5, 5, set()),
    ],
)
@pytest.mark.parametrize("offset_minutes", [0, 120, -300, 330])
def test_quiet_hours_are_local_and_may_span_midnight(
    start: int, end: int, quiet: set[int], offset_minutes: int
) -> None:
    ledger = ContactLedger(ContactSettings())
    customer = profile(offset_minutes, QuietHours(start_hour=start, end_hour=end))
    midnight_ms = NOON_MS - 12 * HOUR_MS
    for minute in range(0, 24 * 60, 15):
        local_hour = (minute + offset_minutes) // 60 % 24
        now_ms = midnight_ms + minute * 60_000
        assert ledger.is_quiet(customer, now_ms) == (local_hour in quiet)
        free_ms = now_ms  # by the minute, until it is no longer quiet
        while ledger.is_quiet(customer, free_ms):
            free_ms += 60_000
        assert ledger.after_quiet_ms(customer, now_ms) == free_ms


def test_quiet_hours_of_the_profile_win_over_those_of_the_policy() -> None:
    ledger = ContactLedger(ContactSettings(quiet_hours=QuietHours(start_hour=11, end_hour=13)))
    assert ledger.is_quiet(profile(), NOON_MS)
    assert not ledger.is_quiet(profile(quiet=QuietHours(start_hour=1, end_hour=2)), NOON_MS)


def test_cooling_off_ends_after_its_days() -> None:
    ledger = ContactLedger(ContactSettings(cooling_off_ms=10 * DAY_MS))
    state = CustomerState(rejected_ms={"a": NOON_MS})
    assert ledger.cooling_off(state, "b", NOON_MS) is None
    reason = ledger.cooling_off(state, "a", NOON_MS + 10 * DAY_MS - 1)
    assert reason == "cooling-off of 10 days after the customer rejected it"
    assert ledger.cooling_off(state, "a", NOON_MS + 10 * DAY_MS) is None
