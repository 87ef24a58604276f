"""The states of a partition's customers that are in memory, and which of them may leave it."""

from collections.abc import Iterable

from actions.customers import CustomerState

STATE_BYTES = 1_800  # in memory, of a customer with a profile and a contact
ABSENT_BYTES = 120  # of the fact that nothing is stored of one


class CustomerStates:
    """Customers' states by key; None for one of whom nothing is stored.

    Memory has two halves. What is used stands in the newer one; the older one is what was not used
    since the halves last changed places, and leaves first. `fresh` says that nothing is stored yet:
    then nothing is missing, until something has left.
    """

    def __init__(self, fresh: bool) -> None:
        self.fresh = fresh
        self._newer: dict[int, CustomerState | None] = {}
        self._older: dict[int, CustomerState | None] = {}
        self._queue: list[int] = []  # keys that were older when the halves changed places
        self._dirty: dict[int, None] = {}
        self._handed: list[tuple[int, dict[int, None]]] = []
        self._state_count = 0
        self.evicted_count = 0

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    @property
    def used_bytes(self) -> int:
        """About how much memory the states take."""
        return ABSENT_BYTES * len(self) + (STATE_BYTES - ABSENT_BYTES) * self._state_count

    def get(self, key: int) -> CustomerState | None:
        """Return the state of a customer, or None where nothing is known of one."""
        state = self._newer.get(key)
        if state is None and key in self._older:
            state = self._newer[key] = self._older.pop(key)
        return state

    def keep(self, key: int, state: CustomerState) -> None:
        """Keep a changed state: it is to be written."""
        self._state_count += self.get(key) is None
        self._newer[key] = state
        self._dirty[key] = None

    def load(self, key: int, state: CustomerState | None) -> None:
        """Take what is stored of a customer who was missing."""
        self._state_count += state is not None
        self._newer[key] = state

    def missing(self, keys: Iterable[int]) -> list[int]:
        """Return those of whom it isn't known what is stored."""
        if self.fresh:
            return []
        older = self._older
        for key in keys if older else ():
            if key in older:
                self._newer[key] = older.pop(key)
        return [key for key in keys if key not in self._newer]

    def changes(self, generation: int) -> list[tuple[int, bytes]]:
        """Return (key, bytes) of what changed since the last call; `generation` numbers them."""
        found = [(key, state.encode()) for key in self._dirty if (state := self.get(key))]
        self._handed.append((generation, self._dirty))
        self._dirty = {}
        return found

    def confirmed(self, generation: int) -> None:
        """Say that the store has all changes up to those with this number."""
        self._handed = [(number, keys) for number, keys in self._handed if number > generation]

    def evict(self, count: int) -> int:
        """Forget up to `count` customers, those used longest ago first; return how many left.

        Those stay of whom the store may not have everything.
        """
        evicted, change_count = 0, 0
        while evicted < count and change_count < 2:
            if not self._queue:
                self._newer, self._older = self._older, self._newer
                self._queue = list(reversed(self._older))
                change_count += 1
            evicted += self._forget(count - evicted)
        self.evicted_count += evicted
        self.fresh &= evicted == 0
        return evicted

    def _forget(self, count: int) -> int:
        """Forget up to `count` of the older half."""
        evicted = 0
        while self._queue and evicted < count:
            key = self._queue.pop()
            if key not in self._older:
                continue
            state = self._older.pop(key)
            if key in self._dirty or any(key in keys for _, keys in self._handed):
                self._newer[key] = state
            else:
                evicted += 1
                self._state_count -= state is not None
        return evicted
