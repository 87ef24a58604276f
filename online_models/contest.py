"""A model's contest: champion and challengers learn the same examples and are compared.

The champion decides; challengers are scored in its shadow. At each publication, in this order:
the matured examples are judged by the scores given when deciding (`prequential`), watched for drift
(`drift`), learned by every contestant; a promotion takes effect; one version goes out with all of
them. Everything follows from the examples, the publications' event times and the promotions asked
for: it is the same for any cut of the input.

Version numbers count the publications of the model: a number says which champion, in which state.

A contestant whose pipeline can't learn fraud as rare as it turns out to be is *out*: it is told
once, and every version has it untrained. A champion that is out decides as an untrained one until
somebody promotes a challenger: the contest never chooses by itself who decides, unless the policy
says so.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct

from features.errors import RecordError, unknown
from features.records import (
    CalibrationBin,
    ContestantMeasures,
    Drift,
    ModelPromoted,
    ModelRefused,
    ModelReport,
    TrainingExample,
)
from online_models.calibration import log_odds
from online_models.contestants import (
    ContestantDesk,
    ContestantState,
    Evidence,
    Lesson,
    Refusal,
    by_contestant,
)
from online_models.drift import DriftWatch, StreamState
from online_models.framing import (
    FloatArray,
    PackedArray,
    pack_arrays,
    seal,
    unpack_arrays,
    unseal,
)
from online_models.judging import Contestant, DriftSettings, JudgingSettings
from online_models.prequential import Measures, PrequentialWindow
from online_models.versions import ModelVersion, with_challengers

STATE_KIND = "contest"
STATE_SCHEMA_VERSION = 1
NEVER_MS = 2**62

Report = ModelReport | ModelPromoted | ModelRefused | Drift
Role = Literal["champion", "challenger", "successor"]


class Published(NamedTuple):
    """What a publication says: a version, or None where nothing changed; reports, in order."""

    version: ModelVersion | None
    reports: list[Report]


class _State(Struct, frozen=True, kw_only=True):
    model: str
    version: int
    champion: str
    asked: str | None
    judged_from_ms: int
    report_due_ms: int
    drift_due_ms: int
    drift_count: int
    contestants: list[ContestantState]
    window: dict[str, PackedArray]
    drift_block: dict[str, PackedArray]
    drift_streams: list[StreamState]


class Contest:
    """The contestants of one model; the first is the champion until another is promoted.

    `version` is the number of the newest publication, 0 before the first; `drift_count` counts the
    alarms. Raises RecordError for unknown pipelines or inputs.
    """

    def __init__(
        self,
        model: str,
        inputs: Sequence[str],
        contestants: Sequence[Contestant],
        settings: JudgingSettings,
    ) -> None:
        self.model = model
        self.version = 0
        self.champion = contestants[0].name
        self.drift_count = 0
        self._settings = settings
        self._inputs = tuple(inputs)
        self._names = [contestant.name for contestant in contestants]
        self._desks = {c.name: ContestantDesk(model, inputs, c, settings) for c in contestants}
        self._asked: str | None = None
        self._judged_from_ms = NEVER_MS  # earlier decisions had no trained model behind them
        self._report_due_ms = self._drift_due_ms = 0
        self._window = PrequentialWindow(len(contestants), settings.window_count)
        self._watch = _new_watch(self._names, self._inputs, settings.drift)

    @property
    def learned_count(self) -> int:
        """How many examples the champion has learned."""
        return self._desks[self.champion].learned_count

    @property
    def learned_fraud_count(self) -> int:
        """How many of them were frauds."""
        return self._desks[self.champion].fraud_count

    def promote(self, challenger: str) -> None:
        """Let a contestant be the champion from the next publication on.

        Raises RecordError with the nearest name for one that is not in the contest.
        """
        if challenger not in self._desks:
            raise unknown("$.challenger", challenger, self._names)
        self._asked = challenger

    def publish(
        self, point_ms: int, examples: Sequence[TrainingExample], evidence: Evidence
    ) -> Published:
        """Judge and learn examples, in their order; return the version of this grid point.

        The version is None where nothing changed, or while the champion has learned too little.
        """
        reports: list[Report] = []
        if examples:
            lesson = Lesson.of(examples, len(self._names))
            self._judge(lesson)
            reports += self._drifts(point_ms)
            for desk in self._desks.values():
                desk.learn(lesson)
            reports += self._refusals(point_ms, evidence)
        reports += self._refused_order(point_ms)
        promoted = self._promotion(point_ms, evidence) if self.version else None
        if not self._is_ready(evidence) or not (examples or promoted):
            return Published(None, reports)
        self.version += 1
        version = self._version(point_ms)
        if self.version == 1:
            self._judged_from_ms = point_ms
        if promoted is not None:
            reports.append(promoted)
        if self._window.count and point_ms >= self._report_due_ms:
            reports.append(self.report(point_ms))
            every_ms = self._settings.every_ms
            self._report_due_ms = (point_ms // every_ms + 1) * every_ms
        return Published(version, reports)

    def _is_ready(self, evidence: Evidence) -> bool:
        """Return whether the champion can decide, or is out and a challenger can be compared."""
        if self._desks[self.champion].refusal is None:
            return self._desks[self.champion].has(evidence)
        return any(desk.has(evidence) for desk in self._desks.values())

    def _refusals(self, point_ms: int, evidence: Evidence) -> list[Report]:
        """Put those out that can't learn, let successors take over; return what is told of it."""
        reports: list[Report] = []
        for name, desk in self._desks.items():
            if (refusal := desk.admit(evidence)) is not None:
                reports.append(self._refused(point_ms, name, refusal))
            if (refusal := desk.succeed(evidence)) is not None:
                reports.append(self._refused(point_ms, name, refusal, "successor"))
        return reports

    def _refused_order(self, point_ms: int) -> list[Report]:
        """Drop an order to promote one that is out; say so by telling again why it is."""
        asked = self._asked
        if asked is None or (refusal := self._desks[asked].refusal) is None:
            return []
        self._asked = None
        return [self._refused(point_ms, asked, refusal)]

    def _refused(
        self, point_ms: int, name: str, refusal: Refusal, role: Role | None = None
    ) -> ModelRefused:
        return ModelRefused(
            model=self.model,
            ts_ms=point_ms,
            version=self.version,
            contestant=name,
            pipeline=self._desks[name].declared.pipeline,
            role=role or ("champion" if name == self.champion else "challenger"),
            fraud_share=refusal.fraud_share,
            expected=refusal.expected,
            got=refusal.got,
        )

    @property
    def out(self) -> dict[str, Refusal]:
        """Those that are out of the contest, and why."""
        return {n: d.refusal for n, d in self._desks.items() if d.refusal is not None}

    def _version(self, point_ms: int) -> ModelVersion:
        versions = {n: d.publish(self.version, point_ms) for n, d in self._desks.items()}
        champion = versions.pop(self.champion)
        return with_challengers(champion, list(versions.values()))

    def _judge(self, lesson: Lesson) -> None:
        """Take the examples whose decisions had a trained model behind them."""
        rows = (lesson.ts_ms >= self._judged_from_ms) & ~np.isnan(lesson.scores).any(axis=0)
        fraud, weight, scores = lesson.fraud[rows], lesson.weight[rows], lesson.scores[:, rows]
        self._window.add(lesson.ts_ms[rows], fraud, weight, scores)
        drift = self._settings.drift
        if self._watch is not None and drift is not None:
            watched = {
                "error": (scores - fraud) ** 2,
                "score": np.stack([log_odds(row) for row in scores]),
                "inputs": lesson.features[rows].T,
            }
            out = [name in self.out for name in self._names]
            watched["error"][out] = watched["score"][out] = np.nan  # nothing to be watched
            values: FloatArray = np.vstack([watched[name] for name in drift.watch])
            self._watch.gather(lesson.events[rows], values.T)

    def _drifts(self, point_ms: int) -> list[Report]:
        """Close the block of drift where one is over; let the contestants respond."""
        drift = self._settings.drift
        if self._watch is None or drift is None or point_ms < self._drift_due_ms:
            return []
        is_first = self._drift_due_ms == 0
        self._drift_due_ms = (point_ms // drift.every_ms + 1) * drift.every_ms
        if is_first:
            return []  # a part of a block: it goes with the next one
        reports: list[Report] = []
        for alarm in self._watch.close_block():
            kind, _, name = alarm.stream.partition(":")
            # Inputs and scores may move without harm, and an error that falls is none.
            is_harm = kind == "error" and alarm.after > alarm.before
            if kind == "error" and not is_harm:
                continue
            if is_harm:
                self._desks[name].respond(drift)
            self.drift_count += 1
            reports.append(
                Drift(
                    model=self.model,
                    ts_ms=point_ms,
                    version=self.version,
                    what=alarm.stream,
                    detector=drift.detector,
                    before=alarm.before,
                    after=alarm.after,
                    response=drift.response if is_harm else "alert",
                )
            )
        return reports

    def _promotion(self, point_ms: int, evidence: Evidence) -> ModelPromoted | None:
        """Change the champion where somebody asked for it, or the policy's condition holds.

        A challenger that has learned too little has to wait until it is ready to decide.
        """
        asked = self._asked
        found = asked or self._better(point_ms)
        if found is None or not self._desks[found].has(evidence):
            return None
        self._asked = None
        if found == self.champion:
            return None
        before, self.champion = self.champion, found
        return ModelPromoted(
            model=self.model,
            ts_ms=point_ms,
            version=self.version + 1,
            champion=found,
            before=before,
            by="command" if asked else "policy",
        )

    def _better(self, point_ms: int) -> str | None:
        """Return the challenger that is better by enough, the best of them, when reports are due.

        Only once it has been judged over as many examples as the policy wants.
        """
        rule = self._settings.promotion
        if rule is None or point_ms < self._report_due_ms or self._window.count < rule.over_count:
            return None
        precision = {
            name: self._measure(name, rule.over_count).average_precision for name in self._names
        }
        best = max(self._names, key=lambda name: np.nan_to_num(precision[name], nan=-1.0))
        gain = precision[best] - precision[self.champion]
        return best if gain >= rule.better_by and best != self.champion else None

    def _measure(self, name: str, last_count: int | None = None) -> Measures:
        place = self._names.index(name)
        return self._window.measure(place, self._settings.alerts_per_day, last_count)

    def report(self, point_ms: int) -> ModelReport:
        """Return how good the contestants are over the window as it stands."""
        window = self._window
        return ModelReport(
            model=self.model,
            ts_ms=point_ms,
            version=self.version,
            champion=self.champion,
            from_ms=int(window.ts_ms.min(initial=point_ms)),
            to_ms=int(window.ts_ms.max(initial=0)),
            example_count=window.count,
            fraud_count=int(window.fraud.sum()),
            alerts_per_day=self._settings.alerts_per_day,
            contestants=tuple(
                _measures(self._desks[name], self._measure(name))
                for name in self._names
                if name not in self.out
            ),
        )

    def state(self) -> bytes:
        """Return everything that `restore` needs beside the newest version, with a checksum."""
        watch = self._watch
        body = _State(
            model=self.model,
            version=self.version,
            champion=self.champion,
            asked=self._asked,
            judged_from_ms=self._judged_from_ms,
            report_due_ms=self._report_due_ms,
            drift_due_ms=self._drift_due_ms,
            drift_count=self.drift_count,
            contestants=[desk.state() for desk in self._desks.values()],
            window=pack_arrays(self._window.to_arrays()),
            drift_block=pack_arrays(watch.block()) if watch else {},
            drift_streams=watch.states() if watch else [],
        )
        return seal(STATE_KIND, STATE_SCHEMA_VERSION, body)

    def restore(self, blob: bytes, version: ModelVersion | None) -> None:
        """Go on, bit for bit, where the contest of `state` stood; call it on a new object.

        Contestants that the policy has added begin anew, those that it has dropped are forgotten.
        Raises RecordError for foreign or damaged bytes.
        """
        where = f"contest of `{self.model}`"
        body = unseal(blob, STATE_KIND, STATE_SCHEMA_VERSION, _State, where)
        if body.model != self.model:
            raise RecordError(where, f"model `{self.model}`", f"`{body.model}`")
        self.version, self.drift_count = body.version, body.drift_count
        self._judged_from_ms = body.judged_from_ms
        self._report_due_ms, self._drift_due_ms = body.report_due_ms, body.drift_due_ms
        if body.champion in self._desks:
            self.champion = body.champion
        self._asked = body.asked if body.asked in self._desks else None
        published = by_contestant(version)
        for state in body.contestants:
            if state.name in self._desks:
                self._desks[state.name].restore(state, published.get(state.name))
        stored = [state.name for state in body.contestants]
        kept = [stored.index(name) if name in stored else None for name in self._names]
        self._window.restore(unpack_arrays(body.window), kept)
        if self._watch is not None:
            self._watch.restore(unpack_arrays(body.drift_block), body.drift_streams)


def _new_watch(
    contestants: Sequence[str], inputs: Sequence[str], drift: DriftSettings | None
) -> DriftWatch | None:
    if drift is None:
        return None
    owners = {"error": contestants, "score": contestants, "inputs": inputs}
    names = {
        watched: [f"{watched.removesuffix('s')}:{name}" for name in owners[watched]]
        for watched in drift.watch
    }
    every = [name for watched in drift.watch for name in names[watched]]
    return DriftWatch(drift.detector, every, names.get("error", ()))


def _measures(desk: ContestantDesk, found: Measures) -> ContestantMeasures:
    bins = zip(found.bins.predicted.tolist(), found.bins.observed.tolist(), strict=True)
    return ContestantMeasures(
        contestant=desk.declared.name,
        pipeline=desk.declared.pipeline,
        learned_count=desk.learned_count,
        auc=_known(found.auc),
        average_precision=_known(found.average_precision),
        recall_at_budget=_known(found.recall_at_budget),
        log_loss=_known(found.log_loss),
        calibration_error=_known(found.bins.error),
        calibration=tuple(CalibrationBin(predicted=p, observed=o) for p, o in bins),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
