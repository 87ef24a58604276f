"""Records that change the policy, and which changes a running processor can adopt as it stands."""

import numpy as np

from actions.policy import Policy
from actions.policy_schema import canonical
from features.batches import Batch
from features.columns import Kind
from features.errors import RecordError
from features.plan import Plan, Program
from features.records import ListChange, PolicyChange

Change = PolicyChange | ListChange
NOT_AN_INPUT = RecordError(
    "$.kind",
    "a record of a customer, or a promotion: policies and lists have control topics of their own",
    "a control record among the inputs",
)


def first_change(batch: Batch) -> tuple[int, Change] | None:
    """Return the row of the first record that changes the policy, and the record."""
    for row in np.flatnonzero(batch.kinds == Kind.CONTROL).tolist():
        record = batch.records[row]
        if isinstance(record, PolicyChange | ListChange):
            return row, record
    return None


def same_state(policy: Policy, other: Policy) -> bool:
    """Whether two policies read records alike, and keep the same models and labels."""
    return (
        (policy.currency, policy.rates, policy.labels)
        == (other.currency, other.rates, other.labels)
        and canonical(policy.models) == canonical(other.models)
    )  # fmt: skip


def same_histories(plan: Plan, other: Plan) -> bool:
    """Whether two plans ask the same of histories; what is done with the answers may differ."""
    return (
        (plan.entities, plan.values, plan.reach_ms, plan.event_cap, plan.repeat_horizon_ms)
        == (other.entities, other.values, other.reach_ms, other.event_cap, other.repeat_horizon_ms)
        and np.array_equal(plan.slots, other.slots)
        and np.array_equal(plan.terms, other.terms)
        and len(plan.stages) == len(other.stages)
        and all(map(_same_program, plan.stages, other.stages))
    )  # fmt: skip


def _same_program(program: Program, other: Program) -> bool:
    return (
        program.outputs == other.outputs
        and program.register_count == other.register_count
        and np.array_equal(program.code, other.code)
        and np.array_equal(program.ints, other.ints)
        and program.floats.tobytes() == other.floats.tobytes()
    )
