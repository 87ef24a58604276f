"""What of a processor's state is in memory, and what leaves it to keep within a bound."""

from collections.abc import Collection
from typing import NamedTuple

from features.histories import FeatureEngine
from streams.partition import PartitionState

CUSTOMERS_SHARE = 4  # customers may take one in so many bytes, histories all that is left


class Resident(NamedTuple):
    """How much state is in memory, and what went out and came in since the start."""

    history_count: int  # entities
    customer_count: int
    evicted_count: int  # entities and customers
    loaded_count: int  # stored histories that were read
    used_bytes: int
    allocated_bytes: int


class Residency:
    """Bounds the state of one processor; only state that the store has for certain leaves.

    `bytes_max` is the bound of everything together, None for no bound.
    """

    def __init__(self, engine: FeatureEngine, partitions: Collection[PartitionState]) -> None:
        self._engine = engine
        self._partitions = partitions
        self.bytes_max: int | None = None

    @property
    def generation(self) -> int:
        """The number of the changes that were handed out last."""
        return self._engine.generation

    def confirmed(self, generation: int) -> None:
        """Say that the store has all changes up to those with this number."""
        self._engine.confirmed(generation)
        for partition in self._partitions:
            partition.customers.confirmed(generation)

    @property
    def changed_count(self) -> int:
        """How many stored histories the next changes will hold."""
        return self._engine.memory.dirty_count

    @property
    def now(self) -> Resident:
        """What is in memory."""
        memory, customers = self._engine.memory, [p.customers for p in self._partitions]
        customers_bytes = sum(states.used_bytes for states in customers)
        return Resident(
            history_count=memory.resident_count,
            customer_count=sum(map(len, customers)),
            evicted_count=memory.evicted_count + sum(c.evicted_count for c in customers),
            loaded_count=memory.loaded_count,
            used_bytes=memory.used_bytes + customers_bytes,
            allocated_bytes=memory.allocated_bytes + customers_bytes,
        )

    def make_room(self, row_count: int, stored_bytes: int = 0) -> bool:
        """Evict until a batch of so many rows can be taken within the bound.

        `stored_bytes` are those of histories about to be loaded for it. What the batch needs may
        leave too: ask what is missing afterwards.

        False where too little could leave, because it isn't confirmed. The batch may be taken
        nonetheless, over the bound.
        """
        if self.bytes_max is None:
            return True
        fits = self._make_room_for_customers(self.bytes_max // CUSTOMERS_SHARE)
        customers_bytes = sum(p.customers.used_bytes for p in self._partitions)
        self._engine.memory_bytes_max = max(self.bytes_max - customers_bytes, 0)
        return self._engine.make_room(row_count, stored_bytes) and fits

    def evict(self, count: int) -> int:
        """Let up to so many histories, and customers of each partition, leave memory."""
        evicted = sum(partition.customers.evict(count) for partition in self._partitions)
        return evicted + self._engine.evict(count)

    def _make_room_for_customers(self, bytes_max: int) -> bool:
        used_bytes = sum(p.customers.used_bytes for p in self._partitions)
        if used_bytes <= bytes_max:
            return True
        for partition in self._partitions:
            states = partition.customers
            # Each partition gives the same share of its customers.
            states.evict(-(-len(states) * (used_bytes - bytes_max) // used_bytes))
        return sum(p.customers.used_bytes for p in self._partitions) <= bytes_max
