"""A processor's copies of shared histories of other processes, by the names in the store."""

from collections.abc import Iterable, Sequence

from features.histories import FeatureEngine
from features.plan import Plan
from streams.history_names import history_name, history_owner, history_prefix


class ForeignHistories:
    """What of other processes' partitions a processor keeps copies of, and how old these are.

    For the thread that drives the processor, between batches.
    """

    def __init__(self, engine: FeatureEngine, plan: Plan) -> None:
        if engine.foreign is None:
            raise ValueError("expected an engine with foreign partitions")
        self._engine = engine
        self._parts = engine.foreign
        self._shared = tuple(history_prefix(e.name) for e in plan.entities if e.shared)

    @property
    def partitions(self) -> list[int]:
        """The partitions that other processes own."""
        return sorted(self._parts.partitions)

    @property
    def stale_count(self) -> int:
        """How many rows met a shared entity whose copies were old, or not read yet."""
        return self._parts.stale_count

    def set_age_ms(self, age_ms: float) -> None:
        """Say how old the copies are; 0: as good as fresh."""
        self._parts.age_ms = age_ms

    def wanted(self) -> list[bytes]:
        """Return names of histories to be read for the first time, each once."""
        return [history_name(*owner) for owner in self._parts.wanted()]

    def resident(self, names: Sequence[bytes]) -> list[bytes]:
        """Return those of the names that copies are kept of."""
        owners = [history_owner(-1, name) for name in names]
        here = self._parts.resident([(entity, key) for _, entity, key in owners])
        return [name for name, is_here in zip(names, here, strict=True) if is_here]

    def all_resident(self) -> list[bytes]:
        """Return the names of all histories that copies are kept of."""
        return [history_name(*owner) for owner in self._parts.residents()]

    def load(self, items: Iterable[tuple[int, bytes, bytes | None]], *, is_first: bool) -> None:
        """Take (partition, name, stored value) as copies; `is_first`: all there are of these names.

        Raises HistoryError, with nothing taken, where a value is no history.
        """
        owned = [(history_owner(partition, name), value) for partition, name, value in items]
        self._engine.load_foreign(owned, is_first)

    def doubt(self, name: bytes) -> None:
        """Take the copies of a history for unread."""
        _, entity, key = history_owner(-1, name)
        self._parts.doubt((entity, key))

    def shared_among(self, names: Iterable[bytes]) -> list[bytes]:
        """Return those of the names whose histories others may copy, each once."""
        return list(dict.fromkeys(name for name in names if name.startswith(self._shared)))
