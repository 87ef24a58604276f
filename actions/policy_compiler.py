"""From a policy to its plan: the compiler's checks, and that each place gets what it can use."""

from collections.abc import Callable

from actions.policy import Policy
from features.errors import SourceError
from features.expressions import Type, compile_plan, expression_type
from features.plan import Plan

_CONDITION = (Type.BOOL,)
_NUMBER = (Type.NUMBER, Type.MONEY)
_ANY = tuple(kind for kind in Type if kind is not Type.TEXT)


def compile_policy(policy: Policy, hasher: Callable[[str], int]) -> Plan:
    """Return the plan of all of a policy's expressions.

    `hasher` turns a text into the int64 of its cell. Raises SourceError, with the place in the
    policy's file, for a wrong expression, one of the wrong type (a rule must be a condition, a
    model input a number), and a model input that reads a model's score.
    """
    outputs = policy.outputs()
    declarations = policy.declarations(hasher)
    for name, text in outputs.items():
        wanted = _wanted(name)
        found = expression_type(text, declarations)
        if found not in wanted:
            expected = f"{name}: {' or '.join(kind.value for kind in wanted)}"
            raise SourceError(text.file, text.line, text.column, expected, found.value)
    plan = compile_plan(outputs, declarations)
    for name in plan.after_models.outputs:
        if name.startswith("model:"):
            text = outputs[name]
            expected = f"{name}: a value that is known before models score"
            raise SourceError(
                text.file, text.line, text.column, expected, "one that reads `model.`"
            )
    return plan


def _wanted(name: str) -> tuple[Type, ...]:
    if name.startswith(("rule:", "trigger:")) or name.endswith(":eligible"):
        return _CONDITION
    if name.startswith("reason:"):
        return _ANY
    return _NUMBER
