"""A file that one process holds at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from .errors import UserError


def open_locked(path: Path, busy: str) -> BinaryIO:
    """The file, made where it is not there, with this process' lock, which is that of its name, not of one just removed. It is held until
    the file is closed; a file system without locks gives none. UserError `busy` where another process holds it; FileNotFoundError where
    there is no folder."""
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115 (the caller closes it)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UserError(busy) from None
        except OSError:  # a file system without locks
            return file
        try:
            if os.fstat(file.fileno()).st_ino == os.stat(path).st_ino:
                return file
        except FileNotFoundError:
            pass
        file.close()
