"""What the demo's audience sees: counts, the newest alerts and offers, value caught and missed."""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from features.records import Alert, Offer, Outcome
from streams.emissions import Decisions, Emission, Output
from streams.sinks import topic_family

SHOWN_MAX_COUNT = 40  # the newest alerts and offers that are kept for the screen
ANSWERED_AFTER_MS = 6 * 86_400_000  # by then a simulated customer has bought or will not
ARM_MIN_COUNT = 20  # in each arm, before an uplift is worth telling


@dataclass(slots=True)
class Tally:
    """A number of transactions and their value in minor units."""

    count: int = 0
    value_minor: int = 0

    def add(self, value_minor: int) -> None:
        """Count one transaction."""
        self.count += 1
        self.value_minor += value_minor


@dataclass(slots=True)
class Scored:
    """How the engine did against one scenario of fraud."""

    caught: Tally = field(default_factory=Tally)
    missed: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class MadeOffer:
    """An offer and what came of it; `uplift` is the simulation's truth, NaN until it is told."""

    offer: str
    ts_ms: int
    control: bool
    newest: str = ""  # the newest result
    converted: bool = False
    uplift: float = float("nan")


@dataclass(frozen=True, slots=True)
class Uplift:
    """Contacted customers against those held back, over offers whose answers are all in.

    Rates are shares of 0..1; `margin` is half of a 95 % interval of `measured` (Wald); `true` is
    the mean of what the simulation knows about the same customers.
    """

    treated_count: int
    control_count: int
    treated_rate: float
    control_rate: float
    margin: float
    true: float

    @property
    def measured(self) -> float:
        """The difference that contacting made."""
        return self.treated_rate - self.control_rate


@dataclass(slots=True)
class Board:
    """A sink and an observer: it keeps totals, the newest records and one line per offer.

    The simulation's ground truth (`take_truth`) is read for the tallies and never shown to the
    engine.
    """

    record_count: int = 0
    decided_count: int = 0
    dead_letter_count: int = 0
    alert_count: int = 0
    event_ms: int = 0
    caught: Tally = field(default_factory=Tally)
    missed: Tally = field(default_factory=Tally)
    false_alarms: Tally = field(default_factory=Tally)
    by_scenario: dict[str, Scored] = field(default_factory=dict)
    offers_made: Counter[str] = field(default_factory=Counter)
    control_count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    learned_count: int = 0
    model_versions: str = ""
    newest_alerts: deque[Alert] = field(default_factory=lambda: deque(maxlen=SHOWN_MAX_COUNT))
    newest_offers: deque[Offer] = field(default_factory=lambda: deque(maxlen=SHOWN_MAX_COUNT))
    made: dict[str, MadeOffer] = field(default_factory=dict)  # by action id
    _fraud: dict[str, str] = field(default_factory=dict)
    _unanswered: list[Offer] = field(default_factory=list)
    _digests: dict[str, Any] = field(default_factory=dict)
    _alert: msgspec.json.Decoder[Alert] = field(default_factory=lambda: msgspec.json.Decoder(Alert))
    _offer: msgspec.json.Decoder[Offer] = field(default_factory=lambda: msgspec.json.Decoder(Offer))

    def write(self, emissions: Sequence[Emission]) -> None:
        """Take what the engine emits, as any subscriber of the topics would."""
        for topic, _, value in emissions:
            if topic == "training":
                continue
            if topic == "alerts":
                self.alert_count += 1
                self.newest_alerts.append(self._alert.decode(value))
            elif topic.startswith("offers."):
                self._take_offer(self._offer.decode(value))
            self._digest(topic_family(topic), topic.encode() + b"\0" + value)

    def flush(self) -> None:
        """Nothing waits: a board shows at once."""

    def close(self) -> None:
        """Nothing to give back."""

    def _take_offer(self, offer: Offer) -> None:
        self._unanswered.append(offer)
        self.made[offer.action_id] = MadeOffer(offer.offer, offer.ts_ms, offer.control)
        if offer.control:
            self.control_count += 1
            return
        self.offers_made[offer.offer] += 1
        self.newest_offers.append(offer)

    def take_offers(self) -> list[Offer]:
        """Return the offers that customers have not seen yet, once."""
        offers, self._unanswered = self._unanswered, []
        return offers

    def take_truth(self, frauds: Mapping[str, str], uplifts: Mapping[str, float]) -> None:
        """Learn of frauds (event id to scenario) before their transactions are decided.

        `uplifts` maps action ids of offers to the true effect of the contact.
        """
        self._fraud.update(frauds)
        for action_id, uplift in uplifts.items():
            self.made[action_id].uplift = uplift

    def take_outcome(self, outcome: Outcome) -> None:
        """Count how a customer answered."""
        self.outcomes[outcome.result] += 1
        made = self.made.get(outcome.action_id)
        if made is not None:
            made.newest = outcome.result
            made.converted |= outcome.result == "converted"

    def observe(self, output: Output) -> None:
        """Compare decisions with the truth."""
        self.record_count += output.record_count
        self.dead_letter_count += output.dead_letter_count
        self.learned_count += len(output.training)
        for decisions in output.decisions:
            self._judge(decisions)

    def _judge(self, decisions: Decisions) -> None:
        self.decided_count += len(decisions.event_ids)
        self.event_ms = max(self.event_ms, int(decisions.ts_ms[-1]))
        self.model_versions = decisions.model_versions
        self._digest("decisions", "\n".join([*decisions.event_ids, ""]).encode())
        self._digest("actions", decisions.actions.tobytes())
        self._digest("scores", decisions.scores.tobytes())
        stopped = decisions.actions > 0
        for row, scenario in enumerate(map(self._fraud.get, decisions.event_ids)):
            if scenario is not None:
                amount_minor = int(decisions.amounts_minor[row])
                scored = self.by_scenario.setdefault(scenario, Scored())
                (self.caught if stopped[row] else self.missed).add(amount_minor)
                (scored.caught if stopped[row] else scored.missed).add(amount_minor)
        for row in np.flatnonzero(stopped).tolist():
            if decisions.event_ids[row] not in self._fraud:
                self.false_alarms.add(int(decisions.amounts_minor[row]))

    def _digest(self, what: str, value: bytes) -> None:
        if what not in self._digests:
            self._digests[what] = hashlib.sha256()
        self._digests[what].update(value)

    def emissions_sha256(self) -> str:
        """Return one hash of all decisions, alerts, offers and refusals, each kind in its order.

        How the kinds follow each other depends on the cut of batches, so each has its own hash.
        Training examples are left out: partitions mature side by side.
        """
        parts = [f"{what} {self._digests[what].hexdigest()}\n" for what in sorted(self._digests)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    def uplift(self) -> Uplift | None:
        """Return what contacting was worth, None while too few offers have had their time."""
        ripe_ms = self.event_ms - ANSWERED_AFTER_MS
        ripe = [made for made in self.made.values() if made.ts_ms <= ripe_ms]
        treated = [made for made in ripe if not made.control]
        control = [made for made in ripe if made.control]
        if min(len(treated), len(control)) < ARM_MIN_COUNT:
            return None
        arms = (treated, control)
        rates = [sum(made.converted for made in arm) / len(arm) for arm in arms]
        variances = [rate * (1 - rate) / len(arm) for rate, arm in zip(rates, arms, strict=True)]
        return Uplift(
            treated_count=len(treated),
            control_count=len(control),
            treated_rate=rates[0],
            control_rate=rates[1],
            margin=1.96 * sum(variances) ** 0.5,
            true=sum(made.uplift for made in ripe) / len(ripe),
        )
