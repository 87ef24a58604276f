"""The next best action: which one offer, if any, a customer gets at this event.

Triggers that fire bring candidates; each passes the same gates in the same order; the one with the
highest expected value wins, and every other keeps the reason for which it lost. A fixed share of
customers per offer is the control group: decided and logged, never contacted, so that the effect
of contacting can be measured. A control member takes a contact slot all the same: both groups
then have the same occasions, and differ in the delivery alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from actions.contacts import ContactLedger
from actions.customers import PENDING_MAX, Contact, CustomerState, PendingOutcome, Tally
from actions.ids import deterministic_id, keyed_share
from actions.outputs import Conditions, OutputRow
from actions.policy import Policy
from actions.policy_schema import OfferDeclaration
from actions.templates import formatted
from features.plan import Plan
from features.records import (
    Alert,
    ContactChannel,
    Interaction,
    LostCandidate,
    Offer,
    Outcome,
    Profile,
    Transaction,
    Versions,
)

_ANSWERS = ("accepted", "converted", "rejected")
_Gate = Callable[[CustomerState, OfferDeclaration, OutputRow, int], str | None]


@dataclass(frozen=True, slots=True)
class Arbitration:
    """The outcome of one event: the offer, if any, and why each other candidate lost."""

    offer: Offer | None
    lost: tuple[LostCandidate, ...]


@dataclass(frozen=True, slots=True)
class _Bid:
    """A candidate that passed every gate; money in major units."""

    declaration: OfferDeclaration
    channel: str
    parameters: dict[str, str | int | float]
    value: float
    chance: float

    @property
    def expected(self) -> float:
        return self.value * self.chance


class NextBestAction:
    """Decides on offers under one policy. Customers' states are changed in place."""

    def __init__(self, policy: Policy, plan: Plan) -> None:
        self._policy = policy
        self._settings = policy.contacts
        self._ledger = ContactLedger(policy.contacts)
        self._conditions = Conditions(plan, [f"trigger:{t.id}" for t in policy.triggers])
        self._gates: tuple[_Gate, ...] = (
            self._consent_gate,
            self._eligibility_gate,
            self._holding_gate,
            self._contact_gate,
            self._case_gate,
        )

    def fired(
        self,
        outputs_before: NDArray[np.float64],
        outputs_after: NDArray[np.float64],
        transactions: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Return bool[n]: the rows on which a trigger fired, the only ones to call `decide` on."""
        held = self._conditions.hold(outputs_before, outputs_after, transactions)
        fired: NDArray[np.bool_] = np.any(held, axis=1)
        return fired

    def on_profile(self, state: CustomerState, profile: Profile) -> None:
        """Take a profile, unless it is older than the one at hand."""
        state.take_profile(profile)

    def on_interaction(self, state: CustomerState, interaction: Interaction) -> bool:
        """Take an interaction; says whether the state changed.

        Complaints silence selling while they are open.
        """
        return state.take_interaction(interaction)

    def on_alert(self, state: CustomerState, alert: Alert) -> None:
        """Silence selling for the policy's gate after an alert; call before `decide`."""
        if alert.action != "allow":
            until_ms = alert.ts_ms + self._settings.risk_gate_ms
            state.alert_until_ms = max(state.alert_until_ms, until_ms)

    def on_outcome(self, state: CustomerState, outcome: Outcome) -> None:
        """Learn from an answer to an offer; an action that is no longer known is ignored.

        Only an answer that is still awaited counts for the chance of acceptance: the control
        group's conversions do not, as nothing was offered.
        """
        self._expire(state, outcome.ts_ms)
        offer = _offer_of(state, outcome.action_id)
        if offer is None or outcome.result not in _ANSWERS:
            return
        awaited = state.pending.pop(outcome.action_id, None) is not None
        tally = state.tallies.setdefault(offer, Tally())
        if outcome.result == "rejected":
            tally.declined_count += awaited
            state.rejected_ms[offer] = max(outcome.ts_ms, state.rejected_ms.get(offer, 0))
        else:
            tally.accepted_count += awaited
            state.accepted_ms[offer] = max(outcome.ts_ms, state.accepted_ms.get(offer, 0))

    def decide(
        self, state: CustomerState, transaction: Transaction, row: OutputRow, versions: Versions
    ) -> list[Offer]:
        """Return the offer for this event in a list, or an empty list."""
        offer = self.arbitrate(state, transaction, row, versions).offer
        return [] if offer is None else [offer]

    def arbitrate(
        self, state: CustomerState, transaction: Transaction, row: OutputRow, versions: Versions
    ) -> Arbitration:
        """Decide on an event, with the reason for which each losing candidate lost.

        `row` reads the event's outputs by name (`Outputs.row`). The contact is entered into the
        state, the control group's too.
        """
        why = {t.id: t.why for t in self._policy.triggers if row(f"trigger:{t.id}") > 0.0}
        if not why:
            return Arbitration(None, ())
        now_ms = self._ledger.now_ms(state, transaction.ts_ms)
        self._expire(state, now_ms)
        bids: list[_Bid] = []
        lost: dict[str, str] = {}
        for declaration in self._policy.offers:
            if any(trigger in why for trigger in declaration.triggers):
                bid = self._bid(state, declaration, row, now_ms)
                if isinstance(bid, _Bid):
                    bids.append(bid)
                else:
                    lost[declaration.id] = bid
        if not bids:
            return Arbitration(None, _lost(self._policy, lost))
        best = max(bids, key=lambda bid: bid.expected)  # the first of equals: the policy's order
        for bid in bids:
            if bid is not best:
                lost[bid.declaration.id] = (
                    f"expected value {self._money(bid.expected)}, below "
                    f"{self._money(best.expected)} of {best.declaration.id}"
                )
        occasion = next(why[t] for t in best.declaration.triggers if t in why)
        losers = _lost(self._policy, lost)
        offer = self._offer(best, transaction, occasion, losers, now_ms, versions)
        self._enter(state, offer, now_ms)
        return Arbitration(offer, losers)

    def _bid(
        self, state: CustomerState, declaration: OfferDeclaration, row: OutputRow, now_ms: int
    ) -> "_Bid | str":
        """Return a candidate's bid, or the reason for which it can't be made."""
        for gate in self._gates:
            reason = gate(state, declaration, row, now_ms)
            if reason is not None:
                return reason
        channel = self._channel(state, declaration, now_ms)[0]
        value = row(f"offer:{declaration.id}:value")
        if channel is None or not value > 0.0 or value == float("inf"):
            return "no positive value for the bank"
        parameters: dict[str, str | int | float] = {}
        for name in declaration.parameters:
            number = row(f"offer:{declaration.id}:parameter:{name}")
            if number != number or abs(number) == float("inf"):
                return f"parameter {name} is unknown"
            parameters[name] = int(number) if number == int(number) else round(number, 2)
        return _Bid(declaration, channel, parameters, value, self._chance(state, declaration.id))

    def _consent_gate(
        self, state: CustomerState, declaration: OfferDeclaration, row: OutputRow, now_ms: int
    ) -> str | None:
        if state.profile is None:
            return "no profile, so no consent"
        if not _consented(state.profile, declaration):
            return f"no consent to marketing by {', '.join(declaration.channels)}"
        return None

    def _eligibility_gate(
        self, state: CustomerState, declaration: OfferDeclaration, row: OutputRow, now_ms: int
    ) -> str | None:
        return None if row(f"offer:{declaration.id}:eligible") > 0.0 else "not eligible"

    def _holding_gate(
        self, state: CustomerState, declaration: OfferDeclaration, row: OutputRow, now_ms: int
    ) -> str | None:
        profile = state.profile
        if profile is not None and declaration.product in profile.products:
            return f"already holds {declaration.product}"
        accepted_ms = state.accepted_ms.get(declaration.id)
        if accepted_ms is not None and (profile is None or profile.ts_ms <= accepted_ms):
            return "already accepted, the profile is not yet up to date"
        return None

    def _contact_gate(
        self, state: CustomerState, declaration: OfferDeclaration, row: OutputRow, now_ms: int
    ) -> str | None:
        channel, reason = self._channel(state, declaration, now_ms)
        if channel is None:
            return reason
        return self._ledger.cooling_off(state, declaration.id, now_ms)

    def _case_gate(
        self, state: CustomerState, declaration: OfferDeclaration, row: OutputRow, now_ms: int
    ) -> str | None:
        if now_ms < state.alert_until_ms:
            return "an alert on the customer silences selling"
        if state.complaints:
            return "an open complaint silences selling"
        return None

    def _channel(
        self, state: CustomerState, declaration: OfferDeclaration, now_ms: int
    ) -> tuple[str | None, str]:
        """Return the first channel that may be used, the preferred ones first, or why none may."""
        if state.profile is None:
            return None, "no profile, so no consent"
        consented = _consented(state.profile, declaration)
        preferred = [c for c in state.profile.preferred_channels if c in consented]
        refusals = []
        for channel in dict.fromkeys([*preferred, *consented]):
            refusal = self._ledger.refusal(state, channel, declaration.id, now_ms)
            if refusal is None:
                return channel, ""
            refusals.append(refusal)
        return None, "; ".join(dict.fromkeys(refusals))

    def _chance(self, state: CustomerState, offer: str) -> float:
        """Return the mean of the Beta posterior of acceptance by this customer."""
        tally = state.tallies.get(offer, Tally())
        accepted = self._settings.prior_accepted + tally.accepted_count
        return accepted / (accepted + self._settings.prior_declined + tally.declined_count)

    def _offer(
        self,
        bid: _Bid,
        transaction: Transaction,
        occasion: str,
        lost: tuple[LostCandidate, ...],
        now_ms: int,
        versions: Versions,
    ) -> Offer:
        declaration, share = bid.declaration, self._settings.control_share
        customer = transaction.customer_id
        control = keyed_share(self._policy.name, customer, declaration.id) < share
        chance = formatted(bid.chance, "percent", "", 0)
        worth = f"worth {self._money(bid.value)} if accepted, at a chance of {chance}"
        return Offer(
            action_id=deterministic_id(transaction.event_id, declaration.id),
            event_id=transaction.event_id,
            ts_ms=transaction.ts_ms,
            customer_id=customer,
            offer=declaration.id,
            channel=cast(ContactChannel, bid.channel),
            text_key=declaration.text_key,
            parameters=bid.parameters,
            deliver_from_ms=now_ms,
            valid_until_ms=now_ms + declaration.valid_for_ms,
            propensity=share if control else 1.0 - share,
            explored=False,
            control=control,
            why=(occasion, declaration.why, worth),
            lost=lost,
            versions=versions,
        )

    def _enter(self, state: CustomerState, offer: Offer, now_ms: int) -> None:
        contact = Contact(now_ms, offer.channel, offer.offer, offer.action_id)
        self._ledger.record(state, contact)
        if not offer.control:
            state.pending[offer.action_id] = PendingOutcome(now_ms, offer.offer)
            for action_id in list(state.pending)[:-PENDING_MAX]:
                del state.pending[action_id]

    def _expire(self, state: CustomerState, now_ms: int) -> None:
        """Count offers without an answer in time as declined."""
        horizon_ms = now_ms - self._settings.outcome_wait_ms
        overdue = [a for a, pending in state.pending.items() if pending.ts_ms <= horizon_ms]
        for action_id in overdue:
            offer = state.pending.pop(action_id).offer
            state.tallies.setdefault(offer, Tally()).declined_count += 1

    def _money(self, value: float) -> str:
        return formatted(value, "money", self._policy.currency, self._policy.currency_exponent)


def _offer_of(state: CustomerState, action_id: str) -> str | None:
    pending = state.pending.get(action_id)
    if pending is not None:
        return pending.offer
    return next((c.offer for c in state.contacts if c.action_id == action_id), None)


def _consented(profile: Profile, declaration: OfferDeclaration) -> list[str]:
    return [c for c in declaration.channels if f"marketing:{c}" in profile.consents]


def _lost(policy: Policy, reasons: dict[str, str]) -> tuple[LostCandidate, ...]:
    return tuple(
        LostCandidate(offer=offer.id, reason=reasons[offer.id])
        for offer in policy.offers
        if offer.id in reasons
    )
