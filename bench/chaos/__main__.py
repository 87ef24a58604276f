"""Plays rounds of faults and says what came of them.

    python -m bench.chaos [--rounds N] [--seed S] [--mutants] --out bench/results/chaos.json
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
from bench.chaos.rounds import BANKS, BLOCK_COUNT, Chaos, Plan, plans
from bench.chaos.servers import Servers
from bench.machine import machine_facts
from streams.policy_files import read_policy
from streams.worker.warming import warm_up

MUTANT_ROUNDS_COUNT = BLOCK_COUNT * len(BANKS)
PACKAGES = ("aiokafka", "faust-streaming", "redis", "kafka-python")


def main(arguments: Sequence[str]) -> int:
    """Play; return the exit code."""
    options = _options(arguments)
    warm_up(read_policy())
    results: dict[str, Any] = machine_facts(PACKAGES) | {"seed": options.seed}
    chosen = [
        plan
        for plan in islice(plans(options.seed, options.banks or tuple(BANKS)), options.rounds)
        if options.round in (None, plan.number)
    ]
    results |= _played(chosen, options, options.mutant)
    _write(options.out, results)
    if options.mutants:
        results["mutants"] = [_noticed(name, options) for name in MUTANTS]
        _write(options.out, results)
    return int(results["fault"] is not None)


def _played(
    chosen: Sequence[Plan], options: argparse.Namespace, mutant: str | None
) -> dict[str, Any]:
    """Play rounds until one goes wrong; return what came of them."""
    rows: list[dict[str, Any]] = []
    fault = None
    program = ("-m", "bench.chaos.mutants", mutant) if mutant else MILLRACE
    with closing(Servers()) as servers, closing(Chaos(servers, options.seed, program)) as chaos:
        try:
            for row in chaos.play(chosen, alone=options.round is not None):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
        except WrongError as error:
            print(error, file=sys.stderr, flush=True)
            fault = str(error).splitlines()[0]
        return {"rounds": rows, "banks": _of_banks(chaos), "fault": fault}


def _noticed(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return in which round a mutant is noticed, and how: each fault is made on each bank."""
    chosen = list(islice(plans(options.seed), MUTANT_ROUNDS_COUNT))
    found = _played(chosen, options, name)
    noticed = found["fault"] is not None
    return {
        "name": name,
        "noticed_round": len(found["rounds"]) if noticed else None,
        "rounds_count": len(chosen),
        "by": found["fault"],
    }


def _of_banks(chaos: Chaos) -> dict[str, Any]:
    return {
        name: {
            "found": {family: len(some) for family, some in run.ledger.found.items()},
            "repeats": dict(run.ledger.repeats),
            "differing_share": run.ledger.differing_share(),
        }
        for name, run in chaos.runs.items()
    }


def _write(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int)
    parser.add_argument("--banks", nargs="*", choices=tuple(BANKS))
    parser.add_argument("--mutant", choices=tuple(MUTANTS), help="with workers that lack a guard")
    parser.add_argument("--mutants", action="store_true", help="then all of these, one by one")
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
