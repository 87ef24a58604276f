"""Asks all peers about the same events and checks their answers.

    python -m bench.peers [--events N] [--only PEER …] [--flink-python PATH] --out peers.json
    python -m bench.peers.page peers.json > docs/peers.md

The exit code is 1 where a peer's answers differ without an explanation, 2 where one that is there
fails.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import machine_facts
from bench.peers.agreement import compare
from bench.peers.page import clock_us, cpu_us
from bench.peers.question import Events, Values, make_events, tenth
from bench.peers.registry import BY_KEY, FLINK, PEERS, REFERENCE, Peer

ROOT = Path(__file__).parent.parent.parent
EVENT_COUNT = 1_000_000
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
PACKAGES = ("numpy", "numba", "msgspec")


class PeerError(Exception):
    """A peer that is there and could not answer."""


def main(arguments: list[str]) -> int:
    """Run the peers and write the results; return the exit code."""
    options = _options(arguments)
    events = make_events(options.events, options.seed)
    results = machine_facts(PACKAGES) | {
        "event_count": len(events),
        "customer_count": len(np.unique(events.customer)),
        "seed": options.seed,
        "peers": [],
        "skipped": [],
    }
    chosen = [peer for peer in PEERS if peer.key in {REFERENCE, *(options.only or BY_KEY)}]
    try:
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            _ask_all(chosen, events, Path(folder), options.flink_python, results)
    except PeerError as error:
        _say(f"bench.peers: {error}")
        return 2
    Path(options.out).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    wrong = [
        row["key"]
        for row in results["peers"]
        if "agreement" in row and row["agreement"]["unexplained_count"]
    ]
    for skipped in results["skipped"]:
        _say(f"NOT RUN: {skipped['title']}: {skipped['reason']}")
    if wrong:
        _say(f"WRONG without an explanation: {', '.join(wrong)}")
    return 1 if wrong else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENT_COUNT, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(BY_KEY), metavar="PEER")
    parser.add_argument("--flink-python", metavar="PATH", help="a Python that has apache-flink")
    parser.add_argument("--out", required=True, metavar="JSON")
    return parser.parse_args(arguments)


def _ask_all(
    chosen: list[Peer],
    events: Events,
    folder: Path,
    flink_python: str | None,
    results: dict[str, Any],
) -> None:
    reference: Values | None = None
    is_tenth = events.customer % 10 == 0
    parts = {False: events, True: tenth(events)}
    for peer in chosen:
        reason = why_absent(peer, flink_python)
        if reason:
            results["skipped"].append({"title": peer.title, "reason": reason})
            continue
        _say(f"{peer.title} …")
        part = parts[peer.is_slow]
        python = flink_python if peer.key == FLINK and flink_python else sys.executable
        values, facts = ask(peer, part, folder, python)
        row = {"key": peer.key, "event_count": len(part), **facts}
        _say(f"    {clock_us(row):.2f} µs an event ({cpu_us(row):.2f} of CPU)")
        if reference is None:
            reference = values
        else:
            expected = reference[:, is_tenth] if peer.is_slow else reference
            agreement = compare(part, expected, values, peer.columns, peer.holds_later_ties)
            row["agreement"] = asdict(agreement)
            _say(f"    {agreement}")
        results["peers"].append(row)


def why_absent(peer: Peer, flink_python: str | None) -> str:
    """Return why a peer can't be asked here, or nothing."""
    if peer.key == FLINK:
        if not flink_python:
            return "it needs PyFlink in a Python of its own: --flink-python PATH"
        return "" if shutil.which("java") else "it needs Java, and there is no `java` on PATH"
    try:
        version(peer.package)
    except PackageNotFoundError:
        return f"the package {peer.package} is not installed: make peers installs it"
    return ""


def ask(peer: Peer, events: Events, folder: Path, python: str) -> tuple[Values, dict[str, Any]]:
    """Run a peer in a process of its own; return its values, and times and versions."""
    asked, values, facts = (folder / name for name in ("asked.npz", "values.npy", "facts.json"))
    events.save(asked)
    command = [python, "-m", "bench.peers.child", peer.key, str(asked), str(values), str(facts)]
    environment = os.environ | (ONE_THREAD if peer.is_alone else {})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PeerError(f"{peer.title}: {done.stderr[-4_000:]}")
    return np.load(values), json.loads(facts.read_text(encoding="utf-8"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
