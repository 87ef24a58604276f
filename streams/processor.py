"""The engine: bytes and control records in, emissions and changed state out.

Sans-I/O: no clock, no sockets, no randomness. One processor serves all partitions of a process;
what it emits and keeps follows from the order of its input alone, never from how that input was
cut into batches.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from actions.money import RateTable
from actions.outputs import Outputs
from actions.policy import Policy
from actions.policy_compiler import compile_policy
from actions.policy_schema import ModelDeclaration
from actions.risk import Verdicts
from features.batches import Batch, EventIds
from features.columns import MISSING, Cell, Kind
from features.decode import Decoder
from features.errors import RecordError, unknown
from features.hashing import IdHasher
from features.histories import FeatureEngine
from features.kernels.blobs import ChangeField
from features.kernels.walker import evaluate
from features.raw import RawRecord
from features.records import ListChange, PolicyChange, Promotion, Record, Versions
from online_models.delayed import PendingLabels
from online_models.versions import ModelVersion
from streams.adopting import NOT_AN_INPUT, Change, same_histories, same_state
from streams.deciding import ActionPass, Scored
from streams.emissions import Decisions, Output
from streams.foreign_histories import ForeignHistories
from streams.history_names import (
    HISTORY_PREFIX,
    history_name,
    history_names,
    history_owner,
)
from streams.partition import CUSTOMER_PREFIX, PartitionState, Write, hex_key, unhex_key
from streams.residency import Residency
from streams.scoring import Scorer
from streams.tracked import TrackedKinds, kinds_of


class StateKey(NamedTuple):
    """Where a piece of state is stored: a partition and a key relative to it."""

    partition: int
    key: bytes


class PartitionWrites(NamedTuple):
    """State of one partition that changed since the last checkpoint.

    `shared` names those of the keys written of which other processes keep copies.
    """

    writes: list[Write]
    deletes: list[bytes]
    shared: list[bytes]


class Processor:
    """Features, models and actions of one policy over the partitions of one process.

    `fresh` says that nothing is stored for these partitions yet, so nothing is looked up;
    `foreign_partitions` are those that other processes own: the parts of shared histories stored
    there can be copied here (see `streams.foreign`); `on_stage` hears the name of each stage of a
    run when it ends; `change_fault` says why a record that changes the policy can't be taken.
    """

    def __init__(
        self,
        policy: Policy,
        partitions: Sequence[int],
        hasher: IdHasher,
        *,
        fresh: bool,
        foreign_partitions: Sequence[int] = (),
        on_stage: Callable[[str], None] = lambda _: None,
        change_fault: Callable[[Change], RecordError | None] = lambda _: NOT_AN_INPUT,
    ) -> None:
        self._on_stage = on_stage
        self._change_fault = change_fault
        self._hasher = hasher
        self.policy = policy
        self.plan = compile_policy(policy, hasher.one)
        self._decoder = Decoder(hasher, RateTable(policy).convert, policy.currency)
        self._engine = FeatureEngine(
            self.plan, partitions, assume_fresh=fresh, foreign_partitions=foreign_partitions
        )
        self.foreign = ForeignHistories(self._engine, self.plan) if foreign_partitions else None
        self._scorers = {model.name: Scorer(model, self.plan) for model in policy.models}
        self._decide_by(policy)
        self.partitions = {
            partition: PartitionState(
                {m.name: _pending(policy, m) for m in policy.models},
                TrackedKinds(kinds_of(self.plan)),
                fresh=fresh,
            )
            for partition in partitions
        }
        self.residency = Residency(self._engine, self.partitions.values())

    def adopt(self, policy: Policy) -> bool:
        """Decide by another policy from the next record on, where histories and models stay.

        False where they do not, and nothing was done: such a policy needs a processor of its own,
        which takes up what is stored. The decisions are the same either way.
        """
        plan = compile_policy(policy, self._hasher.one)
        if not (same_state(policy, self.policy) and same_histories(plan, self.plan)):
            return False
        self.policy, self.plan = policy, plan
        for scorer in self._scorers.values():
            scorer.read_from(plan)
        self._decide_by(policy)
        return True

    def _decide_by(self, policy: Policy) -> None:
        self._deciding = self._scorers.get(policy.costs.model) if policy.costs else None
        self._actions = ActionPass(policy, self.plan)
        self._versions = self._current_versions()

    @property
    def unmatched_label_count(self) -> int:
        """How many labels named a transaction that no history holds."""
        return self._engine.unmatched_labels

    def decode(self, raws: Sequence[RawRecord]) -> Batch:
        """Turn raw records into a batch; bad ones become refused rows."""
        batch = self._decoder.decode(raws)
        for row in np.flatnonzero(batch.kinds == Kind.CONTROL).tolist():
            record = batch.records[row]
            fault = self._fault(record)
            if fault is not None:
                batch.refuse(row, fault)
        return batch

    def _fault(self, order: Record | None) -> RecordError | None:
        """Return why a control record can't be obeyed, None where it can."""
        if isinstance(order, PolicyChange | ListChange):
            return self._change_fault(order)
        if not isinstance(order, Promotion):
            return None
        scorer = self._scorers.get(order.model)
        if scorer is None:
            return unknown("$.model", order.model, list(self._scorers))
        if order.challenger not in scorer.contestants:
            return unknown("$.challenger", order.challenger, scorer.contestants)
        return None

    def missing(self, batch: Batch) -> list[StateKey]:
        """Return the stored state that this batch needs and that is not in memory.

        Call `load` with what the store has and ask again until nothing is missing: a label's
        customer may tell of other entities.
        """
        keys = [
            StateKey(owner.partition, history_name(owner.entity, owner.key))
            for owner in self._engine.missing(batch.kinds, batch.cells, batch.partitions)
        ]
        for partition, state in self.partitions.items():
            if state.customers.fresh:
                continue
            customers = batch.cells[Cell.CUSTOMER_ID, batch.partitions == partition]
            for customer in state.missing_customers(customers[customers != MISSING]):
                keys.append(StateKey(partition, CUSTOMER_PREFIX + hex_key(customer)))
        return keys

    def load(self, items: Iterable[tuple[StateKey, bytes | None]]) -> None:
        """Take stored state; None says that nothing is stored under that key."""
        histories = []
        for (partition, key), blob in items:
            if key.startswith(HISTORY_PREFIX):
                histories.append((history_owner(partition, key), blob))
            else:
                customer = unhex_key(key.removeprefix(CUSTOMER_PREFIX))
                self.partitions[partition].load_customer(customer, blob)
        self._engine.load(histories)

    def restore(self, load: Callable[[int, list[bytes]], list[bytes | None]]) -> None:
        """Take up each partition's clock and pending labels from the store."""
        for partition, state in self.partitions.items():
            state.restore(partial(load, partition))
            self._engine.tracking.begin(partition, state.tracked.late)

    def apply_model(self, version: ModelVersion) -> None:
        """Swap in a model version; it scores from the next record on."""
        self._scorers[version.name].take(version)
        self._versions = self._current_versions()

    def _current_versions(self) -> Versions:
        models = {name: scorer.version for name, scorer in self._scorers.items()}
        return Versions(policy=self.policy.version, models=models)

    def heartbeat(self, ts_ms: int, partitions: Iterable[int] | None = None) -> Output:
        """Let event time pass up to `ts_ms` on every partition, or on those named."""
        output = Output()
        for partition in self.partitions if partitions is None else partitions:
            output.add_training(partition, self.partitions[partition].heartbeat(ts_ms))
        return output

    def process(self, batch: Batch) -> Output:
        """Decide every record of the batch, in input order."""
        output = Output(record_count=len(batch.raws), dead_letter_count=len(batch.refused))
        for start, stop in profile_runs(batch.kinds):
            self._process_run(batch.cut(start, stop), output)
        return output

    def _process_run(self, batch: Batch, output: Output) -> None:
        features = self._engine.update(batch.kinds, batch.cells, batch.partitions)
        slots = features.values
        self._on_stage("features")
        self._actions.apply_profiles(batch, self.partitions)
        externals = self._actions.externals(batch, self.partitions)
        before = evaluate(self.plan.before_models, batch.cells, slots, externals)
        inputs = {name: scorer.inputs(before) for name, scorer in self._scorers.items()}
        said = {name: scorer.score(inputs[name]) for name, scorer in self._scorers.items()}
        scores = np.full(len(batch.raws), np.nan)
        for name, scorer in self._scorers.items():
            model_scores = said[name][:, scorer.champion_column]
            if scorer.external is not None:
                externals[scorer.external] = model_scores
            if scorer is self._deciding:
                scores = model_scores
        self._on_stage("models")
        after = evaluate(self.plan.after_models, batch.cells, slots, externals)
        scored = Scored(
            batch=batch,
            outputs=Outputs(self.plan, features, before, after),
            scores=scores,
            inputs=inputs[self._deciding.declaration.name] if self._deciding else None,
            contributions=self._deciding.contributions if self._deciding else None,
            versions=self._versions,
        )
        verdicts = self._actions.verdicts(scored)
        output.emissions += self._actions.emit(scored, verdicts, self.partitions)
        self._advance(batch, inputs, said, output)
        for row in np.flatnonzero(batch.kinds == Kind.CONTROL).tolist():
            record = batch.records[row]
            if isinstance(record, Promotion):
                output.promotions.append((int(batch.partitions[row]), record))
        self._on_stage("actions")
        rows = np.flatnonzero(batch.kinds == Kind.TRANSACTION)
        if rows.size:
            output.decisions.append(_decisions(scored, verdicts, rows, self._actions.rule_ids))

    def _advance(
        self,
        batch: Batch,
        inputs: dict[str, NDArray[np.float64]],
        said: dict[str, NDArray[np.float64]],
        output: Output,
    ) -> None:
        for partition in np.unique(batch.partitions).tolist():
            state = self.partitions[partition]
            rows = np.flatnonzero(batch.partitions == partition)
            own = {name: values[rows] for name, values in inputs.items()}
            scores = {name: values[rows] for name, values in said.items()}
            examples = state.advance(batch.kinds[rows], batch.cells[:, rows], own, scores)
            output.add_training(partition, examples)

    def changes(self) -> dict[int, PartitionWrites]:
        """Return, by partition, what changed since the last call.

        Say `residency.confirmed` once it is stored, with what `residency.generation` is now.
        """
        found = {partition: PartitionWrites([], [], []) for partition in self.partitions}
        table, data = self._engine.packed_changes()
        names = [entity.name for entity in self.plan.entities]
        for partition, changes in found.items():
            own = table[table[:, ChangeField.PARTITION] == partition]
            keys = history_names(names, own[:, ChangeField.ENTITY], own[:, ChangeField.KEY])
            offsets, firsts, ends = own[:, ChangeField.OFFSET :].T.tolist()
            values = map(data.__getitem__, map(slice, firsts, ends))
            rows = zip(keys, offsets, values, strict=True)
            # tuple.__new__ skips the Python frame of Write.__new__: half the time of this line.
            changes.writes.extend(map(tuple.__new__, repeat(Write), rows))
            if self.foreign is not None:
                changes.shared.extend(self.foreign.shared_among(keys))
        for partition, state in self.partitions.items():
            writes, deletes = state.changes(self.residency.generation)
            found[partition].writes.extend(writes)
            found[partition].deletes.extend(deletes)
        return found


def profile_runs(kinds: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Cut a batch so that profiles only stand at the head of a run.

    All rows of a run then see the same profiles, and profile columns can be filled at once.
    """
    profile = kinds == Kind.PROFILE
    starts = 1 + np.flatnonzero(profile[1:] & ~profile[:-1])
    edges = [0, *starts.tolist(), len(kinds)]
    return ((a, b) for a, b in pairwise(edges) if b > a)


def _decisions(
    scored: Scored, verdicts: Verdicts, rows: NDArray[np.intp], rule_ids: tuple[str, ...]
) -> Decisions:
    batch = scored.batch
    return Decisions(
        event_ids=EventIds(batch, rows),
        ts_ms=batch.cells[Cell.TS_MS, rows],
        customers=batch.cells[Cell.CUSTOMER_ID, rows],
        cards=batch.cells[Cell.CARD_ID, rows],
        amounts_minor=batch.cells[Cell.AMOUNT, rows],
        scores=scored.scores[rows],
        actions=verdicts.actions[rows],
        rule_hits=np.hstack([verdicts.hits[rows], verdicts.shadow_hits[rows]]),
        rule_ids=rule_ids,
        sequence=batch.first + rows,
        policy_version=scored.versions.policy,
        model_versions=_model_text(scored.versions),
    )


def _pending(policy: Policy, model: ModelDeclaration) -> PendingLabels:
    return PendingLabels(
        model.name,
        len(model.inputs),
        horizon_ms=policy.labels.horizon_ms,
        legitimate_sample=policy.labels.legitimate_sample,
        seed=0,
        cap_count=policy.labels.pending_cap,
        score_count=len(model.contestants),
    )


def _model_text(versions: Versions) -> str:
    return ",".join(f"{name}:{number}" for name, number in versions.models.items())
