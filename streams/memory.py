"""The bound on the process's memory: what the system counts, and what state may take of it."""

import logging
import os
import resource
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from features.errors import MillraceError
from streams.residency import Residency

logger = logging.getLogger(__name__)

MIB = 1 << 20
STATE_MIB_MIN = 16  # less than this leaves no room for a batch
LOOKS_COUNT = 8  # how many of the last looks count: what is no state comes and goes
COMMITS_SHARE = 16  # one in so many bytes is for changes on their way to the store
MARGIN_SHARE = 32  # and one in so many for what grows between two looks
CHANGE_BYTES = 2_000  # that a changed history takes on its way to the store


class MemoryBoundError(MillraceError):
    """A bound under which no engine can run."""


def resident_bytes() -> int:
    """Return the resident set of this process; where the system tells no better, its peak."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class MemoryBound:
    """Gives state what the process may still take, and says when changes have to be stored.

    Memory that isn't state (code, models, pending labels, a caller's own) is what the resident set
    is larger than state; its largest value of the last looks counts. Changes on their way to the
    store have a share of their own, and so does what grows between two looks.

    Raises MemoryBoundError for a bound that leaves nothing for state at the start.
    """

    def __init__(
        self,
        residency: Residency,
        mib_max: int,
        *,
        resident_bytes: Callable[[], int] = resident_bytes,
    ) -> None:
        self._residency = residency
        self._bytes_max = mib_max * MIB
        self._resident_bytes = resident_bytes
        self._others_bytes: deque[int] = deque(maxlen=LOOKS_COUNT)
        self.over_count = 0  # batches that were taken over the bound
        self.look()
        if self._state_bytes() < STATE_MIB_MIN * MIB:
            least = (max(self._others_bytes) // MIB + STATE_MIB_MIN) * 32 // 29 + 1
            raise MemoryBoundError(
                f"memory bound: expected at least {least} MiB, which leaves {STATE_MIB_MIN} MiB "
                f"for state, got {mib_max} MiB"
            )

    def look(self) -> None:
        """See how much the process takes, and set the bound of its state."""
        others = self._resident_bytes() - self._residency.now.allocated_bytes
        self._others_bytes.append(max(others, 0))
        self._residency.bytes_max = max(self._state_bytes(), STATE_MIB_MIN * MIB)

    def is_checkpoint_due(self) -> bool:
        """Say whether so much has changed that storing it takes half of its share of memory.

        Half, since one commit may be under way while the next is put together.
        """
        changes_bytes = self._residency.changed_count * CHANGE_BYTES
        return 2 * changes_bytes >= self._bytes_max // COMMITS_SHARE

    def make_room(self, row_count: int, stored_bytes: int = 0) -> bool:
        """Evict until a batch of so many rows fits; False where a commit must come first.

        `stored_bytes` are those of histories about to be loaded for it.
        """
        return self._residency.make_room(row_count, stored_bytes)

    def note_over(self) -> None:
        """Note that a batch is taken over the bound: not even after a commit could enough leave."""
        if not self.over_count:
            logger.warning("a batch needs more than the memory bound leaves for state")
        self.over_count += 1

    def _state_bytes(self) -> int:
        kept = self._bytes_max // COMMITS_SHARE + self._bytes_max // MARGIN_SHARE
        return self._bytes_max - kept - max(self._others_bytes)
