"""ELF files of 64-bit little-endian machines: the libraries that a program names, and where it looks for them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

_LOAD, _DYNAMIC = 1, 2  # kinds of segments
_NULL, _NEEDED, _STRTAB, _RPATH, _RUNPATH = 0, 1, 5, 15, 29  # tags of dynamic entries


class ElfFile:
    """The dynamic entries of a program or shared library; a UserError where it is none."""

    def __init__(self, path: Path):
        self.path = path
        self.data = bytearray(path.read_bytes())
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise UserError(f"{path}: is no ELF file of a 64-bit machine")
        table = struct.unpack_from("<Q", self.data, 32)[0]
        size, count = struct.unpack_from("<HH", self.data, 54)
        self._segments = [struct.unpack_from("<IIQQQQQQ", self.data, table + i * size) for i in range(count)]

    def _entries(self) -> Iterator[tuple[int, int, int]]:
        """Place in the file, tag and value of each."""
        for kind, _, offset, *_, bytes_in_file, _, _ in self._segments:
            if kind != _DYNAMIC:
                continue
            for place in range(offset, offset + bytes_in_file, 16):
                tag, value = struct.unpack_from("<qQ", self.data, place)
                if tag == _NULL:
                    return
                yield place, tag, value

    def _strings(self) -> int:
        """Where the names of dynamic entries begin in the file."""
        address = next(value for _, tag, value in self._entries() if tag == _STRTAB)
        for kind, _, offset, virtual, _, bytes_in_file, _, _ in self._segments:
            if kind == _LOAD and virtual <= address < virtual + bytes_in_file:
                return int(offset + address - virtual)
        raise UserError(f"{self.path}: its dynamic names lie nowhere in the file")

    def _text(self, value: int) -> bytes:
        begin = self._strings() + value
        return bytes(self.data[begin : self.data.index(0, begin)])

    def needed(self) -> list[str]:
        """The libraries that it names."""
        return [self._text(value).decode() for _, tag, value in self._entries() if tag == _NEEDED]

    def search_path(self) -> str | None:
        """Where it looks for them first (RPATH or RUNPATH); None: it does not say."""
        return next((self._text(value).decode() for _, tag, value in self._entries() if tag in (_RPATH, _RUNPATH)), None)

    def set_search_path(self, path: str) -> bool:
        """Changes it, in place, to an RPATH: that of a program counts for the libraries of its libraries too. False where it has none.

        A UserError where what it has is shorter.
        """
        for place, tag, value in self._entries():
            if tag not in (_RPATH, _RUNPATH):
                continue
            old, new = self._text(value), path.encode()
            if len(new) > len(old):
                raise UserError(f"{self.path}: its search path {old.decode()} has no room for {path}")
            begin = self._strings() + value
            self.data[begin : begin + len(old)] = new.ljust(len(old), b"\0")
            struct.pack_into("<q", self.data, place, _RPATH)
            return True
        return False

    def write(self) -> None:
        self.path.write_bytes(self.data)
