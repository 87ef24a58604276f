"""River's ADWIN as plain numbers, and back: its buckets live in compiled code.

River hands the state of that code out as bytes of a fixed layout. They are taken apart here into
numbers, and only bytes put together here from checked numbers are ever handed in, so nothing that
is stored can reach the compiled code unchecked. A River with another layout is refused.
"""

import struct
from collections.abc import Sequence

import numpy as np
from river.drift import ADWIN

from features.errors import RecordError

# delta, clock, bucket limit, window minimum, grace | total, variance, width, total width
# | four counts | number of bucket rows
_HEAD = struct.Struct("<dIQdd4d4IQ")
_ROW_HEAD = struct.Struct("<QQ")  # bucket limit, used
_LENGTH = struct.Struct("<Q")
_TAIL = struct.Struct("<dIQii")  # the constructor's arguments again
_SETTING_COUNT = 5
HEAD_NUMBERS = 10  # detected, the 4 sums, the 4 counts, the number of bucket rows
ROWS_MAX = 64  # each row holds windows twice as long as the one before


def detector_numbers(detector: ADWIN) -> list[float]:
    """Return everything that changes when the detector learns; counts are exact as floats."""
    raw = detector._helper.__getstate__()
    head = _HEAD.unpack_from(raw)
    size = int(head[2]) + 1
    numbers = [float(detector.drift_detected), *map(float, head[_SETTING_COUNT:])]
    row = struct.Struct(f"<QQQ{size}dQ{size}d")
    at = _HEAD.size
    if len(raw) != at + int(head[-1]) * row.size + _TAIL.size:
        raise RecordError("$.detector", "ADWIN's layout in River 0.26", f"{len(raw)} bytes")
    for _ in range(int(head[-1])):
        limit, used, first_size, *values = row.unpack_from(raw, at)
        if (limit, first_size, values[size]) != (size - 1, size, size):
            raise RecordError("$.detector", "ADWIN's layout in River 0.26", "another one")
        numbers += [float(used), *values[:size], *values[size + 1 :]]
        at += row.size
    return numbers


def detector_of(prototype: ADWIN, numbers: Sequence[float]) -> ADWIN:
    """Return a detector with the prototype's settings in the state of `detector_numbers`.

    Raises RecordError for numbers that no detector with these settings gives.
    """
    size = prototype.max_buckets + 1
    row_length = 1 + 2 * size
    row_count = int(numbers[HEAD_NUMBERS - 1]) if len(numbers) >= HEAD_NUMBERS else -1
    if not 1 <= row_count <= ROWS_MAX or len(numbers) != HEAD_NUMBERS + row_count * row_length:
        raise RecordError("$.detectors", "the numbers of an ADWIN", f"{len(numbers)} numbers")
    if not np.isfinite(numbers).all() or not all(0 <= n < 2**32 for n in numbers[5:9]):
        raise RecordError("$.detectors", "finite numbers and counts", "others")
    settings = (
        prototype.delta,
        prototype.clock,
        prototype.max_buckets,
        prototype.min_window_length,
        prototype.grace_period,
    )
    counts = [int(number) for number in numbers[5:9]]
    parts = [_HEAD.pack(*settings, *numbers[1:5], *counts, row_count)]
    for first in range(HEAD_NUMBERS, len(numbers), row_length):
        used, *values = numbers[first : first + row_length]
        if not 0 <= used <= size:
            raise RecordError("$.detectors", f"at most {size} buckets in a row", f"{used}")
        parts.append(_ROW_HEAD.pack(size - 1, int(used)))
        for column in (values[:size], values[size:]):
            parts += [_LENGTH.pack(size), struct.pack(f"<{size}d", *column)]
    parts.append(_TAIL.pack(*settings))
    detector = prototype.clone()
    detector._helper.__setstate__(b"".join(parts))
    detector._drift_detected = numbers[0] != 0.0
    return detector
