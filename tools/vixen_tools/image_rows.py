"""Image embeddings, in IMAGES.h5 files, and the rows of several sources under one numbering.

M: pictures; I: width of an embedding.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .content_hash import ContentHash, hash_of
from .errors import UserError, one_line, reading
from .hdf5_file import holds, open_hdf5, read_attribute, read_dataset, whole_dataset, write_contiguous
from .hdf5_output import hdf5_output
from .npy_rows import NpyRows

BLOCK_ROWS = 4096
NAMES_BYTES = 8 << 30  # what /names may take in memory
CONTENT = "content_embeddings"
FORMAT = "vixen-images"
FORMAT_VERSION = 1


class ImagesFile:
    """An IMAGES.h5 (docs/data-format.md): embeddings by row, rows by picture name."""

    def __init__(self, path: Path):
        self.path = path
        self._file = open_hdf5(path)
        found = read_attribute(self._file, "format", str), read_attribute(self._file, "version", int)
        if found != (FORMAT, FORMAT_VERSION):
            raise UserError(f"{path}: format and version are {found}, expected ('{FORMAT}', {FORMAT_VERSION}) of embed_images.py")
        self._embeddings = whole_dataset(self._file, "embeddings", "fi", 2)
        dtype = self._embeddings.dtype
        self.rows, self.width = self._embeddings.shape
        if (dtype.kind == "i" and dtype != np.int8) or dtype.itemsize > 8 or (self.rows and not self.width):
            raise UserError(
                f"{path}: /embeddings is {dtype} {self._embeddings.shape}, expected float16, float32 or float64 [M, I], "
                "or int8 with a /scale"
            )
        self._scale = self._read_scale(dtype == np.int8)
        self.model = read_attribute(self._file, "model", str, "")
        self.input_size = read_attribute(self._file, "input_size", int, 0)
        self._content = read_attribute(self._file, CONTENT, str)
        self._names = self._read_names()

    def find(self, names: list[str]) -> np.ndarray:
        """Rows int64 [n] of the names, -1 where there is none."""
        # a lone surrogate stands in no file, and numpy would cut a zero byte off
        if not "".join(names).isprintable():
            names = [name if _is_stored_as_it_is(name) else "\ufffe" for name in names]
        if not self.rows or not len(names):
            return np.full(len(names), -1, np.int64)
        # one longer than all that are stored would have numpy widen a copy of them
        widest = self._names.dtype.itemsize
        wanted = np.array([key if len(key := name.encode()) <= widest else b"" for name in names], self._names.dtype)
        place = np.searchsorted(self._names, wanted)
        place[place == self.rows] = 0
        return np.where(self._names[place] == wanted, place, -1)

    def similar(self, name: str) -> str | None:
        """A name that looks like `name`, which the file does not have: in other case, of other code points, with folders or without."""

        def plain(text: str) -> str:
            return unicodedata.normalize("NFKC", text).casefold().replace("\\", "/").removeprefix("./").removeprefix("images/")

        wanted = plain(name)
        names = (found.decode("utf-8", "replace") for found in self._names)
        return next((found for found in names if plain(found) == wanted), None)

    def describe(self, row: int) -> str:
        return f"{self.path}: /embeddings row {row}"

    def blocks(self) -> Iterator[np.ndarray]:
        """Rows in order; after the last one, a UserError where they are not those that were written."""
        content = ContentHash()
        for first in range(0, self.rows, BLOCK_ROWS):
            with reading(f"{self.path}:/embeddings", "readable"):
                block = self._embeddings[first : first + BLOCK_ROWS]
            content.update(block)
            yield block if self._scale is None else block * self._scale
        if self._content is not None and hash_of([content.value()]) != self._content:
            raise UserError(
                f"{self.path}: /embeddings has the content {hash_of([content.value()])}, but '{CONTENT}' says "
                f"{self._content}: damaged, or changed since it was made"
            )

    def names(self) -> np.ndarray:
        """Bytes [M], sorted."""
        return self._names

    def _read_scale(self, wanted: bool) -> np.ndarray | None:
        scale = read_dataset(self._file, "scale", "f", 1) if holds(self._file, "scale") else None
        if wanted != (scale is not None and scale.shape == (self.width,)):
            raise UserError(f"{self.path}: /scale is missing or of the wrong size, expected float32 [{self.width}] with int8 embeddings")
        if scale is not None and not np.isfinite(scale).all():
            raise UserError(f"{self.path}: /scale is not finite at column {int(np.argmin(np.isfinite(scale)))}")
        return scale

    def _read_names(self) -> np.ndarray:
        names = whole_dataset(self._file, "names", "S", 1)
        if names.shape != (self.rows,):
            raise UserError(f"{self.path}: /names is {names.shape}, expected one for each of the {self.rows} rows of /embeddings")
        # fixed-width bytes: a tenth of what as many Python strings would take, and searchsorted works on them
        with reading(f"{self.path}:/names", "readable"):
            width = 1
            for first in range(0, self.rows, BLOCK_ROWS):
                block = names[first : first + BLOCK_ROWS]
                width = max(width, int(np.char.str_len(block).max()) if block.dtype.kind == "S" else max(map(len, block)))
            if width * self.rows > NAMES_BYTES:
                raise UserError(f"{self.path}: /names has a name of {width:,} bytes, expected names of files")
            out = np.empty(self.rows, f"S{width}")
            for first in range(0, self.rows, BLOCK_ROWS):
                out[first : first + BLOCK_ROWS] = names[first : first + BLOCK_ROWS]
        if np.any(out[1:] <= out[:-1]):
            row = int(np.argmax(out[1:] <= out[:-1])) + 1
            name = out[row].decode("utf-8", "surrogateescape")
            raise UserError(f"{self.path}: /names is not sorted or not distinct at row {row} ('{one_line(name, 200)}')")
        return out


def _is_stored_as_it_is(name: str) -> bool:
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


class ImageStore:
    """Sources laid end to end under one numbering; only rows that were used are kept, in that order."""

    def __init__(self, sources: Sequence[ImagesFile | NpyRows]):
        self._sources = sources
        self.rows = sum(source.rows for source in sources)
        self._used = np.zeros(self.rows, bool)
        self._new = np.zeros(0, np.int32)  # until close_uses()

    def use(self, rows: np.ndarray) -> None:
        self._used[rows] = True

    def forget_uses(self) -> None:
        self._used[:] = False

    def close_uses(self) -> int:
        """After the last use(): fixes the numbering of the kept rows and returns how many there are."""
        kept = int(np.count_nonzero(self._used))
        if kept > np.iinfo(np.int32).max:
            raise UserError(f"{kept:,} pictures are used, expected {np.iinfo(np.int32).max:,} at the most")
        self._new = np.cumsum(self._used, dtype=np.int32)
        self._new -= 1
        return kept

    def renumber(self, rows: np.ndarray) -> np.ndarray:
        """Old row numbers to the kept ones, int32."""
        return self._new[rows]

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


def write_images(
    path: Path, names: list[str], width: int, blocks: Iterator[np.ndarray], model: str, input_size: int, created_by: str
) -> None:
    """Writes an IMAGES.h5; blocks float [.., width] in the order of the sorted names."""
    import h5py

    with hdf5_output(path, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = np.int64(FORMAT_VERSION)
        file.attrs["model"] = model
        file.attrs["input_size"] = np.int64(input_size)
        file.attrs["created_by"] = created_by
        content = write_contiguous(file, "embeddings", (len(names), width), np.float16, blocks)
        file.attrs[CONTENT] = hash_of([content])
        file.create_dataset("names", data=names, shape=(len(names),), dtype=h5py.string_dtype())


def write_compact_images(path: Path, source: ImagesFile, values: np.ndarray, model: str, created_by: str) -> None:
    """Writes the compact form: values float32 [M, d] in the order of the source's names, 8 bits a value, compressed."""

    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise UserError(f"{source.describe(int(np.argmax(bad)))} is not finite")
    scale = np.maximum(np.abs(values).max(0), 1e-12).astype(np.float32) / 127
    with hdf5_output(path, "w", aligned=False) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = np.int64(FORMAT_VERSION)
        file.attrs["model"] = model
        file.attrs["input_size"] = np.int64(source.input_size)
        file.attrs["created_by"] = created_by
        packing = {"compression": "gzip", "compression_opts": 9}
        # a column's bytes lie together: the rarer components compress well
        steps = np.rint(values / scale).astype(np.int8)
        file.create_dataset("embeddings", data=steps, chunks=(min(BLOCK_ROWS, len(values)), 1), **packing)
        content = ContentHash()
        content.update(steps)
        file.attrs[CONTENT] = hash_of([content.value()])
        file.create_dataset("scale", data=scale)
        file.create_dataset("names", data=source.names(), **packing)
