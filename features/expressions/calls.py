"""The arguments of a call over a history: which history, which window, which events."""

import ast
from dataclasses import dataclass
from decimal import Decimal

from features.columns import SLOT_KINDS, Kind
from features.errors import nearest_name
from features.expressions.catalogue import MILLION, OPTIONS, AggregateCall
from features.expressions.clauses import ALWAYS, Clauses
from features.expressions.conditions import ConditionCompiler, both
from features.expressions.constants import duration_of, number_of
from features.expressions.fields import KINDS, STORED_FIELDS
from features.expressions.parser import Source
from features.expressions.slots import Request
from features.expressions.types import duration_text
from features.expressions.workspace import Workspace
from features.plan import Aggregate


@dataclass(frozen=True, slots=True)
class BoundCall:
    """A call with its history, its window and the options that all aggregates have."""

    node: ast.Call
    history: int
    kind: Kind
    window_ms: int
    delay_ms: int
    clauses: Clauses
    including_current: bool

    def request(
        self, aggregate: Aggregate, value: int = -1, *, parameter: int = 0, run: Clauses = ALWAYS
    ) -> Request:
        """Return the request for one slot of this call."""
        return Request(
            self.history, aggregate, value, self.window_ms, self.delay_ms, self.clauses,
            self.including_current, parameter, run=run,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CallBinder:
    """Reads the arguments of aggregates. Raises SourceError at the first wrong one."""

    source: Source
    workspace: Workspace

    def arguments(self, call: ast.Call, spec: AggregateCall) -> dict[str, ast.expr]:
        """Return the arguments by name of their parameter."""
        parameters = spec.parameters
        if len(call.args) > len(parameters):
            extra = call.args[len(parameters)]
            raise self.source.error(extra, f"{spec.signature} and options by keyword")
        arguments = dict(zip(parameters, call.args, strict=False))
        known = (*parameters, *OPTIONS)
        for keyword in call.keywords:
            if keyword.arg not in known:
                raise self.source.error(
                    keyword,
                    f"an option of {spec.signature}: {', '.join(known)}",
                    None,
                    nearest_name(keyword.arg or "", known),
                )
            if keyword.arg in arguments:
                got = f"a second `{keyword.arg}`"
                raise self.source.error(keyword, f"{spec.signature}", got)
            arguments[keyword.arg] = keyword.value
        required = parameters if spec.window_required else parameters[:-1]
        for name in required:
            if name not in arguments:
                raise self.source.error(call, spec.signature, f"{self.source.snippet(call)}")
        return arguments

    def bind(
        self, call: ast.Call, entity_name: str, spec: AggregateCall, arguments: dict[str, ast.expr]
    ) -> BoundCall:
        """Return the call with its options read."""
        kind = self._kind(arguments.get("of"), entity_name)
        window_ms, delay_ms = self._window(spec, arguments)
        where = arguments.get("where")
        return BoundCall(
            call,
            self.workspace.slots.history(self._entity(entity_name), kind),
            kind,
            window_ms,
            delay_ms,
            ALWAYS if where is None else self.condition(where, kind),
            self._including_current(spec, kind, arguments.get("including_current")),
        )

    def latest(self, call: ast.Call, entity_name: str, clauses: Clauses) -> BoundCall:
        """Return a call for the newest earlier transaction that meets the clauses."""
        entity, reach_ms = self._entity(entity_name), self.workspace.declarations.history_reach_ms
        history = self.workspace.slots.history(entity, Kind.TRANSACTION)
        return BoundCall(
            call, history, Kind.TRANSACTION, reach_ms, 0, clauses, including_current=False
        )

    def condition(self, node: ast.expr, kind: Kind) -> Clauses:
        """Return a condition on the stored events of a kind."""
        return ConditionCompiler(self.source, self.workspace, kind).clauses(node)

    def narrowed(self, call: BoundCall, clauses: Clauses) -> BoundCall:
        """Return the call with further conditions on its events."""
        joined = both(self.source, call.node, call.clauses, clauses)
        return BoundCall(
            call.node, call.history, call.kind, call.window_ms, call.delay_ms, joined,
            call.including_current,
        )  # fmt: skip

    def share(self, node: ast.expr) -> int:
        """Return a share from 0 to 1 in millionths."""
        value = number_of(node)
        if value is None or not 0 <= value <= 1:
            raise self.source.error(node, "a share from 0 to 1")
        millionths = Decimal(str(value)) * MILLION
        if millionths != millionths.to_integral_value():
            raise self.source.error(node, "a share with at most 6 decimals")
        return int(millionths)

    def duration(self, node: ast.expr, what: str) -> int:
        """Return the milliseconds of a duration above 0."""
        ms = duration_of(node)
        if not ms:
            raise self.source.error(node, f'{what} such as "30s", "10m", "24h" or "7d"')
        return ms

    def _entity(self, name: str) -> int:
        names = [entity.name for entity in self.workspace.declarations.entities]
        return names.index(name)

    def _kind(self, node: ast.expr | None, entity_name: str) -> Kind:
        if node is None:
            return Kind.TRANSACTION
        name = node.id if isinstance(node, ast.Name) else ""
        if name not in KINDS:
            expected = f"a kind of record: {', '.join(KINDS)}"
            raise self.source.error(node, expected, None, nearest_name(name, KINDS))
        kind = KINDS[name]
        entities = self.workspace.declarations.entities
        key = entities[self._entity(entity_name)].key
        if key not in STORED_FIELDS[kind]:
            expected = f"a kind of record that has the `{key}` of `{entity_name}`"
            known = ", ".join(STORED_FIELDS[kind])
            raise self.source.error(node, expected, f"`{name}`, which has {known}")
        return kind

    def _window(self, spec: AggregateCall, arguments: dict[str, ast.expr]) -> tuple[int, int]:
        reach_ms = self.workspace.declarations.history_reach_ms
        delay_node = arguments.get("delay")
        delay_ms = 0 if delay_node is None else self.duration(delay_node, "a delay")
        window_node = arguments.get("window")
        if window_node is None or _is_none(window_node, spec):
            window_ms, window_node = max(1, reach_ms - delay_ms), delay_node
        else:
            window_ms = self.duration(window_node, "a window")
        if window_node is not None and window_ms + delay_ms > reach_ms:
            raise self.source.error(
                window_node,
                f"a window and delay of at most {duration_text(reach_ms)} together, the reach "
                "of histories",
                duration_text(window_ms + delay_ms),
            )
        return window_ms, delay_ms

    def _including_current(self, spec: AggregateCall, kind: Kind, node: ast.expr | None) -> bool:
        excluded = spec.excludes_current or kind not in SLOT_KINDS
        if node is None:
            return not excluded
        if not isinstance(node, ast.Constant) or not isinstance(node.value, bool):
            raise self.source.error(node, "True or False")
        if node.value and spec.excludes_current:
            raise self.source.error(node, f"False: {spec.signature} leaves the current event out")
        if node.value and excluded:
            raise self.source.error(node, f"False: no current event is of kind {kind.name.lower()}")
        return node.value


def _is_none(node: ast.expr, spec: AggregateCall) -> bool:
    return not spec.window_required and isinstance(node, ast.Constant) and node.value is None
