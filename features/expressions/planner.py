"""From the expressions of a policy to its plan, in which equal parts are made once."""

from collections.abc import Iterable, Mapping

from features.expressions.compiler import ExpressionCompiler
from features.expressions.declarations import Declarations
from features.expressions.emitter import emit
from features.expressions.parser import ExpressionText, Source
from features.expressions.types import Type
from features.expressions.value import Value
from features.expressions.workspace import Workspace
from features.plan import Plan


def _compile_named(names: Iterable[str], workspace: Workspace) -> None:
    named = workspace.named
    for name in names:
        if name not in named.values:
            compiler = ExpressionCompiler(named.source(name), workspace, is_named=True)
            named.add(name, compiler.compile())


def compile_text(text: ExpressionText, workspace: Workspace) -> Value:
    """Return the value of a text, after those of the named values that it depends on.

    Raises SourceError where it, or one of these, is no expression.
    """
    source = Source(text)
    _compile_named(workspace.named.needed(source), workspace)
    return ExpressionCompiler(source, workspace).compile()


def expression_type(text: ExpressionText, declarations: Declarations) -> Type:
    """Return the type of an expression, for callers that need a condition or a number.

    Raises SourceError where the text is no expression, MillraceError for wrong declarations.
    """
    return compile_text(text, Workspace.of(declarations)).type


def check_named_values(declarations: Declarations) -> None:
    """Raise SourceError at the first fault of a named value, used or not."""
    workspace = Workspace.of(declarations)
    for name in declarations.lets:
        needed = workspace.named.needed(workspace.named.source(name), name)
        _compile_named([*needed, name], workspace)


def compile_plan(outputs: Mapping[str, ExpressionText], declarations: Declarations) -> Plan:
    """Compile named expressions into one plan, in which equal parts are computed once.

    An output is float64: a number, money in major units, a duration in milliseconds, a condition
    as 1.0 or 0.0; NaN where it is undefined. Outputs that read a model's score go to
    `after_models`, all others to `before_models`, each in the order of `outputs`. Externals are
    raw: money (`profile.assets`) in minor units, conditions as 1.0 or 0.0, absence NaN.

    Raises SourceError at the first fault of a text, MillraceError for wrong declarations.
    """
    check_named_values(declarations)
    workspace = Workspace.of(declarations)
    before: list[tuple[str, int]] = []
    after: list[tuple[str, int]] = []
    for name, text in outputs.items():
        node = compile_text(text, workspace).node
        (after if workspace.graph.reads_model[node] else before).append((name, node))
    slots, terms = workspace.slots.tables()
    return Plan(
        entities=workspace.slots.entities(),
        slots=slots,
        terms=terms,
        slot_texts=workspace.slots.texts(),
        externals=tuple(workspace.externals),
        before_models=emit(workspace.graph, before),
        after_models=emit(workspace.graph, after),
        reach_ms=declarations.history_reach_ms,
        event_cap=declarations.event_cap,
        values=tuple(workspace.named.kept.values()),
        stages=tuple(emit(workspace.graph, roots) for roots in workspace.kept_by_stage()),
        repeat_horizon_ms=declarations.repeat_horizon_ms,
    )
