"""A mistake of the user's: one line on stderr and exit code 2, as in the program itself."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """The message is one line that names the file and line, what was found and what was expected."""


def run_tool(main: Callable[[], None]) -> None:
    """Runs a tool's main: exit code 0, 2 after a UserError (or a file system's refusal), 130 after Ctrl-C; a bug keeps its trace."""
    try:
        main()
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.EISDIR, errno.ENOTDIR):
            raise
        print(f"error: {error.filename or 'output'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def naming_full_disk(out: Path) -> Iterator[None]:
    """Turns a full disk (or quota) while `out` is written into a UserError; HDF5 and shutil say it only in their text."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        for reason in ("No space left on device", "Disk quota exceeded"):
            if reason in str(error):
                raise UserError(f"{out}: cannot be written: {reason.lower()}") from None
        raise


def one_line(value: object, limit: int = 600) -> str:
    """The value's text on one line, cut at `limit` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 3] + "..."
