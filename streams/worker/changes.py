"""Policies and lists from their control topics: every worker judges them in the same order."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from actions.policy import Policy
from features.errors import RecordError
from features.raw import RawRecord
from features.records import CONTROL_RECORDS, ENCODER, ListChange, PolicyChange
from features.refusals import explain
from streams.adopting import Change
from streams.emissions import Emission, dead_letter
from streams.metrics import Metrics
from streams.reloads import Reloads
from streams.topics import DEAD_LETTERS
from streams.worker.warming import warm_up

logger = logging.getLogger(__name__)


class Deciders(Protocol):
    """Those who have to know what decides."""

    async def change_policy(self, policy: Policy) -> None:
        """Decide by another policy from the next record on."""

    async def refuse(self, letters: list[Emission]) -> None:
        """Tell of records that were refused."""


class PolicyChanges:
    """Takes what `policies` and `lists` say, and hands on the policy that it leads to.

    A record that can't be taken changes nothing. A list that the policy does not declare is
    refused too, but counts once there is a policy that does: so the outcome does not depend on
    when a worker started.
    """

    def __init__(self, given: Policy, deciders: Deciders, metrics: Metrics) -> None:
        self._reloads = Reloads(given)
        self._deciders = deciders
        self._metrics = metrics
        self._undeclared: dict[str, ListChange] = {}
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {
            topic: msgspec.json.Decoder(kind) for topic, kind in CONTROL_RECORDS.items()
        }
        metrics.note_policy(given)

    @property
    def policy(self) -> Policy:
        """The policy that decides now."""
        return self._reloads.policy

    async def take(self, raws: Sequence[RawRecord], *, is_new: bool) -> None:
        """Judge records and hand on what they lead to; tell of refused ones if they are new."""
        before = self.policy
        loop = asyncio.get_running_loop()
        letters = await loop.run_in_executor(None, self._judge, raws)
        policy = self.policy
        if policy.version != before.version:
            await loop.run_in_executor(None, warm_up, policy)
            await self._deciders.change_policy(policy)
            self._metrics.note_policy(policy)
            logger.info("policy %s, version %s, decides from now on", policy.name, policy.version)
        if letters and is_new:
            await self._deciders.refuse(letters)

    def _judge(self, raws: Sequence[RawRecord]) -> list[Emission]:
        letters = []
        for raw in raws:
            error = self._take(raw)
            self._metrics.changes.labels(raw.topic, "refused" if error else "taken").inc()
            if error is not None:
                logger.error(
                    "record %d of `%s` is refused, the policy stays as it is: %s",
                    raw.offset, raw.topic, error,
                )  # fmt: skip
                self._metrics.dead_letters.inc()
                letters.append(Emission(DEAD_LETTERS, "", ENCODER.encode(dead_letter(raw, error))))
        return letters

    def _take(self, raw: RawRecord) -> RecordError | None:
        """Take a record; return why it can't be taken."""
        try:
            change: Change = self._decoders[raw.topic].decode(raw.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return explain(raw, error)
        return self._take_change(change)

    def _take_change(self, change: Change) -> RecordError | None:
        fault = self._reloads.fault(change)
        if isinstance(change, ListChange):
            self._undeclared.pop(change.name, None)
            if fault is not None and fault.path == "$.name":
                self._undeclared[change.name] = change
        if fault is None:
            self._reloads.take(change)
        if fault is None and isinstance(change, PolicyChange):
            for waiting in list(self._undeclared.values()):
                self._take_change(waiting)
        return fault
