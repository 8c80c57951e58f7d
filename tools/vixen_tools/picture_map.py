"""The authors' pickled maps from texts to picture rows (.npy), read without running anything that a pickle asks for."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import UserError, one_line, reading
from .npy_rows import npy_header
from .pickled_rows import stream_rows

_DEEPEST = 8
_NONE = -1


class _Type:
    """Stands for numpy.dtype in a pickle."""

    def __init__(self, name: str, *_: object):
        self._name = name
        self._order: Any = "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]
        if state[2] or state[3] or state[4]:
            raise ValueError(f"holds an array of {one_line(self._name, 40)} with fields")

    def dtype(self) -> np.dtype:
        found = np.dtype(self._name)
        return found if self._order == "|" else found.newbyteorder(self._order)

    def values(self, data: Any) -> list:
        """What numpy would read from an array's or a number's state, as a flat list of Python's own types."""
        dtype = self.dtype()
        if dtype.hasobject:
            if not isinstance(data, list):
                raise ValueError("holds an array of objects without a list of them")
            return data
        if dtype.kind not in "biufUS" or not dtype.itemsize:
            raise ValueError(f"holds an array of {one_line(dtype, 40)}")
        return _listed(np.frombuffer(data.encode("latin-1") if isinstance(data, str) else data, dtype))


def _listed(values: np.ndarray) -> list:
    """tolist(), which makes texts of whatever code points lie there."""
    if values.dtype.kind == "U" and values.size:
        points = np.frombuffer(values.tobytes(), values.dtype.byteorder.replace("|", "=") + "u4")
        if points.max() > 0x10FFFF:
            raise ValueError(f"holds a text with the character {points.max():#x}, which is none")
    return values.tolist()


class _Array:
    """Stands for numpy.ndarray in a pickle: numpy's own would trust a damaged state. items: all values, row by row."""

    def __init__(self, *_: object):
        self.shape: tuple[int, ...] = (0,)
        self.items: list = []

    def __setstate__(self, state: tuple) -> None:
        _, shape, of, fortran, data = state
        items = of.values(data)
        if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(items):
            raise ValueError(f"holds an array of the shape {one_line(shape, 40)} with {len(items)} values")
        if fortran and len(shape) > 1:
            places = np.arange(len(items)).reshape(shape, order="F").reshape(-1)
            items = [items[place] for place in places.tolist()]
        self.shape, self.items = shape, items


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    **{(module, "_reconstruct"): _Array for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{
        (module, "scalar"): lambda of, data=None: data if of.dtype().hasobject else of.values(data)[0]
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    },
}


class RestrictedUnpickler(pickle.Unpickler):
    """Rebuilds numpy arrays of numbers and lists as _Array; any other name in the pickle is refused, and nothing of numpy's is called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise UserError(
                f"the pickle asks for {one_line(module, 80)}.{one_line(name, 80)}: refused, expected only a numpy array of lists"
            )
        return _STAND_INS[module, name]


class _Head:
    """Stands for numpy.ndarray in a pickle that was cut in front of its entries."""

    def __init__(self, *_: object):
        self.head: tuple[Any, bool, Any] = ((), False, None)

    def __setstate__(self, state: tuple) -> None:
        _, shape, of, _, data = state
        self.head = shape, of.dtype().hasobject, data


class _HeadUnpickler(RestrictedUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return _Head if found is _Array else found


def read_map(path: Path, n_rows: int, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64 [n+1] and rows, int32 or int64, of a map of n entries.

    An entry is a row number or a list of them; -1, None and NaN stand for no picture, in whatever place. Anything else is a
    UserError that names the entry.
    """
    streamed = _streamed(path, n_rows, n_images)
    if streamed is not None:
        return streamed
    entries = _entries(path)
    if len(entries) != n_rows:
        raise UserError(f"{path}: holds {len(entries)} entries, expected one for each of the {n_rows} texts")
    lengths, values = np.zeros(n_rows, np.int64), []
    for i, entry in enumerate(entries):
        try:
            rows = _rows(entry, n_images)
        except ValueError as error:
            raise UserError(f"{path}: entry {i} {error}") from None
        lengths[i] = len(rows)
        values.extend(rows)
    offsets = np.zeros(n_rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets, np.array(values, np.int64)


def _streamed(path: Path, n_rows: int, n_images: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The map in a memory of a few bytes a row, where it is of the usual kind."""
    shape, _, dtype, begin = npy_header(path)
    if not dtype.hasobject or dtype.names or shape != (n_rows,):
        return None
    with open(path, "rb") as file:
        file.seek(begin)
        return stream_rows(file, n_rows, n_images, lambda head: _HeadUnpickler(head, encoding="latin1").load().head)


def _entries(path: Path) -> list:
    shape, _, dtype, begin = npy_header(path)
    if dtype.names or (not dtype.hasobject and dtype.kind not in "iufUS"):
        raise UserError(f"{path}: holds {one_line(dtype, 80)}, expected row numbers or lists of them")
    with open(path, "rb") as file:
        try:
            with reading(path, "a readable map in a .npy file"):
                if not dtype.hasobject:
                    entries = np.load(file, allow_pickle=False)
                    shape, items = entries.shape, _listed(entries)
                else:
                    file.seek(begin)
                    entries = _unpickled(file)
                    if not isinstance(entries, _Array):
                        raise UserError(f"holds a {type(entries).__name__}, expected a numpy array")
                    shape, items = entries.shape, entries.items
                    if len(shape) == 2:
                        items = (
                            [items[first : first + shape[1]] for first in range(0, len(items), shape[1])] if shape[1] else [[]] * shape[0]
                        )
        except UserError as error:
            raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from None
    if len(shape) not in (1, 2):
        raise UserError(f"{path}: holds an array of {len(shape)} dimensions, expected a list of entries or a table")
    return items


def _unpickled(file: BinaryIO) -> object:
    try:
        return RestrictedUnpickler(file, encoding="latin1").load()
    except AttributeError as error:  # a damaged pickle takes a stand-in for a list
        raise pickle.UnpicklingError(str(error)) from None


def _rows(entry: object, n_images: int, depth: int = 0) -> list[int]:
    """Row numbers of an entry, in order. ValueError: what is wrong with it."""
    if isinstance(entry, (list, tuple, _Array)):
        if depth == _DEEPEST:
            raise ValueError(f"is a list more than {_DEEPEST} levels deep, expected row numbers")
        return [row for part in (entry.items if isinstance(entry, _Array) else entry) for row in _rows(part, n_images, depth + 1)]
    row = _row(entry)
    if row == _NONE:
        return []
    if not 0 <= row < n_images:
        raise ValueError(f"names image row {row}, expected 0..{n_images - 1}, or -1 for none")
    return [row]


def _row(value: object) -> int:
    if isinstance(value, (str, bytes)):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        if len(text) < 20 and text.removeprefix("-").isdigit() and text.isascii():
            return int(text)
    if value is None or (isinstance(value, float) and value != value):
        return _NONE
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return int(value)
    if type(value) is int and value.bit_length() < 64:
        return value
    raise ValueError(f"holds {one_line(repr(value), 80)} ({type(value).__name__}), expected row numbers, or -1, None or NaN for no picture")
