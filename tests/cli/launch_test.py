"""Which CPUs and threads the ranks take, under each launcher, with nothing set: launch_test.py VIXEN MPIEXEC.

Read from the line that every computing command logs: "HOST: rank 0: 2 threads on CPUs 0-1, rank 1: ...".
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

VIXEN, MPIEXEC = sys.argv[1:3]
ALLOWED = sorted(os.sched_getaffinity(0))
# An interactive shell within a step of SLURM (srun --pty bash), without PMI.
STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOBID": "7",
    "SLURM_NODELIST": "n1",
    "SLURM_JOB_NODELIST": "n1",
    "SLURM_NNODES": "1",
    "SLURM_NTASKS": "1",
    "SLURM_TASKS_PER_NODE": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_STEPID": "0",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_NODELIST": "n1",
}


def numbers(text: str) -> list[int]:
    """ "0-2,8" -> [0, 1, 2, 8]."""
    pairs = [piece.split("-") for piece in text.split(",")]
    return [number for pair in pairs for number in range(int(pair[0]), int(pair[-1]) + 1)]


class LaunchTest(unittest.TestCase):
    folder: pathlib.Path

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        with h5py.File(cls.folder / "rows.h5", "w") as file:
            file["embeddings"] = np.eye(8, dtype=np.float32)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def start(self, *launcher: str, options: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess:
        rows = str(self.folder / "rows.h5")
        return subprocess.run(
            [
                *launcher,
                VIXEN,
                "search",
                "--search.corpus",
                rows,
                "--search.queries",
                rows,
                "--search.k",
                "2",
                "--out",
                str(self.folder / "found.h5"),
                *options,
            ],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, **environment},
        )

    def shares(self, *launcher: str, **settings) -> tuple[list[tuple[int, list[int]]], str]:
        """(threads, CPUs) of each rank, and the line they were read from."""
        done = self.start(*launcher, **settings)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = [line for line in done.stderr.splitlines() if "rank 0: " in line]
        self.assertEqual(len(lines), 1, done.stderr)
        found = re.findall(r"rank \d+: (\d+) threads? on CPUs? ([\d,-]+\d|\d)", lines[0])
        return [(int(threads), numbers(cpus)) for threads, cpus in found], lines[0]

    def assert_all(self, found):
        shares, line = found
        self.assertEqual(shares, [(len(ALLOWED), ALLOWED)], line)

    def test_one_rank_has_all_cpus_however_it_was_started(self):
        self.assert_all(self.shares())
        self.assert_all(self.shares(MPIEXEC, "-n", "1"))
        self.assert_all(self.shares(MPIEXEC, "-n", "1", "bash", "-c", '"$@"; exit $?', "shell"))
        self.assert_all(self.shares(OMP_NUM_THREADS="1"))  # --threads is what counts

    @unittest.skipIf(len(ALLOWED) < 2, "one CPU")
    def test_ranks_have_disjoint_even_shares(self):
        for ranks in range(2, min(len(ALLOWED), 4) + 1):
            shares, line = self.shares(MPIEXEC, "-n", str(ranks), "--oversubscribe")
            self.assertEqual(len(shares), ranks, line)
            self.assertEqual(sorted(cpu for _, cpus in shares for cpu in cpus), ALLOWED, line)
            self.assertTrue(all(threads == len(cpus) for threads, cpus in shares), line)

    def test_more_ranks_than_cpus_share_them(self):
        one = str(ALLOWED[0])
        shares, line = self.shares("taskset", "-c", one, MPIEXEC, "-n", "3", "--oversubscribe")
        self.assertEqual(shares, [(1, [ALLOWED[0]])] * 3, line)
        self.assertIn("fewer CPUs than ranks", line)

    def test_what_the_user_bound_stays(self):
        shares, line = self.shares("taskset", "-c", str(ALLOWED[-1]), MPIEXEC, "-n", "1")
        self.assertEqual(shares, [(1, [ALLOWED[-1]])], line)
        shares, line = self.shares("taskset", "-c", str(ALLOWED[-1]))
        self.assertEqual(shares, [(1, [ALLOWED[-1]])], line)
        shares, line = self.shares(MPIEXEC, "-n", "2", "--oversubscribe", "--bind-to", "none")
        self.assertEqual([cpus for _, cpus in shares], [ALLOWED, ALLOWED], line)
        self.assertEqual([threads for threads, _ in shares], [max(1, len(ALLOWED) // 2)] * 2, line)
        self.assertIn("as bound by OMPI_MCA_hwloc_base_binding_policy=none", line)
        shares, line = self.shares(MPIEXEC, "-n", "1", "--bind-to", "core")
        self.assertIn("as bound by", line)
        self.assertLessEqual(len(shares[0][1]), 8, line)  # the hardware threads of one core

    def test_threads_are_as_asked(self):
        shares, line = self.shares(MPIEXEC, "-n", "1", options=("--threads", "3"))
        self.assertEqual(shares, [(3, ALLOWED)], line)

    def test_every_rank_tells_its_own_when_debugging(self):
        done = self.start(MPIEXEC, "-n", "2", "--oversubscribe", options=("--run.log_level", "debug"))
        self.assertEqual(done.returncode, 0, done.stderr)
        for rank in (0, 1):
            self.assertRegex(done.stderr, rf"D \[rank {rank}/2\] 2 ranks, .*: rank {rank}: \d+ threads? on CPU")

    def test_slurm_limits_threads_where_it_does_not_bind(self):
        shares, line = self.shares(**STEP, SLURM_CPUS_ON_NODE="1")
        self.assertEqual(shares, [(1, ALLOWED)], line)
        shares, line = self.shares(**STEP, SLURM_CPUS_ON_NODE="64", SLURM_CPUS_PER_TASK="1")
        self.assertEqual(shares, [(1, ALLOWED)], line)
        self.assert_all(self.shares(MPIEXEC, "-n", "1", SLURM_CPUS_ON_NODE="1"))  # left over: no job

    def test_a_shell_within_a_slurm_step_is_a_workstation(self):
        self.assert_all(self.shares(**STEP))
        done = self.start(options=("--run.log_level", "error"), **STEP)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_tasks_of_a_step_without_pmi_are_one_line(self):
        done = self.start(options=(), **{**STEP, "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"})
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(
            done.stderr, "vixen: the launcher started 4 processes, but MPI sees one: start them with mpirun, or srun --mpi=pmix\n"
        )

    def test_mpirun_within_a_step_of_several_tasks_counts_its_own_ranks(self):
        done = self.start(MPIEXEC, "-n", "1", SLURM_STEP_NUM_TASKS="4")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
