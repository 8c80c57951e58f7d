"""Fixtures of the fault tests: the binary under test and a tiny model and data set, made once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/slurm"), str(ROOT / "tests/fixtures")]
VIXEN = os.environ.get("VIXEN", str(ROOT / "build/cuda/src/vixen"))
MPIEXEC = os.environ.get("MPIEXEC", "mpirun")


class TinyRun:
    """A model folder, a data set, and the command that trains on them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.data = folder / "data.h5"
        self.model = folder / "model"

    def command(self, name: str, *options: object, ranks: int = 0) -> list[str]:
        launcher = [MPIEXEC, "-n", str(ranks), "--oversubscribe"] if ranks else []
        return [*launcher, VIXEN, name, *[str(option) for option in options]]

    def train_options(self, run_dir: Path, **more: object) -> list[str]:
        settings = {
            "data.path": self.data,
            "model.path": self.model,
            "run.dir": run_dir,
            "train.epochs": 4,
            "train.batch_size": 32,
            "train.warmup_steps": 4,
            "prototype.free_vectors": 32,
            "prototype.heads": 4,
            "prototype.feed_forward": 64,
            "cluster.start_epoch": 1,
            "cluster.update_epochs": 1,
            "threads": 1,
            **more,
        }
        return [word for key, value in settings.items() for word in (f"--{key}", str(value))]

    def run(self, name: str, *options: object, ranks: int = 0, timeout: float = 60) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(name, *options, ranks=ranks), capture_output=True, text=True, timeout=timeout)


def ranks_of(out: Path) -> list[int]:
    """Process ids of vixen's ranks that have `out`, a run folder or a file, among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words and words[0].endswith(b"vixen") and str(out).encode() in words:
            found.append(int(entry.name))
    return found


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    folder = tmp_path_factory.mktemp("tiny") / "files"
    subprocess.run([sys.executable, str(ROOT / "tests/slurm/make_tiny_run.py"), "--out", str(folder)], check=True, capture_output=True)
    return TinyRun(folder)
