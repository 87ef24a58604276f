"""From a plan's stage programs to the tables that compute kept values row by row."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.kernels.layout import OutputField, StageField, Table
from features.plan import Plan, SlotField


class StageTables(NamedTuple):
    """The fields of the same names of `Layout`."""

    stages: Table
    outputs: Table
    code: Table
    floats: NDArray[np.float64]
    ints: Table


def stage_count(plan: Plan) -> int:
    """Return in how many steps the slots of a row are computed, at least 1."""
    last = int(plan.slots[:, SlotField.STAGE].max(initial=0))
    return max(last + 1, len(plan.stages))


def compile_stages(plan: Plan) -> StageTables:
    """Return the stage programs one behind the other."""
    values = {value.name: value for value in plan.values}
    stages = np.zeros((len(plan.stages), len(StageField)), dtype=np.int64)
    outputs: list[list[int]] = []
    code_to, float_to, int_to = 0, 0, 0
    for row, program in zip(stages, plan.stages, strict=True):
        row[StageField.CODE_FROM], row[StageField.FLOAT_FROM] = code_to, float_to
        row[StageField.INT_FROM], row[StageField.OUTPUT_FROM] = int_to, len(outputs)
        for name, result in program.outputs.items():
            outputs.append([result, values[name].cell, values[name].scale])
        code_to, float_to = code_to + len(program.code), float_to + len(program.floats)
        int_to += len(program.ints)
        row[StageField.CODE_TO], row[StageField.FLOAT_TO] = code_to, float_to
        row[StageField.INT_TO], row[StageField.OUTPUT_TO] = int_to, len(outputs)
        row[StageField.REGISTER_COUNT] = program.register_count
    return StageTables(
        stages,
        np.array(outputs, dtype=np.int64).reshape(len(outputs), len(OutputField)),
        np.concatenate([np.zeros((0, 4), np.int64), *(p.code for p in plan.stages)]),
        np.concatenate([np.zeros(0), *(p.floats for p in plan.stages)]),
        np.concatenate([np.zeros(0, np.int64), *(p.ints for p in plan.stages)]),
    )
