"""All compiled forms, and which of them reads a pipeline."""

from collections.abc import Sequence
from typing import Any

from features.errors import RecordError
from online_models.champion import CompiledChampion
from online_models.compiled import CompiledLinear, CompiledModel
from online_models.half_spaces import CompiledHalfSpaces
from online_models.naive_bayes import CompiledBayes
from online_models.trees.compiled import CompiledTrees

FORMS: tuple[type[CompiledModel], ...] = (
    CompiledLinear,
    CompiledTrees,
    CompiledBayes,
    CompiledHalfSpaces,
    CompiledChampion,
)


def compile_model(pipeline: Any, inputs: Sequence[str]) -> CompiledModel:
    """Return the compiled form of a River pipeline; `inputs` gives the order of the columns.

    A pipeline that has learned nothing compiles too and gives River's own answer. Raises
    RecordError for a pipeline that no form can read.
    """
    for form in FORMS:
        if form.reads(pipeline):
            return form.from_river(pipeline, inputs)
    known = ", ".join(form.__name__ for form in FORMS)
    raise RecordError("$.pipeline", f"a pipeline that one of {known} reads", f"{pipeline}")
