"""The instruction set of the register machine: written by the compiler, run by the walker."""

from enum import IntEnum


class Opcode(IntEnum):
    """What an instruction does. `r[x]` is register x, `k` an index of floats, `j` of ints.

    A comparison with NaN is 0.0, `!=` included; a string comparison with a missing cell as well.
    Logic takes NaN for false.
    """

    CONST = 0  # r[d] = floats[a]
    CELL = 1  # r[d] = cells[a] / floats[b]; NaN where missing
    SLOT = 2  # r[d] = slot_values[a] / floats[b]
    EXTERNAL = 3  # r[d] = externals[a] / floats[b]
    CELL_MISSING = 4  # r[d] = cells[a] is missing
    HOUR = 5  # r[d] = hour of the record's time, UTC, 0 to 23
    WEEKDAY = 6  # r[d] = weekday, UTC, Monday is 0
    DAY_OF_MONTH = 7  # r[d] = day of the month, UTC, 1 to 31
    DISTANCE = 8  # r[d] = km from cells LAT, LON to slot_values[a], slot_values[b] (micro-degrees)

    HASH_EQ = 16  # r[d] = cells[a] == ints[j=b]
    HASH_NE = 17  # r[d] = cells[a] != ints[j=b]
    HASH_EQ_CELL = 18  # r[d] = cells[a] == cells[b]
    HASH_NE_CELL = 19  # r[d] = cells[a] != cells[b]
    HASH_IN = 20  # r[d] = cells[a] is one of the ints[j=b] numbers that follow ints[j=b]
    HASH_NOT_IN = 21  # r[d] = cells[a] is present and none of them

    ADD = 32  # r[d] = r[a] + r[b]
    SUB = 33  # r[d] = r[a] - r[b]
    MUL = 34  # r[d] = r[a] * r[b]
    DIV = 35  # r[d] = r[a] / r[b]; NaN where r[b] is 0
    MOD = 36  # r[d] = r[a] modulo r[b], with the divisor's sign; NaN where r[b] is 0
    POW = 37  # r[d] = r[a] to the power r[b]; NaN where either is or the real power is undefined
    MIN = 38  # r[d] = the smaller; NaN where either is
    MAX = 39  # r[d] = the larger; NaN where either is
    COALESCE = 40  # r[d] = r[a], or r[b] where r[a] is NaN

    LT = 48  # r[d] = r[a] < r[b]
    LE = 49  # r[d] = r[a] <= r[b]
    EQ = 50  # r[d] = r[a] == r[b]
    NE = 51  # r[d] = r[a] != r[b]
    AND = 52  # r[d] = r[a] and r[b]
    OR = 53  # r[d] = r[a] or r[b]

    ADD_K = 64  # r[d] = r[a] + floats[b]
    MUL_K = 65  # r[d] = r[a] * floats[b]
    DIV_K = 66  # r[d] = r[a] / floats[b]; NaN where floats[b] is 0
    LT_K = 67  # r[d] = r[a] < floats[b]
    LE_K = 68  # r[d] = r[a] <= floats[b]
    GT_K = 69  # r[d] = r[a] > floats[b]
    GE_K = 70  # r[d] = r[a] >= floats[b]
    EQ_K = 71  # r[d] = r[a] == floats[b]
    NE_K = 72  # r[d] = r[a] != floats[b]
    IN_K = 73  # r[d] = r[a] is one of the floats[k=b] numbers that follow floats[k=b]
    NOT_IN_K = 74  # r[d] = r[a] is not NaN and none of them

    NEG = 80  # r[d] = -r[a]
    ABS = 81  # r[d] = |r[a]|
    LOG1P = 82  # r[d] = ln(1 + r[a]); NaN where r[a] <= -1
    SQRT = 83  # r[d] = square root; NaN where r[a] < 0
    FLOOR = 84  # r[d] = the largest integer not above r[a]
    IS_NAN = 85  # r[d] = r[a] is NaN
    NOT = 86  # r[d] = not r[a]

    SELECT = 96  # r[d] = r[ints[b]] where r[a] is true, else r[ints[b + 1]]
    STORE = 97  # results[d] = r[a]; NaN where r[a] is infinite
