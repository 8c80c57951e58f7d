"""The group /prompts of a data set (docs/data-format.md): strings of a template and their token ids."""

from __future__ import annotations

import itertools
from pathlib import Path

import h5py
import numpy as np

from .errors import UserError, one_line
from .hdf5_file import holds, read_dataset, write_contiguous

GROUP = "prompts"


def write_prompts(file: h5py.File, prompts: dict[str, list[int]]) -> None:
    """Writes the group, which must not be there."""
    for part, rows, dtype in (
        ("texts", [np.frombuffer(text.encode(), np.uint8) for text in prompts], np.uint8),
        ("tokens", [np.array(ids, np.int32) for ids in prompts.values()], np.int32),
    ):
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        write_contiguous(file, f"{GROUP}/{part}/offsets", offsets.shape, np.int64, [offsets])
        write_contiguous(file, f"{GROUP}/{part}/values", (int(offsets[-1]),), dtype, rows)


def read_prompts(path: Path, file: h5py.File) -> dict[str, list[int]]:
    """What the group holds; nothing where it is missing. UserError when a part of it is missing or damaged."""
    if not holds(file, GROUP):
        return {}
    texts, tokens = (_rows(file, f"{GROUP}/{part}") for part in ("texts", "tokens"))
    try:
        return {row.tobytes().decode(): ids.tolist() for row, ids in zip(texts, tokens, strict=True)}
    except ValueError as error:
        raise UserError(f"{path}:/{GROUP}: damaged: {one_line(error, 200)}") from None


def _rows(file: h5py.File, name: str) -> list[np.ndarray]:
    offsets, values = (read_dataset(file, f"{name}/{part}", "iu", 1) for part in ("offsets", "values"))
    if not len(offsets) or offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(values):
        raise UserError(f"{file.filename}:/{name}: damaged: its offsets do not divide the {len(values)} values")
    return [values[begin:end] for begin, end in itertools.pairwise(offsets)]
