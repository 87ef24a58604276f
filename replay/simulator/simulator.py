"""The simulator: a stream of bank traffic that answers to the offers made on it."""

from collections.abc import Iterator
from operator import attrgetter

import numpy as np

from features.errors import MillraceError
from features.records import Label, Offer
from replay.simulator.day_plan import DayPlanner
from replay.simulator.days import Day, day_of
from replay.simulator.encoding import Encoder, encoded, event_id, labels_of
from replay.simulator.labels import NO_LABEL
from replay.simulator.outcomes import Outcomes
from replay.simulator.responses import ResponseModel
from replay.simulator.rows import FIRST_INTERACTION, Rows, Scenario, What
from replay.simulator.scene import build_scene
from replay.simulator.settings import HOUR_MS, SimulatorSettings
from replay.simulator.truth import Truth
from replay.source_record import SourceRecord

TOPIC_ORDER = ("profiles", "labels", "outcomes", "interactions", "transactions")


class Simulator:
    """One run of simulated traffic with ground truth.

    The bytes depend on the settings and on the offers that were answered, not on how the chunks
    are consumed nor on the order of answers between two chunks. Answers change only the outcomes
    that follow. Memory is bounded by the customers (a day of theirs is planned at once) and what
    is pending; `truth.fraud` grows with the frauds.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        scene = build_scene(settings)
        self.truth = Truth(ResponseModel(settings.seed, scene.population))
        self._planner = DayPlanner(scene)
        self._encoder = Encoder(scene)
        self._outcomes = Outcomes(scene, self.truth)
        self._labels: dict[int, list[Label]] = {}
        self._streamed_ms = settings.start_ms
        self._begun = False

    def chunks(self) -> Iterator[list[SourceRecord]]:
        """The traffic hour by hour, in order of time; hours without a record are left out.

        Ties in a chunk are in TOPIC_ORDER. Labels and outcomes that fall due after the run's end
        are not streamed. Raises MillraceError if the run was streamed before.
        """
        if self._begun:
            raise MillraceError("a simulator streams its run once: make another one")
        self._begun = True
        return self._stream()

    def answer(self, offer: Offer) -> None:
        """Let the customer react to an offer; the outcomes come in later chunks.

        Repeats of an action_id within seven days are ignored. Call it before drawing the chunk
        after the one that caused the offer; an offer that comes later is delivered later.

        Raises UnknownCustomerError, or OfferTimeError if the offer's time wasn't streamed yet.
        """
        self._outcomes.take(offer, self._streamed_ms)

    def _stream(self) -> Iterator[list[SourceRecord]]:
        for index in range(self.settings.day_count):
            day = day_of(self.settings, index)
            rows = self._planner.plan(day)
            bounds = np.searchsorted(rows["ts_ms"], day.start_ms + np.arange(25) * HOUR_MS).tolist()
            for hour in range(24):
                chunk = self._chunk(day, hour, rows[bounds[hour] : bounds[hour + 1]])
                self._streamed_ms = day.start_ms + (hour + 1) * HOUR_MS
                if chunk:
                    yield chunk

    def _chunk(self, day: Day, hour: int, rows: Rows) -> list[SourceRecord]:
        encoder, what = self._encoder, rows["what"]
        run_hour = day.number * 24 + hour
        transactions = rows[what < FIRST_INTERACTION]
        labels = self._labels.pop(run_hour, [])
        labels.sort(key=lambda label: (label.ts_ms, label.event_id))
        outcomes = self._outcomes.due(run_hour, day.start_ms + hour * HOUR_MS)
        records = [
            *encoder.profiles(rows[what == What.PROFILE]),
            *encoded("labels", labels),
            *encoded("outcomes", outcomes),
            *encoder.interactions(rows[(what >= FIRST_INTERACTION) & (what < What.PROFILE)]),
            *encoder.transactions(transactions),
        ]
        records.sort(key=attrgetter("ts_ms"))  # stable: ties stay in TOPIC_ORDER
        self._remember(transactions)
        return records

    def _remember(self, transactions: Rows) -> None:
        for label in labels_of(transactions[transactions["label"] != NO_LABEL], self._encoder):
            if label.ts_ms < self.settings.end_ms:
                hour = (label.ts_ms - self.settings.start_ms) // HOUR_MS
                self._labels.setdefault(hour, []).append(label)
        frauds = transactions[transactions["scenario"] != Scenario.NONE]
        for what, number, code in zip(
            frauds["what"].tolist(), frauds["number"].tolist(), frauds["scenario"].tolist(),
            strict=True,
        ):  # fmt: skip
            self.truth.fraud[event_id(what, number)] = Scenario(code).name.lower()
