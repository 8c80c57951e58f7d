"""The usual pickled map (an object array of lists of row numbers), read opcode by opcode: no Python object stays for an entry, of which
maps have millions. What is not quite usual is left to picture_map's reader of everything.

Opcodes: CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
from array import array
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

_READ_BYTES = 1 << 20
_LOOK_AHEAD = 64  # more than three opcodes take
_PREFIX_OPCODES = 64
_PREFIX_BYTES = 4096
_FRAME_BYTES = 9
_LARGEST = np.iinfo(np.int32).max


class _Unusual(Exception):
    """For the other reader to judge."""


def stream_rows(file: BinaryIO, n_rows: int, n_images: int, head: Callable[[BinaryIO], Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Offsets int64 [n+1] and rows int32 of the pickle that begins where `file` stands; None: it is no array of n_rows entries that are
    row numbers within [0, n_images), -1, None, NaN, or flat lists of these.

    head: rebuilds the array of a pickle without entries: (shape, whether of objects, list of entries), or raises.
    """
    if n_images > _LARGEST:
        return None
    begin = file.tell()
    try:
        memo = _read_prefix(file, n_rows, head)
        return _Reader(file, n_rows, n_images, memo).read()
    except (_Unusual, IndexError, struct.error):
        file.seek(begin)
        return None


def _read_prefix(file: BinaryIO, n_rows: int, head: Callable[[BinaryIO], Any]) -> array:
    """Reads up to the list of entries; returns the memo so far: -1 for each thing in it, which is none of the entries."""
    begin = file.tell()
    # pickletools reads more than it is asked for
    start = file.read(_PREFIX_BYTES)
    memo, end = array("i"), -1
    try:
        for count, (opcode, argument, place) in enumerate(pickletools.genops(io.BytesIO(start))):
            if opcode.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                _check(argument is None or argument == len(memo))
                memo.append(-1)
            if opcode.name == "EMPTY_LIST":
                end = (place or 0) + 1
                break
            _check(count < _PREFIX_OPCODES)
    except Exception:  # whatever pickletools says of what is no pickle
        raise _Unusual from None
    _check(end > 0)
    prefix = start[:end]
    # a frame would go on behind the end
    prefix = prefix[:2] + prefix[2 + _FRAME_BYTES :] if prefix[2:3] == pickle.FRAME else prefix
    try:
        shape, of_objects, entries = head(io.BytesIO(prefix + pickle.TUPLE + pickle.BUILD + pickle.STOP))
    except Exception:
        raise _Unusual from None
    _check(shape == (n_rows,) and of_objects and entries == [])
    file.seek(begin + end)
    # the list itself
    if start[end : end + 1] == pickle.MEMOIZE:
        memo.append(-1)
        file.seek(begin + end + 1)
    elif start[end : end + 1] in (pickle.BINPUT, pickle.LONG_BINPUT):
        width = 1 if start[end : end + 1] == pickle.BINPUT else 4
        _check(int.from_bytes(start[end + 1 : end + 1 + width], "little") == len(memo))
        memo.append(-1)
        file.seek(begin + end + 1 + width)
    return memo


def _check(usual: bool) -> None:
    if not usual:
        raise _Unusual


class _Reader:
    """The entries, from the first one to the pickle's end. The stack of the pickle's machine is the list of entries, and on it at the most
    a mark (`batch`: entries lie above it until APPENDS), one entry that is a list (`open_list`), and a mark above that (`inner`)."""

    def __init__(self, file: BinaryIO, n_rows: int, n_images: int, memo: array):
        self._file, self._n_rows, self._n_images = file, n_rows, n_images
        self._data, self._place = b"", 0
        self._memo = memo  # by number, the entry that it is
        self._offsets, self._values = array("q", [0]), array("i")

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        offsets, values, memo = self._offsets, self._values, self._memo
        batch = inner = open_list = fresh = False  # fresh: the list was made by the opcode before
        while True:
            code = self._code()
            data, place = self._data, self._place
            if code in _NUMBERS:
                size, number_at = _NUMBERS[code]
                row = number_at(data, place)
                self._place = place + size
                appended = not inner and self._code() == _APPEND
                if not inner and not (appended and open_list):
                    _check(batch != appended and not (open_list and not batch))  # an entry by itself
                    offsets.append(offsets[-1])
                    open_list = False
                self._place += appended
                if row != -1:
                    _check(0 <= row < self._n_images)
                    values.append(row)
                    offsets[-1] += 1
                fresh = False
                continue
            if code == _EMPTY_LIST:
                _check(not inner and (batch or not open_list))
                offsets.append(offsets[-1])
                open_list = fresh = True
                self._place = place + 1
                continue
            if code in _PUTS:
                width = _PUTS[code]
                _check(fresh and (not width or int.from_bytes(data[place + 1 : place + 1 + width], "little") == len(memo)))
                memo.append(len(offsets) - 2)
                self._place = place + 1 + width
            elif code == _MARK:
                _check(not inner and (open_list or not batch))
                inner, batch = open_list, batch or not open_list
                self._place = place + 1
            elif code == _APPENDS:
                _check(inner or batch)
                if not inner:
                    batch = open_list = False
                inner = False
                self._place = place + 1
            elif code == _APPEND:
                _check(open_list and not batch and not inner)
                open_list = False
                self._place = place + 1
            elif code in _GETS:  # a list that stands at several entries
                width = _GETS[code]
                number = int.from_bytes(data[place + 1 : place + 1 + width], "little")
                self._place = place + 1 + width
                _check(not inner and (batch or not open_list) and number < len(memo) and memo[number] >= 0 and len(offsets) <= self._n_rows)
                if not batch:
                    _check(self._code() == _APPEND)
                    self._place += 1
                entry = memo[number]
                values.extend(values[offsets[entry] : offsets[entry + 1]])
                offsets.append(len(values))
                open_list = False
            else:
                _check(code == _TUPLE and not (batch or inner or open_list))
                break
            fresh = False
        self._read_end()
        _check(len(offsets) == self._n_rows + 1)
        return np.frombuffer(offsets, np.int64), np.frombuffer(values, np.int32) if values else np.zeros(0, np.int32)

    def _code(self) -> int:
        """The opcode that stands next, behind the head of a frame; a few bytes behind it are there too, where the file has them."""
        while True:
            if self._place + _LOOK_AHEAD > len(self._data):
                self._data = self._data[self._place :] + self._file.read(_READ_BYTES)
                self._place = 0
            code = self._data[self._place]
            if code != _FRAME:
                return code
            self._place += _FRAME_BYTES

    def _read_end(self) -> None:
        self._place += 1
        code = self._code()
        if code in _PUTS:
            self._place += 1 + _PUTS[code]
        _check(self._code() == _BUILD)
        self._place += 1
        _check(self._code() == _STOP)


def _none(data: bytes, place: int) -> int:
    return -1


def _byte(data: bytes, place: int) -> int:
    return data[place + 1]


def _short(data: bytes, place: int) -> int:
    return data[place + 1] | data[place + 2] << 8


def _int(data: bytes, place: int) -> int:
    return _INT.unpack_from(data, place + 1)[0]


def _float(data: bytes, place: int) -> int:
    _check(math.isnan(_DOUBLE.unpack_from(data, place + 1)[0]))
    return -1


_INT, _DOUBLE = struct.Struct("<i"), struct.Struct(">d")
_EMPTY_LIST, _MARK, _APPEND, _APPENDS, _TUPLE, _BUILD, _STOP, _FRAME = (
    code[0]
    for code in (
        pickle.EMPTY_LIST,
        pickle.MARK,
        pickle.APPEND,
        pickle.APPENDS,
        pickle.TUPLE,
        pickle.BUILD,
        pickle.STOP,
        pickle.FRAME,
    )
)
# bytes that the opcode and its argument take, and the row number it stands for
_NUMBERS = {
    pickle.BININT1[0]: (2, _byte),
    pickle.BININT2[0]: (3, _short),
    pickle.BININT[0]: (5, _int),
    pickle.NONE[0]: (1, _none),
    pickle.BINFLOAT[0]: (9, _float),
}
# bytes of the argument
_PUTS = {pickle.MEMOIZE[0]: 0, pickle.BINPUT[0]: 1, pickle.LONG_BINPUT[0]: 4}
_GETS = {pickle.BINGET[0]: 1, pickle.LONG_BINGET[0]: 4}
