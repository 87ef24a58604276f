"""Reading current feature values from the store, beside a running engine.

    store = RedisStore("redis://localhost:6379/0")
    reader = FeatureReader(read_policy(), store)
    reading = reader.read("customer", "C-17")
    reading.values["customer.count(\"1d\")"].value

What is read is what the engine's last checkpoint stored. Nothing is written and no partition is
acquired, so a reader disturbs nobody.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from actions.policy import Policy
from actions.policy_compiler import compile_policy
from features.codes import code_of
from features.columns import CODE_CELLS, Kind
from features.errors import MillraceError, nearest_name
from features.expressions.fields import STORED_FIELDS, scale
from features.hashing import DEFAULT_KEY, IdHasher
from features.histories import EntityKey
from features.kernels.walker import evaluate
from features.plan import Program, SlotField
from features.reading import (
    Reading,
    entities_of,
    histories_of,
    read_entity,
    readable_outputs,
    slots_of,
)
from features.status import Status, output_statuses, slot_divisors, slot_statuses
from streams.history_names import history_name
from streams.partition import CLOCK_KEY
from streams.partitioner import PARTITIONS_MAX_COUNT
from streams.store import Store
from streams.tracked import TRACKED_KEY, TrackedKinds, kinds_of

PARTITIONS_AT_ONCE = 256
PARTITIONS_SHOWN_MAX = 8


class UnknownEntityError(MillraceError):
    """The store knows nothing of the entity with this id."""


class FeatureValue(NamedTuple):
    """A value in the unit of expressions (NaN where absent), and how far it can be trusted.

    `bound` says how far it may be from the truth, in the same unit: 0 where it is exact, infinite
    where nothing is known.
    """

    value: float
    status: Status
    bound: float


class EntityReading(NamedTuple):
    """What is known of one entity at `at_ms`.

    `values` are the aggregates over its histories, by their text (absent where they compare with
    a record); `outputs` the policy's expressions that follow from these and the time alone, by the
    name of the plan's output.
    """

    entity: str
    id: str
    at_ms: int
    values: Mapping[str, FeatureValue]
    outputs: Mapping[str, FeatureValue]


class FeatureReader:
    """Evaluates a policy's features over the stored histories of single entities.

    `id_key` is the key under which the engine hashes ids. `partitions` are those of the engine;
    without them the store is asked which ones have seen a record, once.
    """

    def __init__(
        self,
        policy: Policy,
        store: Store,
        *,
        id_key: bytes = DEFAULT_KEY,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self._hasher = IdHasher(id_key)
        self._store = store
        self._plan = compile_policy(policy, self._hasher.one)
        self._exponent = policy.currency_exponent
        self._divisors = slot_divisors(
            self._plan.before_models, self._plan.after_models, *self._plan.stages
        )
        self._partitions = None if partitions is None else tuple(partitions)

    @property
    def entities(self) -> tuple[str, ...]:
        """Names of the entities that can be read."""
        return entities_of(self._plan)

    def read(
        self, entity: str, entity_id: str, at_ms: int | None = None, partition: int | None = None
    ) -> EntityReading:
        """Return the values of an entity at `at_ms`, by default the time of its newest event.

        All events with time in a window count, and no current one. `partition` says which one is
        meant where several know a local entity (a card that two customers use has a history with
        each). Raises UnknownEntityError where nothing is stored under this id, StoreError where
        the store does not answer, and MillraceError for an unknown entity.
        """
        if entity not in self.entities:
            nearest = nearest_name(entity, self.entities)
            hint = f"; did you mean `{nearest}`?" if nearest else ""
            known = ", ".join(self.entities)
            raise MillraceError(f"expected an entity of {known}, got `{entity}`{hint}")
        key = self._key(entity, entity_id)
        stored = self._stored(entity, entity_id, key, partition)
        late = self._late(entity, {owner.partition for owner, _ in stored})
        reading = read_entity(self._plan, entity, key, stored, at_ms, late)
        return EntityReading(
            entity, entity_id, reading.at_ms, self._values(entity, reading),
            self._outputs(entity, reading),
        )  # fmt: skip

    def _is_shared(self, entity: str) -> bool:
        return any(item.name == entity and item.shared for item in self._plan.entities)

    def _key(self, entity: str, entity_id: str) -> int:
        cell = next(item.key for item in self._plan.entities if item.name == entity)
        return code_of(entity_id) if cell in CODE_CELLS else self._hasher.one(entity_id)

    def _stored(
        self, entity: str, entity_id: str, key: int, partition: int | None
    ) -> list[tuple[EntityKey, bytes | None]]:
        """Return the entity's stored histories, of all partitions where it is shared."""
        partitions = self._known_partitions() if partition is None else (partition,)
        found: dict[int, list[tuple[EntityKey, bytes | None]]] = {}
        names = histories_of(self._plan, entity)
        keys = [history_name(name, key) for name in names]
        for number in partitions:
            blobs = self._store.load([(str(number), name) for name in keys])
            if any(blob is not None for blob in blobs):
                owners = [EntityKey(number, name, key) for name in names]
                found[number] = list(zip(owners, blobs, strict=True))
        if not found:
            raise UnknownEntityError(
                f"{entity} {entity_id}: nothing is stored under this id (in {len(partitions)} "
                f"partitions); is it the engine's prefix, policy and MILLRACE_ID_KEY?"
            )
        if len(found) > 1 and not self._is_shared(entity):
            raise MillraceError(
                f"{entity} {entity_id}: expected one partition to know it, got {len(found)}: "
                f"choose one of {', '.join(map(str, list(found)[:PARTITIONS_SHOWN_MAX]))}"
            )
        return [item for items in found.values() for item in items]

    def _late(self, entity: str, holding: set[int]) -> dict[int, dict[str, int]]:
        """Return since when the partitions that matter keep some kinds of history."""
        late = {}
        for number in self._known_partitions() if self._is_shared(entity) else holding:
            keys = [(str(number), CLOCK_KEY), (str(number), TRACKED_KEY)]
            clock, stored = self._store.load(keys)
            tracked = TrackedKinds(kinds_of(self._plan))
            tracked.restore(stored, int(clock or 0))
            late[number] = tracked.late
        return late

    def _known_partitions(self) -> tuple[int, ...]:
        """Return the partitions that have seen a record: those with a clock.

        Partitions count from 0; where 256 of them in a row have seen nothing, no more are looked
        for.
        """
        if self._partitions is None:
            found: list[int] = []
            for start in range(0, PARTITIONS_MAX_COUNT, PARTITIONS_AT_ONCE):
                some = range(start, start + PARTITIONS_AT_ONCE)
                clocks = self._store.load([(str(number), CLOCK_KEY) for number in some])
                known = [n for n, clock in zip(some, clocks, strict=True) if clock is not None]
                if not known:
                    break
                found += known
            self._partitions = tuple(found)
        return self._partitions

    def _values(self, entity: str, reading: Reading) -> dict[str, FeatureValue]:
        statuses = slot_statuses(reading.features)
        values: dict[str, FeatureValue] = {}
        for slot in slots_of(self._plan, entity):
            divisor = self._divisor(slot)
            values[self._plan.slot_texts[slot]] = FeatureValue(
                float(reading.features.values[slot, 0] / divisor),
                Status(int(statuses.codes[slot, 0])),
                float(statuses.bounds[slot, 0] / divisor),
            )
        return values

    def _divisor(self, slot: int) -> float:
        """Return how many raw units make one unit of expressions."""
        if slot in self._divisors:
            return self._divisors[slot]
        # Read by no instruction of its own: the places behind a distance.
        kind = Kind(self._plan.entities[int(self._plan.slots[slot, SlotField.ENTITY])].kind)
        cell = int(self._plan.slots[slot, SlotField.VALUE])
        fields = [field for field in STORED_FIELDS[kind].values() if field.cell == cell]
        return float(scale(fields[0], self._exponent)) if fields else 1.0

    def _outputs(self, entity: str, reading: Reading) -> dict[str, FeatureValue]:
        program: Program = self._plan.before_models
        features, externals = reading.features, np.full((len(self._plan.externals), 1), np.nan)
        results = evaluate(program, reading.cells, features.values, externals)
        statuses = output_statuses(program, results, features)
        found: dict[str, FeatureValue] = {}
        for name in readable_outputs(self._plan, entity):
            row = program.outputs[name]
            found[name] = FeatureValue(
                float(results[row, 0]),
                Status(int(statuses.codes[row, 0])),
                float(statuses.bounds[row, 0]),
            )
        return found
