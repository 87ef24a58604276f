"""One reader for each section of a policy: YAML items in, frozen values out."""

from collections.abc import Iterable, Sequence
from typing import get_args

from actions.currencies import EXPONENTS, fits_64_bits, minor_factor
from actions.policy_schema import (
    ACTIONS,
    CERTAINTY_CHOICES,
    REPEATS_MS,
    SEVERITIES,
    ActionCost,
    ContactCap,
    ContactSettings,
    Costs,
    HistorySettings,
    LabelSettings,
    OfferDeclaration,
    Rate,
    Rule,
    Trigger,
)
from actions.templates import parse_template
from actions.yaml_positions import Item, Place
from features.errors import nearest_name
from features.expressions import (
    FIELDS,
    KEY_FIELDS,
    EntityDeclaration,
    ExpressionText,
    taken_by,
)
from features.records import ContactChannel, QuietHours

CHANNELS: tuple[str, ...] = get_args(ContactChannel)
EVENT_CAP_MAX = 65_536
COST_MAX = 1e9
_SCOPES = ("local", "shared")
_CERTAINTIES = ("if_absent", "if_stale", "if_approximate")
_RULE_OPTIONS = ("severity", "shadow", *_CERTAINTIES)


def read_currency(item: Item, what: str = "a currency (ISO 4217)") -> str:
    """Read a currency code with a known exponent."""
    code = item.text(what)
    if code not in EXPONENTS:
        raise item.fault(what, f"`{code}`", nearest_name(code, EXPONENTS))
    return code


def read_rates(item: Item, own: str) -> tuple[Rate, ...]:
    """Read `{currency: {date: rate}}`; sorted by currency and date."""
    rates: list[Rate] = []
    for key, dated in item.entries("rates: {currency: {date: rate}}"):
        currency = read_currency(key)
        if currency == own:
            raise key.fault("a currency other than the policy's own", f"`{currency}`")
        for date, rate in dated.entries(f"rates of {currency}: {{date: rate}}"):
            exact = rate.decimal("rate", 0)
            if exact == 0:
                raise rate.fault("a rate above 0")
            if not fits_64_bits(minor_factor(exact, currency, own)):
                raise rate.fault("a rate with at most 9 significant digits")
            rates.append(Rate(currency, date.date_ms("date"), exact))
    return tuple(sorted(rates, key=lambda rate: (rate.currency, rate.from_ms)))


def read_entities(item: Item) -> tuple[EntityDeclaration, ...]:
    """Read `{name: {key, scope, keep}}`."""
    entities = []
    for key, body in item.entries("entities: {name: {key, scope, keep}}"):
        fields = body.fields("an entity", ("key", "scope"), ("keep",))
        kept = fields["keep"].choices("field", tuple(FIELDS)) if "keep" in fields else ()
        entities.append(
            EntityDeclaration(
                name=key.identifier("entity name"),
                key=fields["key"].choice("key field", KEY_FIELDS),
                shared=fields["scope"].choice("scope", _SCOPES) == "shared",
                keep=kept,
            )
        )
    if not entities:
        raise item.fault("at least one entity")
    return tuple(entities)


def read_history(item: Item) -> HistorySettings:
    """Read `{reach, cap, repeats}`."""
    fields = item.fields("history", ("reach", "cap"), ("repeats",))
    return HistorySettings(
        fields["reach"].duration_ms("reach"),
        fields["cap"].integer("cap", 1, EVENT_CAP_MAX),
        _duration_or(fields, "repeats", REPEATS_MS),
    )


def read_lets(item: Item, entities: Iterable[str]) -> dict[str, ExpressionText]:
    """Read `{name: expression}`; a name may not mean anything else in an expression."""
    known = tuple(entities)
    lets: dict[str, ExpressionText] = {}
    for key, value in item.entries("named values: {name: expression}"):
        name = key.identifier("name of a value")
        meaning = taken_by(name, known)
        if meaning:
            raise key.fault("a name of its own", f"`{name}`, which is {meaning}")
        lets[name] = value.expression("value")
    return lets


def read_lists(item: Item) -> dict[str, tuple[str, ...]]:
    """Read `{name: [text, …]}`; each text once. An empty list waits for what is published."""
    lists: dict[str, tuple[str, ...]] = {}
    for key, body in item.entries("lists: {name: [text, …]}"):
        name = key.identifier("name of a list")
        texts: dict[str, None] = {}
        for entry in body.items(f"{name}: a list of texts"):
            text = entry.text(f"{name}: a text")
            if text in texts:
                raise entry.fault("each text once", f"`{text}` again")
            texts[text] = None
        lists[name] = tuple(texts)
    return lists


def read_labels(item: Item) -> LabelSettings:
    """Read `{horizon, legitimate_sample, pending_cap}`."""
    fields = item.fields("labels", ("horizon", "legitimate_sample", "pending_cap"))
    sample = fields["legitimate_sample"]
    share = sample.number("legitimate_sample", 0, 1)
    if share == 0:
        raise sample.fault("legitimate_sample: a share above 0")
    return LabelSettings(
        fields["horizon"].duration_ms("horizon"),
        share,
        fields["pending_cap"].integer("pending_cap", 1, 10**9),
    )


def read_costs(item: Item, models: Iterable[str]) -> Costs:
    """Read `{model, actions: {action: {friction, …}}, severity_from}`."""
    fields = item.fields("costs", ("model", "actions", "severity_from"))
    actions = fields["actions"].fields("actions", ACTIONS)
    severities = fields["severity_from"].fields("severity_from", SEVERITIES[1:])
    limits = tuple(severities[n].number(n, 0, COST_MAX) for n in SEVERITIES[1:])
    for name, low, high in zip(SEVERITIES[2:], limits, limits[1:], strict=False):
        if high < low:
            raise severities[name].fault(f"{name}: at least {low:g}, the step below it")
    return Costs(
        model=fields["model"].choice("model", tuple(models)),
        actions=tuple(_read_action_cost(actions[name]) for name in ACTIONS),
        severity_from=limits,
    )


def _read_action_cost(item: Item) -> ActionCost:
    names = ("friction_share", "capacity")
    fields = item.fields("costs of an action", ("friction", "prevented"), names)
    return ActionCost(
        friction=fields["friction"].number("friction", 0, COST_MAX),
        friction_share=_number_or(fields, "friction_share", 0.0, 1),
        capacity=_number_or(fields, "capacity", 0.0, COST_MAX),
        prevented=fields["prevented"].number("prevented", 0, 1),
    )


def read_rules(items: Sequence[Item]) -> tuple[Rule, ...]:
    """Read the rules of all files, in order."""
    seen: dict[str, Place] = {}
    rules = []
    for item in items:
        fields = item.fields("a rule", ("id", "risk", "when", "action", "reason"), _RULE_OPTIONS)
        severity = fields.get("severity")
        shadow = fields.get("shadow")
        rules.append(
            Rule(
                id=new_id(fields["id"], "rule", seen),
                risk=fields["risk"].identifier("risk"),
                when=fields["when"].expression("when"),
                action=fields["action"].choice("action", ACTIONS[1:]),
                severity=severity.choice("severity", SEVERITIES) if severity else "medium",
                shadow=shadow.boolean("shadow") if shadow else False,
                reason=parse_template(fields["reason"], "reason"),
                **{n: fields[n].choice(n, CERTAINTY_CHOICES) for n in _CERTAINTIES if n in fields},
            )
        )
    return tuple(rules)


def read_triggers(items: Sequence[Item]) -> tuple[Trigger, ...]:
    """Read the triggers of all files, in order."""
    seen: dict[str, Place] = {}
    triggers = []
    for item in items:
        fields = item.fields("a trigger", ("id", "when", "why"))
        triggers.append(
            Trigger(
                id=new_id(fields["id"], "trigger", seen),
                when=fields["when"].expression("when"),
                why=" ".join(fields["why"].text("why").split()),
            )
        )
    return tuple(triggers)


def read_offers(items: Sequence[Item], triggers: Iterable[str]) -> tuple[OfferDeclaration, ...]:
    """Read the offers of all files, in order; their triggers must be declared."""
    known = tuple(triggers)
    required = ("id", "triggers", "product", "channels", "eligible", "value", "valid_for", "why")
    seen: dict[str, Place] = {}
    offers = []
    for item in items:
        fields = item.fields("an offer", required, ("parameters", "text_key"))
        name = new_id(fields["id"], "offer", seen)
        text_key = fields.get("text_key")
        offers.append(
            OfferDeclaration(
                id=name,
                triggers=_filled(fields["triggers"], "trigger", known),
                product=fields["product"].text("product"),
                channels=_filled(fields["channels"], "channel", CHANNELS),
                eligible=fields["eligible"].expression("eligible"),
                value=fields["value"].expression("value"),
                parameters=_read_parameters(fields.get("parameters")),
                text_key=text_key.text("text_key") if text_key else f"offer.{name}",
                valid_for_ms=fields["valid_for"].duration_ms("valid_for"),
                why=" ".join(fields["why"].text("why").split()),
            )
        )
    return tuple(offers)


def _read_parameters(item: Item | None) -> dict[str, ExpressionText]:
    if item is None:
        return {}
    entries = item.entries("parameters: {name: expression}")
    return {key.identifier("parameter name"): value.expression("value") for key, value in entries}


def read_contacts(item: Item, offers: Iterable[str]) -> ContactSettings:
    """Read caps, quiet hours, cooling-off, risk gate and control group."""
    optional = (
        "quiet_hours", "cooling_off", "risk_gate", "outcome_wait", "control_share", "prior",
    )  # fmt: skip
    fields = item.fields("contacts", ("caps",), optional)
    known = tuple(offers)
    prior = fields["prior"].fields("prior", ("accepted", "declined")) if "prior" in fields else {}
    default = ContactSettings()
    return ContactSettings(
        caps=tuple(_read_cap(cap, known) for cap in fields["caps"].items("a list of caps")),
        quiet_hours=_read_quiet_hours(fields.get("quiet_hours")),
        cooling_off_ms=_duration_or(fields, "cooling_off", default.cooling_off_ms),
        risk_gate_ms=_duration_or(fields, "risk_gate", default.risk_gate_ms),
        outcome_wait_ms=_duration_or(fields, "outcome_wait", default.outcome_wait_ms),
        control_share=_number_or(fields, "control_share", default.control_share, 0.99),
        prior_accepted=_number_or(prior, "accepted", default.prior_accepted, 1e6, 1e-3),
        prior_declined=_number_or(prior, "declined", default.prior_declined, 1e6, 1e-3),
    )


def _read_cap(item: Item, offers: tuple[str, ...]) -> ContactCap:
    fields = item.fields("a contact cap", ("at_most", "within"), ("channel", "offer"))
    channel, offer = fields.get("channel"), fields.get("offer")
    return ContactCap(
        at_most_count=fields["at_most"].integer("at_most", 0, 10_000),
        within_ms=fields["within"].duration_ms("within"),
        channel=channel.choice("channel", CHANNELS) if channel else None,
        offer=offer.choice("offer", offers) if offer else None,
    )


def _read_quiet_hours(item: Item | None) -> QuietHours | None:
    if item is None:
        return None
    fields = item.fields("quiet_hours", ("start_hour", "end_hour"))
    start, end = (fields[name].integer(name, 0, 23) for name in ("start_hour", "end_hour"))
    return QuietHours(start_hour=start, end_hour=end)


def _filled(item: Item, what: str, known: tuple[str, ...]) -> tuple[str, ...]:
    words = item.choices(what, known)
    if not words:
        raise item.fault(f"at least one {what}", "an empty list")
    return words


def _duration_or(fields: dict[str, Item], name: str, default_ms: int) -> int:
    return fields[name].duration_ms(name) if name in fields else default_ms


def _number_or(
    fields: dict[str, Item], name: str, default: float, most: float, least: float = 0
) -> float:
    return fields[name].number(name, least, most) if name in fields else default


def new_id(item: Item, what: str, seen: dict[str, Place]) -> str:
    """Read an id; one that was read before is an error."""
    name = item.identifier(f"{what} id")
    if name in seen:
        first = seen[name]
        where = f"`{name}` again, first in {first.file}:{first.line}"
        raise item.fault(f"each {what} id once", where)
    seen[name] = item.place
    return name
