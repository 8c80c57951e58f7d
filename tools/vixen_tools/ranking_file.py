"""Rankings in HDF5: what `vixen predict` writes and `vixen evaluate --evaluate.predictions` reads.

N: queries; K: labels of a query.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import UserError
from .files import publish, work_folder
from .hdf5_file import open_hdf5, read_dataset, write_contiguous
from .hdf5_output import hdf5_output


def top_k(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices int64 [n, k] and scores of the largest k of each row; ties go to the lower index."""
    k = min(k, scores.shape[1])
    threshold = -np.partition(-scores, k - 1, axis=1)[:, k - 1]
    indices = np.empty((len(scores), k), np.int64)
    for i, row in enumerate(scores):
        better = np.flatnonzero(row > threshold[i])
        level = np.flatnonzero(row == threshold[i])[: k - len(better)]
        chosen = np.concatenate([better, level])
        indices[i] = chosen[np.lexsort((chosen, -row[chosen]))]
    return indices, np.take_along_axis(scores, indices, axis=1)


def write_ranking(out: Path, indices: np.ndarray, scores: np.ndarray, created_by: str) -> None:
    """/indices int64 and /scores float32, [N, K]."""
    with work_folder(out) as work:
        with hdf5_output(work / "predictions.h5", "w") as file:
            file.attrs["created_by"] = created_by
            write_contiguous(file, "indices", indices.shape, np.int64, [indices])
            write_contiguous(file, "scores", scores.shape, np.float32, [scores])
        publish(work / "predictions.h5", out)


def read_ranking(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """/indices int64 [N, K], -1 where a list ends, and /scores float32 of the same shape."""
    with open_hdf5(path) as file:
        indices, scores = read_dataset(file, "indices", "iu", 2), read_dataset(file, "scores", "f", 2)
    if indices.shape != scores.shape:
        raise UserError(f"{path}: /scores has the shape {scores.shape}, expected {indices.shape} as /indices has")
    return indices.astype(np.int64), scores


def pair_keys(pairs: tuple[np.ndarray, np.ndarray], stride: int) -> np.ndarray:
    """row * stride + value of all values of ragged rows; stride is larger than every value."""
    offsets, values = pairs
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * stride + values


def without_filtered(
    indices: np.ndarray, scores: np.ndarray, filtered: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lists [N, K] without the labels that `filtered` (ragged, of each row) names, cut to k; -1 and -infinity where they end."""
    if len(filtered[1]):
        stride = int(max(indices.max(initial=0), filtered[1].max())) + 2
        keys = np.arange(len(indices))[:, None] * stride + np.where(indices < 0, stride - 1, indices)
        dropped = np.isin(keys, pair_keys(filtered, stride))
        order = np.argsort(dropped, axis=1, kind="stable")
        indices = np.take_along_axis(np.where(dropped, -1, indices), order, 1)
        scores = np.take_along_axis(np.where(dropped, -np.inf, scores), order, 1)
    return indices[:, :k], scores[:, :k]
