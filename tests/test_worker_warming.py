"""No kernel is compiled while a worker has partitions: it may take longer than a watchdog waits."""

import subprocess
import sys
from pathlib import Path

import child_processes

# What is run in a process of its own: here other tests may have compiled something.
PROGRAM = """
import millrace
from features.kernels import blobs, eviction, foreign, histories, loading
from streams.policy_files import read_policy
from streams.worker.warming import warm_up

warm_up(read_policy())
for kernel in (
    foreign.take, foreign.note_unread, foreign.note_resident, eviction.sweep, loading.load,
    histories.update, blobs.pack,
):
    print(kernel.__name__, len(kernel.signatures))
"""


def test_warming_compiles_what_a_worker_meets_later(compiled: None, tmp_path: Path) -> None:
    """Also where it shares entities with other workers, or lets idle ones go."""
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=child_processes.ROOT,
        env=child_processes.environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    counts = dict(line.split() for line in found.stdout.splitlines())
    assert len(counts) == 7
    assert set(counts.values()) == {"1"}, counts
