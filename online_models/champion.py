"""A champion built from several models: a logistic regression on its members' log-odds.

It begins as the mean of the members' log-odds and learns what each is worth from the answers that
they gave before they learned the example, as River's stacking does (Wolpert 1992). River's own
`StackingClassifier` takes no weights and stacks probabilities, which for rare events lie all in one
corner.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from river.base import Classifier
from river.linear_model import LogisticRegression
from river.optim import AdaGrad
from river.utils import VectorDict

from features.errors import RecordError
from online_models.compiled import CompiledLinear, CompiledModel, checked_array, checked_rows
from online_models.entries import Arrays, CatalogEntry, Reader
from online_models.framing import INPUT_MAX, FloatArray, check_inputs
from online_models.kernels import score_linear
from online_models.linear_state import restore_regression, save_regression
from online_models.naive_bayes import CompiledBayes
from online_models.shares import log_odds, stretched
from online_models.trees.compiled import CompiledTrees
from online_models.trees.reading import with_prefix, without

# Beyond this a member's certainty says no more: about 1 in 22,000. A naive Bayes is there often.
MEMBER_LOG_ODDS_MAX = 10.0
EDGE = 1.0 / (1.0 + math.exp(MEMBER_LOG_ODDS_MAX))

MEMBER_FORMS: dict[str, type[CompiledModel]] = {
    form.__name__: form for form in (CompiledLinear, CompiledTrees, CompiledBayes)
}


class Champion(Classifier):
    """A River classifier over named members, each a River classifier that takes weights."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members
        self.judge = LogisticRegression(optimizer=AdaGrad(0.05, eps=1.0), intercept_lr=0.01)
        self.judge._weights = VectorDict({name: 1.0 / len(members) for name in members})

    def learn_one(self, x: dict[Any, Any], y: Any, *, w: float = 1.0) -> None:
        """Let the judge learn from the members' answers, then the members from the example."""
        self.judge.learn_one(self._answers(x), y, w=w)
        for member in self.members.values():
            member.learn_one(x, y, w=w)

    def predict_proba_one(self, x: dict[Any, Any], **_: Any) -> dict[Any, float]:
        """Return the probabilities of both classes."""
        answers: dict[Any, float] = self.judge.predict_proba_one(self._answers(x))
        return answers

    def _answers(self, x: dict[str, float]) -> dict[str, float]:
        return {
            name: _held(member.predict_proba_one(x).get(True, 0.0))
            for name, member in self.members.items()
        }


def _held(probability: float) -> float:
    if probability <= EDGE:
        return -MEMBER_LOG_ODDS_MAX
    if probability >= 1.0 - EDGE:
        return MEMBER_LOG_ODDS_MAX
    return math.log(probability) - math.log1p(-probability)


class CompiledChampion:
    """Log-odds = intercept + Σ weight × member's log-odds, held within ±MEMBER_LOG_ODDS_MAX."""

    def __init__(
        self,
        inputs: tuple[str, ...],
        members: Mapping[str, CompiledModel],
        weights: FloatArray,
        judge_intercept: float,
    ) -> None:
        self.inputs = inputs
        self._members = dict(members)
        self._weights = weights
        self._judge_intercept = judge_intercept
        self._bases = np.array([m.intercept for m in self._members.values()])
        self._bases = np.clip(self._bases, -MEMBER_LOG_ODDS_MAX, MEMBER_LOG_ODDS_MAX)
        self.intercept = judge_intercept + float(weights @ self._bases)

    def score(self, rows: FloatArray) -> FloatArray:
        """Return the probabilities of fraud, shape (n,), of `rows`, shape (n, k).

        Raises ValueError for another number of columns.
        """
        answers = self._answers(checked_rows(rows, len(self.inputs)))
        none, one = np.zeros(len(self._weights)), np.ones(len(self._weights))
        out = np.empty(len(answers))
        score_linear(answers, none, one, self._weights, self._judge_intercept, INPUT_MAX, out)
        return out

    def contributions(self, rows: FloatArray) -> FloatArray:
        """Return each input's weighted contributions over all members, in log-odds, (n, k)."""
        rows = checked_rows(rows, len(self.inputs))
        out = np.zeros(rows.shape)
        distances = self._answers(rows) - self._bases
        for m, (weight, member) in enumerate(
            zip(self._weights, self._members.values(), strict=True)
        ):
            out += weight * stretched(member.contributions(rows), distances[:, m])
        return out

    def to_arrays(self) -> Arrays:
        """Return every member's arrays, named `<member>/<form>.<array>`, and the judge's."""
        arrays = {"weights": self._weights, "intercept": np.array([self._judge_intercept])}
        for name, member in self._members.items():
            arrays |= with_prefix(member.to_arrays(), f"{name}/{type(member).__name__}.")
        return arrays

    @classmethod
    def from_arrays(cls, inputs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the model of these arrays; raises RecordError where one does not fit."""
        names = tuple(inputs)
        check_inputs(names)
        prefixes = dict.fromkeys(name.partition(".")[0] for name in arrays if "/" in name)
        members: dict[str, CompiledModel] = {}
        for prefix in prefixes:
            member, _, form = prefix.partition("/")
            if form not in MEMBER_FORMS:
                known = ", ".join(MEMBER_FORMS)
                raise RecordError("$.arrays", f"a member of form {known}", f"`{form}`")
            members[member] = MEMBER_FORMS[form].from_arrays(names, without(arrays, prefix + "."))
        weights = checked_array(arrays, "weights", (len(members),))
        return cls(names, members, weights, float(checked_array(arrays, "intercept", (1,))[0]))

    @classmethod
    def reads(cls, pipeline: Any) -> bool:
        """Return whether this is a champion whose members all have a compiled form."""
        return isinstance(pipeline, Champion) and all(
            any(form.reads(member) for form in MEMBER_FORMS.values())
            for member in pipeline.members.values()
        )

    @classmethod
    def from_river(cls, pipeline: Any, inputs: Sequence[str]) -> Self:
        """Return the compiled form of what judge and members have learned so far."""
        names = tuple(inputs)
        members = {}
        for name, member in pipeline.members.items():
            form = next(form for form in MEMBER_FORMS.values() if form.reads(member))
            members[name] = form.from_river(member, names)
        return cls.of_judge(pipeline, names, members)

    @classmethod
    def of_judge(
        cls, pipeline: Any, inputs: tuple[str, ...], members: Mapping[str, CompiledModel]
    ) -> Self:
        """Return the compiled form of members that are compiled already."""
        judge = pipeline.judge
        weights = np.array([judge.weights.get(name, 0.0) for name in members])
        return cls(inputs, members, weights, float(judge.intercept))

    def _answers(self, rows: FloatArray) -> FloatArray:
        answers = [log_odds(member.score(rows)) for member in self._members.values()]
        held = np.clip(np.array(answers), -MEMBER_LOG_ODDS_MAX, MEMBER_LOG_ODDS_MAX)
        return np.ascontiguousarray(held.T)


@dataclass(frozen=True, slots=True)
class ChampionOf:
    """What a champion's entry needs, from the entries of its members."""

    members: Mapping[str, CatalogEntry]

    def build(self, inputs: tuple[str, ...]) -> Champion:
        """Return a stack that begins as the mean of its members' log-odds and learns their worth.

        Each member is built by its own entry.
        """
        return Champion({name: entry.build(inputs) for name, entry in self.members.items()})

    def save(self, pipeline: Champion, inputs: tuple[str, ...]) -> Arrays:
        """Return the learning state of judge and members."""
        return self.reader(pipeline, inputs).arrays()

    def restore(
        self, pipeline: Champion, inputs: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Put a saved state into a newly built champion; raises RecordError as the members'."""
        for name, entry in self.members.items():
            entry.restore(pipeline.members[name], inputs, without(arrays, f"{name}/"))
        restore_regression(pipeline.judge, tuple(self.members), without(arrays, "judge/"))

    def reader(self, pipeline: Champion, inputs: tuple[str, ...]) -> Reader:
        """Return what reads the champion while it learns, through its members' readers."""
        readers = {
            name: entry.reader_of(pipeline.members[name], inputs)
            for name, entry in self.members.items()
        }
        return ChampionReader(pipeline, inputs, readers)

    def refuse_share(self, pipeline: Champion, fraud_share: float) -> None:
        """Raise RecordError where a member can't learn fraud that is so rare."""
        for name, entry in self.members.items():
            entry.refuse_share(pipeline.members[name], fraud_share)


@dataclass(frozen=True, slots=True)
class ChampionReader:
    """Reads a champion again and again, each member as its own reader does."""

    pipeline: Champion
    inputs: tuple[str, ...]
    readers: Mapping[str, Reader]

    def compiled(self) -> CompiledChampion:
        """Return the compiled form of what has been learned so far."""
        members = {name: reader.compiled() for name, reader in self.readers.items()}
        return CompiledChampion.of_judge(self.pipeline, self.inputs, members)

    def arrays(self) -> Arrays:
        """Return the learning state, to be saved."""
        arrays = with_prefix(save_regression(self.pipeline.judge, tuple(self.readers)), "judge/")
        for name, reader in self.readers.items():
            arrays |= with_prefix(reader.arrays(), f"{name}/")
        return arrays
