"""How a trainer's model learns: through River, or through a kernel that does what River does."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from online_models.compiled import CompiledModel
from online_models.framing import FloatArray

if TYPE_CHECKING:
    from online_models.entries import CatalogEntry


class Learning(Protocol):
    """A model while it learns; its arrays are those of its catalogue entry's `save`."""

    def learn(self, rows: FloatArray, frauds: NDArray[np.bool_], weights: FloatArray) -> None:
        """Learn `rows` (n, k) in their order, with their verdicts (n,) and weights (n,)."""

    def compiled(self) -> CompiledModel:
        """Return the form that scores as the model stands; it does not change afterwards."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that is needed to go on."""

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the arrays; raises RecordError where one does not fit."""


class RiverLearning:
    """Learns through a River pipeline of the catalogue."""

    def __init__(self, entry: "CatalogEntry", pipeline: Any, inputs: tuple[str, ...]) -> None:
        self._entry = entry
        self._pipeline = pipeline
        self._inputs = inputs
        self._learn = entry.learner(pipeline, inputs)
        self._reader = entry.reader_of(pipeline, inputs)

    def learn(self, rows: FloatArray, frauds: NDArray[np.bool_], weights: FloatArray) -> None:
        """Learn one example after the other."""
        learn = self._learn
        for row, fraud, weight in zip(
            rows.tolist(), frauds.tolist(), weights.tolist(), strict=True
        ):
            learn(row, fraud, weight)

    def compiled(self) -> CompiledModel:
        """Return the form that scores as the model stands."""
        return self._reader.compiled()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that is needed to go on."""
        return self._reader.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from the arrays; raises RecordError where one does not fit."""
        self._entry.restore(self._pipeline, self._inputs, arrays)
