"""The CPUs of ranks on a node of two CPUs whose SLURM binds tasks: an allocation's limit holds under srun and under mpirun.

Runs inside tests/slurm/with_slurm.sh (run_in_cluster.sh starts it). Environment: VIXEN_BINARY, VIXEN_TEST_WORK.
"""

import os
import re
from pathlib import Path

import pytest
from tiny_search import launch, search_command

WORK = Path(os.environ["VIXEN_TEST_WORK"])


def shares(*launcher: str) -> list[tuple[int, int]]:
    """(threads, number of CPUs) of each rank, from the log."""
    done = launch(*launcher, *search_command(WORK))
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stderr.splitlines() if "rank 0: " in line)
    found = re.findall(r"rank \d+: (\d+) threads? on CPUs? (\d+)(?:[-,](\d+))?", line)
    cpus = [cpu for _, *pair in found for cpu in pair if cpu]
    assert len(set(cpus)) == len(cpus), line
    return [(int(threads), 2 if last else 1) for threads, _, last in found]


@pytest.mark.parametrize(
    "options, expected",
    [
        (["-n1", "-c1"], [(1, 1)]),
        (["-n1", "-c2"], [(2, 2)]),
        (["-n2", "-c1"], [(1, 1), (1, 1)]),
        (["-n2", "-c1", "--cpu-bind=map_cpu:1,0"], [(1, 1), (1, 1)]),
        (["-n2", "--cpu-bind=none"], [(1, 1), (1, 1)]),
    ],
)
def test_srun(options: list[str], expected: list[tuple[int, int]]) -> None:
    assert shares("srun", "--mpi=pmix", *options) == expected


@pytest.mark.parametrize(
    "allocation, ranks, expected",
    [(["-n1", "-c1"], 1, [(1, 1)]), (["-n1", "-c2"], 1, [(2, 2)]), (["-n2", "-c1"], 1, [(2, 2)]), (["-n2", "-c1"], 2, [(1, 1), (1, 1)])],
)
def test_mpirun_in_an_allocation(allocation: list[str], ranks: int, expected: list[tuple[int, int]]) -> None:
    assert shares("salloc", "-Q", *allocation, "mpirun", "-n", str(ranks)) == expected
