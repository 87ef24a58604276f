"""How far a value can be trusted: exact, approximate, stale or absent.

Exact and absent are certainties: the value is the truth, or there is truly none. A value that may
miss something is approximate or stale, also where it is undefined: a mean over a window whose
events had to be dropped is NaN, and yet nobody knows that the window was empty.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.histories import Features
from features.kernels.opcodes import Opcode
from features.plan import Program


class Status(IntEnum):
    """What is known of a value."""

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


def output_statuses(
    program: Program,
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    ages_ms: NDArray[np.float64] | None = None,
) -> Statuses:
    """Return the statuses of a program's outputs, (outputs, n).

    `values` (outputs, n) are what `evaluate` returned, `errors` and `ages_ms` (slots, n) those of
    the slots. An output is as uncertain as the worst slot behind it. Its bound is finite where it
    is nothing but one slot; how an error spreads through a computation is not followed.
    """
    bounds = np.zeros_like(values)
    ages = None if ages_ms is None else np.zeros_like(values)
    direct = _direct_slots(program)
    uncertain = bool(errors.any())
    for name, row in program.outputs.items():
        slots = list(program.reads[name])
        if not slots:
            continue
        if ages is not None and ages_ms is not None:
            ages[row] = ages_ms[slots].max(axis=0)
        if uncertain and name in direct:
            slot, divisor = direct[name]
            bounds[row] = errors[slot] / divisor
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


def _direct_slots(program: Program) -> dict[str, tuple[int, float]]:
    """Return, for each output that is nothing but a slot, the slot and what it is divided by."""
    names = {row: name for name, row in program.outputs.items()}
    held: dict[int, tuple[int, float]] = {}
    found: dict[str, tuple[int, float]] = {}
    for opcode, to, a, b in program.code.tolist():
        if opcode == Opcode.STORE:
            if a in held:
                found[names[to]] = held[a]
        elif opcode == Opcode.SLOT:
            held[to] = (a, float(program.floats[b]))
        else:
            held.pop(to, None)
    return found


def slot_divisors(*programs: Program) -> dict[int, float]:
    """Return what each slot's raw value is divided by to get the unit of expressions."""
    divisors: dict[int, float] = {}
    for program in programs:
        for opcode, _, a, b in program.code.tolist():
            if opcode == Opcode.SLOT:
                divisors[a] = float(program.floats[b])
    return divisors
