"""The policy that decides: as given at the start, or as control records have changed it since.

A published policy stands until another is published; a published list stands in place of what the
policy's files say of it, through changes of the policy too. A record is checked whole before it is
taken, and one that is refused changes nothing.
"""

from collections.abc import Mapping

import msgspec

from actions.policy import Policy
from features.errors import RecordError, SourceError, unknown
from features.records import PolicyChange
from streams.adopting import Change
from streams.policy_files import check_policy, parse_policy

POLICY_KEY = b"policy"  # under which a runtime stores what `changed_state` returns
Lists = dict[str, tuple[str, ...]]


class _Stored(msgspec.Struct, frozen=True):
    files: dict[str, str] | None  # of the policy that was published last
    lists: Lists
    models: dict[str, tuple[str, ...]]


class Reloads:
    """Judges and takes control records; `policy` is what decides now."""

    def __init__(self, given: Policy) -> None:
        self.policy = given
        self._base = given  # without the lists that were published
        self._files: dict[str, str] | None = None
        self._lists: Lists = {}
        self._models: dict[str, tuple[str, ...]] = {}  # every model that there was -> its inputs
        self._note_models()
        self._judged: tuple[Change, Policy] | None = None
        self._is_changed = False

    def fault(self, change: Change) -> RecordError | None:
        """Return why a record can't be taken, None where it can."""
        try:
            self._judged = (change, self._outcome(change))
        except RecordError as error:
            return error
        return None

    def take(self, change: Change) -> Policy:
        """Take a record, return the policy from here on; RecordError where it can't be taken."""
        judged, policy = self._judged or (None, None)
        if judged is not change or policy is None:
            policy = self._outcome(change)
        self._judged = None
        if isinstance(change, PolicyChange):
            self._files = dict(change.files)
            self._base = Policy.parse(self._files)
        elif change.entries is None:
            self._lists.pop(change.name, None)
        else:
            self._lists[change.name] = change.entries
        self.policy = policy
        self._note_models()
        self._is_changed = True
        return policy

    def changed_state(self) -> bytes | None:
        """Return what has to be stored, None where nothing changed since the last call."""
        if not self._is_changed:
            return None
        self._is_changed = False
        return msgspec.msgpack.encode(_Stored(self._files, self._lists, self._models))

    def restore(self, blob: bytes) -> Policy:
        """Take up what was stored; return the policy that decided last.

        Raises MillraceError where this version can't read it any more.
        """
        try:
            stored = msgspec.msgpack.decode(blob, type=_Stored)
        except msgspec.MsgspecError as error:
            raise RecordError("the stored policy", "what this version stores", str(error)) from None
        if stored.files is not None:
            self._files = stored.files
            self._base = Policy.parse(stored.files)
        self._lists = stored.lists
        self._models |= stored.models
        self.policy = self._base.with_lists(self._lists)
        check_policy(self.policy)
        self._note_models()
        return self.policy

    def _note_models(self) -> None:
        for model in self.policy.models:
            self._models[model.name] = tuple(item.name for item in model.inputs)

    def _outcome(self, change: Change) -> Policy:
        """Return the policy that a record leads to, checked whole."""
        if isinstance(change, PolicyChange):
            return self._of_files(change)
        known = self._base.lists
        if change.name not in known:
            raise unknown("$.name", change.name, list(known))
        _refuse_repeats(change.entries or ())
        lists = {name: texts for name, texts in self._lists.items() if name != change.name}
        if change.entries is not None:
            lists[change.name] = change.entries
        policy = self._base.with_lists(lists)
        try:
            check_policy(policy)
        except SourceError as error:
            where = f"{error.file}:{error.line}:{error.column}"
            raise RecordError(
                "$.entries", f"{error.expected}, as {where} asks", error.got, error.nearest
            ) from error
        return policy

    def _of_files(self, change: PolicyChange) -> Policy:
        try:
            base = parse_policy(change.files)
        except SourceError as error:
            path = f"$.files['{error.file}']:{error.line}:{error.column}"
            raise RecordError(path, error.expected, error.got, error.nearest) from error
        except RecursionError:
            raise RecordError("$.files", "YAML of sensible depth", "one too deep") from None
        if change.version and change.version != base.version:
            raise RecordError("$.version", f"`{base.version}`, as of these files", change.version)
        self._refuse_break(base)
        policy = base.with_lists(self._lists)
        try:
            check_policy(policy)
        except SourceError as error:
            where = f"$.files['{error.file}']:{error.line}:{error.column}"
            expected = f"{error.expected}, with the lists that were published"
            raise RecordError(where, expected, error.got, error.nearest) from error
        return policy

    def _refuse_break(self, policy: Policy) -> None:
        """Raise RecordError where stored state would mean something else under this policy."""
        now = self.policy
        if policy.currency != now.currency:
            expected = f"currency {now.currency}, in which amounts are stored"
            raise RecordError("$.files", expected, policy.currency)
        keys = {entity.name: entity.key for entity in now.entities}
        for entity in policy.entities:
            if keys.get(entity.name, entity.key) != entity.key:
                expected = (
                    f"entity `{entity.name}` with the key `{keys[entity.name]}` of its histories; "
                    "another key needs another name"
                )
                raise RecordError("$.files", expected, f"`{entity.key}`")
        for model in policy.models:
            inputs = tuple(item.name for item in model.inputs)
            before = self._models.get(model.name, inputs)
            if inputs != before:
                expected = (
                    f"model `{model.name}` with the inputs that it has learned from, "
                    f"{', '.join(before)}; other inputs need another model id"
                )
                raise RecordError("$.files", expected, ", ".join(inputs))


def _refuse_repeats(entries: tuple[str, ...]) -> None:
    seen: Mapping[str, int] = {text: place for place, text in reversed(list(enumerate(entries)))}
    for place, text in enumerate(entries):
        if seen[text] != place:
            raise RecordError(f"$.entries[{place}]", "each text once", f"`{text}` again")
