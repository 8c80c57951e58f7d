"""The vixen program as the tools start it: where it is, what its options name, the environment under mpirun."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from pathlib import Path

from .errors import UserError

ROOT = Path(__file__).resolve().parents[2]  # the checkout, or share/vixen where it is installed
INPUTS = ("--config", "--data.path", "--model.path")


def default_binary() -> Path:
    """The program as built here, the CUDA build first, or as installed beside share/vixen."""
    for preset in ("cuda", "cpu"):
        path = ROOT / "build" / preset / "src" / "vixen"
        if path.exists():
            return path
    installed = ROOT.parents[1] / "bin" / "vixen"  # PREFIX/share/vixen is ROOT there
    if ROOT.name == "vixen" and installed.exists():
        return installed
    raise UserError("no vixen binary under build/: run launch/setup first, or give --binary")


def inputs_of(options: list[str]) -> dict[str, list[Path]]:
    """What the options of vixen train name that it reads, --key VALUE and --key=VALUE."""
    words = [part for word in options for part in (word.split("=", 1) if word.startswith("--") else [word])]
    return {key: [Path(value) for word, value in itertools.pairwise(words) if word == key] for key in INPUTS}


def mpi_environment(*, without: tuple[str, ...] = ()) -> dict[str, str]:
    """os.environ with what launch/mpi.env wants on a workstation; what the user has set is kept."""
    lines = (ROOT / "launch" / "mpi.env").read_text().splitlines()
    wanted = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {**{name: value for name, value in wanted.items() if name not in without}, **os.environ}


def run_vixen(binary: Path, *words: object, ok: tuple[int, ...] = (0,), log: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command of the program. log: a file that its standard error is appended to. UserError with its last line where it fails."""
    command = [str(binary), *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if log is not None:
        with open(log, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"$ {' '.join(command)}\n{result.stderr}")
    if result.returncode not in ok:
        raise failure(command, result.returncode, result.stderr)
    return result


def failure(command: list[str], code: int, errors: str) -> UserError:
    """What a process said last of why it ended."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return UserError(f"{' '.join(command)}: ended with exit code {code}: {lines[-1] if lines else 'without a word'}")


def label_side_bytes(log: str) -> float:
    """What the log of `vixen train` says that the label side takes on rank 0."""
    found = re.search(r"label side ([\d.]+) MB", log)
    if found is None:
        raise UserError("the log of vixen train has no line 'label side N MB'")
    return float(found.group(1)) * 1e6
