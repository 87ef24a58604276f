"""The direct way to sums and extremes: one walk back from the newest event, over all windows.

Windows that end together lie in one another, so a family's widest window is walked once and each
narrower one is read off on the way. It costs as much as there are events; long histories are kept
running instead (see features.kernels.running), and both give the same integers.
"""

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING
from features.kernels.jit import inlined, part
from features.kernels.layout import FamilyField, Table, WindowField
from features.kernels.moments import add_square, standard_deviation
from features.kernels.terms import tally, value_if

_LARGEST = np.iinfo(np.int64).max


@inlined
def fill_sums(
    windows: Table,
    span: int,
    count: int,
    total: int,
    squares: int,
    low_squares: int,
    least: int,
    most: int,
    scale: int,
    row: int,
    slot_values: NDArray[np.float64],
) -> None:
    """Fill the slots of one window from its exact sums; what has no value is left undefined.

    Means and deviations are divided once, by `scale` too: a mean is the float64 nearest to the
    truth as long as its sum is below 2 ** 53.
    """
    if windows[span, WindowField.COUNT] >= 0:
        slot_values[windows[span, WindowField.COUNT], row] = count
    if windows[span, WindowField.SUM] >= 0:
        slot_values[windows[span, WindowField.SUM], row] = total
    if count == 0:
        return
    if windows[span, WindowField.MEAN] >= 0:
        slot_values[windows[span, WindowField.MEAN], row] = total / np.float64(count * scale)
    if windows[span, WindowField.STD] >= 0:
        value = standard_deviation(count, total, squares, low_squares, scale)
        slot_values[windows[span, WindowField.STD], row] = value
    if windows[span, WindowField.MIN] >= 0:
        slot_values[windows[span, WindowField.MIN], row] = least
    if windows[span, WindowField.MAX] >= 0:
        slot_values[windows[span, WindowField.MAX], row] = most


@part
def sweep_sums(
    arena: Table, start: int, capacity: int, families: Table, family: int, windows: Table,
    terms: Table, positions: Table, high: int, skip: int, row: int,
    slot_values: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill the slots of a family of sums; `skip` is the event that does not count, or -1."""
    wants, scale = families[family, FamilyField.WANTS], families[family, FamilyField.SCALE]
    column = families[family, FamilyField.VALUE_COLUMN]
    term_from, term_to = (
        families[family, FamilyField.TERM_FROM],
        families[family, FamilyField.TERM_TO],
    )
    # Bare zeros would compile the callees once more, for literals.
    count, total = int(np.int64(0)), int(np.int64(0))
    squares, low_squares = int(np.int64(0)), int(np.int64(0))
    largest, smallest = -_LARGEST, _LARGEST
    window_from = families[family, FamilyField.WINDOW_FROM]
    for window in range(families[family, FamilyField.WINDOW_TO] - 1, window_from - 1, -1):
        low = min(positions[windows[window, WindowField.BOUND]], high)
        if wants:
            for i in range(low, high):
                value = value_if(arena, start + i, capacity, families, family, terms)
                if value == MISSING or i == skip:
                    continue
                count += 1
                total += value
                squares, low_squares = add_square(squares, low_squares, value)
                largest, smallest = max(largest, value), min(smallest, value)
        else:
            more, sum_more = tally(
                arena, start, capacity, terms, term_from, term_to, column, low, high
            )
            count, total = count + more, total + sum_more
            if low <= skip < high:
                less, sum_less = tally(
                    arena, start, capacity, terms, term_from, term_to, column, skip, skip + 1
                )
                count, total = count - less, total - sum_less
        high = low
        fill_sums(
            windows, window, count, total, squares, low_squares, smallest, largest, scale, row,
            slot_values,
        )  # fmt: skip
