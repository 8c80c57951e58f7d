"""What the tests of bad input share: data sets with a fault, and that a fault ends in one line."""

import re
import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np


def assert_refused(result: subprocess.CompletedProcess, *expected: str, at_work: bool = False) -> None:
    """One line that holds all of `expected`, exit code 2. at_work: log lines may stand before it."""
    assert result.returncode == 2, f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}"
    lines = [line for line in result.stderr.splitlines() if line.strip() and not (at_work and re.match(r"\[\d\d:\d\d:\d\d\] ", line))]
    assert len(lines) == 1, f"one line expected:\n{result.stderr}"
    for text in expected:
        assert text in lines[0], f"'{text}' expected in: {lines[0]}"


def damaged(data: Path, folder: Path, change) -> Path:
    """A copy of a data set with `change(h5py.File)` applied."""
    path = folder / "damaged.h5"
    shutil.copy(data, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def emptied_row(ragged: str, row: int):
    """A change that leaves a row of a ragged table without values."""

    def change(file):
        offsets = file[f"{ragged}/offsets"][:]
        offsets[row] = offsets[row + 1]
        file[f"{ragged}/offsets"][:] = offsets

    return change


def with_pictures(data: Path, path: Path, rows: np.ndarray, first_row: int = 0) -> Path:
    """A copy of a data set without pictures in which query i, for training and for test, shows row first_row + i of `rows`."""
    shutil.copy(data, path)
    with h5py.File(path, "r+") as file:
        for group in ("train", "test"):
            count = file[f"{group}/tokens/offsets"].shape[0] - 1
            del file[f"{group}/images"]
            file[f"{group}/images/offsets"] = np.arange(count + 1, dtype=np.int64)
            file[f"{group}/images/values"] = (np.arange(count) + first_row).astype(np.int32)
        del file["images/embeddings"]
        file["images/embeddings"] = rows.astype(np.float16)
        file.attrs["max_images"] = np.int64(1)
    return path
