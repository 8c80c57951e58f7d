"""Members of images/, images.zip and images.tar*: every picture in them, or one line that names what cannot be read."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Container, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NamedTuple, Self

import xxhash

from .errors import UserError, one_line, reading

ENDINGS = (".webp", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")
PICTURE_BYTES = 1 << 30
"""The most that one picture file may hold: more is damage, or made to fill the memory."""

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHOD_NAMES = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES"}
_COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_UTF8_NAME, _ENCRYPTED = 0x800, 0x1
_HEADER_BYTES = 1 << 20  # the most that a name or a list of attributes of a tar may take
_SAMPLED_FILES, _SAMPLED_BYTES = 256, 1 << 16


def picture_name(member: str) -> str | None:
    """The name of a member as the raw rows give it, None when it is no picture."""
    name = member.removeprefix("./").removeprefix("images/")
    hidden = name.rsplit("/", 1)[-1].startswith(".") or name.startswith("__MACOSX/")
    return name if name.lower().endswith(ENDINGS) and not hidden else None


class Member(NamedTuple):
    """A picture of a container."""

    name: str  # as the raw rows give it
    inside: str  # as the container calls it
    identity: str  # what tells its content from another under the same name


class Folder:
    """A folder and its sub-folders, links followed."""

    def __init__(self, path: Path):
        self.path = path

    def scan(self) -> list[Member]:
        """Pictures, sorted; size and time stand for a file's content, with the beginning of a few hundred files as a sample."""
        members: list[Member] = []
        for relative, found in sorted(self._files()):
            # names are bytes on disk: read as UTF-8 whatever the locale says
            name = picture_name(os.fsencode(relative).decode("utf-8", "surrogateescape"))
            if name is not None:
                members.append(Member(name, relative, f"{found.st_size} {found.st_mtime_ns}"))
        for place in range(0, len(members), max(1, len(members) // _SAMPLED_FILES)):
            member = members[place]
            with _naming(self.path, member.inside), open(self.path / member.inside, "rb") as file:
                sample = xxhash.xxh3_64_hexdigest(file.read(_SAMPLED_BYTES))
            members[place] = member._replace(identity=f"{member.identity} {sample}")
        return members

    def read(self, member: str) -> bytes:
        with _naming(self.path, member), open(self.path / member, "rb") as file:
            _check_size(self.path, member, os.fstat(file.fileno()).st_size)
            return file.read()

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Files below the folder and what they are. A link to an outer folder, which has no end, and a folder that may not be read
        are UserErrors."""
        waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
        while waiting:
            inside, outer = waiting.pop()
            with _naming(self.path, inside or "."):
                here = os.stat(self.path / inside)
                if (here.st_dev, here.st_ino) in outer:
                    raise UserError(f"{self.path / inside}: is a link to a folder that it lies in: remove it")
                with os.scandir(self.path / inside) as entries:
                    for entry in entries:
                        relative = f"{inside}/{entry.name}" if inside else entry.name
                        if entry.is_dir():
                            waiting.append((relative, outer | {(here.st_dev, here.st_ino)}))
                        elif picture_name(entry.name) is not None:
                            found = _stat(self.path / relative)
                            if stat.S_ISREG(found.st_mode):
                                yield relative, found


class Zip:
    """A zip archive, read member by member in any order."""

    def __init__(self, path: Path):
        self.path = path
        with reading(path, "a readable zip file"):
            self._archive = zipfile.ZipFile(path)

    def scan(self) -> list[Member]:
        """Pictures, each judged, in the archive's order; size and CRC stand for the content."""
        members: list[Member] = []
        for info in self._archive.infolist():
            name = picture_name(_zip_name(info))
            if name is not None:
                self._judge(info)
                members.append(Member(name, info.filename, f"{info.file_size} {info.CRC}"))
        return members

    def read(self, member: str) -> bytes:
        with reading(member_of(self.path, member), "a readable member of a zip file"):
            return self._archive.read(member)

    def _judge(self, info: zipfile.ZipInfo) -> None:
        where = member_of(self.path, info.filename)
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{where}: is encrypted: pack the pictures without a password")
        if info.compress_type not in _METHODS:
            method = _METHOD_NAMES.get(info.compress_type, "unknown")
            raise UserError(
                f"{where}: is compressed with method {info.compress_type} ({method}), expected Deflate, bzip2, LZMA or "
                "none: pack the pictures anew"
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UserError(f"{where}: is a symbolic link: pack the pictures themselves")
        _check_size(self.path, info.filename, info.file_size)


class Tar:
    """A tar archive, plain or compressed with gzip, bzip2 or xz, read from its beginning to its end."""

    def __init__(self, path: Path):
        self.path = path

    def scan(self) -> list[Member]:
        """Pictures, each judged, in the archive's order; a hash of its bytes stands for the content."""
        return [Member(name, name, xxhash.xxh3_64_hexdigest(data)) for name, data in self._pictures(lambda _: True)]

    def contents(self, skip: int, wanted: Container[str]) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of those pictures that are wanted, in the archive's order, without the first `skip`."""
        left = skip

        def is_read(name: str) -> bool:
            nonlocal left
            if name in wanted:
                left -= 1
            return name in wanted and left < 0

        return self._pictures(is_read)

    def _pictures(self, is_read: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
        """Pictures and their bytes; is_read is asked once for every name."""
        with open(self.path, "rb") as raw:
            stream = _decompressed(self.path, raw)
            with _naming_tar(self.path):
                archive = tarfile.open(  # noqa: SIM115 (`raw` is what is closed)
                    fileobj=stream, mode="r|", tarinfo=_TarInfo, encoding="utf-8", errors="surrogateescape"
                )
            while True:
                with _naming_tar(self.path):
                    member = archive.next()
                archive.members = []  # type: ignore[attr-defined]  # otherwise every member's header stays in memory
                if member is None:
                    break
                name = picture_name(member.name)
                if name is None or member.isdir():
                    continue
                self._judge(member)
                if is_read(name):
                    with _naming_tar(member_of(self.path, member.name)):
                        content = archive.extractfile(member)
                        assert content is not None, "_judge lets files through alone"
                        data = content.read()
                    yield name, data
            # what follows the end mark: padding, or a second archive that would be lost
            while True:
                with _naming_tar(self.path):
                    data = archive.fileobj.read(1 << 20)  # it has read ahead
                if not data:
                    break
                if data.strip(b"\0"):
                    raise UserError(f"{self.path}: holds more behind its end mark, as archives do that were joined: pack the pictures anew")

    def _judge(self, member: tarfile.TarInfo) -> None:
        if not member.isreg():
            kind = f"a link to {one_line(member.linkname, 100)}" if member.islnk() or member.issym() else "no file"
            raise UserError(f"{member_of(self.path, member.name)}: is {kind}: pack the pictures themselves (tar -h --hard-dereference)")
        _check_size(self.path, member.name, member.size)


def member_of(path: Path, member: str) -> str:
    """A member of an archive, for messages."""
    return f"{path}: picture '{one_line(member, 300)}'"


class _TarInfo(tarfile.TarInfo):
    """Headers, of which tarfile takes a damaged one for the end of the archive, and a long one whole into memory."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError(f"ends without an end mark at byte {archive.offset:,}: cut short?") from None
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset:,}") from None

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        if self.size > _HEADER_BYTES and self.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
        ):
            raise tarfile.ReadError(f"a name of {self.size:,} bytes at byte {self.offset:,}")
        return super()._proc_member(archive)  # type: ignore[misc]


def _decompressed(path: Path, raw: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
    with _naming_tar(path):
        magic = raw.read(8)
        raw.seek(0)
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        raise UserError(f"{path}: is compressed with Zstandard, expected gzip, bzip2, xz or none")
    opener = next((opener for beginning, opener in _COMPRESSIONS if magic.startswith(beginning)), None)
    return opener(raw) if opener else raw


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name: without the flag for UTF-8 it is UTF-8 all the same where it is valid as that (macOS, Info-ZIP), else code page 437."""
    name = info.filename
    if not info.flag_bits & _UTF8_NAME and not name.isascii():
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    # archives of old .NET have backslashes between folders
    return name.replace("\\", "/") if info.create_system == 0 else name


def _check_size(path: Path, member: str, size: int) -> None:
    if not 0 <= size <= PICTURE_BYTES:
        raise UserError(f"{member_of(path, member)}: holds {size:,} bytes, expected at most {PICTURE_BYTES:,} of a picture")


def _stat(path: Path) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise UserError(f"{path}: is a link to {os.readlink(path)}, which is not there") from None


def _naming(path: Path, member: str) -> AbstractContextManager[None]:
    return reading(path / member, "readable")


def _naming_tar(where: Path | str) -> AbstractContextManager[None]:
    return reading(where, "a readable tar file, plain or of gzip, bzip2 or xz")
