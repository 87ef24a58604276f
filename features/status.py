"""How far a value can be trusted: exact, approximate, stale or absent.

Exact and absent are certainties: the value is the truth, or there is truly none. A value that may
miss something is approximate or stale, also where it is undefined: a mean over a window whose
events had to be dropped is NaN, and yet nobody knows that the window was empty.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.histories import Features
from features.kernels.opcodes import Opcode
from features.plan import Program

_ROUNDING = 2.0**-48  # of a value: more than two divisions make


class Status(IntEnum):
    """What is known of a value, from the best to the worst."""

    EXACT = 0
    ABSENT = 1  # undefined, and rightly so: NaN
    STALE = 2  # a part of it comes from another process and may be out of date
    APPROXIMATE = 3  # events that it needs are gone


class Statuses(NamedTuple):
    """Statuses of some values, all of the same shape.

    `bounds` says how far a value may be from the truth, in its own unit: 0 where it is exact,
    infinite where nothing is known.
    """

    codes: NDArray[np.uint8]  # Status
    bounds: NDArray[np.float64]


def slot_statuses(features: Features, ages_ms: NDArray[np.float64] | None = None) -> Statuses:
    """Return the statuses of slots, (slots, n); bounds are in raw units.

    `ages_ms` (slots, n) is how old the parts that were read from other processes are, 0 where
    there is no such part; None where one process sees everything.
    """
    return Statuses(_codes(features.values, features.errors, ages_ms), features.errors)


def worst_statuses(slots: Sequence[int], features: Features) -> NDArray[np.uint8]:
    """Return the worst Status of some slots at each row, uint8[n]; EXACT where there are none."""
    chosen = list(slots)
    if not chosen:
        return np.zeros(features.values.shape[1], dtype=np.uint8)
    ages_ms = None if features.ages_ms is None else features.ages_ms[chosen]
    codes = _codes(features.values[chosen], features.errors[chosen], ages_ms)
    return np.asarray(codes.max(axis=0))


def output_statuses(
    program: Program,
    values: NDArray[np.float64],
    features: Features,
    ages_ms: NDArray[np.float64] | None = None,
) -> Statuses:
    """Return the statuses of a program's outputs, (outputs, n).

    `values` (outputs, n) are what `evaluate` returned, `features` what its slots say and `ages_ms`
    (slots, n) how old these are. An output is as uncertain as the worst slot behind it. Its bound
    is finite where it is nothing but one slot, or one slot by another (a rate); how an error
    spreads through any other computation is not followed.
    """
    bounds = np.zeros_like(values)
    ages = None if ages_ms is None else np.zeros_like(values)
    errors = features.errors
    uncertain = bool(errors.any())
    direct = _direct_slots(program) if uncertain else {}
    for name, row in program.outputs.items():
        slots = list(program.reads[name])
        if not slots:
            continue
        if ages is not None and ages_ms is not None:
            ages[row] = ages_ms[slots].max(axis=0)
        if name in direct:
            bounds[row] = _bound(features, *direct[name])
        elif uncertain:
            bounds[row] = np.where(errors[slots].max(axis=0) > 0.0, np.inf, 0.0)
    return Statuses(_codes(values, bounds, ages), bounds)


def _codes(
    values: NDArray[np.float64], bounds: NDArray[np.float64], ages_ms: NDArray[np.float64] | None
) -> NDArray[np.uint8]:
    codes = np.where(np.isnan(values), Status.ABSENT, Status.EXACT).astype(np.uint8)
    if ages_ms is not None:
        codes[ages_ms > 0.0] = Status.STALE
    codes[bounds > 0.0] = Status.APPROXIMATE
    return codes


_Slot = tuple[int, float]  # a slot, and what it is divided by


def _bound(features: Features, slot: _Slot, by: _Slot | None) -> NDArray[np.float64]:
    """Return how far a slot, or a slot divided by another, may be off."""
    number, divisor = slot
    errors = features.errors[number] / divisor
    if by is None:
        return np.asarray(errors)
    least = (np.abs(features.values[by[0]]) - features.errors[by[0]]) / by[1]
    unsure = (errors > 0.0) | (features.errors[by[0]] > 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.abs(features.values[number] / divisor / (features.values[by[0]] / by[1]))
        # |a / b - x / y| <= (|a - x| + |a / b| |b - y|) / |y|, and a little for rounding.
        bound = (errors + value * features.errors[by[0]] / by[1]) / least + value * _ROUNDING
    sound = (least > 0.0) & np.isfinite(bound)
    return np.where(unsure, np.where(sound, bound, np.inf), 0.0)


def _direct_slots(program: Program) -> dict[str, tuple[_Slot, _Slot | None]]:
    """Return, for each output that is nothing but a slot or a slot by a slot, which these are."""
    names = {row: name for name, row in program.outputs.items()}
    held: dict[int, tuple[_Slot, _Slot | None]] = {}
    found: dict[str, tuple[_Slot, _Slot | None]] = {}
    for opcode, to, a, b in program.code.tolist():
        if opcode == Opcode.STORE:
            if a in held:
                found[names[to]] = held[a]
            continue
        above, below = held.get(a), held.get(b)
        held.pop(to, None)
        if opcode == Opcode.SLOT:
            held[to] = ((a, float(program.floats[b])), None)
        elif opcode == Opcode.DIV and above and below and not (above[1] or below[1]):
            held[to] = (above[0], below[0])
    return found


def slot_divisors(*programs: Program) -> dict[int, float]:
    """Return what each slot's raw value is divided by to get the unit of expressions."""
    divisors: dict[int, float] = {}
    for program in programs:
        for opcode, _, a, b in program.code.tolist():
            if opcode == Opcode.SLOT:
                divisors[a] = float(program.floats[b])
    return divisors
