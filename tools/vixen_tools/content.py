"""What a file is by its first bytes: said where it was read as something else."""

from __future__ import annotations

import re
from pathlib import Path

_LFS = "a Git LFS pointer to the file, not the file itself (git lfs pull fetches it)"
_HTML = "an HTML page, as a download leaves that was answered by a web page"
_HEAD_BYTES = 512
_JSON = re.compile(rb"[\[{]\s*[\[{\]}\"\d-]")  # not the [section] of an INI file
# (kind, what it is called, first bytes)
_MAGIC = (
    ("hdf5", "an HDF5 file", b"\x89HDF\r\n\x1a\n"),
    ("gguf", "a GGUF file", b"GGUF"),
    ("npy", "a .npy file", b"\x93NUMPY"),
    ("gzip", "gzip data", b"\x1f\x8b"),
    ("zip", "a zip archive", b"PK\x03\x04"),
    ("zip", "an empty zip archive", b"PK\x05\x06"),
    ("bzip2", "bzip2 data", b"BZh"),
    ("xz", "xz data", b"\xfd7zXZ\x00"),
    ("zstandard", "zstandard data", b"\x28\xb5\x2f\xfd"),
    ("7z", "a 7z archive", b"7z\xbc\xaf\x27\x1c"),
    ("rar", "a RAR archive", b"Rar!\x1a\x07"),
    ("png", "a PNG picture", b"\x89PNG\r\n\x1a\n"),
    ("jpeg", "a JPEG picture", b"\xff\xd8\xff"),
    ("pdf", "a PDF document", b"%PDF-"),
    ("program", "a program", b"\x7fELF"),
    ("pickle", "a pickle", b"\x80\x02"),
    ("pickle", "a pickle", b"\x80\x03"),
    ("pickle", "a pickle", b"\x80\x04"),
    ("pickle", "a pickle", b"\x80\x05"),
    ("utf-32", "UTF-32 text", b"\xff\xfe\x00\x00"),
    ("utf-16", "UTF-16 text", b"\xff\xfe"),
    ("utf-16", "UTF-16 text", b"\xfe\xff"),
)


def what_it_is(path: Path, expected: str = "") -> str | None:
    """The file's kind in words; None: not known, not readable, or of a kind that `expected` names ("a readable HDF5 file")."""
    try:
        if path.is_dir():
            return "a folder"
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return None
    return what_bytes_are(head, expected)


def what_bytes_are(head: bytes, expected: str = "") -> str | None:
    """The same of the first bytes of something."""
    kind, words = _kind(head[:_HEAD_BYTES])
    return None if kind is None or kind in expected.lower() else words


def _kind(head: bytes) -> tuple[str | None, str]:
    if not head:
        return "empty", "empty"
    if head.startswith(b"version https://git-lfs"):
        return "lfs", _LFS
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "html", _HTML
    if start.startswith((b"<?xml", b"<error")):
        return "xml", "an XML document, as a download leaves that a server refused"
    if head[257:262] == b"ustar":
        return "tar", "a tar archive"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "safetensors", "a .safetensors file"
    for kind, words, magic in _MAGIC:
        if head.startswith(magic):
            return kind, words
    if not head.strip(b"\0"):
        return "zero", "nothing but zero bytes, as a download leaves that was cut short"
    if _JSON.match(start):
        return "json", "JSON text"
    return None, ""
