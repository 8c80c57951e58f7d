"""Contiguous, aligned HDF5 datasets, written by blocks under a temporary name: the program maps them as they lie."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from .errors import UserError, one_line

ALIGNMENT_BYTES = 64


def create_hdf5(path: Path) -> h5py.File:
    """A new file in which every dataset begins at a multiple of 64 bytes, readable by HDF5 1.8 and later."""
    return h5py.File(path, "w", libver=("earliest", "v108"), alignment_threshold=1, alignment_interval=ALIGNMENT_BYTES)


def modify_hdf5(path: Path) -> h5py.File:
    """Opens an existing file for changes; new datasets are aligned as create_hdf5's."""
    return h5py.File(path, "r+", libver=("earliest", "v108"), alignment_threshold=1, alignment_interval=ALIGNMENT_BYTES)


def write_contiguous(file: h5py.File, name: str, shape: tuple[int, ...], dtype: type, blocks: Iterable[np.ndarray]) -> None:
    """Writes a dataset from blocks of leading rows that together fill `shape`."""
    dataset = file.create_dataset(name, shape=shape, dtype=dtype)
    first = 0
    for block in blocks:
        dataset[first : first + len(block)] = block
        first += len(block)
    assert first == shape[0], (name, first, shape)


def open_hdf5(path: Path) -> h5py.File:
    """Opens for reading; a missing or damaged file is a UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file: {one_line(error)}") from None
