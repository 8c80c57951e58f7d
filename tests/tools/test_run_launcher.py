"""launch/run: what it would start, by where it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "launch/run"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A program, and a folder of commands that come first in PATH."""
    for name in ("vixen", "bin/srun", "bin/nvidia-smi"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n[ $0 = ${0%nvidia-smi} ] || { echo GPU 0; echo GPU 1; }\n")
        path.chmod(0o755)
    return tmp_path


def run(place: Path, *arguments: object, code: int = 0, environment: dict[str, str] | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CUDA_", "NCCL_"))}
    settings = {
        **clean,
        "VIXEN_BINARY": str(place / "vixen"),
        "PATH": f"{place}/bin:{os.environ['PATH']}",
        "VIXEN_PRESET": "cpu",
        **(environment or {}),
    }
    done = subprocess.run([str(RUN), *map(str, arguments)], capture_output=True, text=True, timeout=60, env=settings)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout if code == 0 else done.stderr


def command_of(said: str) -> str:
    return said.splitlines()[-1].removeprefix("[run] ").strip()


def test_on_a_workstation(place: Path) -> None:
    assert command_of(run(place, "--dry-run", "train", "--run.dir", "r")) == f"{place}/vixen train --run.dir r"
    assert command_of(run(place, "-n", 3, "--dry-run", "evaluate")) == f"mpirun -n 3 {place}/vixen evaluate"
    said = run(place, "--dry-run", "train", environment={"VIXEN_PRESET": "cuda"})
    assert "2 ranks, 2 GPUs here" in said
    assert command_of(said) == f"mpirun -n 2 {place}/vixen train --device cuda"
    assert (
        command_of(run(place, "--dry-run", "train", "--device", "cpu", environment={"VIXEN_PRESET": "cuda"}))
        == f"mpirun -n 2 {place}/vixen train --device cpu"
    )


def test_in_an_allocation(place: Path) -> None:
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "16",
        "SLURM_JOB_NODELIST": "n[1-2]",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_CPUS_PER_TASK": "12",
    }
    said = run(place, "--dry-run", "train", environment=job)
    assert "allocation: 16 ranks on n[1-2]" in said
    assert command_of(said) == f"srun --mpi=pmix --wait=5 --ntasks=16 --cpus-per-task=12 {place}/vixen train --device cuda"


def test_on_hosts(place: Path) -> None:
    said = command_of(run(place, "--hosts", "a:2,b:2", "--dry-run", "train", environment={"NCCL_SOCKET_IFNAME": "eth0"}))
    assert said.startswith("mpirun -n 4 --host a:2\\,b:2 ") and "keepalive" in said and "-x NCCL_SOCKET_IFNAME" in said
    assert "expected HOST:RANKS" in run(place, "--hosts", "a,b", "--dry-run", "train", code=2)
    assert "places for 4 ranks" in run(place, "-n", 5, "--hosts", "a:2,b:2", "--dry-run", "train", code=2)


def test_staged_paths_take_the_place_of_the_sources(place: Path) -> None:
    data = place / "d.h5"
    data.write_text("rows")
    (place / "vixen").write_text('#!/bin/sh\necho "$@"\n')
    said = run(place, "--stage", place / "node", "predict", "--data.path", data, "--out", "x").splitlines()[-1].split()
    assert said[:2] == ["predict", "--data.path"] and said[3:] == ["--out", "x"]
    assert Path(said[2]).parent == place / "node" and Path(said[2]).read_text() == "rows"
    assert "neither --data.path nor --model.path" in run(place, "--stage", place / "node", "bench", code=2)


def test_mistakes_are_one_line(place: Path) -> None:
    assert "expected a number of ranks" in run(place, "-n", 0, "train", code=2)
    assert "no program there" in run(place, "train", code=2, environment={"VIXEN_BINARY": str(place / "missing")})
