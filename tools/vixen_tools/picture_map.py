"""The authors' pickled maps from texts to picture rows (.npy), read without running anything that a pickle asks for."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from .errors import UserError, one_line, reading
from .npy_rows import npy_header

_ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
}
_DEEPEST = 8
_NONE = -1


class RestrictedUnpickler(pickle.Unpickler):
    """Rebuilds numpy object arrays of numbers and lists; any other name in the pickle is refused, nothing else is called."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise UserError(f"the pickle asks for {one_line(module, 80)}.{one_line(name, 80)}: refused, expected only a numpy array of lists")
        return super().find_class(module, name)


def read_map(path: Path, n_rows: int, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64 [n+1] and rows int64 of a map of n entries.

    An entry is a row number or a list of them; -1, None and NaN stand for no picture, in whatever place. Anything else is a
    UserError that names the entry.
    """
    entries = _entries(path)
    if entries.ndim not in (1, 2) or len(entries) != n_rows:
        found = f"{len(entries)} entries" if entries.ndim in (1, 2) else f"an array of {entries.ndim} dimensions"
        raise UserError(f"{path}: holds {found}, expected one for each of the {n_rows} texts")
    lengths, values = np.zeros(n_rows, np.int64), []
    for i, entry in enumerate(entries if entries.dtype.hasobject else entries.tolist()):
        try:
            rows = _rows(entry, n_images)
        except ValueError as error:
            raise UserError(f"{path}: entry {i} {error}") from None
        lengths[i] = len(rows)
        values.extend(rows)
    offsets = np.zeros(n_rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, np.array(values, np.int64)


def _entries(path: Path) -> np.ndarray:
    _, _, dtype, begin = npy_header(path)
    if dtype.names or not dtype.hasobject and dtype.kind not in "iufUS":
        raise UserError(f"{path}: holds {one_line(dtype, 80)}, expected row numbers or lists of them")
    with open(path, "rb") as file:
        try:
            with reading(path, "a readable map"):
                if not dtype.hasobject:
                    return np.load(file, allow_pickle=False)
                file.seek(begin)
                entries = RestrictedUnpickler(file, encoding="latin1").load()
        except UserError as error:
            raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from None
    if not isinstance(entries, np.ndarray):
        raise UserError(f"{path}: holds a {type(entries).__name__}, expected a numpy array")
    return entries


def _rows(entry: object, n_images: int, depth: int = 0) -> list[int]:
    """Row numbers of an entry, in order. ValueError: what is wrong with it."""
    if isinstance(entry, (list, tuple, np.ndarray)):
        if depth == _DEEPEST:
            raise ValueError(f"is a list more than {_DEEPEST} levels deep, expected row numbers")
        inside = entry.reshape(-1).tolist() if isinstance(entry, np.ndarray) else entry
        return [row for part in inside for row in _rows(part, n_images, depth + 1)]
    row = _row(entry)
    if row == _NONE:
        return []
    if not 0 <= row < n_images:
        raise ValueError(f"names image row {row}, expected 0..{n_images - 1}, or -1 for none")
    return [row]


def _row(value: object) -> int:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bytes)):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if len(text) < 20 and text.removeprefix("-").isdigit() and text.isascii():
            return int(text)
    if value is None or isinstance(value, float) and value != value:
        return _NONE
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    if type(value) is int and value.bit_length() < 64:
        return value
    raise ValueError(f"holds {one_line(repr(value), 80)} ({type(value).__name__}), expected row numbers, or -1, None or NaN for no picture")
