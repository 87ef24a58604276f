"""Files of expressions to compute over history: the columns of a training set.

A file is YAML:

```yaml
currency: EUR       # of amounts; what is left out is as in the bank policy, here and below
rates: {...}        # as in a policy
entities: {...}     # as in a policy
history: {reach: 90d, cap: 4096}
let: {...}          # named values, as in a policy
lists: {...}        # as in a policy
features:           # name of the column: expression
  customer_count_1d: customer.count("1d")
```

Where the path is a policy's folder, the columns are the inputs of its models, each under the name
`<model>_<input>`: the vector that a model sees when it decides.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from actions.currencies import EXPONENTS
from actions.policy import Policy
from actions.policy_schema import ContactSettings
from actions.policy_sections import (
    read_currency,
    read_entities,
    read_history,
    read_lets,
    read_lists,
    read_rates,
)
from actions.yaml_positions import Item, compose
from features.columns import Cell
from features.errors import MillraceError, SourceError
from features.expressions import EntityDeclaration, ExpressionText, Type, compile_plan
from features.expressions import expression_type as type_of
from features.expressions.declarations import CUSTOMER
from features.plan import Plan, SlotField, TermField
from features.reading import KIND_MARK
from replay.feature_files import STATUS_SUFFIX
from streams.policy_files import read_policy, read_text

SECTIONS = ("currency", "rates", "entities", "history", "let", "lists")
OWN_COLUMNS = ("event_id", "ts_ms")


@dataclass(frozen=True, slots=True)
class ExpressionSet:
    """Named expressions, and the policy that says what entities and money mean in them.

    The policy decides nothing: only those of its sections count that a file of expressions has.
    """

    policy: Policy
    expressions: dict[str, ExpressionText]

    def compile(self, hasher: Callable[[str], int]) -> Plan:
        """Return the plan of all expressions; only entities that they ask about are in it.

        Entities that nobody asks about would cost time and memory and change no value. Raises
        SourceError for a wrong expression, with its place in the file.
        """
        declarations = self.policy.declarations(hasher)
        plan = compile_plan(self.expressions, declarations)
        asked = _entities_asked(plan)
        entities = tuple(
            EntityDeclaration(entity.name, entity.key, entity.shared)
            for entity in declarations.entities
            if entity.name in asked
        )
        return compile_plan(self.expressions, replace(declarations, entities=entities))

    def types(self, hasher: Callable[[str], int]) -> dict[str, Type]:
        """Return the type of each expression."""
        declarations = self.policy.declarations(hasher)
        return {name: type_of(text, declarations) for name, text in self.expressions.items()}


def read_expressions(path: Path) -> ExpressionSet:
    """Read a file of expressions, or the model inputs of a policy's folder.

    Raises SourceError with file, line and column, or MillraceError where there is nothing.
    """
    if path.is_dir():
        return _model_inputs(path)
    return parse_expressions(str(path), read_text(path), read_policy())


def parse_expressions(file: str, text: str, defaults: Policy) -> ExpressionSet:
    """Read the YAML text of a file; what it leaves out is taken from `defaults`."""
    root = compose(file, text)
    if root is None:
        raise SourceError(file, 1, 1, "a mapping with section `features`", "nothing")
    sections = root.fields("a file of expressions", ("features",), SECTIONS)
    policy = replace(
        defaults, name="expressions", costs=None, rules=(), models=(), triggers=(), offers=(),
        contacts=ContactSettings(), lets={}, lists={},
    )  # fmt: skip
    if "currency" in sections:
        currency = read_currency(sections["currency"])
        rates = defaults.rates if currency == defaults.currency else ()
        policy = replace(
            policy, currency=currency, currency_exponent=EXPONENTS[currency], rates=rates
        )
    if "rates" in sections:
        policy = replace(policy, rates=read_rates(sections["rates"], policy.currency))
    if "entities" in sections:
        policy = replace(policy, entities=read_entities(sections["entities"]))
    if "history" in sections:
        policy = replace(policy, history=read_history(sections["history"]))
    if "let" in sections:
        names = [entity.name for entity in policy.entities]
        policy = replace(policy, lets=read_lets(sections["let"], names))
    if "lists" in sections:
        policy = replace(policy, lists=read_lists(sections["lists"]))
    return ExpressionSet(policy, _read_features(sections["features"]))


def _read_features(item: Item) -> dict[str, ExpressionText]:
    found: dict[str, ExpressionText] = {}
    for key, value in item.entries("features: {name: expression}"):
        name = key.identifier("a feature's name")
        if name in OWN_COLUMNS or name.endswith(STATUS_SUFFIX):
            expected = f"a name other than {', '.join(OWN_COLUMNS)} and not ending in _status"
            raise key.fault(expected, f"`{name}`")
        found[name] = value.expression("an expression")
    if not found:
        raise item.fault("at least one feature")
    return found


def _model_inputs(directory: Path) -> ExpressionSet:
    policy = read_policy(directory)
    found: dict[str, ExpressionText] = {}
    for model in policy.models:
        for item in model.inputs:
            name = f"{model.name}_{item.name}"
            if name in found or name.endswith(STATUS_SUFFIX):
                text = item.value
                expected = (
                    f"model inputs that make different columns, none ending in {STATUS_SUFFIX}"
                )
                raise SourceError(text.file, text.line, text.column, expected, f"`{name}`")
            found[name] = item.value
    if not found:
        raise MillraceError(f"{directory}: expected a policy with models, got one without")
    return ExpressionSet(policy, found)


def _entities_asked(plan: Plan) -> set[str]:
    """Return the names of the entities that have slots, and of the one that labels come by."""
    numbers = {int(slot[SlotField.ENTITY]) for slot in plan.slots}
    names = {plan.entities[number].name.partition(KIND_MARK)[0] for number in numbers}
    labelled = bool((plan.terms[:, TermField.CELL] == Cell.LABEL).any())
    return names | ({CUSTOMER} if labelled else set())
