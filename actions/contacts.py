"""The contact ledger: whether a customer may be contacted now, and what was sent before.

Caps hold over *sliding* windows: at no moment are more than `at_most` contacts inside any window.
A late event's message leaves now, not in the past: its contact time is never before the newest
contact, so contacts are in order and the check of one window is enough.
"""

from bisect import bisect_right

from actions.customers import Contact, CustomerState
from actions.policy_schema import ContactCap, ContactSettings
from features.records import Profile

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_MINUTE_MS = 60_000


class ContactLedger:
    """Reads and writes the contacts of customers' states under one policy's settings."""

    def __init__(self, settings: ContactSettings) -> None:
        self._settings = settings
        # At least 1: the newest contact always stays, as `now_ms` is read from it.
        self._window_max_ms = max((cap.within_ms for cap in settings.caps), default=1)

    def now_ms(self, state: CustomerState, ts_ms: int) -> int:
        """Return the time at which a message for an event of time `ts_ms` would leave.

        That is not before the newest contact, and not in quiet hours: it then waits for their end.
        """
        now_ms = max(ts_ms, state.contacts[-1].ts_ms) if state.contacts else ts_ms
        return now_ms if state.profile is None else self.after_quiet_ms(state.profile, now_ms)

    def refusal(self, state: CustomerState, channel: str, offer: str, now_ms: int) -> str | None:
        """Return which cap this contact would break at `now_ms`, or None."""
        for cap in self._settings.caps:
            if self._applies(cap, channel, offer) and self._used(cap, state, now_ms):
                return _cap_text(cap)
        return None

    def cooling_off(self, state: CustomerState, offer: str, now_ms: int) -> str | None:
        """Return why this offer must rest after a rejection, or None."""
        rejected_ms = state.rejected_ms.get(offer)
        if rejected_ms is None or now_ms >= rejected_ms + self._settings.cooling_off_ms:
            return None
        days = self._settings.cooling_off_ms / (24 * _HOUR_MS)
        return f"cooling-off of {days:g} days after the customer rejected it"

    def is_quiet(self, profile: Profile, now_ms: int) -> bool:
        """Say whether the customer's local hour is within [start, end); equal ends mean never.

        The profile's own quiet hours win over the policy's; they may span midnight.
        """
        quiet = profile.quiet_hours or self._settings.quiet_hours
        if quiet is None:
            return False
        hour = (now_ms + profile.utc_offset_minutes * _MINUTE_MS) // _HOUR_MS % 24
        if quiet.start_hour <= quiet.end_hour:
            return quiet.start_hour <= hour < quiet.end_hour
        return hour >= quiet.start_hour or hour < quiet.end_hour

    def after_quiet_ms(self, profile: Profile, now_ms: int) -> int:
        """Return `now_ms`, or the end of the quiet hours that it falls into."""
        quiet = profile.quiet_hours or self._settings.quiet_hours
        if quiet is None or not self.is_quiet(profile, now_ms):
            return now_ms
        local_ms = now_ms + profile.utc_offset_minutes * _MINUTE_MS
        end_ms = local_ms // _DAY_MS * _DAY_MS + quiet.end_hour * _HOUR_MS
        wait_ms = (end_ms - local_ms) % _DAY_MS
        return now_ms + wait_ms

    def record(self, state: CustomerState, contact: Contact) -> None:
        """Append a contact (not before the newest one) and drop those that no cap can see."""
        state.contacts.append(contact)
        horizon_ms = contact.ts_ms - self._window_max_ms
        del state.contacts[: bisect_right(state.contacts, horizon_ms, key=_ts_ms)]

    @staticmethod
    def _applies(cap: ContactCap, channel: str, offer: str) -> bool:
        return cap.channel in (None, channel) and cap.offer in (None, offer)

    def _used(self, cap: ContactCap, state: CustomerState, now_ms: int) -> bool:
        """Say whether (now - within, now] already holds as many contacts as the cap allows."""
        start = bisect_right(state.contacts, now_ms - cap.within_ms, key=_ts_ms)
        recent = state.contacts[start:]
        used = sum(self._applies(cap, contact.channel, contact.offer) for contact in recent)
        return used >= cap.at_most_count


def _ts_ms(contact: Contact) -> int:
    return contact.ts_ms


def _cap_text(cap: ContactCap) -> str:
    what = " ".join(part for part in (cap.channel, cap.offer) if part) or "all channels"
    days = cap.within_ms / (24 * _HOUR_MS)
    return f"contact cap reached: {cap.at_most_count} in {days:g} days, {what}"
