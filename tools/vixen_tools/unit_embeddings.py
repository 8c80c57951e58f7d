"""Embeddings of queries and labels as `vixen embed` writes them, a few rows at a time.

D: their width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import UserError, reading
from .hdf5_file import open_hdf5, whole_dataset


class Embeddings:
    """Unit rows of queries and labels, as `vixen embed` writes them: mapped where they lie contiguous."""

    def __init__(self, queries: Path, labels: Path, n_queries: int, n_labels: int):
        self.queries_path, self.labels_path = queries, labels
        self._queries, self._labels = self._open(queries, n_queries), self._open(labels, n_labels)
        if self._queries.shape[1] != self._labels.shape[1]:
            raise UserError(
                f"{queries}: /embeddings is {self._queries.shape[1]} wide, expected {self._labels.shape[1]} as those of {labels}"
            )

    @staticmethod
    def _open(path: Path, rows: int) -> np.ndarray:
        with open_hdf5(path) as file:
            dataset = whole_dataset(file, "embeddings", "f", 2)
            if len(dataset) != rows:
                raise UserError(f"{path}: /embeddings has {len(dataset)} rows, expected {rows}")
            with reading(path, "a readable HDF5 file"):
                offset = dataset.id.get_offset()
                if offset is None:
                    return dataset[()]
                return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)

    def queries(self, first: int, last: int) -> np.ndarray:
        return unit(self._queries[first:last])

    def labels(self, ids: np.ndarray) -> np.ndarray:
        return unit(self._labels[ids])


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
