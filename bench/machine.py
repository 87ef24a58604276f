"""On what a benchmark ran, as the generated pages say it."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import cpuinfo
from pytest_benchmark.utils import get_commit_info


def machine_facts(packages: Sequence[str]) -> dict[str, Any]:
    """Return machine, commit and day in the form of pytest-benchmark's results."""
    cpu, commit = cpuinfo.get_cpu_info(), get_commit_info()
    return {
        "machine_info": {
            "system": platform.system(),
            "machine": platform.machine(),
            "python_implementation": platform.python_implementation(),
            "python_version": platform.python_version(),
            "cpu": {"model": cpu.get("brand_raw", "unknown"), "count": cpu.get("count")},
            "packages": {name: version(name) for name in packages},
        },
        "commit_info": {name: commit.get(name) for name in ("id", "dirty")},
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
    }
