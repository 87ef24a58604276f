"""What a policy says, as frozen values: read by `policy_sections`, used by the deciders."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from actions.templates import Template
from actions.yaml_positions import Place
from features.expressions import ExpressionText
from features.records import QuietHours
from online_models.judging import Contestant, JudgingSettings
from online_models.options import NO_OPTIONS, ModelOptions

# From the mildest to the hardest: codes of verdicts are indices into these.
ACTIONS = ("allow", "step_up", "review", "hold", "decline")
REPEATS_MS = 86_400_000
SEVERITIES = ("low", "medium", "high", "critical")


@dataclass(frozen=True, slots=True)
class Rate:
    """From `from_ms` on, one unit of `currency` is worth `rate` units of the policy's own."""

    currency: str
    from_ms: int
    rate: Decimal


@dataclass(frozen=True, slots=True)
class HistorySettings:
    """How far back (and how many events of an entity) histories keep.

    An event id seen again within `repeats_ms` is the same event.
    """

    reach_ms: int
    event_cap: int
    repeats_ms: int = REPEATS_MS


@dataclass(frozen=True, slots=True)
class LabelSettings:
    """When silence is taken as legitimate, and which share of ordinary events is learned from."""

    horizon_ms: int
    legitimate_sample: float
    pending_cap: int


@dataclass(frozen=True, slots=True)
class ActionCost:
    """What an action costs, in major units of the policy's currency.

    A genuine customer's trouble is `friction + friction_share * amount`; `capacity` is spent in
    any case (an analyst's time); `prevented` is the share of a fraud's loss that it saves.
    """

    friction: float
    friction_share: float
    capacity: float
    prevented: float


@dataclass(frozen=True, slots=True)
class Costs:
    """How the score of `model` becomes an action, and from which expected loss on it is severe."""

    model: str
    actions: tuple[ActionCost, ...]  # one per ACTIONS
    severity_from: tuple[float, ...]  # expected loss in money of SEVERITIES[1:], ascending


AS_IS, IGNORE, FIRE = "use", "ignore", "fire"
CERTAINTY_CHOICES = (AS_IS, IGNORE, FIRE)  # what a rule makes of a value that is not exact


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition that raises the action at least to its own; in shadow it is only recorded.

    `if_absent`, `if_stale`, `if_approximate` are of CERTAINTY_CHOICES: see `actions.trust`.
    """

    id: str
    risk: str
    when: ExpressionText
    action: str
    severity: str
    shadow: bool
    reason: Template
    if_absent: str = AS_IS
    if_stale: str = AS_IS
    if_approximate: str = AS_IS


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model, and the sentence that names it in a reason."""

    name: str
    value: ExpressionText
    reason: str


@dataclass(frozen=True, slots=True)
class ModelDeclaration:
    """A model by its pipeline's name in the catalogue, with its inputs in order.

    `bins_place` is where the policy first speaks of bins or crosses, None if it doesn't.
    """

    name: str
    pipeline: str
    pipeline_place: Place
    publish_every_ms: int
    inputs: tuple[ModelInput, ...]
    options: ModelOptions = NO_OPTIONS
    bins_place: Place | None = None
    challengers: tuple[Contestant, ...] = ()
    challenger_places: tuple[Place, ...] = ()
    judging: JudgingSettings = field(default_factory=JudgingSettings)

    @property
    def contestants(self) -> tuple[Contestant, ...]:
        """The champion of the policy, named as its pipeline, then the challengers."""
        inputs = tuple(item.name for item in self.inputs)
        champion = Contestant(self.pipeline, self.pipeline, inputs, self.options)
        return (champion, *self.challengers)


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event that is an occasion for offers."""

    id: str
    when: ExpressionText
    why: str


@dataclass(frozen=True, slots=True)
class OfferDeclaration:
    """An offer: its occasions, who may have it, how it reaches them and what it is worth.

    `value` is in major units of the policy's currency if the customer accepts.
    """

    id: str
    triggers: tuple[str, ...]
    product: str
    channels: tuple[str, ...]
    eligible: ExpressionText
    value: ExpressionText
    parameters: Mapping[str, ExpressionText]
    text_key: str
    valid_for_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class ContactCap:
    """At most `at_most_count` contacts within any `within_ms`, of a channel or offer, or of all."""

    at_most_count: int
    within_ms: int
    channel: str | None
    offer: str | None


@dataclass(frozen=True, slots=True)
class ContactSettings:
    """When a customer may be contacted, the control group, and what is expected beforehand."""

    caps: tuple[ContactCap, ...] = ()
    quiet_hours: QuietHours | None = None
    cooling_off_ms: int = 60 * 86_400_000
    risk_gate_ms: int = 7 * 86_400_000
    outcome_wait_ms: int = 30 * 86_400_000
    control_share: float = 0.1
    prior_accepted: float = 1.0
    prior_declined: float = 19.0


def canonical(value: object) -> object:
    """Return a policy's content as plain JSON values, without places, comments and layout."""
    if isinstance(value, ExpressionText):
        return canonical_expression(value.text)
    if isinstance(value, Template):
        return [*value.texts, *([canonical(f), k] for f, k in value.fields)]
    if isinstance(value, QuietHours):
        return [value.start_hour, value.end_hour]
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    if isinstance(value, Mapping):
        return [[key, canonical(item)] for key, item in value.items()]
    if isinstance(value, tuple | list):
        return [canonical(item) for item in value if not isinstance(item, Place)]
    slots = getattr(value, "__dataclass_fields__", None)
    if slots is None:
        return value
    items = ((name, getattr(value, name)) for name in slots)
    return {name: canonical(item) for name, item in items if not isinstance(item, Place)}


def canonical_expression(text: str) -> str:
    """Return an expression's text in one layout; a text that is not one stays, blanks joined."""
    try:
        return ast.unparse(ast.parse(f"({text}\n)", mode="eval"))
    except SyntaxError:
        return " ".join(text.split())
