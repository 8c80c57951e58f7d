"""Standard streams that are closed, full or without a reader, limits on files, odd terminals: streams_test.py VIXEN MPIEXEC."""

import os
import pathlib
import pty
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

VIXEN, MPIEXEC = sys.argv[1:3]
LOST = "what this command prints did not arrive whole\n"


class StreamsTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        with h5py.File(self.folder / "rows.h5", "w") as file:
            file["embeddings"] = np.eye(300, dtype=np.float32)
        rows = str(self.folder / "rows.h5")
        self.out = self.folder / "found.h5"
        self.search = [
            VIXEN,
            "search",
            "--search.corpus",
            rows,
            "--search.queries",
            rows,
            "--search.k",
            "5",
            "--out",
            str(self.out),
            "--run.log_level",
            "error",
        ]

    def run_shell(self, script: str, *command: str, **settings) -> subprocess.CompletedProcess:
        """script: bash, with the command as "$@"."""
        return subprocess.run(
            ["bash", "-c", script, "bash", *command], capture_output=True, text=True, timeout=100, check=False, **settings
        )

    def assert_found(self):
        with h5py.File(self.out) as file:
            self.assertEqual(file["indices"][:, 0].tolist(), list(range(300)))
        self.out.unlink()

    def test_closed_streams_are_not_taken_by_files(self):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"):
            done = self.run_shell(f'"$@" {closed}', *self.search)
            self.assertEqual((done.returncode, done.stderr), (0, ""), closed)
            self.assert_found()

    def test_a_result_that_cannot_be_printed_is_said(self):
        for command in (
            self.search,
            [VIXEN, "inspect", str(self.folder / "rows.h5")],
            [VIXEN, "--help"],
            [VIXEN, "train", "--print-config"],
        ):
            done = self.run_shell('"$@" >/dev/full', *command)
            self.assertEqual(done.returncode, 2, command)
            self.assertEqual(done.stderr, f"vixen: standard output: No space left on device: {LOST}")
        self.assert_found()  # what is not printed is there

    def test_a_reader_that_left(self):
        read, write = os.pipe()
        os.close(read)
        try:
            done = subprocess.run(self.search, stdout=write, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
            self.assertEqual((done.returncode, done.stderr), (2, f"vixen: standard output: Broken pipe: {LOST}"))
            self.assert_found()
            # Whoever asks for help reads the beginning of it.
            for command in ([VIXEN, "--help"], [VIXEN, "train", "--help"], [VIXEN, "train", "--print-config"]):
                done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=100, check=False)
                self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        finally:
            os.close(write)
        done = self.run_shell('set -o pipefail; "$@" | head -n 1', VIXEN, "train", "--help")
        self.assertEqual((done.returncode, done.stderr, done.stdout.count("\n")), (0, "", 1))

    def test_standard_error_that_takes_nothing_stops_nothing(self):
        for target in ("/dev/full", "/dev/null"):
            done = self.run_shell(f'"$@" --run.log_level debug 2>{target}', *self.search[:-2])
            self.assertEqual(done.returncode, 0, target)
            self.assert_found()
        done = self.run_shell('"$@" 2>/dev/full', VIXEN, "tarin")
        self.assertEqual(done.returncode, 2)

    def test_a_limit_on_file_sizes_is_one_line(self):
        done = self.run_shell('ulimit -f 4; "$@"', *self.search)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(str(self.out), done.stderr)
        self.assertIn("File too large", done.stderr)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["rows.h5"])

    def test_small_stacks(self):
        for launcher in ([], [MPIEXEC, "-n", "2", "--oversubscribe"]):
            done = self.run_shell('ulimit -s 256; "$@" --search.method exact --threads 2', *launcher, *self.search)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assert_found()

    def test_under_mpirun(self):
        launcher = [MPIEXEC, "-n", "2", "--oversubscribe"]
        for closed in ("<&-", ">/dev/full", ">&-"):
            done = self.run_shell(f'"$@" {closed}', *launcher, *self.search)
            self.assertEqual(done.returncode, 0, done.stderr)  # the ranks print to mpirun, which takes it
            self.assert_found()

    def test_terminals_that_cannot_erase_get_plain_lines(self):
        for kind, escapes in ((None, False), ("", False), ("dumb", False), ("xterm", True)):
            environment = {key: value for key, value in os.environ.items() if key not in ("TERM", "NO_COLOR")}
            if kind is not None:
                environment["TERM"] = kind
            leader, follower = pty.openpty()  # 0 columns wide
            done = subprocess.run(
                [*self.search[:-2], "--run.log_level", "info"],
                stdout=subprocess.PIPE,
                stderr=follower,
                env=environment,
                timeout=100,
                check=False,
            )
            os.close(follower)
            text = os.read(leader, 1 << 16).decode()
            os.close(leader)
            self.assertEqual(done.returncode, 0, text)
            self.assertIn("rank 0: ", text)
            self.assertEqual("\x1b" in text, escapes, repr(text))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
