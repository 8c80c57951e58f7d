"""`cmake --install` into an empty prefix: what is there, and that it works without the build tree: install_test.py CMAKE BUILD.

Where this process may mount (root), the build tree is hidden under an empty folder while the installed program runs.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

CMAKE, BUILD = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[2]


def hiding(empty: pathlib.Path) -> list[str]:
    """What a command is put behind so that the build tree is empty for it; nothing where that is not allowed."""
    prefix = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(empty), str(BUILD)]
    allowed = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if allowed else []


class InstallTest(unittest.TestCase):
    folder: pathlib.Path
    prefix: pathlib.Path

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.prefix = cls.folder / "prefix"
        (cls.folder / "empty").mkdir()
        subprocess.run([CMAKE, "--install", str(BUILD), "--prefix", str(cls.prefix)], check=True, capture_output=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def run_installed(self, *words: object) -> subprocess.CompletedProcess:
        command = [*hiding(self.folder / "empty"), str(self.prefix / "bin/vixen"), *map(str, words)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120)

    def test_what_is_installed(self):
        share, doc = self.prefix / "share/vixen", self.prefix / "share/doc/vixen"
        for name in (
            "configs/quickstart.ini",
            "slurm/train.sbatch",
            "tools/prepare_dataset.py",
            "tools/vixen_tools/raw.py",
            "launch/mpi.env",
        ):
            self.assertTrue((share / name).is_file(), name)
        for name in ("LICENSE", "README.md", "CITATION.cff", "docs/architecture.md"):
            self.assertTrue((doc / name).is_file(), name)
        self.assertEqual(list(self.prefix.rglob("__pycache__")), [])

    def test_its_libraries_are_not_those_of_the_build_tree(self):
        linked = subprocess.run(["ldd", str(self.prefix / "bin/vixen")], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("not found", linked)
        self.assertNotIn(str(BUILD), linked)
        self.assertIn("libtorch_cpu.so", linked)

    def test_it_runs(self):
        done = self.run_installed("--help")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("evaluate", done.stdout)
        with h5py.File(self.folder / "rows.h5", "w") as file:
            file["embeddings"] = np.eye(8, dtype=np.float32)
        rows, found = self.folder / "rows.h5", self.folder / "found.h5"
        done = self.run_installed("search", "--search.corpus", rows, "--search.queries", rows, "--search.k", 1, "--out", found)
        self.assertEqual(done.returncode, 0, done.stderr)
        with h5py.File(found) as file:
            self.assertEqual(file["indices"][:, 0].tolist(), list(range(8)))
            version = file.attrs["created_by"].split()[-1]
        self.assertIn(f'VERSION = "{version}"', (ROOT / "tools/vixen_tools/__init__.py").read_text())
        self.assertIn(f"version: {version}\n", (ROOT / "CITATION.cff").read_text())

    def test_its_tools_run_and_find_the_program(self):
        tools = self.prefix / "share/vixen/tools"
        done = subprocess.run([sys.executable, str(tools / "prepare_dataset.py"), "--help"], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        code = (
            "from vixen_tools.program import default_binary, mpi_environment as m; print(default_binary(), m()['OMPI_ALLOW_RUN_AS_ROOT'])"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tools, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.stdout.split(), [str(self.prefix / "bin/vixen"), "1"], done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
