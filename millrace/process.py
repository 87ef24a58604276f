"""Settings of the process that the engine runs in: garbage collection and the allocator."""

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of mallopt(3)
LARGE_BYTES = 4 << 20


def tune_process() -> None:
    """Make full collections rare, and have freed memory go back to the system.

    The engine makes many small objects and hardly any cycles: with Python's defaults full
    collections walk through live objects again and again, at 75 ms each. And glibc keeps a heap
    for each thread that once allocated: 90 MiB of a replay's memory.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc only
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(M_TRIM_THRESHOLD, 8 * LARGE_BYTES)
