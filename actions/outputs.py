"""Values of a plan's outputs by name: which program has them, and in which row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.histories import Features
from features.plan import Plan

OutputRow = Callable[[str], float]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Both programs' results for a batch, float64[outputs, n] each, and what its slots say."""

    plan: Plan
    features: Features
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    def row(self, index: int) -> OutputRow:
        """Return the reader of one event's values. Raises KeyError for a name not in the plan."""

        def value(name: str) -> float:
            number = self.plan.before_models.outputs.get(name)
            if number is not None:
                return float(self.before[number, index])
            return float(self.after[self.plan.after_models.outputs[name], index])

        return value


class Conditions:
    """Boolean outputs read together: where each stands is looked up once.

    Raises KeyError where a name is in neither program of the plan.
    """

    def __init__(self, plan: Plan, names: Sequence[str]) -> None:
        before, after = plan.before_models.outputs, plan.after_models.outputs
        self.count = len(names)
        early = [i for i, name in enumerate(names) if name in before]
        late = [i for i in range(len(names)) if i not in early]
        self._early = (
            np.array(early, np.intp),
            np.array([before[names[i]] for i in early], np.intp),
        )
        self._late = (np.array(late, np.intp), np.array([after[names[i]] for i in late], np.intp))

    def hold(
        self,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
        rows: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Return bool[n, count]: true where the output is above 0; NaN and other rows are false.

        `before` and `after` are float64[outputs, n] of the two programs, `rows` bool[n].
        """
        held = np.zeros((rows.size, self.count), dtype=np.bool_)
        for (columns, numbers), values in ((self._early, before), (self._late, after)):
            if columns.size:
                held[:, columns] = (values[numbers] > 0.0).T
        held[~rows] = False
        return held
