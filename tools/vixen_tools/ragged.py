"""Ragged rows that grow on disk, values in one file and lengths in another: nothing that grows stays in memory.

n: rows; v: values of all rows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK_BYTES = 4 << 20


class RaggedSpool:
    """Rows of one dtype, appended in blocks and read back in blocks. state: what state() gave, to go on behind those rows; what lies
    behind them in the files is cut off."""

    def __init__(self, path: Path, dtype: type, state: dict[str, int] | None = None):
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        mode = "w+b" if state is None else "r+b"
        self._file = open(path, mode)  # noqa: SIM115 (close())
        self._lengths = open(path.with_name(path.name + ".lengths"), mode)  # noqa: SIM115
        self.rows = self.values = self.longest = 0
        if state is not None:
            self.rows, self.values, self.longest = state["rows"], state["values"], state["longest"]
            for file, size in ((self._file, self.values * self.dtype.itemsize), (self._lengths, self.rows * 4)):
                if os.fstat(file.fileno()).st_size < size:
                    raise EOFError(f"{file.name}: shorter than {size} bytes")
                file.truncate(size)
                file.seek(size)

    def append(self, lengths: np.ndarray, values: np.ndarray) -> None:
        """Adds len(lengths) rows; values [sum of lengths]."""
        assert int(lengths.sum()) == len(values)
        self._lengths.write(lengths.astype(np.int32).data)
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self.rows += len(lengths)
        self.values += len(values)
        if len(lengths):
            self.longest = max(self.longest, int(lengths.max()))

    def state(self) -> dict[str, int]:
        return {"rows": self.rows, "values": self.values, "longest": self.longest}

    def sync(self) -> None:
        """Puts what was appended on the disk."""
        for file in (self._file, self._lengths):
            file.flush()
            os.fsync(file.fileno())

    def offsets(self) -> Iterator[np.ndarray]:
        """int64 [n+1] in order, some MB at a time."""
        yield np.zeros(1, np.int64)
        last = 0
        for lengths in _blocks(self._lengths, np.dtype(np.int32)):
            offsets = np.cumsum(lengths, dtype=np.int64)
            offsets += last
            last = int(offsets[-1])
            yield offsets

    def blocks(self) -> Iterator[np.ndarray]:
        """The values in order, some MB at a time."""
        return _blocks(self._file, self.dtype)

    def close(self) -> None:
        """Gives the files up; what a full disk keeps from being flushed is not wanted any more."""
        for file in (self._file, self._lengths):
            with contextlib.suppress(OSError):
                file.close()


def _blocks(file: Any, dtype: np.dtype) -> Iterator[np.ndarray]:
    file.flush()
    file.seek(0)
    while data := file.read(_BLOCK_BYTES):
        yield np.frombuffer(data, dtype)
    file.seek(0, os.SEEK_END)
