"""Fixtures of the fault tests: the binary under test and a tiny model and data set, made once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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


def kill_ranks(out: Path) -> None:
    """Kills vixen's ranks that have `out` among their arguments; when this returns they hold no file any more."""
    ranks = ranks_of(out)
    for rank in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)
    for rank in ranks:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            while Path(f"/proc/{rank}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.001)


def prepare(raw: Path, model: Path, out: Path, length: int = 16) -> Path:
    tool = ROOT / "tools/prepare_dataset.py"
    command = [sys.executable, tool, "--raw", raw, "--model", model, "--out", out, "--max-length", length]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return out


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    folder = tmp_path_factory.mktemp("tiny") / "files"
    subprocess.run([sys.executable, str(ROOT / "tests/slurm/make_tiny_run.py"), "--out", str(folder)], check=True, capture_output=True)
    return TinyRun(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """small_disk("3m"): a file system of that size, mounted while the test lasts."""
    disk = tmp_path / "disk"

    def mount(size: str) -> Path:
        if os.geteuid() != 0:
            pytest.skip("mounting a small file system needs root")
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True).returncode:
            pytest.skip("tmpfs cannot be mounted here")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> None:
    """Takes all room that is left on a disk of small_disk, by DISK/filler; again: what has become free since."""
    assert disk.is_mount(), f"{disk} is not mounted: the machine's own disk would be filled"
    with open(disk / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
