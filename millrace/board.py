"""What the demo's audience sees: counts, the newest alerts and offers, value caught and missed."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from features.records import Alert, Offer, Outcome
from streams.emissions import Decisions, Emission, Output

SHOWN_ALERTS_COUNT = 14
SHOWN_OFFERS_COUNT = 8


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
class Board:
    """A sink and an observer: it keeps totals and the newest few records, nothing else.

    `fraud` is the simulation's ground truth, event id to scenario; it is read for the tallies and
    never shown to the engine.
    """

    fraud: Mapping[str, str]
    record_count: int = 0
    decided_count: int = 0
    dead_letter_count: int = 0
    alert_count: int = 0
    event_ms: int = 0
    caught: Tally = field(default_factory=Tally)
    missed: Tally = field(default_factory=Tally)
    false_alarms: Tally = field(default_factory=Tally)
    by_scenario: dict[str, list[int]] = field(default_factory=dict)  # caught, missed
    offers_made: Counter[str] = field(default_factory=Counter)
    control_count: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    learned_count: int = 0
    model_versions: str = ""
    newest_alerts: deque[Alert] = field(default_factory=lambda: deque(maxlen=SHOWN_ALERTS_COUNT))
    newest_offers: deque[Offer] = field(default_factory=lambda: deque(maxlen=SHOWN_OFFERS_COUNT))
    unanswered: list[Offer] = field(default_factory=list)
    _alert: msgspec.json.Decoder[Alert] = field(default_factory=lambda: msgspec.json.Decoder(Alert))
    _offer: msgspec.json.Decoder[Offer] = field(default_factory=lambda: msgspec.json.Decoder(Offer))

    def write(self, emissions: Sequence[Emission]) -> None:
        """Take what the engine emits, as any subscriber of the topics would."""
        for topic, _, value in emissions:
            if topic == "alerts":
                self.alert_count += 1
                self.newest_alerts.append(self._alert.decode(value))
            elif topic.startswith("offers."):
                self._take_offer(self._offer.decode(value))

    def flush(self) -> None:
        """Nothing waits: a board shows at once."""

    def close(self) -> None:
        """Nothing to give back."""

    def _take_offer(self, offer: Offer) -> None:
        self.unanswered.append(offer)
        if offer.control:
            self.control_count += 1
            return
        self.offers_made[offer.offer] += 1
        self.newest_offers.append(offer)

    def take_offers(self) -> list[Offer]:
        """Return the offers that customers have not seen yet, once."""
        offers, self.unanswered = self.unanswered, []
        return offers

    def take_outcome(self, outcome: Outcome) -> None:
        """Count how a customer answered."""
        self.outcomes[outcome.result] += 1

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
        stopped = decisions.actions > 0
        for row, event_id in enumerate(decisions.event_ids):
            scenario = self.fraud.get(event_id)
            if scenario is not None:
                tally = self.caught if stopped[row] else self.missed
                tally.add(int(decisions.amounts_minor[row]))
                self.by_scenario.setdefault(scenario, [0, 0])[0 if stopped[row] else 1] += 1
        for row in np.flatnonzero(stopped).tolist():
            if decisions.event_ids[row] not in self.fraud:
                self.false_alarms.add(int(decisions.amounts_minor[row]))
