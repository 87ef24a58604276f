"""From computed values to alerts and offers: the part of the processor that meets customers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from actions.customers import CustomerState, profile_column
from actions.next_best import NextBestAction
from actions.outputs import Outputs
from actions.policy import Policy
from actions.risk import RiskDecider, Verdicts
from actions.trust import reason_status, slots_behind
from features.batches import Batch
from features.columns import Cell, Kind
from features.errors import RecordError
from features.histories import Features
from features.plan import Plan
from features.records import (
    ENCODER,
    Interaction,
    Offer,
    Outcome,
    Profile,
    Reason,
    Transaction,
    Versions,
)
from online_models.explain import Explainer
from streams.emissions import Emission, dead_letter
from streams.partition import PartitionState

Partitions = Mapping[int, PartitionState]
PROFILE_EXTERNAL = "profile."
MODEL_EXTERNAL = "model."
CONTROL_TOPIC = "offers.control"  # decided and logged, never delivered: no channel reads it


@dataclass(frozen=True, slots=True)
class Scored:
    """A run of records with everything that was computed for it, before anyone is told."""

    batch: Batch
    outputs: Outputs
    scores: NDArray[np.float64]  # of the deciding model, (n,)
    inputs: NDArray[np.float64] | None  # of the deciding model, (n, k)
    contributions: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None  # of inputs (m, k)
    versions: Versions


class ActionPass:
    """Turns values into verdicts for all rows, then walks the few rows that have consequences."""

    def __init__(self, policy: Policy, plan: Plan) -> None:
        self._policy = policy
        self._plan = plan
        self._risk = RiskDecider(policy, plan)
        self._next_best = NextBestAction(policy, plan)
        self._explainer = _explainer(policy)
        self._inputs_read = _inputs_read(policy, plan)

    @property
    def rule_ids(self) -> tuple[str, ...]:
        """Ids of all rules: live ones, then those in shadow, as in `rule_hits`."""
        return tuple(rule.id for rule in (*self._risk.live, *self._risk.shadow))

    def apply_profiles(self, batch: Batch, partitions: Partitions) -> None:
        """Take the batch's profiles; they stand before every other record of a run."""
        for row in np.flatnonzero(batch.kinds == Kind.PROFILE).tolist():
            record = batch.records[row]
            if isinstance(record, Profile):
                partitions[int(batch.partitions[row])].has_profiles = True
                self._next_best.on_profile(_state_for_change(batch, row, partitions), record)

    def externals(self, batch: Batch, partitions: Partitions) -> NDArray[np.float64]:
        """Return the plan's external columns, (externals, n); those of models are still NaN."""
        columns = np.full((len(self._plan.externals), len(batch.raws)), np.nan)
        names = [name for name in self._plan.externals if name.startswith(PROFILE_EXTERNAL)]
        if not names or not any(partition.has_profiles for partition in partitions.values()):
            return columns
        owners = zip(batch.partitions.tolist(), batch.cells[Cell.CUSTOMER_ID].tolist(), strict=True)
        states = [partitions[partition].customer(customer) for partition, customer in owners]
        times_ms = batch.cells[Cell.TS_MS]
        for name in names:
            field = name.removeprefix(PROFILE_EXTERNAL)
            columns[self._plan.externals.index(name)] = profile_column(field, states, times_ms)
        return columns

    def verdicts(self, scored: Scored) -> Verdicts:
        """Return action, severity and rule hits of every row."""
        batch = scored.batch
        transactions = batch.kinds == Kind.TRANSACTION
        amounts = np.where(transactions, batch.cells[Cell.AMOUNT], 0)
        return self._risk.decide(
            scored.outputs,
            scored.scores,
            amounts / 10**self._policy.currency_exponent,
            transactions,
        )

    def emit(self, scored: Scored, verdicts: Verdicts, partitions: Partitions) -> list[Emission]:
        """Walk the rows with consequences in input order; return what they have to say."""
        batch = scored.batch
        fired = self._next_best.fired(
            scored.outputs.before, scored.outputs.after, batch.kinds == Kind.TRANSACTION
        )
        alerted = verdicts.actions > 0
        reasons_by_row = self._model_reasons(scored, np.flatnonzero(alerted))
        errors = dict(batch.refused)
        talks = alerted | fired | (batch.kinds == Kind.REFUSED) | (batch.kinds > Kind.PROFILE)
        emissions: list[Emission] = []
        for row in np.flatnonzero(talks).tolist():
            record = batch.records[row]
            if isinstance(record, Transaction):
                state = _state_for_change(batch, row, partitions)
                if alerted[row]:
                    alert = self._risk.alert(
                        row, record, verdicts, scored.outputs, float(scored.scores[row]),
                        reasons_by_row.get(row, ()), scored.versions,
                    )  # fmt: skip
                    self._next_best.on_alert(state, alert)
                    emissions.append(_emission("alerts", record.customer_id, alert))
                if fired[row]:
                    values = scored.outputs.row(row)
                    offers = self._next_best.decide(state, record, values, scored.versions)
                    emissions += [_offer_emission(offer) for offer in offers]
            elif isinstance(record, Interaction):
                self._take_interaction(batch, row, record, partitions)
            elif isinstance(record, Outcome):
                self._next_best.on_outcome(_state_for_change(batch, row, partitions), record)
            elif record is None:
                emissions.append(_dead_letter(batch, row, errors))
        return emissions

    def _take_interaction(
        self, batch: Batch, row: int, record: Interaction, partitions: Partitions
    ) -> None:
        """Let an interaction change its customer's state; most change nothing and cost nothing."""
        partition = partitions[int(batch.partitions[row])]
        customer = int(batch.cells[Cell.CUSTOMER_ID, row])
        state = partition.customer(customer) or CustomerState()
        if self._next_best.on_interaction(state, record):
            partition.keep_customer(customer, state)

    def _model_reasons(
        self, scored: Scored, rows: NDArray[np.intp]
    ) -> dict[int, tuple[Reason, ...]]:
        """Return, for the rows that alert, the inputs that raised the score most, in words."""
        explainer = self._explainer
        if (
            explainer is None
            or scored.contributions is None
            or scored.inputs is None
            or not rows.size
        ):
            return {}
        inputs = scored.inputs[rows]
        contributions = scored.contributions(inputs)
        reasons = {}
        for i, row in enumerate(rows.tolist()):
            found = explainer.reasons(contributions[i], inputs[i])
            reasons[row] = tuple(self._with_status(r, scored.outputs.features, row) for r in found)
        return reasons

    def _with_status(self, reason: Reason, features: Features, row: int) -> Reason:
        status = reason_status(self._inputs_read[reason.source], features, row)
        return reason if status == reason.status else structs.replace(reason, status=status)


def _explainer(policy: Policy) -> Explainer | None:
    """Return what words the reasons of the deciding model, None where only rules decide."""
    for model in policy.models:
        if policy.costs is not None and policy.costs.model == model.name:
            sentences = {item.name: item.reason for item in model.inputs}
            return Explainer(model.name, [item.name for item in model.inputs], sentences)
    return None


def _inputs_read(policy: Policy, plan: Plan) -> dict[str, list[int]]:
    """Return the slots behind each input of each model, by the source that reasons name."""
    sources = [
        f"model:{model.name}:{item.name}" for model in policy.models for item in model.inputs
    ]
    return {source: slots_behind(plan, source) for source in sources}


def _state_for_change(batch: Batch, row: int, partitions: Partitions) -> CustomerState:
    partition = partitions[int(batch.partitions[row])]
    return partition.customer_for_change(int(batch.cells[Cell.CUSTOMER_ID, row]))


def _emission(topic: str, key: str, record: Struct) -> Emission:
    return Emission(topic, key, ENCODER.encode(record))


def _offer_emission(offer: Offer) -> Emission:
    topic = CONTROL_TOPIC if offer.control else f"offers.{offer.channel}"
    return _emission(topic, offer.customer_id, offer)


def _dead_letter(batch: Batch, row: int, errors: Mapping[int, RecordError]) -> Emission:
    return _emission("dead-letters", "", dead_letter(batch.raws[row], errors[row]))
