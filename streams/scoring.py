"""A model of the policy at work: its champion decides, its challengers are scored in the shadow."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actions.policy_schema import ModelDeclaration
from features.plan import Plan
from online_models import catalog
from online_models.calibration import Calibration
from online_models.compiled import CompiledModel
from online_models.contestants import by_contestant
from online_models.judging import Contestant
from online_models.versions import ModelVersion, untrained_version
from streams.deciding import MODEL_EXTERNAL

Floats = NDArray[np.float64]


class _Shadowed:
    """One contestant: the columns that it sees, and the version that scores now."""

    def __init__(self, model: ModelDeclaration, contestant: Contestant) -> None:
        self._contestant = contestant
        names = [item.name for item in model.inputs]
        self.columns = [names.index(name) for name in contestant.inputs]
        self._sees_all = self.columns == list(range(len(names)))
        options = catalog.options_of(contestant.pipeline, contestant.options)
        self.take(untrained_version(model.name, contestant.pipeline, contestant.inputs, options))

    def fits(self, version: ModelVersion) -> bool:
        """Return whether a version is of this contestant's pipeline and inputs."""
        declared = (self._contestant.pipeline, self._contestant.inputs)
        return (version.pipeline, version.inputs) == declared

    def take(self, version: ModelVersion) -> None:
        """Score with this version from now on."""
        self.compiled: CompiledModel = version.to_compiled()
        self.calibration: Calibration | None = version.to_calibration()

    def own(self, inputs: Floats) -> Floats:
        """Return the inputs that this contestant sees, in its order."""
        return inputs if self._sees_all else np.ascontiguousarray(inputs[:, self.columns])

    def score(self, inputs: Floats) -> Floats:
        """Return the calibrated probabilities of fraud, shape (n,)."""
        scores = self.compiled.score(self.own(inputs))
        return scores if self.calibration is None else self.calibration.apply(scores)


class Scorer:
    """One model of the policy: where its inputs are, and who scores them.

    `champion` is the name of the contestant that decides, `version` the number of the newest
    publication.
    """

    def __init__(self, model: ModelDeclaration, plan: Plan) -> None:
        self.declaration = model
        self.read_from(plan)
        self._contestants = {c.name: _Shadowed(model, c) for c in model.contestants}
        self.champion = model.contestants[0].name
        self.version = 0

    def read_from(self, plan: Plan) -> None:
        """Find the model's inputs and the place of its score in a plan that has this model."""
        name, outputs = self.declaration.name, plan.before_models.outputs
        self._rows = [outputs[f"model:{name}:{item.name}"] for item in self.declaration.inputs]
        external = MODEL_EXTERNAL + name
        self.external = plan.externals.index(external) if external in plan.externals else None

    @property
    def contestants(self) -> Sequence[str]:
        """Names of the contestants, in the order of the columns of `score`."""
        return list(self._contestants)

    @property
    def champion_column(self) -> int:
        """The column of `score` that decides."""
        return self.contestants.index(self.champion)

    def take(self, version: ModelVersion) -> None:
        """Score with this version from now on; what it has of other contestants is passed over.

        Raises RecordError where a version does not hold a model.
        """
        for name, own in by_contestant(version).items():
            known = self._contestants.get(name)
            if known is not None and known.fits(own):
                known.take(own)
                if own is version:
                    self.champion = name
        self.version = version.version

    def inputs(self, before: Floats) -> Floats:
        """Return the model's inputs, (n, k), from the outputs of the first program."""
        return np.ascontiguousarray(before[self._rows].T)

    def score(self, inputs: Floats) -> Floats:
        """Return what every contestant says of `inputs` (n, k), shape (n, contestants)."""
        return np.stack([c.score(inputs) for c in self._contestants.values()], axis=1)

    def contributions(self, inputs: Floats) -> Floats:
        """Return each input's share of the champion's log-odds, (n, k), before calibration."""
        champion = self._contestants[self.champion]
        out = np.zeros(inputs.shape)
        out[:, champion.columns] = champion.compiled.contributions(champion.own(inputs))
        return out
