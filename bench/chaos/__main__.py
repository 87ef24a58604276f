"""Plays rounds of faults and says what came of them.

    python -m bench.chaos [--rounds N] [--seed S] [--mutant NAME] --out bench/results/chaos.json
    python -m bench.chaos.page bench/results/chaos.json > docs/chaos.md
    python -m bench.chaos --seed S --round K      one round alone, on the same records

The exit code is 1 where something was lost, decided twice or came out other than it had to.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from bench.bank import MILLRACE
from bench.chaos.ledger import WrongError
from bench.chaos.mutants import MUTANTS
from bench.chaos.rounds import BANKS, Chaos, plans
from bench.chaos.servers import Servers
from bench.machine import machine_facts
from streams.policy_files import read_policy
from streams.worker.warming import warm_up

PACKAGES = ("aiokafka", "faust-streaming", "redis", "kafka-python")


def main(arguments: Sequence[str]) -> int:
    """Play; return the exit code."""
    options = _options(arguments)
    warm_up(read_policy())
    results: dict[str, Any] = machine_facts(PACKAGES) | {
        "seed": options.seed,
        "mutant": options.mutant,
        "rounds": [],
        "fault": None,
    }
    program = ("-m", "bench.chaos.mutants", options.mutant) if options.mutant else MILLRACE
    chosen = [
        plan
        for plan in islice(plans(options.seed, options.banks or tuple(BANKS)), options.rounds)
        if options.round in (None, plan.number)
    ]
    with closing(Servers()) as servers, closing(Chaos(servers, options.seed, program)) as chaos:
        try:
            for row in chaos.play(chosen, alone=options.round is not None):
                results["rounds"].append(row)
                print(json.dumps(row), flush=True)
                results["banks"] = _of_banks(chaos)
                if options.out:
                    _write(options.out, results)
        except WrongError as error:
            print(error, file=sys.stderr)
            results["fault"] = str(error).splitlines()[0]
    if options.out:
        _write(options.out, results)
    return int(results["fault"] is not None)


def _of_banks(chaos: Chaos) -> dict[str, Any]:
    return {
        name: {
            "found": {family: len(some) for family, some in run.ledger.found.items()},
            "repeats": dict(run.ledger.repeats),
            "differing_share": run.ledger.differing_share(),
        }
        for name, run in chaos.runs.items()
    }


def _write(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int)
    parser.add_argument("--banks", nargs="*", choices=tuple(BANKS))
    parser.add_argument("--mutant", choices=tuple(MUTANTS))
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
