"""What an entry of the catalogue gives to the rest of the house."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from online_models.compiled import CompiledModel

Learn = Callable[[Sequence[float], bool, float], None]
Arrays = dict[str, NDArray[Any]]


class Reader(Protocol):
    """Reads a pipeline again and again while it learns; what did not change costs little."""

    def compiled(self) -> CompiledModel:
        """Return the compiled form of what has been learned so far."""

    def arrays(self) -> Arrays:
        """Return the learning state, to be saved."""


def river_learner(pipeline: Any, inputs: tuple[str, ...]) -> Learn:
    """Return learn(values, fraud, weight): River's own `learn_one` for a dict of the inputs."""

    def learn(values: Sequence[float], fraud: bool, weight: float) -> None:
        pipeline.learn_one(dict(zip(inputs, values, strict=True)), fraud, w=weight)

    return learn


def any_share(pipeline: Any, fraud_share: float) -> None:
    """Accept any share of fraud."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One named pipeline and everything that the rest of the house asks of it.

    `refuse_share(pipeline, fraud_share)` raises RecordError where the pipeline can't learn fraud
    that is so rare. `is_probability` says that scores are probabilities of fraud without further
    calibration; `is_supervised` that it learns from labels.
    """

    name: str
    when: str  # one sentence: what it is good for
    build: Callable[[tuple[str, ...]], Any]
    save: Callable[[Any, tuple[str, ...]], Arrays]
    restore: Callable[[Any, tuple[str, ...], Mapping[str, NDArray[Any]]], None]
    compiled: type[CompiledModel]
    learner: Callable[[Any, tuple[str, ...]], Learn] = river_learner
    reader: Callable[[Any, tuple[str, ...]], Reader] | None = None
    refuse_share: Callable[[Any, float], None] = any_share
    is_probability: bool = True
    is_supervised: bool = True

    def reader_of(self, pipeline: Any, inputs: tuple[str, ...]) -> Reader:
        """Return what reads this pipeline while it learns."""
        if self.reader is not None:
            return self.reader(pipeline, inputs)
        return WholeReader(self, pipeline, inputs)


@dataclass(frozen=True, slots=True)
class WholeReader:
    """Reads everything anew each time: for pipelines whose state is a few numbers an input."""

    entry: CatalogEntry
    pipeline: Any
    inputs: tuple[str, ...]

    def compiled(self) -> CompiledModel:
        """Return the compiled form of what has been learned so far."""
        return self.entry.compiled.from_river(self.pipeline, self.inputs)

    def arrays(self) -> Arrays:
        """Return the learning state, to be saved."""
        return self.entry.save(self.pipeline, self.inputs)
