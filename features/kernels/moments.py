"""Sums of squares in 128 bits: exact, so that a value may enter and leave them without a trace.

A sum is a pair of words (high, low), both int64 seen as unsigned. Exact as long as fewer than 2**24
values, none beyond 2**51, are in it: amounts stay below 2**50 minor units.
"""

import math

import numpy as np

from features.kernels.jit import inlined

_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_WORD = 18446744073709551616.0  # 2.0 ** 64
_EXACT_ROOT = 3_037_000_499  # the largest number whose square fits into int64
_EXACT_MAX = 1.5e38  # below 2 ** 127: products up to here are formed in 128 bits


@inlined
def _product(x: np.uint64, y: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return (high, low) of an unsigned product (Knuth, TAOCP 4.3.1, in 32-bit digits)."""
    x_low, x_high = x & _LOW_HALF, x >> _HALF
    y_low, y_high = y & _LOW_HALF, y >> _HALF
    low = x_low * y_low
    middle = x_high * y_low + (low >> _HALF)
    other = x_low * y_high + (middle & _LOW_HALF)
    high = x_high * y_high + (middle >> _HALF) + (other >> _HALF)
    return high, (other << _HALF) | (low & _LOW_HALF)


@inlined
def add_square(high: int, low: int, value: int) -> tuple[int, int]:
    """Return the sum (high, low) plus the square of `value`."""
    if -_EXACT_ROOT <= value <= _EXACT_ROOT:
        sum_low = np.uint64(low) + np.uint64(value * value)
        return int(high + np.int64(sum_low < np.uint64(low))), int(np.int64(sum_low))
    size = np.uint64(abs(value))
    square_high, square_low = _product(size, size)
    sum_low = np.uint64(low) + square_low
    carry = np.int64(sum_low < square_low)
    return int(high + np.int64(square_high) + carry), int(np.int64(sum_low))


@inlined
def add_sums(high: int, low: int, other_high: int, other_low: int) -> tuple[int, int]:
    """Return the sum of two sums of squares."""
    sum_low = np.uint64(low) + np.uint64(other_low)
    carry = np.int64(sum_low < np.uint64(low))
    return int(high + other_high + carry), int(np.int64(sum_low))


@inlined
def subtract_square(high: int, low: int, value: int) -> tuple[int, int]:
    """Return the sum (high, low) less the square of `value`, which was added before."""
    if -_EXACT_ROOT <= value <= _EXACT_ROOT:
        square = np.uint64(value * value)
        borrow = np.int64(np.uint64(low) < square)
        return int(high - borrow), int(np.int64(np.uint64(low) - square))
    size = np.uint64(abs(value))
    square_high, square_low = _product(size, size)
    borrow = np.int64(np.uint64(low) < square_low)
    rest = np.uint64(low) - square_low
    return int(high - np.int64(square_high) - borrow), int(np.int64(rest))


@inlined
def standard_deviation(count: int, total: int, high: int, low: int, scale: int) -> float:
    """Return the population standard deviation from count, sum and sum of squares, over `scale`.

    sqrt(count * squares - total ** 2) / (count * scale), the difference formed exactly: no
    cancellation.
    """
    if count == 0:
        return np.nan
    squares = float(np.uint64(high)) * _WORD + float(np.uint64(low))
    if count * squares < 9e18 and -_EXACT_ROOT <= total <= _EXACT_ROOT:
        return math.sqrt(float(count * low - total * total)) / (count * scale)
    if count * squares > _EXACT_MAX:
        mean = total / count
        return math.sqrt(max(squares / count - mean * mean, 0.0)) / scale
    scaled_high, scaled_low = _product(np.uint64(low), np.uint64(count))
    scaled_high += np.uint64(high) * np.uint64(count)
    size = np.uint64(abs(total))
    total_high, total_low = _product(size, size)
    borrow = np.uint64(scaled_low < total_low)
    difference = float(scaled_high - total_high - borrow) * _WORD + float(scaled_low - total_low)
    return math.sqrt(difference) / (count * scale)
