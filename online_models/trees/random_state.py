"""The state of Python's random numbers as an array: the Mersenne Twister's words."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import RecordError
from online_models.compiled import checked_array
from online_models.trees.building import check_range

WORD_COUNT = 625  # 624 words and the position among them
VERSION = 3  # of the tuple that `random.Random.getstate` gives


def random_words(rng: Any) -> NDArray[np.int64]:
    """Return the state of a `random.Random`; raises RecordError for one that keeps a Gaussian."""
    _, words, gauss = rng.getstate()
    if gauss is not None:
        raise RecordError("$.pipeline", "no Gaussian random numbers", "one kept for later")
    return np.array(words, dtype=np.int64)


def restore_random(rng: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Put the array `random` into a `random.Random`; raises RecordError where it is no state."""
    words = checked_array(arrays, "random", (WORD_COUNT,), minimum=0.0)
    check_range(words[:-1], 0, 2**32 - 1, "$.arrays.random")
    check_range(words[-1:], 0, WORD_COUNT - 1, "$.arrays.random")
    rng.setstate((VERSION, tuple(map(int, words.tolist())), None))
