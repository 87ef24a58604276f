"""Asks one peer in a process of its own: its threads, memory and collector are nobody else's.

    python -m bench.peers.child PEER EVENTS.npz VALUES.npy FACTS.json

Runs under the peer's own Python, so it needs nothing but NumPy and that peer.
"""

import gc
import importlib
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.peers.question import Events
from bench.peers.registry import BY_KEY, Peer

WARM_UP_COUNT = 2_000
RUNS_MAX = 5
RUNS_MAX_S = 20.0  # no further run is begun after this time


def main(arguments: list[str]) -> int:
    """Write the values and the times of all runs; return the exit code."""
    key, events_path, values_path, facts_path = arguments
    peer = BY_KEY[key]
    _settle(peer)
    module, _, function = peer.answer.partition(":")
    answer = getattr(importlib.import_module(module), function)
    events = Events.load(Path(events_path))
    answer(events.where(np.arange(len(events)) < WARM_UP_COUNT))
    took_s: list[float] = []
    used_cpu_s: list[float] = []
    while not took_s or (len(took_s) < RUNS_MAX and sum(took_s) < RUNS_MAX_S):
        answers = answer(events)
        took_s.append(answers.took_s)
        used_cpu_s.append(answers.used_cpu_s)
    np.save(values_path, answers.values)
    facts = {
        "took_s": took_s,
        "used_cpu_s": used_cpu_s,
        "version": version(peer.package),
        "python": platform.python_version(),
    }
    Path(facts_path).write_text(json.dumps(facts), encoding="utf-8")
    return 0


def _settle(peer: Peer) -> None:
    """Set the collector as Millrace's command line does, and stay on one core where told so."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    if peer.is_alone and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
