"""Texts of a data set's queries and labels, and which labels are relevant to a query (docs/data-format.md)."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from .errors import reading
from .hdf5_file import read_dataset, whole_dataset


class LabelledTexts:
    """A split's queries and the labels of a data set: texts and pairs, read when asked for."""

    def __init__(self, path: Path, file: h5py.File, split: str):
        self.path, self._split = path, split
        self.offsets = read_dataset(file, f"{split}/labels/offsets", "i", 1)
        self._values = whole_dataset(file, f"{split}/labels/values", "i", 1)
        self._text_offsets = read_dataset(file, f"{split}/texts/offsets", "i", 1)
        self._texts = whole_dataset(file, f"{split}/texts/values", "u", 1)
        self._label_offsets = read_dataset(file, "label/texts/offsets", "i", 1)
        self._label_texts = read_dataset(file, "label/texts/values", "u", 1)
        self.n_labels = len(self._label_offsets) - 1
        self.counts = np.bincount(read_dataset(file, "train/labels/values", "iu", 1), minlength=self.n_labels)
        self._known: dict[int, str] = {}

    def relevant(self, row: int) -> np.ndarray:
        with reading(self.path, "a readable HDF5 data set"):
            return self._values[int(self.offsets[row]) : int(self.offsets[row + 1])]

    def query(self, row: int) -> str:
        with reading(self.path, "a readable HDF5 data set"):
            values = self._texts[int(self._text_offsets[row]) : int(self._text_offsets[row + 1])]
        return bytes(values).decode("utf-8", "replace")

    def label(self, label: int) -> str:
        if label not in self._known:
            first, last = (int(value) for value in self._label_offsets[label : label + 2])
            self._known[label] = self._label_texts[first:last].tobytes().decode("utf-8", "replace").strip('"')
        return self._known[label]
