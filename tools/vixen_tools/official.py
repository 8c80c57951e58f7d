"""The ViXML authors' layout: {trn,tst,lbl}.raw.txt, {trn,tst}_X_Y.txt, .npy embeddings and pickled picture maps."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .dataset_builder import Item
from .errors import UserError, one_line
from .files import LineReader, find_variant

_SIDES = {"trn": "train", "tst": "test", "lbl": "labels"}
_ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
}


class RestrictedUnpickler(pickle.Unpickler):
    """Rebuilds numpy object arrays of numbers and lists; any other name in the pickle is refused, nothing else is called."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise UserError(f"the pickle asks for {module}.{name}: refused, expected only a numpy array of lists")
        return super().find_class(module, name)


def find_one(folder: Path, pattern: str) -> Path | None:
    """The single file matching the pattern, None when there is none; several are a UserError."""
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        raise UserError(f"{folder}: {len(found)} files match {pattern} ({', '.join(p.name for p in found[:3])}): expected one")
    return found[0] if found else None


def image_files(folder: Path, stem: str, choose: str = "*") -> tuple[Path, Path] | None:
    """(embeddings, map) of a side, None when it has no pictures. `choose` narrows the embeddings' name."""
    embeddings = find_one(folder, f"{stem}_embs_imgs_{choose}.npy")
    if embeddings is None:
        return None
    number = embeddings.stem.split("_imgs_")[1].split("_")[0]
    picture_map = find_one(folder, f"{_SIDES[stem]}_imgs_*_{number}_map.npy")
    if picture_map is None:
        raise UserError(f"{embeddings}: its map {_SIDES[stem]}_imgs_*_{number}_map.npy is missing")
    return embeddings, picture_map


def read_map(path: Path, n_rows: int, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64 [n+1] and rows int64 of a pickled map: n entries, each -1 (no picture) or a list of row numbers."""
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            if dtype.hasobject:
                entries = RestrictedUnpickler(file, encoding="latin1").load()
            else:
                entries = np.fromfile(file, dtype, int(np.prod(shape))).reshape(shape)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, TypeError, IndexError, KeyError) as error:
            raise UserError(f"{path}: not a readable map: {one_line(error)}") from None
    if not isinstance(entries, np.ndarray) or len(entries) != n_rows:
        found = f"{len(entries)} entries" if isinstance(entries, np.ndarray) else type(entries).__name__
        raise UserError(f"{path}: holds {found}, expected one for each of the {n_rows} texts")
    lengths, values = np.zeros(n_rows, np.int64), []
    for i, entry in enumerate(entries):
        rows = [int(row) for row in np.atleast_1d(np.asarray(entry, np.int64)) if row != -1]
        if rows and not (0 <= min(rows) and max(rows) < n_images):
            raise UserError(f"{path}: entry {i} names image row {max(rows)}, expected 0..{n_images - 1}")
        lengths[i] = len(rows)
        values.extend(rows)
    offsets = np.zeros(n_rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, np.array(values, np.int64)


class OfficialSide:
    """Items of one side: a line of STEM.raw.txt, the same line of STEM_X_Y.txt, and its pictures.

    pictures: (offsets, image rows) or None; first_image: where this side's pictures begin in the image store.
    """

    def __init__(self, folder: Path, stem: str, encoding: str, n_labels: int | None, pictures=None, first_image: int = 0,
                 max_images: int | None = None):
        self.path = find_text(folder, stem)
        self._lines = LineReader(self.path, encoding)
        self._matrix = MatrixLines(find_matrix(folder, stem), n_labels) if n_labels is not None else None
        self._pictures, self._first_image, self._max_images = pictures, first_image, max_images

    def fraction(self) -> float:
        return self._lines.fraction()

    def __iter__(self) -> Iterator[Item]:
        rows = iter(self._matrix) if self._matrix else None
        count = 0
        for line, text in self._lines:
            labels = None
            if rows is not None:
                labels = next(rows, None)
                if labels is None:
                    raise UserError(f"{self._matrix.path}: has {count} rows, but {self.path} goes on at line {line}")
            yield Item(text=text, line=line, labels=labels, images=self._image_rows(count))
            count += 1
        if rows is not None and next(rows, None) is not None:
            raise UserError(f"{self.path}: has {count} lines, but {self._matrix.path} has more rows")

    def _image_rows(self, row: int) -> np.ndarray | None:
        if self._pictures is None:
            return None
        offsets, values = self._pictures
        rows = values[offsets[row] : offsets[row + 1]]
        return rows[: self._max_images] + self._first_image


class MatrixLines:
    """Rows of an X_Y file: header 'rows columns', then 'index:value ...' a line; a blank line is an empty row."""

    def __init__(self, path: Path, n_labels: int):
        self.path, self._n_labels = path, n_labels

    def __iter__(self) -> Iterator[np.ndarray]:
        lines = iter(LineReader(self.path))
        _, header = next(lines, (1, ""))
        try:
            rows, columns = map(int, header.split())
        except ValueError:
            raise UserError(f"{self.path}:1: header is '{one_line(header, 40)}', expected 'rows columns'") from None
        if columns != self._n_labels:
            raise UserError(f"{self.path}:1: header says {columns} columns, but there are {self._n_labels} labels")
        count = 0
        for line, content in lines:
            if count == rows:
                if content.strip():
                    raise UserError(f"{self.path}:{line}: more rows than the {rows} of the header")
                continue
            yield self._parse(line, content)
            count += 1
        if count < rows:
            raise UserError(f"{self.path}: ends after {count} rows, its header says {rows}")

    def _parse(self, line: int, content: str) -> np.ndarray:
        labels = []
        for entry in content.split():
            index, colon, value = entry.partition(":")
            try:
                number, weight = int(index), float(value) if colon else 1.0
            except ValueError:
                raise UserError(f"{self.path}:{line}: entry '{one_line(entry, 40)}', expected 'label:value'") from None
            if not 0 <= number < self._n_labels:
                raise UserError(f"{self.path}:{line}: label {number} is out of range, expected 0..{self._n_labels - 1}")
            if weight != 0:
                labels.append(number)
        return np.array(labels, np.int64)


def find_text(folder: Path, stem: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    path = find_variant(folder, f"{stem}.raw", (".txt", ".txt.gz"))
    if path is None:
        raise UserError(f"{folder}: has no {stem}.raw.txt")
    return path


def find_matrix(folder: Path, stem: str) -> Path:
    path = find_variant(folder, f"{stem}_X_Y", (".txt", ".txt.gz"))
    if path is None:
        raise UserError(f"{folder}: has no {stem}_X_Y.txt")
    return path


def count_lines(path: Path) -> int:
    """Lines of a text file, whatever its encoding."""
    return sum(1 for _ in LineReader(path, "latin-1"))
