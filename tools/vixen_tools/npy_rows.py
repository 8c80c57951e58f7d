""".npy files of plain numbers: a matrix of embeddings read by blocks of rows, whatever its order in memory and byte order.

M: rows; I: width.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import UserError, reading

_BLOCK_ROWS = 4096


def npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran order, dtype and the byte where the values begin. A file that does not hold them all is a UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file, reading(path, "a .npy file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that Python 2 wrote
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
        else:
            # numpy reads version 3 (headers in UTF-8) only together with the values
            mapped = np.lib.format.open_memmap(path, "r")
            return mapped.shape, mapped.flags.f_contiguous and not mapped.flags.c_contiguous, mapped.dtype, int(mapped.offset)
        begin = file.tell()
    if any(extent < 0 for extent in shape):
        raise UserError(f"{path}: not a .npy file: its shape is {shape}")
    if not dtype.hasobject:
        expected = begin + int(np.prod(shape, dtype=object)) * dtype.itemsize
        if os.path.getsize(path) != expected:
            raise UserError(f"{path}: has {os.path.getsize(path)} bytes, its header says {expected}: cut short or damaged")
    return shape, fortran, dtype, begin


class NpyRows:
    """A 2-D float .npy file, read by blocks with plain reads (a map would grow this process by the whole file)."""

    def __init__(self, path: Path):
        self.path = path
        shape, self._fortran, self._dtype, self._begin = npy_header(path)
        if len(shape) != 2 or not shape[1] or self._dtype.kind != "f" or self._dtype.itemsize > 8:
            raise UserError(f"{path}: holds {self._dtype} {shape}, expected float16, float32 or float64 [M, I]")
        self.rows, self.width = shape

    def describe(self, row: int) -> str:
        return f"{self.path}: row {row}"

    def blocks(self) -> Iterator[np.ndarray]:
        """Rows in order, in the file's dtype."""
        with open(self.path, "rb") as file:
            for first in range(0, self.rows, _BLOCK_ROWS):
                yield self._read(file, first, min(_BLOCK_ROWS, self.rows - first))

    def _read(self, file: BinaryIO, first: int, count: int) -> np.ndarray:
        size = self._dtype.itemsize
        if not self._fortran:
            return self._values(file, self._begin + first * self.width * size, count * self.width).reshape(count, self.width)
        block = np.empty((count, self.width), self._dtype)
        for column in range(self.width):  # in Fortran order a column lies together
            block[:, column] = self._values(file, self._begin + (column * self.rows + first) * size, count)
        return block

    def _values(self, file: BinaryIO, begin: int, count: int) -> np.ndarray:
        file.seek(begin)
        data = file.read(count * self._dtype.itemsize)
        if len(data) != count * self._dtype.itemsize:
            raise UserError(f"{self.path}: ends at byte {begin + len(data)}: cut short while it was read")
        return np.frombuffer(data, self._dtype)
