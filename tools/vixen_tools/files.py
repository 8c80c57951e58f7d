"""Files: atomic outputs, checksums, and text lines from plain or gzip files with errors that name file and line."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from .content import what_it_is
from .errors import UserError, one_line, reason, writing
from .outputs import beside, check_replaceable
from .terminal import ESCAPE

_PIECE_BYTES = 1 << 16
LINE_BYTES = 1 << 28  # of a text file: more is no row


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` (same file system, so that os.replace is atomic), removed at the end."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix=beside(out, ""), dir=out.parent)
    except OSError as error:
        raise UserError(f"{out}: cannot write here ({error.strerror})") from None
    try:
        with writing(out):
            yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(temporary: Path, out: Path, edited: bool = False) -> None:
    """Makes a finished file or folder appear under its name at once; what stood there is replaced when it is vixen's, else a UserError
    (outputs.claim said so before the work; somebody may have put something there since). edited: a file that outputs.claim_edit allowed."""
    for path in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
        if path.is_file():
            sync(path)
    if edited and out.exists():
        shutil.copymode(out, temporary)
    elif not edited:
        check_replaceable(out, temporary.is_dir())
    if temporary.is_dir() and out.exists():
        old = out.with_name(beside(out, f"old-{os.getpid()}"))
        os.rename(out, old)
        os.rename(temporary, out)
        shutil.rmtree(old)
    else:
        os.replace(temporary, out)
    sync(out.parent)


def write_text(out: Path, text: str, edited: bool = False) -> None:
    """Publishes a text as UTF-8; what UTF-8 lacks (undecodable bytes of names) is written escaped."""
    with work_folder(out) as work:
        (work / "text").write_text(text, encoding="utf-8", errors=ESCAPE)
        publish(work / "text", out, edited)


def sync(path: Path) -> None:
    """Puts a file's content, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def identity(path: Path) -> str:
    """What tells a file's content from another, without reading all of it: size, time of change, and a hash of pieces."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        hashed = xxhash.xxh3_64()
        for begin in (0, status.st_size // 2, max(0, status.st_size - _PIECE_BYTES)):
            hashed.update(os.pread(file.fileno(), _PIECE_BYTES, begin))
    return f"{path.name} {status.st_size} {status.st_mtime_ns} {hashed.hexdigest()}"


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The value of a JSON file, whatever stands in front of it as a byte order mark; else a UserError naming the line."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    data = path.read_bytes()
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise UserError(f"{path}: not JSON: nested too deeply") from None
    except ValueError as error:
        kind = what_it_is(path, "json")
        line, found = "", f"it is {kind}" if kind else reason(error, 100)
        if isinstance(error, json.JSONDecodeError) and not kind:
            line, found = f"line {error.lineno}: ", error.msg
        raise UserError(f"{path}: {line}not JSON: {found}") from None


def find_variant(folder: Path, stem: str, endings: tuple[str, ...]) -> Path | None:
    """folder/stem+ending, None where there is none; several are a UserError, as nothing says which of them is meant."""
    found = [path for ending in endings if (path := folder / (stem + ending)).is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: has {' and '.join(path.name for path in found)}: expected one of them, remove or rename the others")
    return found[0] if found else None


class LineReader:
    """Lines of a text file, gzip when it begins with gzip's magic: iterates (line number from 1, text without its line end).

    A UTF-8 byte order mark at the beginning is no part of the first line. Bytes that are not `encoding` and damaged gzip data are
    UserErrors naming file and line. fraction() is the share of the file's bytes read so far.
    """

    def __init__(self, path: Path, encoding: str = "utf-8"):
        self.path, self._encoding = path, encoding
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        self._skip = 0
        self._size = max(path.stat().st_size, 1)
        self._raw = open(path, "rb")  # noqa: SIM115 (__iter__ closes it)
        magic = self._raw.read(2)
        self._raw.seek(0)
        self._file = gzip.GzipFile(fileobj=self._raw) if magic == b"\x1f\x8b" else self._raw

    def fraction(self) -> float:
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)

    def skip(self, lines: int) -> None:
        """Has the iteration begin behind the first `lines` lines, which are neither decoded nor judged again."""
        self._skip = lines

    def __iter__(self) -> Iterator[tuple[int, str]]:
        line = 0
        try:
            while line < self._skip and self._read_line(line):
                line += 1
            while data := self._read_line(line):
                line += 1
                if line == 1:
                    self._check_beginning(data)
                yield line, self._decode(line, data.removeprefix(codecs.BOM_UTF8) if line == 1 else data).rstrip("\r\n")
        finally:
            self._raw.close()

    def _read_line(self, line: int) -> bytes:
        try:
            data = self._file.readline(LINE_BYTES)
            if len(data) < LINE_BYTES:
                return data
            raise UserError(f"{self.path}:{line + 1}: the line is longer than {LINE_BYTES:,} bytes, expected one row")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{self.path}: damaged gzip data after line {line}: {one_line(error)}") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read after line {line}: {error.strerror}") from None
        except MemoryError:
            raise UserError(f"{self.path}:{line + 1}: the line is too long for this machine's memory") from None

    def _check_beginning(self, data: bytes) -> None:
        """Two kinds of files that could be read, but not as they are meant."""
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and b"\0" in data:
            raise UserError(f"{self.path}:1: is UTF-16 text, expected {self._encoding}: save it as UTF-8")
        if b"\r" in data.rstrip(b"\r\n") and not data.endswith(b"\n"):
            raise UserError(f"{self.path}:1: its line ends are a carriage return alone, expected a line feed: save it with LF or CRLF")

    def _decode(self, line: int, data: bytes) -> str:
        try:
            return data.decode(self._encoding)
        except UnicodeDecodeError as error:
            kind = what_it_is(self.path)
            hint = f": it is {kind}" if kind and self._file is self._raw else ""
            raise UserError(
                f"{self.path}:{line}: byte {error.start} (0x{error.object[error.start]:02x}) is not {self._encoding}{hint}"
            ) from None
