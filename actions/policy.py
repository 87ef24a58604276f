"""A policy: one folder of YAML texts, read into frozen values with places for every error.

The texts come from the caller; this module opens nothing. `Policy.outputs()` hands every
expression to the compiler under a name that the deciders use to find its value again.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from actions.currencies import EXPONENTS
from actions.policy_models import read_models
from actions.policy_schema import (
    ContactSettings,
    Costs,
    HistorySettings,
    LabelSettings,
    ModelDeclaration,
    OfferDeclaration,
    Rate,
    Rule,
    Trigger,
    canonical,
)
from actions.policy_sections import (
    read_contacts,
    read_costs,
    read_currency,
    read_entities,
    read_history,
    read_labels,
    read_lets,
    read_lists,
    read_offers,
    read_rates,
    read_rules,
    read_triggers,
)
from actions.yaml_positions import Item, compose
from features.errors import SourceError, nearest_name
from features.expressions import Declarations, EntityDeclaration, ExpressionText

# Sections that several files may share (their lists are joined), and those that stand once.
LIST_SECTIONS = ("rules", "models", "triggers", "offers")
REQUIRED_SECTIONS = ("name", "currency", "entities")
SECTIONS = (
    *REQUIRED_SECTIONS, "rates", "history", "labels", "costs", "contacts", "let", "lists",
    *LIST_SECTIONS,
)  # fmt: skip
DEFAULT_HISTORY = HistorySettings(reach_ms=90 * 86_400_000, event_cap=4096)
DEFAULT_LABELS = LabelSettings(
    horizon_ms=7 * 86_400_000, legitimate_sample=0.1, pending_cap=1_000_000
)
VERSION_CHARACTERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that a bank decides by, apart from what was learned."""

    name: str
    currency: str
    currency_exponent: int
    rates: tuple[Rate, ...]
    entities: tuple[EntityDeclaration, ...]
    history: HistorySettings
    labels: LabelSettings
    lets: Mapping[str, ExpressionText]
    lists: Mapping[str, tuple[str, ...]]
    costs: Costs | None
    rules: tuple[Rule, ...]
    models: tuple[ModelDeclaration, ...]
    triggers: tuple[Trigger, ...]
    offers: tuple[OfferDeclaration, ...]
    contacts: ContactSettings
    version: str = ""

    @classmethod
    def parse(cls, files: Mapping[str, str]) -> "Policy":
        """Read a policy from its YAML texts (file name -> text), taken in the order of names.

        Raises SourceError with file, line and column at the first fault: not YAML, an unknown
        or repeated key or id, a value that is not as expected, a reference to nothing.
        """
        single, lists = _merge(files)
        currency = read_currency(single["currency"])
        models = read_models(lists["models"])
        triggers = read_triggers(lists["triggers"])
        offers = read_offers(lists["offers"], [trigger.id for trigger in triggers])
        costs, contacts = single.get("costs"), single.get("contacts")
        rates, history, labels = (single.get(name) for name in ("rates", "history", "labels"))
        entities = read_entities(single["entities"])
        named, listed = single.get("let"), single.get("lists")
        policy = cls(
            name=single["name"].identifier("name"),
            currency=currency,
            currency_exponent=EXPONENTS[currency],
            rates=read_rates(rates, currency) if rates else (),
            entities=entities,
            history=read_history(history) if history else DEFAULT_HISTORY,
            labels=read_labels(labels) if labels else DEFAULT_LABELS,
            lets=read_lets(named, [entity.name for entity in entities]) if named else {},
            lists=read_lists(listed) if listed else {},
            costs=read_costs(costs, [model.name for model in models]) if costs else None,
            rules=read_rules(lists["rules"]),
            models=models,
            triggers=triggers,
            offers=offers,
            contacts=(
                read_contacts(contacts, [offer.id for offer in offers])
                if contacts
                else ContactSettings()
            ),
        )
        return _with_version(policy)

    def with_lists(self, lists: Mapping[str, tuple[str, ...]]) -> "Policy":
        """Return the policy with these texts in its lists; names that it has no list of are left.

        The version is that of the whole: it differs where a list does.
        """
        own = {name: tuple(lists.get(name, texts)) for name, texts in self.lists.items()}
        return self if own == self.lists else _with_version(replace(self, lists=own))

    def outputs(self) -> dict[str, ExpressionText]:
        """Return every expression by its output's name, in a fixed order.

        Names: `rule:<id>`, `reason:<rule id>:<k>`, `model:<name>:<input>`, `trigger:<id>`,
        `offer:<id>:eligible`, `offer:<id>:value`, `offer:<id>:parameter:<name>`.
        """
        outputs: dict[str, ExpressionText] = {}
        for rule in self.rules:
            outputs[f"rule:{rule.id}"] = rule.when
            for k, (text, _) in enumerate(rule.reason.fields):
                outputs[f"reason:{rule.id}:{k}"] = text
        for model in self.models:
            for model_input in model.inputs:
                outputs[f"model:{model.name}:{model_input.name}"] = model_input.value
        for trigger in self.triggers:
            outputs[f"trigger:{trigger.id}"] = trigger.when
        for offer in self.offers:
            outputs[f"offer:{offer.id}:eligible"] = offer.eligible
            outputs[f"offer:{offer.id}:value"] = offer.value
            for name, text in offer.parameters.items():
                outputs[f"offer:{offer.id}:parameter:{name}"] = text
        return outputs

    def declarations(self, hasher: Callable[[str], int]) -> Declarations:
        """Return what the compiler has to know beside the expressions."""
        return Declarations(
            entities=self.entities,
            hasher=hasher,
            currency_exponent=self.currency_exponent,
            models=tuple(model.name for model in self.models),
            history_reach_ms=self.history.reach_ms,
            event_cap=self.history.event_cap,
            lets=self.lets,
            lists=self.lists,
            repeat_horizon_ms=self.history.repeats_ms,
        )

    def check_pipelines(self, known: Iterable[str], binned: Iterable[str] = ()) -> None:
        """Raise SourceError where a model names a pipeline that is not among the known ones.

        Only models with one of the pipelines `binned` may say how inputs are cut into bins.
        """
        names, binned_names = tuple(known), set(binned)
        for model in self.models:
            places = (model.pipeline_place, *model.challenger_places)
            for contestant, place in zip(model.contestants, places, strict=True):
                if contestant.pipeline not in names:
                    raise SourceError(
                        place.file,
                        place.line,
                        place.column,
                        f"pipeline: one of {', '.join(names)}",
                        f"`{contestant.pipeline}`",
                        nearest_name(contestant.pipeline, names),
                    )
            if model.bins_place and not binned_names & {c.pipeline for c in model.contestants}:
                place = model.bins_place
                expected = f"bins and crosses only with pipeline {', '.join(sorted(binned_names))}"
                got = f"`{model.pipeline}`"
                raise SourceError(place.file, place.line, place.column, expected, got)


def _merge(files: Mapping[str, str]) -> tuple[dict[str, Item], dict[str, list[Item]]]:
    """Return the sections that stand once, and the joined items of the list sections."""
    single: dict[str, Item] = {}
    lists: dict[str, list[Item]] = {name: [] for name in LIST_SECTIONS}
    first_file = ""
    for file in sorted(files):
        root = compose(file, files[file])
        if root is None:
            continue
        first_file = first_file or file
        for key, value in root.entries(f"a mapping of {', '.join(SECTIONS)}"):
            name = key.node.value
            if name in lists:
                lists[name] += value.items(f"a list of {name}")
            elif name not in SECTIONS:
                raise key.fault("a section of a policy", f"`{name}`", nearest_name(name, SECTIONS))
            elif name in single:
                first = single[name].place
                got = f"`{name}` again, first in {first.file}:{first.line}"
                raise key.fault("each section once", got)
            else:
                single[name] = value
    for name in REQUIRED_SECTIONS:
        if name not in single:
            where = first_file or "policy.yaml"
            raise SourceError(where, 1, 1, f"a policy with section `{name}`", "none in any file")
    return single, lists


def _with_version(policy: Policy) -> Policy:
    content = canonical(replace(policy, version=""))
    digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()
    return replace(policy, version=digest[:VERSION_CHARACTERS])
