"""Ragged rows that grow on disk: values are appended to a temporary file, so that memory holds only row lengths.

n: rows; v: values of all rows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK_BYTES = 16 << 20


class RaggedSpool:
    """Rows of one dtype, appended in blocks and read back in blocks."""

    def __init__(self, path: Path, dtype: type):
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._file = open(path, "w+b")  # noqa: SIM115 (close())
        self._lengths: list[np.ndarray] = []
        self.rows = 0
        self.values = 0
        self.longest = 0

    def append(self, lengths: np.ndarray, values: np.ndarray) -> None:
        """Adds len(lengths) rows; values [sum of lengths]."""
        assert int(lengths.sum()) == len(values)
        # int32 halves what 4.5 M rows keep in memory
        self._lengths.append(lengths.astype(np.int32))
        self._file.write(np.ascontiguousarray(values, self.dtype).data)
        self.rows += len(lengths)
        self.values += len(values)
        if len(lengths):
            self.longest = max(self.longest, int(lengths.max()))

    def offsets(self) -> np.ndarray:
        """int64 [n+1]."""
        out = np.zeros(self.rows + 1, np.int64)
        if self.rows:
            np.cumsum(np.concatenate(self._lengths), out=out[1:])
        return out

    def blocks(self) -> Iterator[np.ndarray]:
        """The values in order, some MB at a time."""
        self._file.flush()
        self._file.seek(0)
        while data := self._file.read(_BLOCK_BYTES):
            yield np.frombuffer(data, self.dtype)

    def close(self) -> None:
        """Gives the file up; what a full disk keeps from being flushed is not wanted any more."""
        with contextlib.suppress(OSError):
            self._file.close()
