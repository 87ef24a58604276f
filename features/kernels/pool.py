"""Memory for what is only a cache: blocks of words in sizes of powers of two, from one array."""

from features.kernels.jit import inlined
from features.kernels.layout import Control, Table

POOL_WORDS_MIN = 8  # the smallest block
POOL_CLASS_COUNT = 40


@inlined
def _class_of(words: int) -> int:
    size_class = 0
    while (POOL_WORDS_MIN << size_class) < words:
        size_class += 1
    return size_class


@inlined
def take(pool: Table, pool_free: Table, control: Table, words: int) -> int:
    """Return the start of a block of at least `words`; the caller made sure that there is room."""
    size_class = _class_of(words)
    start = int(pool_free[size_class])
    if start >= 0:
        pool_free[size_class] = pool[start]
        return start
    start = int(control[Control.POOL_USED])
    control[Control.POOL_USED] = start + (POOL_WORDS_MIN << size_class)
    return start


@inlined
def give(pool: Table, pool_free: Table, start: int, words: int) -> None:
    """Take a block back that `take` gave for so many words."""
    size_class = _class_of(words)
    pool[start] = pool_free[size_class]
    pool_free[size_class] = start
