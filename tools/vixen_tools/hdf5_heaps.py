"""A check of HDF5's global heaps, where strings of variable length lie: libhdf5 (1.8 to 2.0) never returns from one kind of damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import UserError

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER_BYTES = 16  # of a collection, and of an object in it
_EDGE_BYTES = 64 << 20  # looked through at either end of a large file: attributes lie there, and the middle is values
_READ_BYTES = 1 << 20
_LARGEST_HEAP = 16 << 20  # one that holds a longer string holds nothing else


def check_heaps(path: Path) -> None:
    """UserError where a heap holds a free range of no bytes, behind which libhdf5 looks for the next object for ever, or an object that
    does not end in it."""
    size = path.stat().st_size
    # plain reads: a map would grow this process by the whole file
    with open(path, "rb") as file:
        for begin, end in [(0, size)] if size <= 4 * _EDGE_BYTES else [(0, _EDGE_BYTES), (size - _EDGE_BYTES, size)]:
            for place in _places(file, begin, end):
                file.seek(place)
                header = file.read(_HEADER_BYTES)
                length = struct.unpack_from("<Q", header, 8)[0] if len(header) == _HEADER_BYTES else 0
                if _HEADER_BYTES < length <= _LARGEST_HEAP:
                    _check_heap(path, place, header + file.read(length - _HEADER_BYTES))


def _places(file: BinaryIO, begin: int, end: int) -> Iterator[int]:
    """Where the signature stands between two bytes of the file."""
    while begin < end:
        file.seek(begin)
        data = file.read(min(_READ_BYTES, end - begin) + len(_SIGNATURE) - 1)
        place = data.find(_SIGNATURE)
        while place >= 0:
            yield begin + place
            place = data.find(_SIGNATURE, place + 1)
        begin += _READ_BYTES


def _check_heap(path: Path, begin: int, data: bytes) -> None:
    place = _HEADER_BYTES
    while place + _HEADER_BYTES <= len(data):
        number, _, _, size = struct.unpack_from("<HHIQ", data, place)
        place += size if number == 0 else _HEADER_BYTES + -(-size // 8) * 8
        if (number == 0 and size == 0) or place > len(data):
            raise UserError(f"{path}: not a readable HDF5 file: the heap of strings at byte {begin} is damaged")
