"""What came out of a bank against what had to come out."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from bench.bank import Lines

SHOWN_COUNT = 5
IDENTITIES = {
    "alerts": ("alert_id",),
    "offers": ("action_id",),
    "training": ("model", "event"),
    "dead-letters": ("topic", "partition", "offset"),
    "decisions": ("event_id",),
}
CLOCK = b'"kind":"clock"'  # what only trainers read: not everybody passes the same points
Identity = tuple[Any, ...]


class WrongError(Exception):
    """Something was lost, decided twice, or came out other than it had to."""


def identity(family: str, line: bytes) -> Identity:
    """Return what says which emission this is: its id, or its place in the input."""
    record = json.loads(line)
    return tuple(record[name] for name in IDENTITIES[family])


class Ledger:
    """Emissions by family and identity: those expected, and those found with their versions.

    Where all is `exact`, each line has to be the expected one, byte for byte, repeats too.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self.expected: dict[str, dict[Identity, bytes]] = {}
        self.found: dict[str, dict[Identity, list[bytes]]] = {}
        self.repeats: Counter[str] = Counter()

    def expect(self, lines: Lines) -> None:
        """Note what has to come out."""
        for family, line in _told(lines):
            self.expected.setdefault(family, {})[identity(family, line)] = line

    def find(self, lines: Lines) -> None:
        """Note what came out, repeats included."""
        for family, line in _told(lines):
            versions = self.found.setdefault(family, {}).setdefault(identity(family, line), [])
            self.repeats[family] += bool(versions)
            if line not in versions:
                versions.append(line)

    def check(self) -> None:
        """Raise WrongError unless all that was expected came out, and nothing else."""
        for family in sorted({*self.expected, *self.found}):
            expected, found = self.expected.get(family, {}), self.found.get(family, {})
            if self._exact or family in {"decisions", "dead-letters"}:
                _check_same(f"{family}: lost", expected.keys() - found.keys())
                _check_same(f"{family}: never to come out", found.keys() - expected.keys())
            if self._exact:
                for key, versions in found.items():
                    _check_line(family, expected[key], versions)
        if not self._exact:
            self._check_alerts()
            self._check_offers()

    def differing_share(self) -> float:
        """Return the share of decisions of which no version is the expected one."""
        expected, found = self.expected.get("decisions", {}), self.found.get("decisions", {})
        others = sum(expected[key] not in versions for key, versions in found.items())
        return others / max(len(found), 1)

    def _check_alerts(self) -> None:
        """Where all versions of a decision agree to alert there is the alert; or to allow, none."""
        alerted = {
            json.loads(versions[0])["event_id"]
            for versions in self.found.get("alerts", {}).values()
        }
        has_to: set[Identity] = set()
        may: set[Identity] = set()
        for key, versions in self.found.get("decisions", {}).items():
            verdicts = {json.loads(version)["action"] != "allow" for version in versions}
            if True in verdicts:
                may.add(key)
                if False not in verdicts:
                    has_to.add(key)
        keys = {(event_id,) for event_id in alerted}
        _check_same("alerts: lost", has_to - keys)
        _check_same("alerts: never to come out", keys - may)

    def _check_offers(self) -> None:
        """Customers whose alerts are those expected have the offers that were expected."""
        expected, found = self.expected.get("alerts", {}), self.found.get("alerts", {})
        others = {
            json.loads(line)["customer_id"]
            for key in expected.keys() ^ found.keys()
            for line in (expected[key] if key in expected else found[key][0],)
        }
        offers = {
            key
            for key, line in self.expected.get("offers", {}).items()
            if json.loads(line)["customer_id"] not in others
        }
        got = {
            key
            for key, versions in self.found.get("offers", {}).items()
            if json.loads(versions[0])["customer_id"] not in others
        }
        _check_same("offers: lost", offers - got)
        _check_same("offers: never to come out", got - offers)


def _told(lines: Lines) -> Iterable[tuple[str, bytes]]:
    for family, some in lines.items():
        if family in IDENTITIES:
            yield from ((family, line) for line in some if CLOCK not in line)
        elif some:
            raise WrongError(f"{family}: expected nothing, got {some[0]!r}")


def _check_same(what: str, keys: set[Identity]) -> None:
    if keys:
        shown = ", ".join(map(str, sorted(keys, key=str)[:SHOWN_COUNT]))
        raise WrongError(f"{what}: {len(keys)}, such as {shown}")


def _check_line(family: str, expected: bytes, versions: list[bytes]) -> None:
    for line in versions:
        if line != expected:
            raise WrongError(
                f"{family}: expected the same bytes, got\n{line.decode()}\ninstead of\n"
                f"{expected.decode()}"
            )
