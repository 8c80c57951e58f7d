"""Image embeddings, wherever they lie: IMAGES.h5 files and .npy matrices, read by blocks of rows.

M: pictures; I: width of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import UserError, one_line
from .hdf5_file import create_hdf5, open_hdf5, write_contiguous

BLOCK_ROWS = 4096
FORMAT = "vixen-images"
FORMAT_VERSION = 1


class ImagesFile:
    """An IMAGES.h5 (docs/data-format.md): embeddings by row, rows by picture name."""

    def __init__(self, path: Path):
        self.path = path
        self._file = open_hdf5(path)
        found = self._file.attrs.get("format"), self._file.attrs.get("version")
        if found != (FORMAT, FORMAT_VERSION):
            raise UserError(f"{path}: format and version are {found}, expected ('{FORMAT}', {FORMAT_VERSION}) of embed_images.py")
        for name in ("embeddings", "names"):
            if name not in self._file:
                raise UserError(f"{path}: has no dataset /{name}")
        self._embeddings = self._file["embeddings"]
        if self._embeddings.ndim != 2 or self._embeddings.dtype not in (np.float16, np.float32, np.int8):
            raise UserError(f"{path}: /embeddings is {self._embeddings.dtype} {self._embeddings.shape}, expected float16 [M, I]")
        self.rows, self.width = self._embeddings.shape
        self._scale = self._file["scale"][:] if "scale" in self._file else None
        if (self._embeddings.dtype == np.int8) != (self._scale is not None and self._scale.shape == (self.width,)):
            raise UserError(f"{path}: /scale is missing or of the wrong size, expected float32 [{self.width}] with int8 embeddings")
        self.model = str(self._file.attrs.get("model", ""))
        self.input_size = int(self._file.attrs.get("input_size", 0))
        names = self._file["names"]
        if names.shape != (self.rows,):
            raise UserError(f"{path}: /names is {names.shape}, expected one for each of the {self.rows} rows of /embeddings")
        # fixed-width bytes: a tenth of what as many Python strings would take, and searchsorted works on them
        width = 1
        for first in range(0, self.rows, BLOCK_ROWS):
            width = max(width, max(map(len, names[first : first + BLOCK_ROWS])))
        self._names = np.empty(self.rows, f"S{width}")
        for first in range(0, self.rows, BLOCK_ROWS):
            self._names[first : first + BLOCK_ROWS] = names[first : first + BLOCK_ROWS]
        if np.any(self._names[1:] <= self._names[:-1]):
            row = int(np.argmax(self._names[1:] <= self._names[:-1])) + 1
            raise UserError(f"{path}: /names is not sorted or not distinct at row {row} ('{self._names[row].decode()}')")

    def find(self, names: list[str]) -> np.ndarray:
        """Rows int64 [n] of the names, -1 where there is none."""
        wanted = np.array([name.encode() for name in names])
        if not self.rows or not len(wanted):
            return np.full(len(wanted), -1, np.int64)
        place = np.searchsorted(self._names, wanted)
        place[place == self.rows] = 0
        return np.where(self._names[place] == wanted, place, -1)

    def describe(self, row: int) -> str:
        return f"{self.path}: /embeddings row {row}"

    def blocks(self) -> Iterator[np.ndarray]:
        for first in range(0, self.rows, BLOCK_ROWS):
            block = self._embeddings[first : first + BLOCK_ROWS]
            yield block if self._scale is None else block * self._scale

    def names(self) -> np.ndarray:
        """Bytes [M], sorted."""
        return self._names


class NpyRows:
    """A 2-D float .npy file, read by blocks with plain reads (a map would grow this process by the whole file)."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        with open(path, "rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, fortran, self._dtype = read(file)
            except ValueError as error:
                raise UserError(f"{path}: not a .npy file: {one_line(error)}") from None
            self._begin = file.tell()
        if len(shape) != 2 or fortran or self._dtype.kind != "f":
            order = "Fortran" if fortran else "C"
            raise UserError(f"{path}: holds {self._dtype} {shape} in {order} order, expected floats [M, I] in C order")
        self.rows, self.width = shape
        expected = self._begin + self.rows * self.width * self._dtype.itemsize
        if path.stat().st_size != expected:
            raise UserError(f"{path}: has {path.stat().st_size} bytes, its header says {expected}: cut short or damaged")

    def describe(self, row: int) -> str:
        return f"{self.path}: row {row}"

    def blocks(self) -> Iterator[np.ndarray]:
        with open(self.path, "rb") as file:
            file.seek(self._begin)
            for first in range(0, self.rows, BLOCK_ROWS):
                count = min(BLOCK_ROWS, self.rows - first)
                data = file.read(count * self.width * self._dtype.itemsize)
                yield np.frombuffer(data, self._dtype).reshape(count, self.width)


class ImageStore:
    """Sources laid end to end under one numbering; only rows that were used are kept, in that order."""

    def __init__(self, sources: list[ImagesFile | NpyRows]):
        self._sources = sources
        self.rows = sum(source.rows for source in sources)
        self._used = np.zeros(self.rows, bool)
        self._new: np.ndarray | None = None

    def use(self, rows: np.ndarray) -> None:
        self._used[rows] = True

    def close_uses(self) -> int:
        """After the last use(): fixes the numbering of the kept rows and returns how many there are."""
        self._new = np.cumsum(self._used, dtype=np.int64) - 1
        return int(self._new[-1]) + 1 if self.rows else 0

    def renumber(self, rows: np.ndarray) -> np.ndarray:
        """Old row numbers to the kept ones, int32."""
        return self._new[rows].astype(np.int32) if len(rows) else rows.astype(np.int32)

    def width(self) -> int:
        """Width of the used sources, 0 when nothing is used; two widths are a UserError."""
        used = [source for source, first in self._firsts() if self._used[first : first + source.rows].any()]
        for source in used[1:]:
            if source.width != used[0].width:
                raise UserError(f"{source.path}: is {source.width} wide, but {used[0].path} is {used[0].width} wide")
        return used[0].width if used else 0

    def kept_blocks(self) -> Iterator[np.ndarray]:
        """The kept rows as float16 in order; a NaN or infinity (also from a value beyond fp16) is a UserError."""
        for source, first in self._firsts():
            if not self._used[first : first + source.rows].any():
                continue
            row = 0
            for block in source.blocks():
                keep = np.flatnonzero(self._used[first + row : first + row + len(block)])
                with np.errstate(over="ignore"):
                    half = block[keep].astype(np.float16)
                bad = ~np.isfinite(half).all(axis=1)
                if bad.any():
                    raise UserError(f"{source.describe(row + int(keep[np.argmax(bad)]))} is not finite as float16")
                row += len(block)
                yield half

    def _firsts(self) -> Iterator[tuple[ImagesFile | NpyRows, int]]:
        first = 0
        for source in self._sources:
            yield source, first
            first += source.rows


def write_images(path: Path, names: list[str], width: int, blocks: Iterator[np.ndarray], model: str, input_size: int,
                 created_by: str) -> None:
    """Writes an IMAGES.h5; blocks float [.., width] in the order of the sorted names."""
    import h5py

    with create_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = np.int64(FORMAT_VERSION)
        file.attrs["model"] = model
        file.attrs["input_size"] = np.int64(input_size)
        file.attrs["created_by"] = created_by
        write_contiguous(file, "embeddings", (len(names), width), np.float16, blocks)
        file.create_dataset("names", data=names, shape=(len(names),), dtype=h5py.string_dtype())


def write_compact_images(path: Path, source: ImagesFile, values: np.ndarray, model: str, created_by: str) -> None:
    """Writes the compact form: values float32 [M, d] in the order of the source's names, 8 bits a value, compressed."""
    import h5py

    scale = np.maximum(np.abs(values).max(0), 1e-12).astype(np.float32) / 127
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = np.int64(FORMAT_VERSION)
        file.attrs["model"] = model
        file.attrs["input_size"] = np.int64(source.input_size)
        file.attrs["created_by"] = created_by
        packing = {"compression": "gzip", "compression_opts": 9}
        # a column's bytes lie together: the rarer components compress well
        file.create_dataset("embeddings", data=np.rint(values / scale).astype(np.int8), chunks=(min(BLOCK_ROWS, len(values)), 1),
                            **packing)
        file.create_dataset("scale", data=scale)
        file.create_dataset("names", data=source.names(), **packing)
