"""Plays rounds of faults and says what came of them.

    python -m bench.chaos [--rounds N] [--seed S] --out bench/results/chaos.json
    python -m bench.chaos --mutants --out bench/results/chaos_mutants.json
    python -m bench.chaos.page bench/results/chaos.json bench/results/chaos_mutants.json
    python -m bench.chaos --seed S --round K      one round alone, on the same records

The exit code is 1 where something was lost, decided twice or came out other than it had to; with
`--mutants`, where that was not noticed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import millrace  # noqa: F401 - first of our own: it says where compiled kernels are kept
from bench.bank import MILLRACE
from bench.chaos.ledger import WrongError
from bench.chaos.mutants import MUTANTS
from bench.chaos.rounds import BANKS, Chaos, Plan, plans
from bench.chaos.servers import Servers
from bench.machine import machine_facts
from streams.policy_files import read_policy
from streams.worker.warming import warm_up

MUTANT_BANK = "local entities"
MUTANT_FAULTS = ("kill without kafka", "zombie", "kill worker")  # what guards are there for
MUTANT_ROUNDS_COUNT = 15
PACKAGES = ("aiokafka", "faust-streaming", "redis", "kafka-python")


def main(arguments: Sequence[str]) -> int:
    """Play; return the exit code."""
    options = _options(arguments)
    warm_up(read_policy())
    results: dict[str, Any] = machine_facts(PACKAGES) | {"seed": options.seed}
    if options.mutants:
        results["mutants"] = [_noticed(name, options.seed) for name in MUTANTS]
        is_bad = any(mutant["noticed_round"] is None for mutant in results["mutants"])
    else:
        chosen = [
            plan
            for plan in islice(plans(options.seed, options.banks or tuple(BANKS)), options.rounds)
            if options.round in (None, plan.number)
        ]
        is_alone = options.round is not None

        def note(found: dict[str, Any]) -> None:
            _write(options.out, results | found)

        results |= _played(chosen, options.seed, options.mutant, alone=is_alone, note=note)
        is_bad = results["fault"] is not None
    _write(options.out, results)
    return int(is_bad)


def _write(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _played(
    chosen: Sequence[Plan],
    seed: int,
    mutant: str | None,
    *,
    alone: bool = False,
    note: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Play rounds until one goes wrong; return what came of them, and note it after each."""
    rows: list[dict[str, Any]] = []
    fault = None
    program = ("-m", "bench.chaos.mutants", mutant) if mutant else MILLRACE
    with closing(Servers()) as servers, closing(Chaos(servers, seed, program)) as chaos:
        try:
            for row in chaos.play(chosen, alone=alone):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
                note({"rounds": rows, "banks": _of_banks(chaos), "fault": None})
        except WrongError as error:
            print(error, file=sys.stderr, flush=True)
            fault = str(error).splitlines()[0]
        return {"rounds": rows, "banks": _of_banks(chaos), "fault": fault}


def _noticed(name: str, seed: int) -> dict[str, Any]:
    """Return after how many rounds a mutant is noticed, and how."""
    faults = islice(cycle(MUTANT_FAULTS), MUTANT_ROUNDS_COUNT)
    chosen = [Plan(seed, n, MUTANT_BANK, fault, n) for n, fault in enumerate(faults)]
    found = _played(chosen, seed, name)
    noticed = found["fault"] is not None
    return {
        "name": name,
        "noticed_round": len(found["rounds"]) if noticed else None,
        "rounds_count": len(chosen),
        "fault": chosen[len(found["rounds"])].fault if noticed else None,
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


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.chaos")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--round", type=int)
    parser.add_argument("--banks", nargs="*", choices=tuple(BANKS))
    parser.add_argument("--mutant", choices=tuple(MUTANTS), help="with workers that lack a guard")
    parser.add_argument(
        "--mutants", action="store_true", help="all of these, one by one, until each is noticed"
    )
    parser.add_argument("--out", type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
