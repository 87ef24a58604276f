"""The register machine that evaluates compiled expressions over a batch, column by column.

One instruction is a row (opcode, destination, a, b) of `Program.code`, see `Opcode`. A register is
a float64 row as long as the batch: truth is 1.0, falsehood 0.0, absence NaN. Strings never enter
one: their hashes are compared as int64, as float64 would merge hashes that differ in low bits.
Loops over the batch are innermost, so that the cost of dispatch is paid once per instruction.
"""

import math

import numpy as np
from numpy.typing import NDArray

from features.columns import MISSING, Cell, Cells
from features.kernels.jit import kernel, part
from features.kernels.opcodes import Opcode
from features.plan import Program

Floats = NDArray[np.float64]  # (…, rows)
Row = NDArray[np.float64]  # (rows,), or constants
Ints = NDArray[np.int64]

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG (Moritz 1980)
MICRO_DEGREES = 1e6


# The kernels read plain integers: an enum member costs Numba a lookup in each comparison.
_CONST, _CELL, _SLOT, _EXTERNAL, _CELL_MISSING, _HOUR, _WEEKDAY, _DAY, _DISTANCE = range(9)
_HASH_EQ, _HASH_NE, _HASH_EQ_CELL, _HASH_NE_CELL, _HASH_IN, _HASH_NOT_IN = range(16, 22)
_ADD, _SUB, _MUL, _DIV, _MOD, _POW, _MIN, _MAX, _COALESCE = range(32, 41)
_LT, _LE, _EQ, _NE, _AND, _OR = range(48, 54)
_ADD_K, _MUL_K, _DIV_K, _LT_K, _LE_K, _GT_K, _GE_K, _EQ_K, _NE_K, _IN_K, _NOT_IN_K = range(64, 75)
_NEG, _ABS, _LOG1P, _SQRT, _FLOOR, _IS_NAN, _NOT = range(80, 87)
_SELECT, _STORE = range(96, 98)

_ABSENT = int(MISSING)
_TS_MS, _LAT, _LON = int(Cell.TS_MS), int(Cell.LAT), int(Cell.LON)
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_SHORT_COUNT = 16  # of a list: looking at all of it is faster than searching
_RADIANS_PER_MICRO_DEGREE = math.pi / 180.0 / MICRO_DEGREES


@part
def _day_of_month(day: int) -> int:
    """Return the day of the month of a day counted from 1970-01-01 (Hinnant, days_from_civil)."""
    day_of_era = (day + 719_468) % 146_097
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    return day_of_year - (153 * month_from_march + 2) // 5 + 1


@part
def _calendar(op: int, r: Floats, d: int, times: Ints) -> None:
    for i in range(r.shape[1]):
        if times[i] == _ABSENT:
            r[d, i] = np.nan
        elif op == _HOUR:
            r[d, i] = (times[i] // _HOUR_MS) % 24
        elif op == _WEEKDAY:
            r[d, i] = (times[i] // _DAY_MS + 3) % 7  # 1970-01-01 was a Thursday
        else:
            r[d, i] = _day_of_month(times[i] // _DAY_MS)


@part
def _distance(r: Floats, d: int, lat: Ints, lon: Ints, other_lat: Row, other_lon: Row) -> None:
    """Haversine distance in km; all coordinates in micro-degrees (Sinnott 1984)."""
    for i in range(r.shape[1]):
        if lat[i] == _ABSENT or lon[i] == _ABSENT:
            r[d, i] = np.nan
            continue
        phi = lat[i] * _RADIANS_PER_MICRO_DEGREE
        other_phi = other_lat[i] * _RADIANS_PER_MICRO_DEGREE
        half_phi = math.sin((other_phi - phi) / 2.0)
        half_lambda = math.sin((other_lon[i] - lon[i]) * _RADIANS_PER_MICRO_DEGREE / 2.0)
        chord = half_phi * half_phi + math.cos(phi) * math.cos(other_phi) * half_lambda**2
        # Rounding can lift an antipodal chord above 1; NaN must stay NaN.
        r[d, i] = 2.0 * EARTH_RADIUS_KM * math.asin(math.sqrt(1.0 if chord > 1.0 else chord))


@part
def _scaled(r: Floats, d: int, source: Row, scale: float) -> None:
    if scale == 1.0:
        for i in range(r.shape[1]):
            r[d, i] = source[i]
    else:  # divided, not multiplied by 1/scale: 12345 / 100 is the float64 nearest to 123.45
        for i in range(r.shape[1]):
            r[d, i] = source[i] / scale if scale != 0.0 else np.nan


@part
def _cell(op: int, r: Floats, d: int, cell: Ints, scale: float) -> None:
    if op == _CELL:
        for i in range(r.shape[1]):
            r[d, i] = cell[i] / scale if cell[i] != _ABSENT and scale != 0.0 else np.nan
    else:
        for i in range(r.shape[1]):
            r[d, i] = 1.0 if cell[i] == _ABSENT else 0.0


@part
def _read(
    op: int, r: Floats, d: int, a: int, b: int, floats: Row, cells: Ints, slots: Floats,
    given: Floats, first: int,
) -> bool:  # fmt: skip
    """Fill register d from the inputs; return False where an index points outside of them."""
    last = first + r.shape[1]
    if op == _CONST:
        for i in range(r.shape[1]):
            r[d, i] = floats[a]
    elif op in (_CELL, _CELL_MISSING):
        if a >= cells.shape[0]:
            return False
        _cell(op, r, d, cells[a, first:last], floats[b] if op == _CELL else 1.0)
    elif op == _SLOT:
        if a >= slots.shape[0]:
            return False
        _scaled(r, d, slots[a, first:last], floats[b])
    elif op == _EXTERNAL:
        if a >= given.shape[0]:
            return False
        _scaled(r, d, given[a, first:last], floats[b])
    elif op == _DISTANCE:
        if a >= slots.shape[0] or b >= slots.shape[0]:
            return False
        _distance(
            r, d, cells[_LAT, first:last], cells[_LON, first:last], slots[a, first:last],
            slots[b, first:last],
        )  # fmt: skip
    else:
        _calendar(op, r, d, cells[_TS_MS, first:last])
    return True


@part
def _hashes(
    op: int, r: Floats, d: int, a: int, b: int, ints: Ints, cells: Ints, first: int
) -> None:
    """Compare strings by their hashes; a missing one is neither equal nor different."""
    n = r.shape[1]
    own = cells[a, first : first + n]
    if op == _HASH_EQ:
        for i in range(n):
            r[d, i] = 1.0 if (own[i] == ints[b]) and (own[i] != _ABSENT) else 0.0
    elif op == _HASH_NE:
        for i in range(n):
            r[d, i] = 1.0 if (own[i] != ints[b]) and (own[i] != _ABSENT) else 0.0
    elif op == _HASH_EQ_CELL:
        other = cells[b, first : first + n]
        for i in range(n):
            r[d, i] = 1.0 if (own[i] == other[i]) and (own[i] != _ABSENT) else 0.0
    elif op == _HASH_NE_CELL:
        other = cells[b, first : first + n]
        for i in range(n):
            present = (own[i] != _ABSENT) and (other[i] != _ABSENT)
            r[d, i] = 1.0 if present and own[i] != other[i] else 0.0
    else:
        wanted = op == _HASH_IN
        for i in range(n):
            found = False
            if ints[b] <= _SHORT_COUNT:
                for j in range(b + 1, b + 1 + ints[b]):
                    found |= own[i] == ints[j]
            else:
                found = _is_among(ints, b + 1, b + 1 + ints[b], own[i])
            r[d, i] = 1.0 if (found == wanted) & (own[i] != _ABSENT) else 0.0


@part
def _is_among(ints: NDArray[np.int64], low: int, high: int, wanted: int) -> bool:
    """Return whether a number is in the ascending run [low, high)."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if ints[middle] < wanted:
            low = middle + 1
        else:
            high = middle
    return low < end and ints[low] == wanted


@part
def _power(x: float, y: float) -> float:
    if np.isnan(x) or np.isnan(y) or (x == 0.0 and y < 0.0):
        return np.nan
    return math.pow(x, y)


@part
def _arithmetic(op: int, r: Floats, d: int, a: int, b: int) -> None:
    n = r.shape[1]
    if op == _ADD:
        for i in range(n):
            r[d, i] = r[a, i] + r[b, i]
    elif op == _SUB:
        for i in range(n):
            r[d, i] = r[a, i] - r[b, i]
    elif op == _MUL:
        for i in range(n):
            r[d, i] = r[a, i] * r[b, i]
    elif op == _DIV:
        for i in range(n):
            r[d, i] = r[a, i] / r[b, i] if r[b, i] != 0.0 else np.nan
    elif op == _MOD:
        for i in range(n):
            r[d, i] = r[a, i] % r[b, i] if r[b, i] != 0.0 else np.nan
    elif op == _POW:
        for i in range(n):
            r[d, i] = _power(r[a, i], r[b, i])
    elif op == _MIN:
        for i in range(n):
            r[d, i] = r[a, i] if r[a, i] < r[b, i] or r[a, i] != r[a, i] else r[b, i]
    elif op == _MAX:
        for i in range(n):
            r[d, i] = r[a, i] if r[a, i] > r[b, i] or r[a, i] != r[a, i] else r[b, i]
    else:
        for i in range(n):
            r[d, i] = r[a, i] if r[a, i] == r[a, i] else r[b, i]


@part
def _compare(op: int, r: Floats, d: int, a: int, b: int) -> None:
    n = r.shape[1]
    if op == _LT:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] < r[b, i] else 0.0
    elif op == _LE:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] <= r[b, i] else 0.0
    elif op == _EQ:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] == r[b, i] else 0.0
    elif op == _NE:
        for i in range(n):
            r[d, i] = 1.0 if (r[a, i] < r[b, i]) | (r[a, i] > r[b, i]) else 0.0
    elif op == _AND:
        for i in range(n):
            r[d, i] = 1.0 if (abs(r[a, i]) > 0.0) & (abs(r[b, i]) > 0.0) else 0.0
    else:
        for i in range(n):
            r[d, i] = 1.0 if (abs(r[a, i]) > 0.0) | (abs(r[b, i]) > 0.0) else 0.0


@part
def _member(op: int, r: Floats, d: int, a: int, first: int, floats: Row) -> None:
    wanted = op == _IN_K
    for i in range(r.shape[1]):
        found = False
        for k in range(first + 1, first + 1 + int(floats[first])):
            found |= r[a, i] == floats[k]
        r[d, i] = 1.0 if (found == wanted) & (r[a, i] == r[a, i]) else 0.0


@part
def _with_constant(op: int, r: Floats, d: int, a: int, constant: float) -> None:
    n = r.shape[1]
    if op == _ADD_K:
        for i in range(n):
            r[d, i] = r[a, i] + constant
    elif op == _MUL_K:
        for i in range(n):
            r[d, i] = r[a, i] * constant
    elif op == _DIV_K:
        for i in range(n):
            r[d, i] = r[a, i] / constant if constant != 0.0 else np.nan
    elif op == _LT_K:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] < constant else 0.0
    elif op == _LE_K:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] <= constant else 0.0
    elif op == _GT_K:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] > constant else 0.0
    elif op == _GE_K:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] >= constant else 0.0
    elif op == _EQ_K:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] == constant else 0.0
    else:
        for i in range(n):
            r[d, i] = 1.0 if (r[a, i] < constant) | (r[a, i] > constant) else 0.0


@part
def _unary(op: int, r: Floats, d: int, a: int) -> None:
    n = r.shape[1]
    if op == _NEG:
        for i in range(n):
            r[d, i] = -r[a, i]
    elif op == _ABS:
        for i in range(n):
            r[d, i] = abs(r[a, i])
    elif op == _LOG1P:
        for i in range(n):
            r[d, i] = math.log1p(r[a, i]) if r[a, i] > -1.0 else np.nan
    elif op == _SQRT:
        for i in range(n):
            r[d, i] = math.sqrt(r[a, i]) if r[a, i] >= 0.0 else np.nan
    elif op == _FLOOR:
        for i in range(n):
            r[d, i] = np.floor(r[a, i])
    elif op == _IS_NAN:
        for i in range(n):
            r[d, i] = 1.0 if r[a, i] != r[a, i] else 0.0
    else:
        for i in range(n):
            r[d, i] = 0.0 if abs(r[a, i]) > 0.0 else 1.0


@kernel
def walk(
    code: Ints, floats: Row, ints: Ints, cells: Ints, slots: Floats, given: Floats,
    first: int, registers: Floats, results: Floats,
) -> int:  # fmt: skip
    """Run a program for as many rows from `first` on as the registers have columns.

    `results`, (outputs, rows), has column 0 for row `first`. Returns -1, or the number of the
    instruction that reads outside of the inputs.
    """
    n = registers.shape[1]
    for pc in range(code.shape[0]):
        op, d, a, b = code[pc, 0], code[pc, 1], code[pc, 2], code[pc, 3]
        if op < _HASH_EQ:
            if not _read(op, registers, d, a, b, floats, cells, slots, given, first):
                return pc
        elif op < _ADD:
            _hashes(op, registers, d, a, b, ints, cells, first)
        elif op < _LT:
            _arithmetic(op, registers, d, a, b)
        elif op < _ADD_K:
            _compare(op, registers, d, a, b)
        elif op < _IN_K:
            _with_constant(op, registers, d, a, floats[b])
        elif op < _NEG:
            _member(op, registers, d, a, b, floats)
        elif op < _SELECT:
            _unary(op, registers, d, a)
        elif op == _SELECT:
            yes, no = ints[b], ints[b + 1]
            for i in range(n):
                chosen = yes if abs(registers[a, i]) > 0.0 else no
                registers[d, i] = registers[chosen, i]
        else:
            for i in range(n):
                finite = abs(registers[a, i]) < np.inf
                results[d, i] = registers[a, i] if finite else np.nan
    return -1


def evaluate(program: Program, cells: Cells, slot_values: Floats, externals: Floats) -> Floats:
    """Return every output of a program for every record of a batch, float64 (outputs, n).

    `cells` is int64 (len(Cell), n); `slot_values` float64 (slots, n) as the histories give them
    (see features.histories.Features); `externals` float64 (len(plan.externals), n), money in minor
    units. A value that is undefined or not finite is NaN. The result is a new array. Raises
    ValueError where the inputs disagree in length or lack a row that the program reads.
    """
    n = cells.shape[1]
    if cells.shape[0] != len(Cell) or slot_values.shape[1] != n or externals.shape[1] != n:
        raise ValueError(
            f"expected cells ({len(Cell)}, n) and slot values and externals of n columns, got "
            f"{cells.shape}, {slot_values.shape} and {externals.shape}"
        )
    results = np.empty((len(program.outputs), n), dtype=np.float64)
    failed = walk(
        program.code,
        program.floats,
        program.ints,
        np.ascontiguousarray(cells),
        np.ascontiguousarray(slot_values),
        np.ascontiguousarray(externals),
        0,
        np.empty((program.register_count, n), dtype=np.float64),
        results,
    )
    if failed >= 0:
        operation = Opcode(int(program.code[failed, 0])).name
        raise ValueError(
            f"instruction {failed} ({operation}) reads a row that the inputs do not have: "
            f"slot values {slot_values.shape}, externals {externals.shape}"
        )
    return results
