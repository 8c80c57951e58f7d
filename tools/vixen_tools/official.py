"""The ViXML authors' layout: {trn,tst,lbl}.raw.txt, {trn,tst}_X_Y.txt, and which .npy files belong to a side."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .dataset_builder import Item
from .errors import UserError, one_line
from .files import LineReader, find_variant
from .raw import is_number

# labels of weight 1, as in 12:1.0 345:1.0
_PLAIN = re.compile(r"[0-9]{1,18}:1(?:\.0)?(?: [0-9]{1,18}:1(?:\.0)?)* ?")
_SIDES = {"trn": "train", "tst": "test", "lbl": "labels"}


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


class OfficialSide:
    """Items of one side: a line of STEM.raw.txt, the same line of STEM_X_Y.txt, and its pictures.

    pictures: (offsets, image rows) or None; first_image: where this side's pictures begin in the image store.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        encoding: str,
        n_labels: int | None,
        pictures: tuple[np.ndarray, np.ndarray] | None = None,
        first_image: int = 0,
        max_images: int | None = None,
    ):
        self.path = find_text(folder, stem)
        self._lines = LineReader(self.path, encoding)
        self._matrix = MatrixLines(find_matrix(folder, stem), n_labels) if n_labels is not None else None
        self._pictures, self._first_image, self._max_images = pictures, first_image, max_images
        self._skip = 0

    def fraction(self) -> float:
        return self._lines.fraction()

    def skip(self, lines: int) -> None:
        self._skip = lines
        self._lines.skip(lines)
        if self._matrix:
            self._matrix.skip(lines)

    def __iter__(self) -> Iterator[Item]:
        matrix = self._matrix
        rows = iter(matrix) if matrix else None
        count = self._skip
        for line, text in self._lines:
            labels = None
            if matrix and rows is not None:
                labels = next(rows, None)
                if labels is None:
                    raise UserError(f"{matrix.path}: has {count} rows, but {self.path} goes on at line {line}")
            yield Item(text=text, line=line, labels=labels, images=self._image_rows(count))
            count += 1
        if matrix and rows is not None and next(rows, None) is not None:
            raise UserError(f"{self.path}: has {count} lines, but {matrix.path} has more rows")

    def _image_rows(self, row: int) -> np.ndarray | None:
        if self._pictures is None:
            return None
        offsets, values = self._pictures
        rows = values[offsets[row] : offsets[row + 1]]
        return rows[: self._max_images].astype(np.int64) + self._first_image


class MatrixLines:
    """Rows of an X_Y file: header 'rows columns', then 'index:value ...' a line; a blank line is an empty row."""

    def __init__(self, path: Path, n_labels: int):
        self.path, self._n_labels = path, n_labels
        self._skip = 0

    def skip(self, rows: int) -> None:
        """Has the iteration begin behind the first rows, which are not parsed again."""
        self._skip = rows

    def __iter__(self) -> Iterator[np.ndarray]:
        lines = iter(LineReader(self.path))
        _, header = next(lines, (1, ""))
        numbers = header.split()
        if len(numbers) != 2 or not all(is_number(number) for number in numbers):
            raise UserError(f"{self.path}:1: header is '{one_line(header, 40)}', expected 'rows columns'")
        rows, columns = map(int, numbers)
        if rows < 0:
            raise UserError(f"{self.path}:1: header says {rows} rows, expected 0 or more")
        if columns != self._n_labels:
            raise UserError(f"{self.path}:1: header says {columns} columns, but there are {self._n_labels} labels")
        count = 0
        for line, content in lines:
            if count == rows:
                if content.strip():
                    raise UserError(f"{self.path}:{line}: more rows than the {rows} of the header")
                continue
            if count >= self._skip:
                yield self._parse(line, content)
            count += 1
        if count < rows:
            raise UserError(f"{self.path}: ends after {count} rows, its header says {rows}")

    def _parse(self, line: int, content: str) -> np.ndarray:
        if _PLAIN.fullmatch(content):  # nearly every line: a third of the time
            plain = list(map(int, content.replace(":1.0", "").replace(":1", "").split()))
            if max(plain) < self._n_labels:
                return np.array(plain, np.int64)
        labels = []
        if not content.isascii() or "_" in content:  # int() and float() take other digits and underscores
            raise UserError(f"{self.path}:{line}: is '{one_line(content, 60)}', expected 'label:value ...' in plain digits")
        for entry in content.split():
            index, colon, value = entry.partition(":")
            try:
                number, weight = int(index), float(value) if colon else 1.0
            except ValueError:
                raise UserError(f"{self.path}:{line}: entry '{one_line(entry, 40)}', expected 'label:value'") from None
            if not 0 <= number < self._n_labels:
                raise UserError(f"{self.path}:{line}: label {number} is out of range, expected 0..{self._n_labels - 1}")
            if not 0 <= weight < math.inf:  # also a NaN
                raise UserError(f"{self.path}:{line}: label {number} has the weight {one_line(value, 40)}, expected 0 or more")
            if weight:
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
