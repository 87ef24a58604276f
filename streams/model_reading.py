"""What the store says of models: champion, challengers and how good they are, read only."""

from typing import Any

import msgspec

from actions.policy import Policy
from online_models.contest import Contest
from online_models.versions import decode_version
from streams.store import Store
from streams.training import TRAINER_OWNER, contest_key, version_key


def read_models(policy: Policy, store: Store) -> list[dict[str, Any]]:
    """Return, for each model of the policy, what was stored of it, as plain values.

    The measures are over the examples of the contest's window, as the next report would give them.
    `out` are the contestants whose pipeline can't learn, and why.
    A model of which nothing is stored stands as it is declared. Nothing is written, no owner is
    acquired. Raises RecordError for damaged state.
    """
    found = []
    for model in policy.models:
        inputs = [item.name for item in model.inputs]
        contest = Contest(model.name, inputs, model.contestants, model.judging)
        keys = [contest_key(model.name), version_key(model.name)]
        state, version = store.load([(TRAINER_OWNER, key) for key in keys])
        newest = None if version is None else decode_version(version)
        if state is not None:
            contest.restore(state, newest)
        report = contest.report(0 if newest is None else newest.ts_ms)
        out = {name: msgspec.to_builtins(refusal) for name, refusal in contest.out.items()}
        found.append(msgspec.to_builtins(report) | {"out": out})
    return found
