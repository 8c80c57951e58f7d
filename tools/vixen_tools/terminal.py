"""Standard output and error that can show any text and that say so when they cannot be written."""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

ESCAPE = "vixen.escape"
"""Name of the encoding error handler: what an encoding lacks becomes \\xNN, \\uNNNN or \\UNNNNNNNN."""


def escape(character: str) -> str:
    """A character by its number; a lone surrogate that stands for an undecodable byte (os.fsdecode) as that byte."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _escape_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(escape, error.object[error.start : error.end])), error.end


codecs.register_error(ESCAPE, _escape_error)


class _Output:
    """A stream whose failures name it: an OSError with the stream's name as its file, or nothing where losing lines does no harm."""

    def __init__(self, stream: TextIO | None, name: str, required: bool):
        self._stream, self._name, self._required = stream, name, required
        self._failure: int | None = None  # errno

    def write(self, text: str) -> int:
        if self._stream is None:
            self._failure = errno.EBADF
        elif self._failure is None:
            self._try(functools.partial(self._stream.write, text))
        self._raise()
        return len(text)

    def flush(self) -> None:
        if self._stream is not None and self._failure is None:
            self._try(self._stream.flush)
        self._raise()  # also for a write whose failure the caller swallowed, as argparse does

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError as error:
            self._failure = error.errno or errno.EIO
            with contextlib.suppress(OSError, ValueError):
                # the interpreter flushes once more when it ends: what is left goes nowhere, without a second complaint
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.fileno())
                os.close(null)

    def _raise(self) -> None:
        if self._required and self._failure is not None:
            raise OSError(self._failure, "is closed" if self._failure == errno.EBADF else os.strerror(self._failure), self._name)


@contextmanager
def guarded_output() -> Iterator[None]:
    """sys.stdout and sys.stderr until the end: no encoding error, and writing or flushing a standard output that fails is an OSError.

    A standard error that fails loses its lines: what the tool was asked for does not depend on them.
    """
    for descriptor in range(3):  # a file opened next must not become a standard stream of this process or of its children
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    found = sys.stdout, sys.stderr
    for stream in found:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ESCAPE)
    sys.stdout, sys.stderr = guarded = _Output(found[0], "standard output", True), _Output(found[1], "standard error", False)
    try:
        yield
    finally:
        for stream in guarded:
            with contextlib.suppress(OSError):  # another failure is on its way, or this one was said
                stream.flush()
        sys.stdout, sys.stderr = found
