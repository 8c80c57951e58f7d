"""A check of HDF5's global heaps, where strings of variable length lie: libhdf5 (1.8 to 2.0) never returns from one kind of damage."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from .errors import UserError

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEADER_BYTES = 16  # of a collection, and of an object in it
_EDGE_BYTES = 64 << 20  # looked through at either end of a large file: attributes lie there, and the middle is values


def check_heaps(path: Path) -> None:
    """UserError where a heap holds a free range of no bytes, behind which libhdf5 looks for the next object for ever, or an object that
    does not end in it."""
    with open(path, "rb") as file:
        size = path.stat().st_size
        if not size:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            ranges = [(0, size)] if size <= 4 * _EDGE_BYTES else [(0, _EDGE_BYTES), (size - _EDGE_BYTES, size)]
            for begin, end in ranges:
                place = data.find(_SIGNATURE, begin, end)
                while place >= 0:
                    _check_heap(path, data, place)
                    place = data.find(_SIGNATURE, place + 1, end)


def _check_heap(path: Path, data: mmap.mmap, begin: int) -> None:
    if begin + _HEADER_BYTES > len(data):
        return
    end = min(begin + struct.unpack_from("<Q", data, begin + 8)[0], len(data))
    place = begin + _HEADER_BYTES
    while place + _HEADER_BYTES <= end:
        number, _, _, size = struct.unpack_from("<HHIQ", data, place)
        place += size if number == 0 else _HEADER_BYTES + -(-size // 8) * 8
        if number == 0 and size == 0 or place > end:
            raise UserError(f"{path}: not a readable HDF5 file: the heap of strings at byte {begin} is damaged")
