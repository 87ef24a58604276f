"""The customers' answers to offers: records that come back hours and days later."""

import hashlib

import numpy as np

from features.errors import MillraceError
from features.records import Offer, Outcome, OutcomeResult
from replay.simulator.population import customer_number
from replay.simulator.randomness import Purpose
from replay.simulator.responses import DELIVERED
from replay.simulator.scene import Scene
from replay.simulator.settings import DAY_MS, HOUR_MS
from replay.simulator.truth import Truth

MINUTE_MS = 60_000
REJECTED_SHARE = 0.4  # of those who see an offer and don't take it
SECOND_THOUGHTS_SHARE = 0.08  # of those: accept, and then never convert
SEEN_MEDIAN_MS = 2 * HOUR_MS
CONVERTED_MEDIAN_MS = 20 * HOUR_MS
DELAY_MS_MAX = 6 * DAY_MS
REMEMBERED_MS = 7 * DAY_MS  # how long a repeated action_id is recognised
RESULT_ORDER = ("delivered", "seen", "clicked", "accepted", "rejected", "converted")


class OfferTimeError(MillraceError):
    """An offer with a time outside the run, or later than what was streamed."""


class Outcomes:
    """Draws answers and keeps them until their hour comes.

    Offers wait until the next chunk begins and are then taken in order of (ts_ms, action_id), so
    the order of calls doesn't matter. Kept: pending records, a count per customer and offer, and
    the action ids of the last seven days, whose repeats are ignored.
    """

    def __init__(self, scene: Scene, truth: Truth) -> None:
        self._scene = scene
        self._truth = truth
        self._waiting: list[tuple[int, str, int, Offer]] = []
        self._pending: dict[int, list[Outcome]] = {}
        self._counts: dict[tuple[int, str], int] = {}
        self._known: dict[str, int] = {}

    def take(self, offer: Offer, now_ms: int) -> None:
        """Put an offer in line; `now_ms` is the end of what was streamed.

        Raises UnknownCustomerError, or OfferTimeError for an offer that is not of the past.
        """
        number = customer_number(offer.customer_id, self._scene.settings.customer_count)
        if not self._scene.settings.start_ms <= offer.ts_ms <= now_ms:
            raise OfferTimeError(
                f"ts_ms: expected a time from {self._scene.settings.start_ms} to {now_ms} "
                f"(the end of the last chunk), got {offer.ts_ms}"
            )
        self._waiting.append((offer.ts_ms, offer.action_id, number, offer))

    def due(self, hour: int, hour_start_ms: int) -> list[Outcome]:
        """The outcomes of hour `hour` of the run, in order of time and action."""
        self._forget(hour_start_ms)
        for _, action_id, number, offer in sorted(self._waiting, key=lambda entry: entry[:3]):
            if action_id not in self._known:
                self._known[action_id] = offer.ts_ms
                self._schedule(number, offer, hour_start_ms)
        self._waiting.clear()
        due = self._pending.pop(hour, [])
        due.sort(key=lambda o: (o.ts_ms, o.action_id, RESULT_ORDER.index(o.result)))
        return due

    def _forget(self, now_ms: int) -> None:
        while self._known:
            action_id = next(iter(self._known))
            if self._known[action_id] > now_ms - REMEMBERED_MS:
                return
            del self._known[action_id]

    def _schedule(self, number: int, offer: Offer, earliest_ms: int) -> None:
        settings = self._scene.settings
        for outcome in self._answer(number, offer, earliest_ms):
            if outcome.ts_ms < settings.end_ms:
                hour = (outcome.ts_ms - settings.start_ms) // HOUR_MS
                self._pending.setdefault(hour, []).append(outcome)

    def _answer(self, number: int, offer: Offer, earliest_ms: int) -> list[Outcome]:
        count = self._counts.get((number, offer.offer), 0)
        self._counts[number, offer.offer] = count + 1
        digest = hashlib.blake2b(offer.offer.encode(), digest_size=8).digest()
        rng = self._scene.streams.of(
            Purpose.ANSWER, number, int.from_bytes(digest, "little"), count
        )
        # All are drawn whatever happens, so both arms of an experiment meet the same customer.
        decides, delivery, looks, mood = rng.random(4)
        seen_noise, converted_noise, value_noise = rng.normal(size=3)
        pauses_ms = rng.integers(5_000, 20 * MINUTE_MS, 2)
        responses = self._truth.responses
        chances = responses.response(offer.customer_id, offer.offer, offer.channel)
        delivered = not offer.control and delivery < DELIVERED
        seen = delivered and looks < responses.reach(number, offer.channel)
        converts = bool(decides < (chances.p_seen if seen else chances.p_without))
        delivered_ms = max(offer.deliver_from_ms, earliest_ms) + 2_000 + int(pauses_ms[0]) // 100
        seen_ms = delivered_ms + _delay_ms(SEEN_MEDIAN_MS, float(seen_noise))
        settled_ms = seen_ms + int(pauses_ms[1])
        converted_ms = settled_ms + _delay_ms(CONVERTED_MEDIAN_MS, float(converted_noise))
        steps: list[tuple[OutcomeResult, int]] = []
        if delivered:
            steps.append(("delivered", delivered_ms))
        if seen:
            steps.append(("seen", seen_ms))
            if converts or mood < SECOND_THOUGHTS_SHARE:
                steps.append(("accepted", settled_ms))
            elif mood < SECOND_THOUGHTS_SHARE + REJECTED_SHARE:
                steps.append(("rejected", settled_ms))
        if converts:
            steps.append(("converted", converted_ms))
        value = responses.value_minor(number, offer.offer, float(value_noise))
        return [
            Outcome(
                action_id=offer.action_id, ts_ms=ts_ms, customer_id=offer.customer_id,
                result=result, value_minor=value if result == "converted" else 0,
            )
            for result, ts_ms in steps
        ]  # fmt: skip


def _delay_ms(median_ms: int, noise: float) -> int:
    return int(min(median_ms * float(np.exp(0.9 * noise)), DELAY_MS_MAX / 2))
