"""Plain JSON numbers from their bytes: whatever is not plain is left to somebody slower."""

import numpy as np

from features.kernels.jit import inlined
from features.kernels.words import Bytes

UNSURE = -1  # as a position: the typed decoder has to look at it
MICRO_BOUND = 180  # how far from 0 the bounds of `micro` may be
_MICRO = 1_000_000
_DIGITS_MAX = 18  # any of them fits 64 bits
_EXACT_MAX = 1 << 53  # every integer up to it is a double
_ZERO, _NINE, _POINT, _MINUS, _LOWER_E = 48, 57, 46, 45, 101


@inlined
def _is_digit(byte: int) -> bool:
    return _ZERO <= byte <= _NINE


@inlined
def decimal(data: Bytes, position: int) -> tuple[int, int, int]:
    """Read an unsigned number of at most 18 digits and no exponent.

    Returns where it ends (or UNSURE), its digits as one integer, and 10 to the power of how many
    of them stand behind the point: 0 where there is no point.
    """
    digits, scale = 0, 0
    end = position
    while _is_digit(int(data[end])):
        digits = digits * 10 + (int(data[end]) - _ZERO)
        end += 1
    count = end - position
    if count == 0 or (count > 1 and data[position] == _ZERO):
        return UNSURE, digits, scale
    if data[end] == _POINT:
        scale = 1
        end += 1
        while _is_digit(int(data[end])):
            digits = digits * 10 + (int(data[end]) - _ZERO)
            scale *= 10
            end += 1
            count += 1
        if scale == 1:
            return UNSURE, digits, scale
    if count > _DIGITS_MAX or (data[end] | 0x20) == _LOWER_E:
        return UNSURE, digits, scale
    return end, digits, scale


@inlined
def integer(data: Bytes, position: int, least: int, most: int) -> tuple[int, int]:
    """Read an integer within [least, most]; returns where it ends (or UNSURE) and its value."""
    negative = data[position] == _MINUS
    end, value, scale = decimal(data, position + 1 if negative else position)
    if scale or (negative and value == 0):
        return UNSURE, value
    if negative:
        value = -value
    if value < least or value > most:
        return UNSURE, value
    return end, value


@inlined
def micro(data: Bytes, position: int, least: int, most: int) -> tuple[int, int]:
    """Read a number within [least, most], at most MICRO_BOUND from 0, in millionths.

    The value is what `np.rint(x * 1e6)` gives for the nearest double x, half to even.
    """
    negative = data[position] == _MINUS
    end, digits, scale = decimal(data, position + 1 if negative else position)
    if end == UNSURE:
        return UNSURE, 0
    scale = max(scale, 1)
    bound = -least if negative else most
    if digits // scale > bound or (digits // scale == bound and digits % scale):
        return UNSURE, 0
    if digits <= _EXACT_MAX:
        # Both are exact, so their quotient is the nearest double, as a parser's would be.
        value = int(np.rint(digits / scale * 1e6))
    else:
        # More than 15 digits, so more than 12 behind the point. The double and its product are
        # less than 4e-8 away from the truth: it only matters close to the middle.
        unit = scale // _MICRO
        value, rest = digits // unit, digits % unit
        if abs(2 * rest - unit) * 500_000 <= unit:
            return UNSURE, 0
        value += 2 * rest > unit
    return end, -value if negative else value
