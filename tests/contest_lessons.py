"""Lessons for a contest: matured examples of a made-up bank whose posterior is known."""

import numpy as np

from features.records import TrainingExample
from online_models.contest import Contest
from online_models.contestants import Evidence
from online_models.judging import Contestant, JudgingSettings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HORIZON_MS = 2 * DAY_MS
INPUTS = ("signal", "noise")
EVIDENCE = Evidence(5, 50)
GOOD = Contestant("good", "scaled_logistic", INPUTS)
BLIND = Contestant("blind", "scaled_logistic", ("noise",))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rising(signal):
    return sigmoid(2.0 * signal - 3.0)


def falling(signal):
    return rising(-signal)


def stepping(signal):
    """What no logistic model says rightly."""
    return np.where(signal > 1.0, 0.4, 0.02)


class Bank:
    """Gives each hour's decisions to a contest's versions, and the examples once they mature.

    A fraud has probability `chance(signal)`; legitimate ones are kept one in four.
    """

    def __init__(self, contest, seed=1, per_hour_count=40):
        self.contest = contest
        self.rng = np.random.default_rng(seed)
        self.per_hour_count = per_hour_count
        self.chance = rising
        self.hour = 0
        self.version = None
        self.waiting = []
        self.evidence = EVIDENCE

    def live(self, hours, between=lambda bank: None):
        """Let hours pass; return what was published. `between` is called before each one."""
        told = []
        for _ in range(hours):
            between(self)
            self.hour += 1
            self.waiting += self._decide(self.hour * HOUR_MS)
            due = [e for e in self.waiting if e.matured_ms < self.hour * HOUR_MS]
            self.waiting = [e for e in self.waiting if e.matured_ms >= self.hour * HOUR_MS]
            due.sort(key=lambda e: (e.matured_ms, e.event))
            found = self.contest.publish(self.hour * HOUR_MS, due, self.evidence)
            if found.version is not None:
                self.version = found.version
            told.append(found)
        return told

    def _decide(self, now_ms):
        rows = self.rng.normal(size=(self.per_hour_count, 2))
        fraud = self.rng.random(len(rows)) < self.chance(rows[:, 0])
        kept = fraud | (self.rng.random(len(rows)) < 0.25)
        scores = self._scores(rows)
        offsets_ms = np.sort(self.rng.integers(0, HOUR_MS, len(rows)))
        events = self.rng.integers(-(2**62), 2**62, len(rows))
        return [
            TrainingExample(
                model="fraud",
                event=int(events[i]),
                ts_ms=int(now_ms - HOUR_MS + offsets_ms[i]),
                matured_ms=int(now_ms - HOUR_MS + offsets_ms[i] + HORIZON_MS),
                fraud=bool(fraud[i]),
                weight=1.0 if fraud[i] else 4.0,
                features=rows[i].tolist(),
                scores=scores[i].tolist(),
            )
            for i in np.flatnonzero(kept)
        ]

    def _scores(self, rows):
        names = self.contest._names
        if self.version is None:
            return np.full((len(rows), len(names)), 0.01)
        held = {v.contestant: v for v in (self.version, *self.version.challengers)}
        columns = []
        for name in names:
            version = held[name]
            own = rows[:, [INPUTS.index(i) for i in version.inputs]]
            score = version.to_compiled().score(np.ascontiguousarray(own))
            calibration = version.to_calibration()
            columns.append(score if calibration is None else calibration.apply(score))
        return np.stack(columns, axis=1)


def new_contest(*contestants, **settings):
    return Contest("fraud", INPUTS, contestants or (GOOD, BLIND), JudgingSettings(**settings))


def reports(told, kind):
    return [report for found in told for report in found.reports if isinstance(report, kind)]
