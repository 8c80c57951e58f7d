"""A command of milliseconds that computes on every rank and tells of its CPUs."""

import os
import subprocess
from pathlib import Path

import h5py
import numpy as np


def search_command(work: Path) -> list[str]:
    """`vixen search` over eight rows, which it writes to work."""
    rows = work / "rows.h5"
    with h5py.File(rows, "w") as file:
        file["embeddings"] = np.eye(8, dtype=np.float32)
    return [
        os.environ["VIXEN_BINARY"],
        "search",
        "--search.corpus",
        str(rows),
        "--search.queries",
        str(rows),
        "--search.k",
        "2",
        "--out",
        str(work / "found.h5"),
    ]


def launch(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
