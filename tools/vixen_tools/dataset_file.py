"""A finished data set (docs/data-format.md) as the tools read it: its ragged rows, checked, and its texts and labels.

N: queries of a split; L: labels.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np

from .dataset_builder import FORMAT, FORMAT_VERSION
from .errors import UserError, reading
from .hdf5_file import open_hdf5, read_attribute, read_dataset


def check_format(path: Path, file: h5py.File) -> None:
    """UserError unless the file is a data set of this version."""
    found = read_attribute(file, "format", str), read_attribute(file, "version", int)
    if found != (FORMAT, FORMAT_VERSION):
        raise UserError(f"{path}: is {found[0]} version {found[1]}, expected {FORMAT} {FORMAT_VERSION}")


def read_ragged(path: Path, file: h5py.File, name: str, n_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and values of ragged rows, n_rows of them where it is given."""
    offsets = read_dataset(file, f"{name}/offsets", "i", 1)
    values = read_dataset(file, f"{name}/values", "iu", 1)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
        raise UserError(f"{path}: /{name}/offsets do not divide the {len(values)} values: damaged")
    if n_rows not in (None, len(offsets) - 1):
        raise UserError(f"{path}: /{name} has {len(offsets) - 1} rows, expected {n_rows} as in texts")
    return offsets, values


def select_rows(offsets: np.ndarray, values: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and values of some of the rows, in the order given."""
    lengths = np.diff(offsets)[rows]
    out = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=out[1:])
    return out, values[np.repeat(offsets[rows] - out[:-1], lengths) + np.arange(out[-1])]


def texts_of(offsets: np.ndarray, values: np.ndarray) -> list[bytes]:
    """Ragged uint8 rows."""
    data = values.tobytes()
    return [data[begin:end] for begin, end in itertools.pairwise(offsets.tolist())]


def check_labels(path: Path, name: str, labels: np.ndarray, n_labels: int) -> None:
    """UserError unless all of /name/values are labels."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < n_labels:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{path}: /{name}/values holds label {wrong}, expected 0..{n_labels - 1}")


class DatasetTexts:
    """Texts, labels and filter of a data set."""

    def __init__(self, path: Path):
        self.path = path
        with open_hdf5(path) as file:
            self._read(path, file)

    def _read(self, path: Path, file: h5py.File) -> None:
        check_format(path, file)
        self.train, self.test, self.label = (self._texts(file, f"{side}/texts") for side in ("train", "test", "label"))
        self.train_labels, self.test_labels, self.filter = (
            read_ragged(path, file, f"{side}/{part}", len(rows))
            for side, part, rows in (("train", "labels", self.train), ("test", "labels", self.test), ("test", "filter", self.test))
        )
        for name, (_, values) in (("train/labels", self.train_labels), ("test/labels", self.test_labels), ("test/filter", self.filter)):
            check_labels(path, name, values, len(self.label))
        self.propensity = tuple(read_attribute(file, f"propensity_{name}", float) for name in "ab")
        if None in self.propensity:
            raise UserError(f"{path}: has no attributes propensity_a and propensity_b, expected both")
        self.max_length = read_attribute(file, "max_length", int, 0)

    def _texts(self, file: h5py.File, name: str) -> list[str]:
        offsets, values = read_ragged(self.path, file, name)
        if values.dtype != np.uint8:
            raise UserError(f"{self.path}: /{name}/values holds {values.dtype}, expected uint8")
        with reading(f"{self.path}: /{name}/values", "UTF-8 text"):
            return [text.decode() for text in texts_of(offsets, values)]

    @property
    def label_counts(self) -> np.ndarray:
        """int64 [L]: training queries of each label."""
        return np.bincount(self.train_labels[1], minlength=len(self.label))
